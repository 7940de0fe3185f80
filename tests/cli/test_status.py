"""`aiida-mlip-al status` says what holds a run up, and how to go on."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from aiida import orm
from click.testing import CliRunner
from rich.console import Console

from aiida_mlip_al.cli import main
from aiida_mlip_al.cli.follow import render
from aiida_mlip_al.cli.status import print_obstacles, summary_table
from aiida_mlip_al.report.progress import Progress
from aiida_mlip_al.report.summary import Errors, FinalSummary, IterationSummary, RunSummary


@pytest.fixture
def stuck(aiida_profile_clean: Any) -> Progress:
    """A run whose job is paused."""
    job = orm.CalcJobNode()
    job.set_process_status('Pausing after failed transport task: update_calculation failed 5 times consecutively')
    job.store()
    return Progress(
        pk=1,
        label='water',
        ended=False,
        iteration=1,
        max_iterations=2,
        stages=['labelling'],
        jobs={'running': 1, 'finished': 0, 'failed': 0},
        labels=0,
        rows=[],
        error_name='test',
        elapsed_s=10.0,
        paused=[job.pk],
    )


@pytest.mark.parametrize('trouble', [None, 'The daemon has lost its broker'])
def test_what_holds_a_run_up_is_said(stuck: Progress, trouble: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('aiida_mlip_al.cli.daemon.daemon_trouble', lambda: trouble)
    console = Console(record=True, width=60)
    console.print(render(stuck))
    print_obstacles(stuck, console)
    text = ' '.join(console.export_text().split())
    (pk,) = stuck.paused
    assert f'`verdi process play {pk}`' in text
    assert f'{pk}: Pausing after failed transport task: update_calculation failed 5 times' in text
    said = 'The daemon has lost its broker, so nothing goes on: `aiida-mlip-al setup daemon`.'
    assert (said in text) is (trouble is not None)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (
            ['report', 'PK', '--against', 'PK'],
            'Run PK cannot be compared with itself: give another one to `--against`.',
        ),
        (['explain', 'PK'], 'Node PK is a WorkChainNode, and explain tells where data came from: give a label, '),
    ],
)
@pytest.mark.usefixtures('aiida_profile_clean')
def test_what_a_run_is_not_good_for_is_one_sentence(arguments: list[str], sentence: str) -> None:
    node = orm.WorkChainNode()
    node.process_type = 'aiida.workflows:mlip_al.active_learning'
    pk = str(node.store().pk)
    result = CliRunner().invoke(main, [pk if item == 'PK' else item for item in arguments])
    assert result.exit_code == 1
    assert sentence.replace('PK', pk) in result.output
    assert len(result.output.strip().splitlines()) == 1, result.output


def test_ended_run_is_held_up_by_nothing(stuck: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('aiida_mlip_al.cli.daemon.daemon_trouble', lambda: 'The daemon is not running')
    stuck.ended = True
    console = Console(record=True)
    print_obstacles(stuck, console)
    assert console.export_text() == ''


@pytest.mark.parametrize('on', ['test', 'validation'])
def test_the_table_of_an_ended_run_fits_a_terminal(on: str) -> None:
    first, last = (Errors(energy_mae=mae / 10, force_mae=mae, force_rmse=mae) for mae in (0.371, 0.2225))
    turn = IterationSummary(number=1, n_labels=0, n_train=0, n_validation=0, core_s={'train': 2123.0, 'final': 98.0})
    final = FinalSummary(n_train=10, n_validation=2, validation_errors=last)
    turn.validation_errors = turn.new_label_errors = first
    if on == 'test':
        turn.test_errors, final.errors, final.by_temperature = first, last, [(300.0, 6, last)]
    run = RunSummary(label='', pk=1, uuid='', state='finished', created=datetime.now(timezone.utc))
    run.iterations, run.final = [turn], final
    console = Console(record=True, width=80)
    console.print(summary_table(run))
    text = console.export_text()
    assert '…' not in text
    lines = [line.split() for line in text.splitlines()]
    assert ['iteration', '1', '–', '371', '37.1', '371', '2123'] in lines
    assert ['final', '12', '222', '22.2', '98'] in lines
    assert on in text
