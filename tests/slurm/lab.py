"""A SLURM of one node in a folder of its own: munged, slurmctld and slurmd as root, without systemd and without the system's files.

The node pretends to have more cores than the machine, and GPUs whose device files are null devices.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'squeue', 'scancel', 'scontrol', 'sinfo')
ROOTS_PATH = f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin'
CORES, GPUS, MEMORY_MB = 8, 2, 4000
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
AccountingStorageType=accounting_storage/none
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
SlurmdTimeout=15
MessageTimeout={message_timeout}
MinJobAge=60
KillWait=2
DefMemPerCPU=500
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory_mb} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=lab Nodes={host} Default=YES MaxTime=INFINITE State=UP
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

    @property
    def environment(self) -> dict[str, str]:
        """What SLURM's commands need to find this SLURM and no other one."""
        return {'SLURM_CONF': str(self.folder / 'slurm.conf')}

    def start(self) -> None:
        """Start everything and wait until the node takes jobs.

        :raises LabError: if a program is missing, this is not root, or a daemon does not come up.
        """
        missing = [name for name in PROGRAMS if shutil.which(name, path=ROOTS_PATH) is None]
        if missing:
            raise LabError(f'{", ".join(missing)} not installed (Debian: slurm-wlm, munge)')
        if os.geteuid() != 0:
            raise LabError('only root can start slurmd')
        self._write_files()
        try:
            key, socket_file = self.folder / 'munge.key', self.folder / 'munge.socket'
            options = {'socket': socket_file, 'key-file': key, 'pid-file': self.folder / 'munged.pid'}
            options |= {'seed-file': self.folder / 'munged.seed', 'log-file': self.folder / 'munged.log'}
            self._start('munged', '--foreground', '--force', *(f'--{name}={path}' for name, path in options.items()))
            self._wait_until(socket_file.exists, 'munged')
            self.start_controller()
            self.start_node()
            self._wait_until(lambda: self.ask('sinfo', '-h', '-o', '%T') in {'idle', 'mixed', 'allocated'}, 'slurmd')
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

    def state(self, job: str) -> str:
        """Return what SLURM itself says has become of a job, for example `TIMEOUT`."""
        fields = dict(item.partition('=')[::2] for item in self.ask('scontrol', 'show', 'job', job).split())
        return fields['JobState']

    def ask(self, *command: str) -> str:
        """Return what a command of SLURM prints."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.strip()

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
        controller_port, node_port = free_ports(2)
        text = CONFIGURATION.format(
            host=self.host,
            folder=self.folder,
            controller_port=controller_port,
            node_port=node_port,
            message_timeout=MESSAGE_TIMEOUT_S,
            cores=CORES,
            gpus=GPUS,
            memory_mb=MEMORY_MB,
        )
        (self.folder / 'slurm.conf').write_text(text)

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

    def _wait_until(self, condition: Callable[[], bool], daemon: str, limit_s: float = 30.0) -> None:
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
