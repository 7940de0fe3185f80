"""kill -9 of the daemon, or of its broker alone, in the middle of a run: it goes on, and no label is computed twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from helpers.fault_table import row

from aiida_mlip_al.cli.profile import NETWORK_FILE_SYSTEMS, file_system

pytestmark = [pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(1500)]


def daemon_processes(folder: Path) -> list[psutil.Process]:
    """Return circus and all that it started (workers, broker), by the pid file in a configuration folder."""
    pid = int(next((folder / '.aiida' / 'daemon').glob('circus-*.pid')).read_text())
    circus = psutil.Process(pid)
    return [circus, *circus.children(recursive=True)]


def test_run_goes_on_after_its_broker_and_its_daemon_were_killed(installation, record_property):
    """In a run that also seeds twice, because its seeds are asked for more than they can give.

    Its random numbers are its own, so that no other test's cache has its labels.
    """
    tiny = (installation.folder / 'tiny.yaml').read_text()
    (installation.folder / 'rounds.yaml').write_text(
        f'{tiny}\nrandom_seed: 7\nseed_rounds: {{max_rounds: 2, target_force_error: 1.0e-6}}\n'
    )
    pk = installation.launch(config='rounds.yaml')
    with one_long_read(installation.database):
        wait_for_job(installation, pk, 'LabelCalculation')
    (broker,) = [process for process in daemon_processes(installation.folder) if 'broker' in process.cmdline()]
    kill([broker])
    wait_for('lost its broker', lambda: installation.cli('status', str(pk)), 60)
    assert 'was started' in installation.cli('setup', 'daemon')
    assert 'lost its broker' not in installation.cli('status', str(pk))

    wait_for_job(installation, pk, 'MaceTrainCalculation')
    victims = daemon_processes(installation.folder)
    assert len(victims) >= 3, 'circus, a worker and the broker'
    kill(victims)
    assert not installation.ask('state', pk)['terminated']
    assert 'was started' in installation.cli('setup', 'daemon')
    assert 'is running' in installation.cli('setup', 'daemon')

    wait_for('True', lambda: str(installation.ask('state', pk)['terminated']), 800)
    assert installation.ask('state', pk)['exit_status'] == 0, installation.verdi('process', 'report', str(pk))
    lost = installation.ask('structures_without_label', pk)
    repeated = installation.ask('labelled_more_than_once', pk)
    datasets = installation.ask('outputs', pk)['datasets']
    labels = sum(sum(splits.values()) for splits in datasets.values())
    for fault, happened in (
        ('broker alone killed: label', 'the status says so, then `setup daemon`'),
        ('daemon, worker and broker killed: train', f'{len(victims)} processes killed'),
    ):
        record_property(*row(fault, happened, 'recovered', f'{labels} labels', len(lost), len(repeated)))
    assert (lost, repeated) == ([], [])
    assert {'seeds', 'seeds_02', 'test', 'iteration_01'} <= set(datasets)
    assert installation.ask('without_creator', pk) == []


def test_setup_daemon_replaces_what_circus_left_behind(installation):
    circus, *left = daemon_processes(installation.folder)
    kill([circus])
    assert 'was started' in installation.cli('setup', 'daemon')
    assert [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert 'is running' in installation.cli('setup', 'daemon')
    assert 'Using 0%' in installation.verdi('process', 'list')


@contextmanager
def one_long_read(path: Path) -> Iterator[None]:
    """Read the database in one transaction, for longer than SQLite has others wait; not on a network file system."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if file_system(path).startswith(NETWORK_FILE_SYSTEMS):
            yield
            return
        assert connection.execute('PRAGMA journal_mode').fetchone() == ('wal',)
        connection.execute('BEGIN')
        connection.execute('SELECT COUNT(*) FROM db_dbnode').fetchone()
        began = time.monotonic()
        yield
        time.sleep(max(0.0, 7 - (time.monotonic() - began)))


def kill(processes):
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)


def wait_for_job(installation, pk, name):
    wait_for(name, lambda: installation.verdi('process', 'status', str(pk)), 240)


def wait_for(words, ask, limit_s):
    """Ask until the answer has these words."""
    deadline = time.monotonic() + limit_s
    while words not in (answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(1)
