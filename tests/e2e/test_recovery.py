"""kill -9 of the whole daemon in the middle of a run: it goes on from its checkpoints, and no label is computed twice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(900)]


def daemon_processes(folder: Path) -> list[psutil.Process]:
    """Return circus and all that it started (workers, broker), by the pid file in a configuration folder."""
    pid = int(next((folder / '.aiida' / 'daemon').glob('circus-*.pid')).read_text())
    circus = psutil.Process(pid)
    return [circus, *circus.children(recursive=True)]


def test_killed_daemon_loses_nothing(installation):
    """In a run that also seeds twice, because its seeds are asked for more than they can give."""
    tiny = (installation.folder / 'tiny.yaml').read_text()
    (installation.folder / 'rounds.yaml').write_text(
        f'{tiny}\nseed_rounds: {{max_rounds: 2, target_force_error: 1.0e-6}}\n'
    )
    pk = installation.launch(config='rounds.yaml')
    deadline = time.monotonic() + 120
    while 'LabelCalculation' not in installation.verdi('process', 'status', str(pk)):
        assert time.monotonic() < deadline, 'no label job came'
        time.sleep(0.5)
    victims = daemon_processes(installation.folder)
    assert len(victims) >= 3, 'circus, a worker and the broker'
    for process in victims:
        os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(victims, timeout=10)
    assert not installation.ask('state', pk)['terminated']

    assert 'was started' in installation.cli('setup', 'daemon')
    assert 'is running' in installation.cli('setup', 'daemon')
    deadline = time.monotonic() + 400
    while not installation.ask('state', pk)['terminated']:
        assert time.monotonic() < deadline, installation.verdi('process', 'status', str(pk))
        time.sleep(3)
    assert installation.ask('state', pk)['exit_status'] == 0
    assert {'seeds', 'seeds_02', 'test', 'iteration_01'} <= set(installation.ask('outputs', pk)['datasets'])
    assert installation.ask('labelled_more_than_once', pk) == []
    assert installation.ask('structures_without_label', pk) == []
    assert installation.ask('without_creator', pk) == []
