"""kill -9 of the whole daemon in the middle of a run: it goes on from its checkpoints, and no label is computed twice."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

pytestmark = [pytest.mark.daemon, pytest.mark.slow]


def daemon_processes(folder: str) -> list[psutil.Process]:
    """Return the processes of the daemon (circus, workers, broker) whose configuration is in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            command = ' '.join(process.cmdline())
            if process.environ().get('AIIDA_PATH') == folder and ('daemon' in command or 'broker' in command):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.timeout(600)
def test_killed_daemon_loses_nothing(installation):
    pk = installation.launch()
    deadline = time.monotonic() + 120
    while 'LabelCalculation' not in installation.verdi('process', 'status', str(pk)):
        assert time.monotonic() < deadline, 'no label job came'
        time.sleep(0.5)
    victims = daemon_processes(str(installation.folder))
    assert victims, 'no daemon to kill'
    for process in victims:
        os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(victims, timeout=10)
    assert not installation.ask('state', pk)['terminated']

    installation.verdi('daemon', 'start')
    deadline = time.monotonic() + 400
    while not installation.ask('state', pk)['terminated']:
        assert time.monotonic() < deadline, installation.verdi('process', 'status', str(pk))
        time.sleep(3)
    assert installation.ask('state', pk)['exit_status'] == 0
    assert installation.ask('labelled_more_than_once', pk) == []
    assert installation.ask('structures_without_label', pk) == []
    assert installation.ask('without_creator', pk) == []
