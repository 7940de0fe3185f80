"""AiiDA profiles of a benchmark's own, and a watch on the write transactions of this process.

To be imported before AiiDA, which makes its configuration folder as soon as it is imported.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

if 'aiida' in sys.modules:
    raise ImportError('Import this before AiiDA: else the benchmark would work in your own configuration folder.')
warnings.filterwarnings('ignore')
FOLDER = Path(tempfile.mkdtemp(prefix='scale-'))
os.environ['AIIDA_PATH'] = str(FOLDER)
os.environ['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


@contextmanager
def scratch_profile(name: str, services: tuple[str, str] | None = None, workers: int = 0) -> Iterator[Any]:
    """Make and load a profile with a localhost; yield its code ``python``. Its daemon ends with it.

    :param services: URLs of an empty PostgreSQL database and of a RabbitMQ; SQLite and ZeroMQ without them.
    :param workers: of the daemon; none is started for 0.
    """
    from aiida import load_profile
    from aiida.engine.daemon.client import get_daemon_client

    from aiida_mlip_al.cli.profile import ensure_computer, ensure_profile, ensure_python_code

    if services is None:
        ensure_profile(name)
    else:
        _profile_on_services(name, *services)
    load_profile(name, allow_switch=True)
    code = ensure_python_code(ensure_computer())
    if not workers:
        yield code
        return
    daemon = get_daemon_client(name)
    daemon.start_daemon(number_workers=workers, timeout=120)
    try:
        yield code
    finally:
        daemon.stop_daemon(wait=True, timeout=120)


def _profile_on_services(name: str, database: str, broker: str) -> None:
    from aiida.manage.configuration import create_profile, get_config

    config = get_config(create=True)
    if name in config.profile_names:
        return
    storage, queue = urlsplit(database), urlsplit(broker)
    create_profile(
        config,
        name=name,
        email='mlip-al@localhost',
        storage_backend='core.psql_dos',
        storage_config={
            'database_engine': 'postgresql_psycopg',
            'database_hostname': storage.hostname,
            'database_port': storage.port or 5432,
            'database_username': storage.username,
            'database_password': storage.password or '',
            'database_name': storage.path.lstrip('/'),
            'repository_uri': (Path(config.dirpath) / 'repository' / name).as_uri(),
        },
        broker_backend='core.rabbitmq',
        broker_config={
            'broker_protocol': queue.scheme,
            'broker_host': queue.hostname,
            'broker_port': queue.port or 5672,
            'broker_username': queue.username or 'guest',
            'broker_password': queue.password or 'guest',
            'broker_virtual_host': queue.path.lstrip('/'),
            'broker_parameters': {},
        },
    )
    config.set_option('runner.poll.interval', 1, scope=name)
    config.store()


def daemon_cpu_s() -> float:
    """Return the CPU time in s of the daemon's workers and broker; without a daemon that of this process."""
    import psutil
    from aiida.engine.daemon.client import get_daemon_client

    pid = get_daemon_client().get_daemon_pid()
    if pid is None:
        return time.process_time()
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    # Jobs are children of the worker that started them.
    programs = [process for process in tree if 'verdi' in ' '.join(process.cmdline())]
    return sum(sum(process.cpu_times()[:2]) for process in programs)


class Transactions:
    """How long this process has held the write lock of its profile's database, in s, one entry for each transaction."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began: dict[int, float] = {}

    def __enter__(self) -> Transactions:
        from aiida.manage import get_manager
        from sqlalchemy import event

        engine = get_manager().get_profile_storage().get_session().get_bind()
        self._listeners = [
            (engine, 'before_cursor_execute', self._statement),
            (engine, 'commit', self._end),
            (engine, 'rollback', self._end),
        ]
        for listener in self._listeners:
            event.listen(*listener)
        return self

    def __exit__(self, *_: object) -> None:
        from sqlalchemy import event

        for listener in self._listeners:
            event.remove(*listener)

    def _statement(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # SQLite takes the lock with the first statement that changes something.
        if statement.lstrip()[:6].upper() in ('INSERT', 'UPDATE', 'DELETE'):
            self._began.setdefault(id(connection.connection.dbapi_connection), time.monotonic())

    def _end(self, connection: Any) -> None:
        began = self._began.pop(id(connection.connection.dbapi_connection), None)
        if began is not None:
            self.seconds.append(time.monotonic() - began)

    @property
    def longest_s(self) -> float:
        """The longest of them."""
        return max(self.seconds, default=0.0)
