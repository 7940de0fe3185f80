"""How a runner begins and ends: reads its JSON file, answers SIGTERM and leaves `<name>.status.json`."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

Config = dict[str, Any]
Task = Callable[[Config, dict[str, Any]], None]


class Terminated(BaseException):
    """SIGTERM arrived; not an `Exception`, so that no calculator's error handling swallows it."""


def cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    """Return the user and system time of this process or of its ended children.

    :param who: `resource.RUSAGE_SELF` or `resource.RUSAGE_CHILDREN`.
    :returns: CPU time in seconds.
    """
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def run(task: Task) -> NoReturn:
    """Run `task` on the JSON file named by the first command-line argument, then exit with 0 or 1.

    The status file is `<stem of the JSON file>.status.json` in the working directory: `finished`, `error` (a sentence,
    null when finished), `wall_s`, `cpu_s`, `versions` and whatever the task put into its second argument. When the file
    is missing, the runner was killed.

    A job may be sent twice, if AiiDA's daemon is killed before it has noted the number of the first one: the second waits for the
    first, and ends if there is nothing left to do.

    :param task: function of the configuration and of a dictionary that it may add status entries to at any time.
    """
    if len(sys.argv) != 2:
        sys.exit(f'usage: {sys.argv[0]} CONFIG.json')
    config_file = Path(sys.argv[1])
    status_file = Path(f'{config_file.stem}.status.json')
    signal.signal(signal.SIGTERM, _terminate)
    lock = _wait_for_twin(Path(f'{config_file.stem}.lock'))
    if _is_finished(status_file):
        sys.exit(0)
    status_file.unlink(missing_ok=True)
    began = time.monotonic()
    status: dict[str, Any] = {'finished': False, 'error': None, 'versions': versions('numpy', 'ase')}
    try:
        task(_read_config(config_file), status)
        status['finished'] = True
    except Terminated:
        status['error'] = 'terminated'
    except Exception as error:
        traceback.print_exc()
        status['error'] = explain(error)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cpu = cpu_seconds() + cpu_seconds(resource.RUSAGE_CHILDREN)
    status.update(wall_s=round(time.monotonic() - began, 3), cpu_s=round(cpu, 3))
    _write(status_file, status)
    lock.close()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(0 if status['finished'] else 1)


def explain(error: BaseException) -> str:
    """Return one line on an error: the bare text of a `ValueError` (our own sentences), else type and text.

    :param error: the error.
    :returns: at most 500 characters without line breaks.
    """
    text = ' '.join(str(error).split())
    if not isinstance(error, ValueError) or not text:
        text = f'{type(error).__name__}: {text}'
    return text[:500]


def versions(*modules: str) -> dict[str, str]:
    """Return the versions of Python and of imported or importable modules.

    :param modules: module names; one that has no `__version__` is left out.
    :returns: name to version.
    """
    found = {'python': platform.python_version()}
    for name in modules:
        version = getattr(__import__(name), '__version__', None)
        if version is not None:
            found[name] = str(version)
    return found


def _read_config(path: Path) -> Config:
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}.') from error
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is not valid JSON: {error}.') from error
    if not isinstance(config, dict):
        raise ValueError(f'{path} must hold a JSON object.')
    return config


def _wait_for_twin(path: Path) -> IO[str]:
    """Return a lock that one process at a time can have, as soon as it is free; it is, too, when its holder was killed."""
    lock = path.open('w')
    with suppress(OSError):  # a file system without locks
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _is_finished(status_file: Path) -> bool:
    """Return whether a status file tells of work that was done."""
    try:
        return bool(json.loads(status_file.read_text())['finished'])
    except (OSError, ValueError, KeyError):
        return False


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def _write(path: Path, status: dict[str, Any]) -> None:
    draft = path.with_suffix('.tmp')
    draft.write_text(json.dumps(status, indent=1) + '\n', encoding='utf-8')
    os.replace(draft, path)
