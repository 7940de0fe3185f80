"""The daemon: whether it does anything, and how it goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import psutil

# On a busy machine the broker's Python takes far longer to start than the ten seconds that AiiDA waits for it.
BROKER_TIMEOUT_S = 120


def daemon_trouble() -> str | None:
    """Return in a sentence's beginning why the daemon does nothing, or None if it lives."""
    processes = daemon_processes()
    if not processes:
        return 'The daemon is not running'
    if has_lost_broker(processes):
        return 'The daemon has lost its broker'
    return None


def daemon_processes() -> list[psutil.Process]:
    """Return circus, which has the daemon's pid, and all that it started; nothing if it does not live.

    A daemon that was killed leaves its pid file, which is all that AiiDA's own answer looks at.
    """
    from aiida.engine.daemon.client import get_daemon_client

    pid = get_daemon_client().get_daemon_pid()
    try:
        circus = psutil.Process(pid) if pid is not None else None
        if circus is None or circus.status() == psutil.STATUS_ZOMBIE:
            return []
        return [circus, *circus.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def has_lost_broker(processes: Iterable[psutil.Process]) -> bool:
    """Return whether a worker is older than the broker.

    If the broker dies, circus starts another one at an address of its own, and workers that knew the first one never hear it.
    """
    began: dict[str, list[float]] = {'broker': [], 'worker': []}
    for process in processes:
        with suppress(psutil.Error):
            for role in began.keys() & set(process.cmdline()):
                began[role].append(process.create_time())
    return any(worker < broker for broker in began['broker'] for worker in began['worker'])


def ensure_daemon(workers: int = 1) -> bool:
    """Start the daemon if nothing goes on, also after it or its broker was killed; return whether it was started."""
    from aiida.engine.daemon.client import get_daemon_client
    from aiida.engine.processes.control import revive_processes

    if daemon_trouble() is None:
        return False
    if daemon_processes():
        get_daemon_client().stop_daemon(wait=True, timeout=60)
    end(survivors())
    forget_dead_broker()
    orphans = find_orphans()
    get_daemon_client().start_daemon(number_workers=workers, timeout=60)
    wait_for_broker(BROKER_TIMEOUT_S)
    if orphans:
        revive_processes(orphans)
    return True


def survivors() -> list[psutil.Process]:
    """Return what a daemon of this profile had started, if circus alone was killed: nobody looks after them any more."""
    from aiida.manage.configuration import get_config, get_profile

    name, folder = get_profile().name, get_config().dirpath
    started = (f'-p {name} daemon worker', f'-p {name} daemon broker', f'circus-{name}.log')
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = ' '.join(process.cmdline())
            if any(part in command for part in started) and process.environ().get('AIIDA_PATH') == folder:
                found.append(process)
    return found


def end(processes: list[psutil.Process]) -> None:
    """End processes, those that do not listen after ten seconds by force."""
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(processes, timeout=10)[1]:
        with suppress(psutil.Error):
            process.kill()


def find_orphans() -> list[Any]:
    """Return the processes that a run of the daemon had stored, but not yet queued, when the daemon was killed.

    To be called while the daemon is down. A process that somebody runs in a Python of their own has no task either, but
    neither has its caller.
    """
    from aiida.engine.processes.control import get_active_processes, get_process_tasks
    from aiida.manage import get_manager

    queued = set(get_process_tasks(get_manager().get_broker()))
    orphans = []
    for node in sorted(get_active_processes(), key=lambda node: node.pk):
        if (
            node.pk not in queued
            and node.checkpoint is not None
            and node.caller is not None
            and node.caller.pk in queued
        ):
            queued.add(node.pk)
            orphans.append(node)
    return orphans


def forget_dead_broker() -> None:
    """Remove the address that a killed ZeroMQ broker left behind.

    Else the new daemon's worker may read it before the new broker has written its own, and wait for tasks at an address where
    nobody is.
    """
    address = broker_address()
    if address is not None:
        address.unlink(missing_ok=True)


def wait_for_broker(timeout_s: float) -> None:
    """Wait until the ZeroMQ broker of a daemon that was just started has an address.

    :raises click.ClickException: after `timeout_s`. The daemon is stopped then, so that the next start begins anew.
    """
    from aiida.engine.daemon.client import get_daemon_client

    address = broker_address()
    if address is None:
        return
    deadline = time.monotonic() + timeout_s
    while not address.exists():
        if time.monotonic() > deadline:
            get_daemon_client().stop_daemon(wait=True, timeout=60)
            raise click.ClickException(
                f'The broker of the daemon did not start within {timeout_s:.0f} s, so the daemon was stopped. See '
                f'{address.with_name("broker.log")}, then run `aiida-mlip-al setup daemon` again.'
            )
        time.sleep(0.2)


def broker_address() -> Path | None:
    """Return the file with the address of the profile's ZeroMQ broker, None if another broker, such as RabbitMQ, is used."""
    from aiida.manage.configuration import get_config, get_profile

    profile = get_profile()
    if profile is None or profile.process_control_backend != 'core.zeromq':
        return None
    return Path(get_config().filepaths(profile)['broker_service']['dir']) / 'broker.sockets'
