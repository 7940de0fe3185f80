"""`aiida-mlip-al quickstart`: everything from nothing."""

from __future__ import annotations

from pathlib import Path

import click

from .common import PROFILE, chosen_profile, make_console, told


@click.command()
@click.option(
    '-c',
    '--config',
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Input file; by default ethanol with xTB labels.',
)
@click.option(
    '-o', '--output', type=click.Path(dir_okay=False, path_type=Path), default='report.html', show_default=True
)
@click.option(
    '--cache/--no-cache',
    default=None,
    show_default='as the AiiDA profile says',
    help='Reuse results of equal jobs of earlier runs, in this run alone.',
)
@click.pass_context
def quickstart(ctx: click.Context, config: Path | None, output: Path, cache: bool | None) -> None:
    """Profile, computer, codes and daemon, then a whole run on ethanol with xTB labels, watched live, and its report.

    Uses a profile of its own (`mlip-al`, or that given by `-p`), and leaves others, and which one is the default, as they are.
    """
    from aiida.manage.configuration import load_profile

    from .daemon import ensure_daemon
    from .follow import follow
    from .launch import submit_run
    from .profile import ensure_computer, ensure_profile, ensure_python_code
    from .status import print_summary, write_report

    if not output.absolute().parent.is_dir():
        raise click.ClickException(f'{output} cannot be written: make the folder {output.parent} first.')
    console = make_console()
    name = chosen_profile(ctx) or PROFILE
    created = ensure_profile(name)
    load_profile(name, allow_switch=True)
    console.print(f'AiiDA profile [bold]{name}[/] {"created" if created else "reused"} (SQLite, ZeroMQ, no service)')
    code = ensure_python_code(ensure_computer())
    console.print(f'code [bold]{code.full_label}[/] is {code.filepath_executable}')
    console.print(f'daemon {"started" if told(ensure_daemon)() else "is running"}')

    path = config or default_config()
    node = told(submit_run)(path, cache=cache)
    console.print(f'submitted [bold]{path.name}[/] as process [bold]{node.pk}[/]')
    if not follow(node, console):
        return
    print_summary(node, console)
    write_report(node, output, console)
    if not node.is_finished_ok:
        raise click.exceptions.Exit(1)


def default_config() -> Path:
    """Return the ethanol example: that of the working copy if there is one, else the one that is installed."""
    here = Path('examples/ethanol/quickstart.yaml')
    root = Path(__file__).parents[2] / here
    for path in (here, root):
        if path.is_file():
            return path
    raise click.ClickException(
        f"There is no {here} here: run this in the project's folder, or give an input file with -c."
    )
