"""The embedded default: a profile without services, the local computer, and a code that is this Python."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

NETWORK_FILE_SYSTEMS = (
    'nfs',
    'cifs',
    'smb',
    'lustre',
    'gpfs',
    'beegfs',
    'ceph',
    'gluster',
    'panfs',
    'pvfs',
    'afs',
    'weka',
    'fuse',
    '9p',
)


def ensure_profile(name: str) -> bool:
    """Create a profile on SQLite and the ZeroMQ broker if there is none of this name; return whether it was created.

    Other profiles, and which one is the default, stay as they are.
    """
    from aiida.manage.configuration import create_profile, get_config
    from aiida.plugins import BrokerFactory

    config = get_config(create=True)
    if name in config.profile_names:
        return False
    default = config.default_profile_name
    folder = Path(config.dirpath) / 'repository' / name
    create_profile(
        config,
        name=name,
        email='mlip-al@localhost',
        storage_backend='core.sqlite_dos',
        storage_config={'filepath': str(folder)},
        broker_backend='core.zeromq',
        broker_config=BrokerFactory('core.zeromq').get_default_config(),
    )
    config.set_option('runner.poll.interval', 1, scope=name)
    config.set_option('logging.aiida_loglevel', 'REPORT', scope=name)
    if default is not None and config.default_profile_name != default:
        config.set_default_profile(default, overwrite=True)
    config.store()
    if not file_system(folder).startswith(NETWORK_FILE_SYSTEMS):
        write_ahead(folder)
    return True


def write_ahead(folder: Path) -> None:
    """Have SQLite write to a log beside the database, so that who reads it keeps nobody from writing.

    Without the log a worker fails that cannot write for five seconds, because somebody reads or archives many nodes; it even keeps
    its lock. SQLite's manual says not to use it where the database is on a network file system.

    :param folder: of the profile's storage.
    """
    from aiida.storage.sqlite_dos.backend import FILENAME_DATABASE

    with closing(sqlite3.connect(folder / FILENAME_DATABASE)) as connection, suppress(sqlite3.OperationalError):
        connection.execute('PRAGMA journal_mode=WAL')


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on, such as ``ext4``; empty if the machine does not say."""
    import psutil

    mounted = {Path(part.mountpoint): part.fstype.lower() for part in psutil.disk_partitions(all=True)}
    folder = folder.resolve()
    return next((mounted[parent] for parent in (folder, *folder.parents) if parent in mounted), '')


def ensure_computer(label: str = 'localhost') -> Any:
    """Return the local computer, created if it is missing."""
    from aiida import orm
    from aiida.common import NotExistent
    from aiida.manage.configuration import get_config, get_profile

    try:
        return orm.load_computer(label)
    except NotExistent:
        pass
    profile = get_profile()
    workdir = Path(get_config().dirpath) / 'scratch' / (profile.name if profile is not None else 'default')
    computer = orm.Computer(
        label=label,
        hostname='localhost',
        description='This machine',
        transport_type='core.local',
        scheduler_type='core.direct',
        workdir=str(workdir),
    ).store()
    computer.configure(safe_interval=0, use_login_shell=False)
    computer.set_minimum_job_poll_interval(1)
    computer.set_default_mpiprocs_per_machine(1)
    return computer


def ensure_python_code(
    computer: Any, executable: str | None = None, label: str = 'python', prepend_text: str | None = None
) -> Any:
    """Return the code that is a Python on a computer, created if it is missing or points elsewhere.

    :param executable: the Python; this one if it is not given.
    :param prepend_text: lines that go before it in a job; None takes a code whatever its lines.
    """
    from aiida import orm

    executable = executable or sys.executable
    builder = orm.QueryBuilder().append(orm.Computer, filters={'id': computer.pk}, tag='computer')
    builder.append(orm.InstalledCode, with_computer='computer', filters={'label': label})
    for code in builder.all(flat=True):
        if code.filepath_executable.as_posix() == executable and prepend_text in (None, code.prepend_text):
            return code
        # An executable that moved (a virtual environment made anew elsewhere) is another code; the old name is kept free.
        code.label = f'{label}-{code.pk}'
    return orm.InstalledCode(
        label=label,
        description='The Python that runs labels, MACE and MD',
        computer=computer,
        filepath_executable=executable,
        prepend_text=prepend_text or '',
    ).store()


def ensure_program_code(
    computer: Any, executable: str, plugin: str, with_mpi: bool | None = None, prepend_text: str | None = None
) -> Any:
    """Return the code that is a program on a computer, named like its file, created if it is missing or points elsewhere.

    :param plugin: the calculation that runs it.
    :param with_mpi: whether it is started with mpirun; None leaves that to the options of a job.
    :param prepend_text: lines that go before it in a job; None takes a code whatever its lines.
    """
    from aiida import orm

    label = Path(executable).name
    builder = orm.QueryBuilder().append(orm.Computer, filters={'id': computer.pk}, tag='computer')
    builder.append(orm.InstalledCode, with_computer='computer', filters={'label': label})
    for code in builder.all(flat=True):
        if (
            code.filepath_executable.as_posix() == executable
            and code.with_mpi == with_mpi
            and prepend_text in (None, code.prepend_text)
        ):
            return code
        code.label = f'{label}-{code.pk}'
    return orm.InstalledCode(
        label=label,
        computer=computer,
        filepath_executable=executable,
        default_calc_job_plugin=plugin,
        with_mpi=with_mpi,
        prepend_text=prepend_text or '',
    ).store()


def ensure_vasp_code(computer: Any, executable: str, with_mpi: bool = True, prepend_text: str | None = None) -> Any:
    """Return the code that is a VASP on a computer.

    :raises ConfigError: if aiida-vasp is not installed.
    """
    need_aiida_vasp()
    return ensure_program_code(computer, executable, 'vasp.vasp', with_mpi, prepend_text)


def upload_potcars(folder: Path, family: str) -> list[str]:
    """Make a POTCAR family of a folder, or add to it what is new, and return its symbols.

    :raises ConfigError: if there is no POTCAR in the folder.
    """
    need_aiida_vasp()
    from aiida.plugins import DataFactory, GroupFactory

    from aiida_mlip_al.config import ConfigError

    if not any(folder.glob('*/POTCAR*')):
        raise ConfigError(f'There is no POTCAR in {folder}: give the folder that holds folders such as `Cu/POTCAR`.')
    DataFactory('vasp.potcar').upload_potcar_family(folder, family, f'from {folder}', stop_if_existing=False)
    group = GroupFactory('vasp.potcar').collection.get(label=family)
    return sorted(node.symbol for node in group.nodes)


def need_aiida_vasp() -> None:
    """Refuse to go on without aiida-vasp.

    :raises ConfigError: if it is not installed.
    """
    from importlib.util import find_spec

    from aiida_mlip_al.config import ConfigError

    if find_spec('aiida_vasp') is None:
        raise ConfigError('For VASP, aiida-vasp is needed: install `aiida-mlip-al[vasp]`.')
