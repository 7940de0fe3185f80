"""Runners side by side in one job: each sees one GPU, in turn over those of the job, and its share of the cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Batch systems kill a job half a minute after they asked it to end (SLURM's KillWait is 30 s).
GRACE_S = 20.0


@dataclass(frozen=True)
class Program:
    """`python SCRIPT CONFIG` in a folder; what it prints goes to a file there with the config's name and the ending .out."""

    folder: str
    script: str
    config: str


def run_all(programs: Sequence[Program], device: str, ended: list[int | None]) -> None:
    """Run programs at the same time, each to its end, whatever becomes of the others.

    If this process is asked to end, so are they.

    :param programs: what to run.
    :param device: of torch; each gets a GPU of its own, as far as there are so many, if it begins with cuda.
    :param ended: receives their exit statuses, also if this process was asked to end.
    """
    gpus = visible_gpus() if device.startswith('cuda') else []
    threads = max(1, int(os.environ.get('OMP_NUM_THREADS', '1')) // len(programs))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index, program in enumerate(programs):
            environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
            if gpus:
                environment['CUDA_VISIBLE_DEVICES'] = gpus[index % len(gpus)]
            processes.append(_start(program, environment))
        for process in processes:
            process.wait()
    finally:
        stop(processes)
        ended += [process.returncode for process in processes]


def visible_gpus() -> list[str]:
    """Return the GPUs of the job as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    if named is not None:
        return [name.strip() for name in named.split(',') if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _start(program: Program, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name(program.script).resolve()
    with open(Path(program.folder, program.config).with_suffix('.out'), 'wb') as output:
        command = [sys.executable, str(script), program.config]
        return subprocess.Popen(command, cwd=program.folder, env=environment, stdout=output, stderr=subprocess.STDOUT)


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask those that still run to end, and end those that do not."""
    living = [process for process in processes if process.poll() is None]
    for process in living:
        process.terminate()
    deadline = time.monotonic() + GRACE_S
    for process in living:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
