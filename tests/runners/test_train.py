"""What the training runner makes of the frames before MACE sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from aiida_mlip_al.data.extxyz import labelled_atoms
from aiida_mlip_al.runners.train import check_stress

RUNNERS = Path(__file__).parents[2] / 'aiida_mlip_al' / 'runners'


def crystal(axes: list[bool] | None, pbc: bool = True) -> Atoms:
    atoms = Atoms('Cu', cell=[3, 3, 12], pbc=pbc)
    stress = None if axes is None else np.full(6, 0.01)
    return labelled_atoms(atoms, -1.0, np.zeros((1, 3)), stress, axes)


@pytest.mark.parametrize('loss', ['huber', 'universal', None])
def test_huber_would_learn_that_a_masked_stress_is_zero(tmp_path: Path, loss: str | None) -> None:
    whole, masked, none, molecule = (
        crystal([True] * 3),
        crystal([True, True, False]),
        crystal(None),
        crystal(None, False),
    )
    write(tmp_path / 'train.xyz', [whole, masked, molecule], format='extxyz')
    write(tmp_path / 'valid.xyz', [none], format='extxyz')
    files = [str(tmp_path / name) for name in ('train.xyz', 'valid.xyz')]
    if loss != 'huber':
        check_stress(loss, files)
        return
    with pytest.raises(ValueError, match='the missing stress of 2 periodic frames for zero: use the loss `universal`'):
        check_stress(loss, files)
    write(tmp_path / 'valid.xyz', [whole], format='extxyz')
    check_stress(loss, files[1:])


def test_mace_does_not_see_a_masked_stress() -> None:
    from mace.data.utils import KeySpecification, config_from_atoms

    keys = KeySpecification(
        info_keys={'energy': 'REF_energy', 'stress': 'REF_stress'}, arrays_keys={'forces': 'REF_forces'}
    )
    seen = [config_from_atoms(crystal(axes), keys).property_weights for axes in ([True] * 3, [True, True, False])]
    assert [weights['stress'] for weights in seen] == [1.0, 0.0]
    assert [weights['forces'] for weights in seen] == [1.0, 1.0]


@pytest.mark.slow
def test_a_foundation_gets_the_reference_energies_of_the_labels(tmp_path: Path) -> None:
    import torch
    from helpers.tiny_mace import write_committee
    from helpers.tiny_training import TINY

    (file,) = write_committee(tmp_path, ['H', 'C', 'O'], 1, atomic_energies={'H': -1.0, 'C': -2.0, 'O': -3.0})
    file.rename(tmp_path / 'initial.model')
    frames = []
    for index in range(6):
        atoms = molecule('H2O')
        atoms.rattle(0.02, seed=index)
        split = 'validation' if index < 2 else 'train'
        frames.append(labelled_atoms(atoms, -2020.5, np.zeros((3, 3)), split=split))
    write(tmp_path / 'shard.xyz', frames, format='extxyz')
    arguments = {key: value for key, value in TINY.items() if key != 'gradient_steps'}
    arguments |= {'name': 'mace', 'seed': 1, 'work_dir': '.', 'device': 'cpu', 'plot': False, 'save_cpu': True}
    arguments |= {'energy_key': 'REF_energy', 'forces_key': 'REF_forces', 'lr': 1e-6, 'error_table': 'PerAtomMAE'}
    arguments |= {'E0s': '{1: -10.25, 8: -2000.125}', 'atomic_numbers': '[1, 8]'}
    arguments |= {
        'foundation_model': 'initial.model',
        'multiheads_finetuning': False,
        'foundation_model_elements': True,
    }
    own = {'gradient_steps': 2, 'stage_two_fraction': None, 'final_lr_fraction': None, 'bootstrap': None}
    settings = {**own, 'seed': 1, 'shards': ['shard.xyz'], 'replay': None, 'arguments': arguments}
    (tmp_path / 'train.json').write_text(json.dumps(settings))
    command = [sys.executable, '-W', 'ignore', str(RUNNERS / 'train.py'), 'train.json']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = torch.load(tmp_path / 'mace.model', weights_only=False)
    assert made.atomic_numbers.tolist() == [1, 6, 8], 'all elements of the foundation stay'
    energies = made.atomic_energies_fn.atomic_energies.flatten().tolist()
    assert energies == pytest.approx([-10.25, -2.0, -2000.125], abs=1e-4)
