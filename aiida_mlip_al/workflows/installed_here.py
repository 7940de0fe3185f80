"""What an input file names of programs that run in jobs, and that are installed here too: mistakes are found before any job."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterable
from difflib import get_close_matches
from operator import attrgetter

from aiida_mlip_al.calculations.mace_train import OWN_KEYS, SET_BY_US
from aiida_mlip_al.config import ConfigError


def check_calculator(path: str) -> None:
    """Refuse a calculator that its module does not have; a module that cannot be imported here may be there in the job.

    :param path: `module:name`.
    :raises ConfigError: naming the nearest one.
    """
    module_name, _, name = path.partition(':')
    try:
        module = importlib.import_module(module_name)
    except Exception:
        return
    try:
        attrgetter(name)(module)
    except AttributeError:
        raise ConfigError(
            f'There is no `{name}` in `{module_name}`{_meant(name, dir(module))}: correct the calculator `{path}`.'
        ) from None


def check_mace_arguments(names: Iterable[str]) -> None:
    """Refuse arguments that mace_run_train does not know, if MACE is installed here.

    :raises ConfigError: naming the nearest one.
    """
    names = sorted(set(names) - OWN_KEYS - SET_BY_US)
    if not names:
        return
    try:
        # MACE greets on both streams.
        with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            from mace.tools import build_default_arg_parser

            known = {action.dest for action in build_default_arg_parser()._actions}
    except ImportError:
        return
    for name in names:
        if name not in known:
            raise ConfigError(
                f'`train.mace.extra`: mace_run_train has no argument `{name}`{_meant(name, known)}: correct it, or leave it out.'
            )


def _meant(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f', perhaps you mean `{close[0]}`' if close else ''
