"""What commands share: the profile, and errors in one sentence."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

PROFILE = 'mlip-al'
PIPE_WIDTH = 10_000


def with_profile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Load the profile before a command runs, and say its errors in one sentence."""

    @functools.wraps(function)
    @click.pass_context
    def command(ctx: click.Context, *args: Any, **kwargs: Any) -> Any:
        load(chosen_profile(ctx))
        return told(function)(*args, **kwargs)

    return command


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors that have a sentence for the user into that sentence and exit status 1."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        from aiida.common.exceptions import InputValidationError, NotExistent, ValidationError

        from aiida_mlip_al.config import ConfigError

        try:
            return function(*args, **kwargs)
        except (ConfigError, NotExistent, ValidationError, InputValidationError) as error:
            raise click.ClickException(str(error)) from error
        except ValueError as error:
            text = str(error)
            if 'invalid attribute value' in text or text.startswith('Error occurred validating'):
                raise click.ClickException(text.removeprefix('invalid attribute value ')) from error
            raise

    return command


def make_console() -> Any:
    """Return where tables go; whoever reads a pipe wants lines that are not broken at the width of no terminal."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one sentence why a file of the user's cannot be written."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f'{path} cannot be written: {error.strerror}.') from error


def chosen_profile(ctx: click.Context) -> str | None:
    """Return the profile that the user asked for, or None."""
    root = ctx.find_root()
    return (root.obj or {}).get('profile') if isinstance(root.obj, dict) else None


def load(name: str | None) -> str:
    """Load a profile: the named one, or one that is loaded already, or `mlip-al` if it exists, or the default one.

    :raises click.ClickException: if there is none.
    """
    from aiida.common.exceptions import MissingConfigurationError, ProfileConfigurationError
    from aiida.manage import get_manager
    from aiida.manage.configuration import get_config, load_profile

    loaded = get_manager().get_profile()
    if name is None and loaded is not None:
        return loaded.name
    try:
        config = get_config(create=True)
        if name is None and PROFILE in config.profile_names:
            name = PROFILE
        if name is None and config.default_profile_name is None:
            raise click.ClickException(
                'There is no AiiDA profile yet: `aiida-mlip-al setup profile` makes one that needs no service.'
            )
        return load_profile(name, allow_switch=True).name
    except (MissingConfigurationError, ProfileConfigurationError) as error:
        raise click.ClickException(
            f'{str(error).rstrip(".")}. `aiida-mlip-al setup profile` makes one that needs no service.'
        ) from error


def load_run(identifier: str) -> Any:
    """Return an ActiveLearningWorkChain by PK or UUID.

    :raises click.ClickException: if it is something else.
    """
    from aiida import orm

    from aiida_mlip_al.workflows.builder import load_typed

    node = told(load_typed)(identifier, orm.ProcessNode, 'process')
    if node.process_type != 'aiida.workflows:mlip_al.active_learning':
        raise click.ClickException(f'Process {node.pk} is a {node.process_label}, not an ActiveLearningWorkChain.')
    return node
