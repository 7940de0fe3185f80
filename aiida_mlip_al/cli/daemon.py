"""The daemon: whether it does anything, and how it goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil


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
    if pid is None or not psutil.pid_exists(pid):
        return []
    circus = psutil.Process(pid)
    return [circus, *circus.children(recursive=True)]


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
    forget_dead_broker()
    orphans = find_orphans()
    get_daemon_client().start_daemon(number_workers=workers, timeout=60)
    if orphans:
        revive_processes(orphans)
    return True


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
    from aiida.manage.configuration import get_config, get_profile

    profile = get_profile()
    if profile is not None and profile.process_control_backend == 'core.zeromq':
        folder = Path(get_config().filepaths(profile)['broker_service']['dir'])
        (folder / 'broker.sockets').unlink(missing_ok=True)
