"""`aiida-mlip-al status` says what holds a run up, and how to go on."""

from __future__ import annotations

from typing import Any

import pytest
from aiida import orm
from rich.console import Console

from aiida_mlip_al.cli.follow import render
from aiida_mlip_al.cli.status import print_obstacles
from aiida_mlip_al.report.progress import Progress


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


def test_ended_run_is_held_up_by_nothing(stuck: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('aiida_mlip_al.cli.daemon.daemon_trouble', lambda: 'The daemon is not running')
    stuck.ended = True
    console = Console(record=True)
    print_obstacles(stuck, console)
    assert console.export_text() == ''
