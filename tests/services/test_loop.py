"""The tiny run on PostgreSQL and RabbitMQ, with a worker of the daemon killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from e2e.conftest import HERE, PROFILE, Installation
from e2e.test_recovery import daemon_processes
from helpers.fault_table import row
from services.lab import DATABASE, PASSWORD, USER, LabError, ServicesLab

pytestmark = [pytest.mark.services, pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(1500)]

LIMIT_S = 900


@pytest.fixture(scope='module')
def services():
    """PostgreSQL and RabbitMQ; nobody else can look into pytest's own folders, so they get another one."""
    with tempfile.TemporaryDirectory(prefix='services-', ignore_cleanup_errors=True) as folder:
        lab = ServicesLab(Path(folder))
        try:
            lab.start()
        except LabError as error:
            pytest.skip(f'no services here: {error}')
        yield lab
        lab.stop()


@pytest.fixture(scope='module')
def installation(services, tmp_path_factory):
    """A profile on these services, made by the commands of docs/production.md, and its daemon of two workers."""
    made = Installation(tmp_path_factory.mktemp('production'))
    for name in ('tiny.yaml', 'water.xyz'):
        shutil.copy(HERE / name, made.folder)
    person = ['--email', 'me@example.org', '--first-name', 'M', '--last-name', 'E', '--institution', 'none']
    database = ['--database-hostname', '127.0.0.1', '--database-port', str(services.database_port)]
    database += ['--database-name', DATABASE, '--database-username', USER, '--database-password', PASSWORD]
    storage = ['--repository-uri', f'file://{made.folder}/repository']
    setup = ['verdi', 'profile', 'setup', 'core.psql_dos', '-n', '--profile-name', PROFILE, '--broker', 'core.rabbitmq']
    made.run(*setup, *person, *database, *storage)
    broker = ['--broker-protocol', 'amqp', '--broker-username', 'guest', '--broker-password', 'guest']
    broker += ['--broker-host', '127.0.0.1', '--broker-port', str(services.broker_port), '--broker-virtual-host', '']
    made.run('verdi', 'profile', 'configure-broker', 'core.rabbitmq', PROFILE, '-n', '-f', *broker)
    made.verdi('config', 'set', 'warnings.rabbitmq_version', 'False')
    made.cli('setup', 'profile')
    made.verdi('daemon', 'incr', '1')
    yield made
    made.verdi('daemon', 'stop', check=False)


def workers_of(installation):
    """Return the workers of the daemon that live."""
    circus, *children = daemon_processes(installation.folder)
    assert circus.is_running()
    found = []
    for child in children:
        with suppress(psutil.Error):
            if 'worker' in child.cmdline():
                found.append(child)
    return found


def test_run_on_postgresql_and_rabbitmq_survives_its_workers(installation, record_property):
    profile = installation.verdi('profile', 'show', PROFILE)
    assert 'core.psql_dos' in profile
    assert 'core.rabbitmq' in profile
    pk = installation.launch()
    deadline = time.monotonic() + LIMIT_S
    killed = 0
    # Whichever of the two has the run and its jobs: both of them, one after the other.
    for stage in ('LabelCalculation', 'MaceTrainCalculation'):
        while stage not in installation.verdi('process', 'status', str(pk)):
            assert time.monotonic() < deadline, f'no {stage} came'
            time.sleep(0.5)
        victim, *_ = workers_of(installation)
        os.kill(victim.pid, signal.SIGKILL)
        psutil.wait_procs([victim], timeout=10)
        killed += 1
        while len(workers_of(installation)) < 2:
            assert time.monotonic() < deadline, 'circus did not start another worker'
            time.sleep(0.5)

    while not installation.ask('state', pk)['terminated']:
        assert time.monotonic() < deadline, installation.verdi('process', 'status', str(pk))
        time.sleep(3)
    ended = installation.ask('state', pk)
    lost = installation.ask('structures_without_label', pk)
    repeated = installation.ask('labelled_more_than_once', pk)
    end = 'recovered' if ended['exit_status'] == 0 else f'stopped ({ended["exit_status"]})'
    found = installation.ask('outputs', pk) if ended['exit_status'] == 0 else {'datasets': {}}
    labels = sum(sum(splits.values()) for splits in found['datasets'].values())
    happened = f'{killed} workers killed, circus started others'
    record_property(
        *row('worker killed, PostgreSQL and RabbitMQ', happened, end, f'{labels} labels', len(lost), len(repeated))
    )
    assert ended['exit_status'] == 0, ended['message']
    assert lost == []
    assert repeated == []
    assert installation.ask('without_creator', pk) == []
    assert found['iterations'] == ['iteration_01', 'iteration_02']
    assert set(found['kinds']) == {'committee', 'dataset', 'deviations', 'errors', 'history', 'new_labels', 'selection'}
    assert found['datasets']['test'] == {'train': 0, 'validation': 0, 'test': 10}
    assert found['members'] == ['member_00', 'member_01']
    assert found['history']['stop_reason'] == 'max_iterations'
