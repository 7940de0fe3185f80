"""`aiida-mlip-al status` and `report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import load_run, make_console, with_profile, writing

if TYPE_CHECKING:
    from rich.table import Table

    from aiida_mlip_al.report.progress import Progress
    from aiida_mlip_al.report.summary import Errors, RunSummary


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
    node, others = load_run(run), [load_run(other) for other in against]
    if node.pk in {other.pk for other in others}:
        raise click.ClickException(f'Run {node.pk} cannot be compared with itself: give another one to `--against`.')
    write_report(node, output, make_console(), others)


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
    from aiida_mlip_al.report.collect import collect
    from aiida_mlip_al.report.words import ending, finding

    run = collect(node)
    console.print(finding(run))
    console.print(ending(run))
    console.print(summary_table(run))


def summary_table(run: RunSummary) -> Table:
    """Return the errors of every committee on the test frames, or on validation frames for want of those, and its cost."""
    from rich.table import Table

    from aiida_mlip_al.report.words import count, milli

    tested = run.last_errors is not None
    on = 'test' if tested else 'validation'
    table = Table(box=None, padding=(0, 2), header_style='dim')
    table.add_column('models', no_wrap=True)
    for column in (
        'labels',
        f'{on} force MAE, meV/Å',
        f'{on} energy MAE, meV/atom',
        'new-label force MAE, meV/Å',
        'core time, s',
    ):
        table.add_column(column, justify='right')

    def add(name: str, labels: str, errors: Errors | None, new: Errors | None = None, core: str = '') -> None:
        known = (milli(errors.force_mae), milli(errors.energy_mae)) if errors else ('', '')
        table.add_row(name, labels, *known, milli(new.force_mae) if new else '', core)

    for turn in run.iterations:
        core_s = sum(seconds for stage, seconds in turn.core_s.items() if stage != 'final')
        errors = turn.test_errors if tested else turn.validation_errors
        add(f'iteration {turn.number}', count(turn.n_labels or None), errors, turn.new_label_errors, f'{core_s:.0f}')
    if run.final is not None:
        core_s = sum(turn.core_s.get('final', 0) for turn in run.iterations)
        add(
            'final',
            count(run.n_labels),
            run.final.errors if tested else run.final.validation_errors,
            core=f'{core_s:.0f}',
        )
        for temperature, n_frames, errors in run.final.by_temperature:
            add(f'  at {temperature:.0f} K', f'{n_frames} frames', errors)
    return table
