"""PostgreSQL and RabbitMQ in a folder of their own, without systemd and beside those of the system, if there are any."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slurm.lab import free_ports, is_open

USER = PASSWORD = DATABASE = 'aiida'
RABBITMQ = '/usr/lib/rabbitmq/bin/rabbitmq-server'
RABBITMQ_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
"""
# RabbitMQ takes a task away from a worker that has not finished it after half an hour, unless it is told not to.
ADVANCED_CONFIGURATION = '[{rabbit, [{consumer_timeout, undefined}]}].\n'


class LabError(Exception):
    """A service cannot start here; the message says why."""


class ServicesLab:
    """Start and end both services. Ends only the processes that it has started.

    PostgreSQL refuses to run as root, and is run as the user `postgres` then.

    :param folder: a new folder for data, configuration and logs, in a place that the user `postgres` can reach.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database_port, self.broker_port, self._erlang_port, self._names_port = free_ports(4)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._postgres_user = 'postgres' if os.geteuid() == 0 else None

    def start(self) -> None:
        """Start both services, and make a user and a database for AiiDA.

        :raises LabError: if a program is missing or a service does not come up.
        """
        try:
            self._start_postgresql()
            self._start_rabbitmq()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End what runs."""
        for process in reversed(self._processes.values()):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
                continue
            process.kill()
            process.wait()
        self._processes.clear()

    def _start_postgresql(self) -> None:
        programs = sorted(Path('/usr/lib/postgresql').glob('*/bin'))
        if not programs:
            raise LabError('PostgreSQL is not installed (Debian: postgresql)')
        programs_folder, data = programs[-1], self.folder / 'postgresql'
        data.mkdir()
        if self._postgres_user is not None:
            shutil.chown(data, self._postgres_user, self._postgres_user)
            self.folder.chmod(0o755)
        made = self._as_postgres(programs_folder / 'initdb', '-D', data, '-A', 'trust', '-U', 'postgres', '-E', 'UTF8')
        if made.returncode:
            raise LabError(f'initdb: {made.stderr.strip()[-200:]}')
        options = {'listen_addresses': '127.0.0.1', 'unix_socket_directories': str(data), 'fsync': 'off'}
        arguments = [part for name, value in options.items() for part in ('-c', f'{name}={value}')]
        server = [programs_folder / 'postgres', '-D', data, '-p', str(self.database_port), *arguments]
        self._start('postgresql', server, user=self._postgres_user, cwd=data)
        client = [programs_folder / 'psql', '-h', '127.0.0.1', '-p', str(self.database_port), '-U', 'postgres', '-c']
        self._wait_until(lambda: self._as_postgres(*client, 'select 1').returncode == 0, 'postgresql')
        for command in (
            f"create role {USER} login password '{PASSWORD}'",
            f"create database {DATABASE} owner {USER} encoding 'UTF8' template template0",
        ):
            done = self._as_postgres(*client, command)
            if done.returncode:
                raise LabError(f'psql: {done.stderr.strip()}')

    def _start_rabbitmq(self) -> None:
        names = shutil.which('epmd')
        if names is None or not Path(RABBITMQ).exists():
            raise LabError('RabbitMQ is not installed (Debian: rabbitmq-server)')
        folder = self.folder / 'rabbitmq'
        folder.mkdir()
        (folder / 'rabbitmq.conf').write_text(RABBITMQ_CONFIGURATION.format(port=self.broker_port))
        (folder / 'advanced.config').write_text(ADVANCED_CONFIGURATION)
        environment = {
            **os.environ,
            'HOME': str(folder),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'ERL_EPMD_PORT': str(self._names_port),
            'RABBITMQ_NODENAME': f'lab{os.getpid()}@localhost',
            'RABBITMQ_DIST_PORT': str(self._erlang_port),
            'RABBITMQ_MNESIA_BASE': str(folder / 'mnesia'),
            'RABBITMQ_LOG_BASE': str(folder / 'log'),
            'RABBITMQ_CONFIG_FILE': str(folder / 'rabbitmq.conf'),
            'RABBITMQ_ADVANCED_CONFIG_FILE': str(folder / 'advanced.config'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(folder / 'enabled_plugins'),
            'RABBITMQ_PID_FILE': str(folder / 'pid'),
            # It idles in a loop otherwise.
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': '+S 1:1 +sbwt none',
        }
        self._start('epmd', [names], env=environment, cwd=folder)
        self._wait_until(lambda: is_open(self._names_port), 'epmd')
        self._start('rabbitmq', [RABBITMQ], env=environment, cwd=folder)
        self._wait_until(lambda: is_open(self.broker_port), 'rabbitmq')

    def _as_postgres(self, *command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)),
            user=self._postgres_user,
            cwd='/',
            env={**os.environ, 'LC_ALL': 'C.UTF-8'},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _start(self, name: str, command: list[object], **options: object) -> None:
        with open(self.folder / f'{name}.out', 'ab') as out:
            self._processes[name] = subprocess.Popen(  # type: ignore[call-overload]
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                **options,
            )

    def _wait_until(self, condition: Callable[[], bool], name: str, limit_s: float = 120.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            if self._processes[name].poll() is not None or time.monotonic() > deadline:
                text = (self.folder / f'{name}.out').read_text(errors='replace').strip()
                raise LabError(f'{name} does not come up: {text[-300:] or "it printed nothing"}')
            time.sleep(0.2)
