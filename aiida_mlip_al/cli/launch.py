"""`aiida-mlip-al launch`: submit a run from an input file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .common import load_run, make_console, with_profile

CONFIG = click.argument('config', type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command()
@CONFIG
@click.option('--dry-run', is_flag=True, help='Say what would be done and with which settings, and submit nothing.')
@click.option('--wait', is_flag=True, help='Watch the run until it ends.')
@click.option('--continue', 'earlier', metavar='PK', help='Begin with the datasets and the committee of this run.')
@click.option(
    '--cache/--no-cache',
    default=None,
    show_default='as the AiiDA profile says',
    help='Reuse results of equal jobs of earlier runs, in this run alone.',
)
@with_profile
def launch(config: Path, dry_run: bool, wait: bool, earlier: str | None, cache: bool | None) -> None:
    """Submit the run that the input file CONFIG describes."""
    console = make_console()
    if dry_run:
        from .dry_run import show_plan

        show_plan(config, earlier, console)
        return
    node = submit_run(config, earlier=earlier, cache=cache)
    console.print(f'submitted as process [bold]{node.pk}[/]; watch it with `aiida-mlip-al status {node.pk} --watch`')
    if wait:
        from .follow import follow
        from .status import print_summary

        if follow(node, console):
            print_summary(node, console)
            if not node.is_finished_ok:
                raise click.exceptions.Exit(1)


def run_inputs(path: Path, earlier: str | None = None) -> dict[str, Any]:
    """Return the inputs of the run that a file describes.

    :param earlier: PK or UUID of a run to continue from.
    :raises ConfigError: one sentence on the first mistake.
    """
    from aiida_mlip_al.config import load_config
    from aiida_mlip_al.workflows.builder import Inputs
    from aiida_mlip_al.workflows.earlier_run import continue_from

    inputs = Inputs(load_config(path), path.parent).run()
    return continue_from(inputs, load_run(earlier)) if earlier else inputs


def submit_run(path: Path, earlier: str | None = None, cache: bool | None = None) -> Any:
    """Submit the run that a file describes and return its node.

    :param cache: whether its calculations may be taken from the cache; None: as the profile says.
    """
    from aiida_mlip_al.calculations.caching import USE_CACHE
    from aiida_mlip_al.workflows.active_learning import ActiveLearningWorkChain

    wish = {} if cache is None else {USE_CACHE: cache}
    return submit(ActiveLearningWorkChain, {**run_inputs(path, earlier), **wish})


def submit(process: Any, inputs: dict[str, Any]) -> Any:
    """Submit a process to the daemon.

    :raises click.ClickException: if there is no daemon.
    """
    from aiida.engine import submit as submit_process

    from aiida_mlip_al.workflows.builder import make_builder

    from .daemon import daemon_trouble

    if trouble := daemon_trouble():
        raise click.ClickException(f'{trouble}: start it with `aiida-mlip-al setup daemon`.')
    return submit_process(make_builder(process, inputs))
