"""A cluster as users have it: SLURM behind an SSH connection, set up from a file with the product's own commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from click.testing import CliRunner
from slurm.lab import CORES, ROOTS_PATH, free_ports

from aiida_mlip_al.cli import main
from aiida_mlip_al.workflows.builder import make_builder

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(300)]

SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile {folder}/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
SetEnv SLURM_CONF={slurm_conf}
"""
CLIENT = """\
Host cluster
    HostName 127.0.0.1
    Port {port}
    User root
    IdentityFile {folder}/user
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
"""


@pytest.fixture
def ssh(slurm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An SSH server on this machine that knows one key, and a home folder whose SSH knows the server as `cluster`."""
    server = shutil.which('sshd', path=ROOTS_PATH)
    if server is None:
        pytest.skip('no SSH server here: sshd is not installed (Debian: openssh-server)')
    (port,) = free_ports(1)
    for name in ('host', 'user'):
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', str(tmp_path / name)], check=True)
    host_key = ' '.join((tmp_path / 'host.pub').read_text().split()[:2])
    (tmp_path / 'known_hosts').write_text(f'[127.0.0.1]:{port} {host_key}\n')
    slurm_conf = slurm.environment['SLURM_CONF']
    (tmp_path / 'sshd_config').write_text(SERVER.format(port=port, folder=tmp_path, slurm_conf=slurm_conf))
    (tmp_path / '.ssh').mkdir(mode=0o700)
    (tmp_path / '.ssh' / 'config').write_text(CLIENT.format(port=port, folder=tmp_path))
    Path('/run/sshd').mkdir(exist_ok=True)
    process = subprocess.Popen([server, '-D', '-e', '-f', str(tmp_path / 'sshd_config')], stderr=subprocess.PIPE)
    monkeypatch.setenv('HOME', str(tmp_path))
    connect = ['ssh', '-F', str(tmp_path / '.ssh' / 'config'), 'cluster', 'true']
    deadline = time.monotonic() + 30
    while subprocess.run(connect, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f'no connection to sshd: {process.communicate()[1].decode()}')
        time.sleep(0.2)
    yield tmp_path
    process.terminate()
    process.wait()


@pytest.mark.parametrize(
    ('transport', 'options'),
    [
        ('core.ssh_async', {'host': 'cluster'}),
        ('core.ssh', {'look_for_keys': False}),
    ],
)
def test_cluster_from_its_file_to_labels(
    ssh: Path,
    slurm: Any,
    aiida_profile_clean: Any,
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    options: Any,
    copper: Any,
) -> None:
    """`setup computer`, `setup check` with a GPU, and labels in two jobs."""
    monkeypatch.setattr(
        'aiida_mlip_al.cli.launch.submit', lambda process, inputs: run_get_node(make_builder(process, inputs))[1]
    )
    if transport == 'core.ssh':
        port = int((ssh / 'sshd_config').read_text().split()[1])
        options = {**options, 'username': 'root', 'port': port, 'key_filename': str(ssh / 'user')}
        options |= {'key_policy': 'AutoAddPolicy', 'load_system_host_keys': False}
    values = {
        'label': 'cluster',
        'hostname': '127.0.0.1' if transport == 'core.ssh' else 'cluster',
        'transport': transport,
        'work_dir': str(ssh / 'work'),
        'poll_interval_s': 1,
        'safe_interval_s': 0,
        'ssh': options,
        'codes': {'python': sys.executable},
    }
    (ssh / 'cluster.yaml').write_text(yaml.safe_dump(values))
    done = CliRunner().invoke(main, ['setup', 'computer', str(ssh / 'cluster.yaml')])
    assert done.exit_code == 0, done.output

    done = CliRunner().invoke(main, ['setup', 'check', 'python@cluster', '--gpus', '1'], env={'COLUMNS': '200'})
    assert done.exit_code == 0, done.output
    assert 'torch' in done.output
    job = orm.QueryBuilder().append(orm.CalcJobNode).one()[0]
    assert job.computer.label == 'cluster'
    assert slurm.state(job.get_job_id()) == 'COMPLETED'

    structures = copper(4)
    resources = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1, 'num_cores_per_mpiproc': CORES // 4}}
    label = {
        'code': orm.load_code('python@cluster'),
        'calculator': orm.Dict({'calculator': 'ase.calculators.emt:EMT'}),
        'metadata': {'options': {**resources, 'max_wallclock_seconds': 600}},
    }
    results, node = run_get_node(WorkflowFactory('mlip_al.label'), structures=structures, ase=label, batch_size=2)
    assert node.exit_status == 0, node.exit_message
    assert set(results['labels']) == set(structures)
    jobs = [child for child in node.called if child.process_label == 'LabelCalculation']
    assert [slurm.state(job.get_job_id()) for job in jobs] == ['COMPLETED', 'COMPLETED']
    assert all(Path(job.get_remote_workdir()).is_relative_to(ssh / 'work') for job in jobs)
