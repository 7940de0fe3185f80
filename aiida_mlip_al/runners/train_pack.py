"""Train several models side by side: `train.py` in a folder for each, all at once.

In: train_pack.json, and train.json in each folder. Out: what train.py writes and train.out in each folder, train_pack.status.json.
Each training sees one GPU, in turn over those of the job. The job's cores (OMP_NUM_THREADS) are divided among them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import status as runner

# Batch systems kill a job half a minute after they asked it to end (SLURM's KillWait is 30 s).
GRACE_S = 20.0


def train_pack(config: runner.Config, status: dict[str, Any]) -> None:
    """Run every training of train_pack.json to its end, whatever becomes of the others.

    :param config: `folders` (names), `device` (of torch).
    :param status: receives `members`, the exit status of each training by folder.
    """
    folders = config['folders']
    gpus = visible_gpus() if config['device'].startswith('cuda') else []
    threads = max(1, int(os.environ.get('OMP_NUM_THREADS', '1')) // len(folders))
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for index, folder in enumerate(folders):
            environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
            if gpus:
                environment['CUDA_VISIBLE_DEVICES'] = gpus[index % len(gpus)]
            processes[folder] = start(folder, environment)
        for process in processes.values():
            process.wait()
    except runner.Terminated:
        stop(processes.values())
        raise
    finally:
        status['members'] = {folder: process.poll() for folder, process in processes.items()}


def visible_gpus() -> list[str]:
    """Return the GPUs of the job as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    if named is not None:
        return [name.strip() for name in named.split(',') if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def start(folder: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the training of a folder."""
    program = Path(__file__).with_name('train.py').resolve()
    with open(Path(folder, 'train.out'), 'wb') as output:
        command = [sys.executable, str(program), 'train.json']
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask the trainings to end, and end those that do not."""
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


if __name__ == '__main__':
    runner.run(train_pack)
