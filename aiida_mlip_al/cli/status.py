"""`aiida-mlip-al status` and `report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import load_run, make_console, with_profile, writing

if TYPE_CHECKING:
    from aiida_mlip_al.report.progress import Progress


@click.command()
@click.argument('run', metavar='PK')
@click.option('-w', '--watch', is_flag=True, help='Stay until the run ends.')
@with_profile
def status(run: str, watch: bool) -> None:
    """Where the run PK is: iteration, jobs, labels, errors, time."""
    from aiida_mlip_al.report.progress import progress

    from .follow import follow, render

    console = make_console()
    node = load_run(run)
    now = progress(node)
    if watch and not now.ended:
        print_obstacles(now, console)
        if follow(node, console):
            print_summary(node, console)
        return
    console.print(render(now))
    print_obstacles(now, console)
    if now.ended:
        print_summary(node, console)


def print_obstacles(now: Progress, console: Any) -> None:
    """Print, in a sentence each, why a run does not go on by itself.

    :param now: a moment of the run.
    """
    from aiida import orm

    from .daemon import daemon_trouble

    if now.ended:
        return
    for pk in now.paused:
        console.print(f'{pk}: {orm.load_node(pk).process_status}', style='red', markup=False, soft_wrap=True)
    if trouble := daemon_trouble():
        console.print(f'{trouble}, so nothing goes on: `aiida-mlip-al setup daemon`.', style='red')


@click.command()
@click.argument('run', metavar='PK')
@click.option(
    '-o', '--output', type=click.Path(dir_okay=False, path_type=Path), default='report.html', show_default=True
)
@click.option(
    '--against',
    metavar='PK',
    multiple=True,
    help='A run to compare it with, such as one that chooses at random; repeatable.',
)
@with_profile
def report(run: str, output: Path, against: tuple[str, ...]) -> None:
    """Write the run PK as one HTML page: learning curve, parity, deviations, fates, cost."""
    write_report(load_run(run), output, make_console(), [load_run(other) for other in against])


def write_report(node: Any, output: Path, console: Any, against: Sequence[Any] = ()) -> None:
    """Write the HTML page of a run, and say how many labels it saved against others.

    :raises click.ClickException: the page cannot be written, or another run was tested on other frames.
    """
    from aiida_mlip_al.report.collect import collect
    from aiida_mlip_al.report.compare import clause, same_test_frames
    from aiida_mlip_al.report.html import render

    output = Path(output)
    summary = collect(node)
    for other in map(collect, against):
        if not same_test_frames(summary, other):
            raise click.ClickException(
                f'The runs {summary.pk} and {other.pk} were not tested on the same frames, so their errors cannot be compared: '
                'give both the same test frames in `datasets`, or the same `test` steps and `random_seed`.'
            )
        summary.others.append(other)
        console.print(clause(summary, other), markup=False)
    with writing(output):
        output.write_text(render(summary), encoding='utf-8')
    console.print(f'report: [bold]{output.resolve()}[/]')


def print_summary(node: Any, console: Any) -> None:
    """Print what came of a run."""
    from rich.table import Table

    from aiida_mlip_al.report.collect import collect
    from aiida_mlip_al.report.words import count, ending, finding, milli

    run = collect(node)
    console.print(finding(run))
    console.print(ending(run))
    table = Table(box=None, padding=(0, 2), header_style='dim')
    for column in ('models', 'labels', 'test force MAE', 'test energy MAE', 'new-label force MAE', 'core-seconds'):
        table.add_column(column, justify='left' if column == 'models' else 'right')
    rows = [(f'iteration {item.number}', item.n_labels, item.test_errors, item) for item in run.iterations]
    for name, n_labels, errors, item in rows:
        new = item.new_label_errors
        table.add_row(
            name,
            count(n_labels or None),
            '' if errors is None else f'{milli(errors.force_mae)} meV/Å',
            '' if errors is None else f'{milli(errors.energy_mae)} meV/atom',
            '' if new is None else f'{milli(new.force_mae)} meV/Å',
            f'{sum(seconds for stage, seconds in item.core_s.items() if stage != "final"):.0f}',
        )
    if run.final is not None and run.final.errors is not None:
        final = run.final.errors
        table.add_row(
            'final',
            count(run.n_labels),
            f'{milli(final.force_mae)} meV/Å',
            f'{milli(final.energy_mae)} meV/atom',
            '',
            f'{sum(item.core_s.get("final", 0) for item in run.iterations):.0f}',
        )
        for temperature, n_frames, errors in run.final.by_temperature:
            table.add_row(
                f'  at {temperature:.0f} K', f'{n_frames} frames', f'{milli(errors.force_mae)} meV/Å', '', '', ''
            )
    console.print(table)
