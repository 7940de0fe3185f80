"""A SLURM of one node in a folder of its own: all daemons as root, without systemd and without the system's files.

The node pretends to have more cores than the machine, and GPUs whose device files are null devices. There is accounting where
slurmdbd and MariaDB are installed. Several labs can run side by side.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'squeue', 'scancel', 'scontrol', 'sinfo')
ACCOUNTING_PROGRAMS = ('mariadbd', 'mariadb-install-db', 'mariadb', 'slurmdbd', 'sacct')
ROOTS_PATH = f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin'
CORES, GPUS, MEMORY_MB = 8, 2, 8000
# How long commands try to reach slurmctld.
MESSAGE_TIMEOUT_S = 3

CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
{accounting}
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/finished_jobs
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=2
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout={message_timeout}
MinJobAge=3600
KillWait=2
DefMemPerCPU=1000
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory_mb} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=lab Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting_port}
AccountingStoragePass={folder}/munge.socket"""
NO_ACCOUNTING = 'AccountingStorageType=accounting_storage/none'
ACCOUNTING_DAEMON = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={accounting_port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=lab
StoragePass=lab
StorageLoc=lab
"""
DATABASE = """\
create database lab;
create user 'lab'@'127.0.0.1' identified by 'lab';
grant all on lab.* to 'lab'@'127.0.0.1';
"""


class LabError(Exception):
    """The lab cannot start here; the message says why."""


class SlurmLab:
    """Start, disturb and end one SLURM. Ends only the processes that it has started.

    :param folder: a new folder for configuration, state, logs and devices; a short path, for it holds a socket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split('.')[0]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._controller_port, self._node_port, self._accounting_port, self._database_port = free_ports(4)

    @property
    def accounts(self) -> bool:
        """Whether this SLURM keeps accounts, so that `sacct` can say what became of a job."""
        return not missing(ACCOUNTING_PROGRAMS)

    @property
    def environment(self) -> dict[str, str]:
        """What SLURM's commands need to find this SLURM and no other one."""
        return {'SLURM_CONF': str(self.folder / 'slurm.conf')}

    def start(self) -> None:
        """Start everything and wait until the node takes jobs.

        :raises LabError: if a program is missing, this is not root, or a daemon does not come up.
        """
        if missing(PROGRAMS):
            raise LabError(f'{", ".join(missing(PROGRAMS))} not installed (Debian: slurm-wlm, munge)')
        if os.geteuid() != 0:
            raise LabError('only root can start slurmd')
        self._write_files()
        try:
            key, socket_file = self.folder / 'munge.key', self.folder / 'munge.socket'
            options = {'socket': socket_file, 'key-file': key, 'pid-file': self.folder / 'munged.pid'}
            options |= {'seed-file': self.folder / 'munged.seed', 'log-file': self.folder / 'munged.log'}
            self._start('munged', '--foreground', '--force', *(f'--{name}={path}' for name, path in options.items()))
            self._wait_until(socket_file.exists, 'munged')
            if self.accounts:
                self._start_accounting()
            self.start_controller()
            self.start_node()
            self._wait_until(self.has_node, 'slurmd')
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Cancel what still runs, and end the daemons."""
        if 'slurmctld' in self._daemons:
            with suppress(subprocess.SubprocessError, LabError):
                self.ask('scancel', '--user=root')
                self._wait_until(lambda: not self.jobs(), 'scancel')
        for name in reversed(self._daemons.copy()):
            self.end(name)

    def start_controller(self) -> None:
        """Start slurmctld; it goes on from its saved state."""
        self._start('slurmctld', '-D')
        self._wait_until(lambda: 'UP' in self.ask('scontrol', 'ping'), 'slurmctld')

    def start_node(self) -> None:
        """Start slurmd; it finds the jobs that an earlier one left running."""
        self._start('slurmd', '-D')

    def has_node(self) -> bool:
        """Whether the node is there and takes jobs."""
        return self.ask('sinfo', '-h', '-o', '%T') in {'idle', 'mixed', 'allocated'}

    def crash_node(self) -> None:
        """Kill slurmd and every job on the node, as if its power had gone."""
        self.end('slurmd', wait_s=0)
        for keeper in psutil.process_iter(['name']):
            with suppress(psutil.Error):
                if keeper.info['name'].startswith('slurmstepd') and keeper.cwd() == str(self.folder):
                    for process in [keeper, *keeper.children(recursive=True)]:
                        process.kill()

    def reach_time_limit(self, job: str) -> None:
        """Let a job's time limit be now: SLURM counts in minutes, and ends it at its next look."""
        self.ask('scontrol', 'update', f'JobId={job}', 'EndTime=now+1')

    def end(self, daemon: str, wait_s: float = 10.0) -> None:
        """End a daemon.

        :param daemon: `munged`, `slurmctld` or `slurmd`.
        :param wait_s: it is killed when it has not ended by itself after this time; 0 kills it at once.
        """
        process = self._daemons.pop(daemon)
        if wait_s:
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            return
        process.kill()
        process.wait()

    def jobs(self) -> list[str]:
        """Return the numbers of all jobs that wait, run or are ending."""
        return self.ask('squeue', '-h', '-o', '%i').split()

    def fields(self, job: str) -> dict[str, str]:
        """Return what SLURM itself says of a job, for example `JobState` and `WorkDir`."""
        return dict(item.partition('=')[::2] for item in self.ask('scontrol', 'show', 'job', job).split())

    def state(self, job: str) -> str:
        """Return what has become of a job, for example `TIMEOUT`."""
        return self.fields(job)['JobState']

    def ask(self, *command: str) -> str:
        """Return what a command of SLURM prints."""
        return self._run(*command).stdout.strip()

    def _write_files(self) -> None:
        for name in ('state', 'spool', 'dev'):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        key = self.folder / 'munge.key'
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        null_device = os.makedev(1, 3)
        for index in range(GPUS):
            try:
                os.mknod(self.folder / 'dev' / f'nvidia{index}', 0o20666, null_device)
            except OSError as error:
                raise LabError(f'the device file of a GPU cannot be made here ({error.strerror})') from None
        (self.folder / 'gres.conf').write_text(f'Name=gpu File={self.folder}/dev/nvidia[0-{GPUS - 1}]\n')
        ports = {'accounting_port': self._accounting_port, 'database_port': self._database_port}
        accounting = (
            ACCOUNTING.format(folder=self.folder, **ports)
            if self.accounts
            else 'AccountingStorageType=accounting_storage/none'
        )
        text = CONFIGURATION.format(
            host=self.host,
            folder=self.folder,
            controller_port=self._controller_port,
            node_port=self._node_port,
            accounting=accounting,
            message_timeout=MESSAGE_TIMEOUT_S,
            cores=CORES,
            gpus=GPUS,
            memory_mb=MEMORY_MB,
        )
        (self.folder / 'slurm.conf').write_text(text)
        accounting_file = self.folder / 'slurmdbd.conf'
        accounting_file.write_text(ACCOUNTING_DAEMON.format(host=self.host, folder=self.folder, **ports))
        accounting_file.chmod(0o600)

    def _start_accounting(self) -> None:
        data, socket_file = self.folder / 'database', self.folder / 'database.socket'
        install = ['mariadb-install-db', '--no-defaults', '--user=root', f'--datadir={data}', '--skip-test-db']
        installed = self._run(*install, '--auth-root-authentication-method=normal')
        if installed.returncode:
            raise LabError(f'mariadb-install-db: {(installed.stdout + installed.stderr).strip()[-200:]}')
        where = ['--no-defaults', f'--socket={socket_file}']
        address = ['--bind-address=127.0.0.1', f'--port={self._database_port}']
        small = [
            '--innodb-buffer-pool-size=32M',
            '--innodb-lock-wait-timeout=900',
            '--innodb-flush-log-at-trx-commit=0',
        ]
        self._start('mariadbd', *where, '--user=root', f'--datadir={data}', *address, *small)
        client = ['mariadb', *where, '--user=root']
        self._wait_until(lambda: self._run(*client, '-e', 'select 1').returncode == 0, 'mariadbd')
        self._run(*client, '-e', DATABASE)
        self._start('slurmdbd', '-D')
        self._wait_until(lambda: is_open(self._accounting_port), 'slurmdbd')

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment, 'PATH': ROOTS_PATH}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def _start(self, daemon: str, *arguments: str) -> None:
        program = shutil.which(daemon, path=ROOTS_PATH)
        assert program is not None
        with open(self.folder / f'{daemon}.out', 'ab') as out:
            self._daemons[daemon] = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def _wait_until(self, condition: Callable[[], bool], daemon: str, limit_s: float = 90.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            ended = [name for name, process in self._daemons.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                name = ended[0] if ended else daemon
                raise LabError(f'{name} does not come up: {self._last_line(name)}')
            time.sleep(0.1)

    def _last_line(self, daemon: str) -> str:
        log = self.folder / f'{daemon}.out'
        lines = log.read_text(errors='replace').split('\n') if log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), 'it printed nothing')


def missing(programs: Sequence[str]) -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in programs if shutil.which(name, path=ROOTS_PATH) is None]


def is_open(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(('127.0.0.1', port)) == 0


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(('127.0.0.1', 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
