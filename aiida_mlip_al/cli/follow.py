"""Watching a run live."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aiida_mlip_al.report.progress import Progress, progress
from aiida_mlip_al.report.words import duration, milli, percent

INTERVAL_S = 4.0


def render(now: Progress) -> Group:
    """Return a moment of a run as something that rich prints."""
    where = f'iteration {now.iteration} of at most {now.max_iterations}' if now.iteration > 0 else 'seeding'
    if now.iteration > 0 and any(row[0] is None for row in now.rows):
        where = 'after the loop'
    title = 'ended' if now.ended else ', '.join(now.stages) or 'between stages'
    head = Text.assemble(
        (f'{now.label or "run"} <{now.pk}>', 'bold'), '  ', where, ': ', (title, 'cyan'), f'  {duration(now.elapsed_s)}'
    )
    jobs = Text(
        f'jobs: {now.jobs["running"]} running, {now.jobs["finished"]} finished, {now.jobs["failed"]} failed; '
        f'labels: {now.labels}'
    )
    parts: list[Any] = [head, jobs]
    if now.rows:
        parts.append(errors_table(now))
    parts += [Text(f'failed: {failure}', style='yellow') for failure in now.failures[-3:]]
    parts += [
        Text(f'process {pk} is paused: after mending the cause, `verdi process play {pk}`', style='red')
        for pk in now.paused
    ]
    return Group(*parts)


def errors_table(now: Progress) -> Table:
    """Return the errors of every committee that was measured."""
    table = Table(box=None, padding=(0, 2), header_style='dim')
    for column in ('models', 'labels', f'force MAE on {now.error_name}, meV/Å', 'accurate frames'):
        table.add_column(column, justify='left' if column == 'models' else 'right')
    for iteration, n_labels, force_mae, accurate in now.rows:
        name = 'final' if iteration is None else f'iteration {iteration}'
        table.add_row(name, str(n_labels), milli(force_mae), '' if accurate is None else percent(accurate))
    return table


def follow(node: Any, console: Console, interval_s: float = INTERVAL_S) -> bool:
    """Show a run until it ends; return False if the user stopped watching.

    :param node: the run.
    :param interval_s: seconds between looks.
    """
    try:
        if console.is_terminal:
            with Live(render(progress(node)), console=console, refresh_per_second=4) as live:
                while not node.is_terminated:
                    time.sleep(interval_s)
                    live.update(render(progress(node)))
                live.update(render(progress(node)))
        else:
            _follow_lines(node, console, interval_s)
    except KeyboardInterrupt:
        console.print(
            f'\nThe run goes on. Come back with [bold]aiida-mlip-al status {node.pk} --watch[/], '
            f'or stop it with [bold]verdi process kill {node.pk}[/].'
        )
        return False
    return True


def _follow_lines(node: Any, console: Console, interval_s: float) -> None:
    """Print a line whenever something changed: for logs."""
    last = ''
    while True:
        now = progress(node)
        stage = ', '.join(now.stages) or ('ended' if now.ended else 'between stages')
        errors = f', force MAE on {now.error_name} {milli(now.rows[-1][2])} meV/Å' if now.rows else ''
        line = f'iteration {max(now.iteration, 0)}: {stage}; {now.labels} labels{errors}'
        if line != last:
            console.print(f'[{duration(now.elapsed_s)}] {line}', markup=False, soft_wrap=True)
            last = line
        if now.ended:
            return
        time.sleep(interval_s)
