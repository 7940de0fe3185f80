"""What a time limit does to a job that runs without a scheduler."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def terminated_when(runner: str, ready: Callable[[Path], bool]) -> Iterator[list[Path]]:
    """Send SIGTERM to the next job of a runner in whose folder a condition holds, as a time limit does; yields the folders.

    Only jobs of this profile's computers: tests beside this one have jobs of their own.
    """
    from aiida.orm import Computer

    own = [Path(computer.get_workdir()) for computer in Computer.collection.all()]
    assert own, 'the computer must be there before'
    done = threading.Event()
    stopped: list[Path] = []

    def watch() -> None:
        while not done.is_set() and not stopped:
            for process in psutil.process_iter():
                try:
                    folder = Path(process.cwd())
                    if (
                        f'runners/{runner}.py' in process.cmdline()
                        and any(folder.is_relative_to(work) for work in own)
                        and process.parent().name() == 'bash'
                        and ready(folder)
                    ):
                        process.terminate()
                        stopped.append(folder)
                except (psutil.Error, AttributeError, OSError):  # gone, or its files are not there yet
                    continue
            time.sleep(0.3)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield stopped
    finally:
        done.set()
        thread.join()
