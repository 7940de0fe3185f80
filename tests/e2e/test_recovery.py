"""kill -9 of the daemon, or of its broker alone, in the middle of a run: it goes on, and no label is computed twice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from helpers.fault_table import row

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
    wait_for_job(installation, pk, 'LabelCalculation')
    victims = daemon_processes(installation.folder)
    assert len(victims) >= 3, 'circus, a worker and the broker'
    for process in victims:
        os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(victims, timeout=10)
    assert not installation.ask('state', pk)['terminated']

    assert 'was started' in installation.cli('setup', 'daemon')
    assert 'is running' in installation.cli('setup', 'daemon')
    assert_recovers(installation, pk)
    assert {'seeds', 'seeds_02', 'test', 'iteration_01'} <= set(installation.ask('outputs', pk)['datasets'])


def test_daemon_that_lost_its_broker_says_so_and_is_started_anew(installation, record_property):
    """Circus starts another broker, but AiiDA's workers never hear it."""
    pk = installation.launch()
    wait_for_job(installation, pk, 'LabelCalculation')
    (broker,) = [process for process in daemon_processes(installation.folder) if 'broker' in process.cmdline()]
    os.kill(broker.pid, signal.SIGKILL)
    psutil.wait_procs([broker], timeout=10)
    deadline = time.monotonic() + 60
    while 'lost its broker' not in installation.cli('status', str(pk)):
        assert time.monotonic() < deadline, 'the status does not say it'
        time.sleep(1)
    assert 'was started' in installation.cli('setup', 'daemon')
    assert 'lost its broker' not in installation.cli('status', str(pk))
    assert_recovers(installation, pk)
    labels = sum(sum(splits.values()) for splits in installation.ask('outputs', pk)['datasets'].values())
    happened = 'the status says so, then `setup daemon`'
    record_property(*row('broker alone killed: label', happened, 'recovered', f'{labels} labels', 0, 0))


def wait_for_job(installation, pk, name):
    deadline = time.monotonic() + 240
    while name not in installation.verdi('process', 'status', str(pk)):
        assert time.monotonic() < deadline, f'no {name} came'
        time.sleep(0.5)


def assert_recovers(installation, pk):
    """The run ends well, each of its structures has its label, and none was computed twice."""
    deadline = time.monotonic() + 400
    while not installation.ask('state', pk)['terminated']:
        assert time.monotonic() < deadline, installation.verdi('process', 'status', str(pk))
        time.sleep(3)
    assert installation.ask('state', pk)['exit_status'] == 0
    assert installation.ask('labelled_more_than_once', pk) == []
    assert installation.ask('structures_without_label', pk) == []
    assert installation.ask('without_creator', pk) == []
