"""A whole run through the daemon on a real SLURM: killed in every stage, and without a controller for long."""

from __future__ import annotations

import re
import shutil
import sys
import time
from pathlib import Path

import psutil
import pytest
from ase.build import bulk
from e2e.conftest import PROFILE, Installation
from e2e.test_recovery import daemon_processes
from helpers.fault_table import row
from slurm.conftest import Log

pytestmark = [pytest.mark.slurm, pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
CLUSTER = """\
label: slurm
hostname: localhost
transport: core.local
work_dir: {folder}/work
codes: {{python: {python}}}
"""
RUN = """\
label: faults
protocol: quickstart
structures: [copper.xyz]
seed:
  rattled: [{{rattle: {{copies: 8, stdev: 0.05}}}}]
labels:
  ase:
    calculator: 'recorded:Recorded'
    arguments: {{log: {log}, seconds: 1.0, seconds_later: 1.0}}
    files: [recorded.py]
    theory: EMT
    batch_size: 8
train:
  mace:
    members: 2
    gradient_steps: 20
    num_channels: 4
    max_ell: 1
    correlation: 1
    num_interactions: 1
    r_max: 3.0
    final: {{gradient_steps: 20}}
explore:
  ase: {{temperature: 300, walkers: 1, steps: 40, check_interval: 10, stride: 10}}
select: {{tolerance: 0.005, max_labels: 3, upper: 50.0}}
stop: {{max_iterations: 1, max_labels: 40}}
codes: {{default: python@slurm}}
resources: {{label: {{environment_variables: {{PYTHONPATH: .}}}}}}
"""
LIMIT_S = 600


@pytest.fixture
def installation(slurm, tmp_path):
    """A profile with a daemon and that SLURM, set up by commands; what fails at a computer is tried twice."""
    made = Installation(tmp_path)
    (tmp_path / 'cluster.yaml').write_text(CLUSTER.format(folder=tmp_path, python=sys.executable))
    (tmp_path / 'run.yaml').write_text(RUN.format(log=tmp_path / 'log.jsonl'))
    bulk('Cu', cubic=True).write(tmp_path / 'copper.xyz')
    shutil.copy(HERE / 'recorded.py', tmp_path)
    for option, value in (
        ('transport.task_retry_initial_interval', '1'),
        ('transport.task_maximum_attempts', '2'),
        ('daemon.timeout', '60'),
    ):
        made.run('verdi', 'config', 'set', option, value)
    made.cli('setup', 'profile')
    made.cli('setup', 'computer', 'cluster.yaml')
    yield made
    made.verdi('daemon', 'stop', check=False)


def wait_for(installation, stage, log, *victims):
    """Wait until the run is in a stage, and kill processes at that moment."""
    script = [sys.executable, str(HERE / 'moment.py'), PROFILE, stage, str(log.path)]
    installation.run(*script, *(str(process.pid) for process in victims))
    psutil.wait_procs(victims, timeout=10)


def wait_until(condition, complain):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, complain()
        time.sleep(1)


def test_run_goes_on_after_every_fault(slurm, installation, record_property):
    log = Log(installation.folder / 'log.jsonl')
    run = installation.launch(config='run.yaml')
    happened = {}
    for stage in ('label', 'train', 'explore', 'select'):
        victims = daemon_processes(installation.folder)
        assert len(victims) >= 3, 'circus, a worker and the broker'
        wait_for(installation, stage, log, *victims)
        assert 'The daemon is not running' in installation.cli('status', str(run))
        assert 'was started' in installation.cli('setup', 'daemon')
        happened[f'daemon, worker and broker killed: {stage}'] = f'{len(victims)} processes killed'

    wait_for(installation, 'label', log)
    slurm.end('slurmctld')
    wait_until(lambda: 'is paused' in installation.cli('status', str(run)), lambda: 'nothing is paused')
    said = installation.cli('status', str(run))
    assert 'failed 2 times' in said
    slurm.start_controller()
    command = re.search(r'`verdi (process play (\d+))`', said)
    assert command is not None, said
    assert not installation.ask('state', run)['terminated']
    installation.verdi(*command[1].split())
    happened['slurmctld away for long'] = f'job {command[2]} paused, then `verdi process play`'

    wait_until(lambda: installation.ask('state', run)['terminated'], lambda: installation.cli('status', str(run)))
    ended = installation.ask('state', run)
    lost = installation.ask('structures_without_label', run)
    repeated = log.repeated() + len(installation.ask('labelled_more_than_once', run))
    end = 'recovered' if ended['exit_status'] == 0 else f'stopped ({ended["exit_status"]})'
    results = f'{len(log.computed()) - log.repeated()} labels'
    for fault, what in happened.items():
        record_property(*row(fault, what, end, results, len(lost), repeated))
    assert ended['exit_status'] == 0, ended['message']
    assert lost == []
    assert repeated == 0
    assert len(log.computed()) == 8 + 3
    assert installation.ask('without_creator', run) == []
    installation.verdi('archive', 'create', '-N', str(run), '--', 'run.aiida')
    assert slurm.jobs() == []
