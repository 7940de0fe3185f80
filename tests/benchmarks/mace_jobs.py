"""Runners as jobs in folders, as a cluster runs them, and the small models that the benchmarks train."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUNNERS = ROOT / 'aiida_mlip_al' / 'runners'
# The runners import each other by their bare names. One of them is called as a benchmark beside this file is.
sys.path.insert(0, str(RUNNERS))


def run(folder: Path, runner: str, settings: dict[str, Any]) -> float:
    """Run a job in a folder, in a Python of its own, if it has not been run, and return its CPU time in s."""
    status = folder / f'{runner}.status.json'
    if not status.exists():
        shutil.copytree(RUNNERS, folder / 'runners', dirs_exist_ok=True)
        (folder / f'{runner}.json').write_text(json.dumps(settings))
        with open(folder / f'{runner}.out', 'w') as output:
            command = [sys.executable, '-W', 'ignore', f'runners/{runner}.py', f'{runner}.json']
            subprocess.run(command, cwd=folder, stdout=output, stderr=output, check=True)
    return float(json.loads(status.read_text())['cpu_s'])


def preload() -> None:
    """Import what every job needs, once: a forked job then begins at once."""
    import torch
    from mace.cli import run_train  # noqa: F401

    torch.set_num_threads(1)


def run_forked(folder: Path, runner: str, settings: dict[str, Any]) -> float:
    """Do what :func:`run` does in a fork of this process, which saves the imports if it has called :func:`preload`.

    :param folder: of the job; made if it is missing.
    :param runner: name of a runner.
    :param settings: its JSON file.
    :returns: the CPU time in s.
    :raises RuntimeError: the job failed; its output is in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    status = folder / f'{runner}.status.json'
    if not (status.exists() and json.loads(status.read_text())['finished']):
        (folder / f'{runner}.json').write_text(json.dumps(settings))
        child = multiprocessing.get_context('fork').Process(target=_work, args=(folder, runner))
        child.start()
        child.join()
        if child.exitcode != 0:
            raise RuntimeError(f'The job {runner} in {folder} failed; {runner}.out there says why.')
    return float(json.loads(status.read_text())['cpu_s'])


def _work(folder: Path, runner: str) -> None:
    os.chdir(folder)
    output = os.open(f'{runner}.out', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    program = str(RUNNERS / f'{runner}.py')
    sys.argv = [program, f'{runner}.json']
    runpy.run_path(program, run_name='__main__')


def training(channels: int, max_ell: int, steps: int, seed: int) -> dict[str, Any]:
    """Return the settings of one training of a small model from scratch on `shard.xyz`.

    :param channels: of the model.
    :param max_ell: highest order of its spherical harmonics.
    :param steps: of the optimiser.
    :param seed: of the training.
    """
    arguments = {
        'name': 'mace',
        'seed': seed,
        'work_dir': '.',
        'E0s': 'average',
        'energy_key': 'REF_energy',
        'forces_key': 'REF_forces',
        'stress_key': 'REF_stress',
        'device': 'cpu',
        'error_table': 'PerAtomMAE',
        'plot': False,
        'save_cpu': True,
        'r_max': 4.5,
        'num_channels': channels,
        'max_L': 0,
        'max_ell': max_ell,
        'correlation': 3,
        'batch_size': 5,
        'eval_interval': 5,
        'lr': 0.03,
        'energy_weight': 10,
        'forces_weight': 100,
        'loss': 'weighted',
        'default_dtype': 'float32',
    }
    own = {
        'gradient_steps': steps,
        'stage_two_fraction': None,
        'final_lr_fraction': 0.03,
        'choose_epoch': 'last',
        'bootstrap': None,
    }
    return {**own, 'seed': seed, 'shards': ['shard.xyz'], 'replay': None, 'arguments': arguments}


def warm_start(settings: dict[str, Any], model: Path) -> dict[str, Any]:
    """Return the settings of a training that begins with an earlier model of the same kind, at half the learning rate.

    :param settings: of :func:`training`.
    :param model: the file of the earlier model.
    """
    arguments = {
        **settings['arguments'],
        'lr': settings['arguments']['lr'] / 2,
        'foundation_model': str(model.resolve()),
        'multiheads_finetuning': False,
        'foundation_model_elements': True,
    }
    return {**settings, 'arguments': arguments}
