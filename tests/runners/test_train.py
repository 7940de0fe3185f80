"""What the training runner makes of the frames before MACE sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from aiida_mlip_al.data.extxyz import labelled_atoms
from aiida_mlip_al.parsers.mace_train import chosen_epoch, parse_results
from aiida_mlip_al.runners.train import check_stress, save_checkpoint

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


def train(folder: Path, frames: list[Atoms], arguments: dict[str, Any], **own: Any) -> str:
    """Train a tiny model of water on these frames and return what the training printed."""
    from helpers.tiny_training import TINY

    write(folder / 'shard.xyz', frames, format='extxyz')
    given = {key: value for key, value in TINY.items() if key != 'gradient_steps'}
    given |= {'name': 'mace', 'seed': 1, 'work_dir': '.', 'device': 'cpu', 'plot': False, 'save_cpu': True}
    given |= {'energy_key': 'REF_energy', 'forces_key': 'REF_forces', 'error_table': 'PerAtomMAE'}
    given |= {'E0s': '{1: -10.25, 8: -2000.125}', 'atomic_numbers': '[1, 8]', **arguments}
    defaults = dict.fromkeys(('stage_two_fraction', 'final_lr_fraction', 'choose_epoch', 'bootstrap'))
    settings = {
        'gradient_steps': 2,
        **defaults,
        **own,
        'seed': 1,
        'shards': ['shard.xyz'],
        'replay': None,
        'arguments': given,
    }
    (folder / 'train.json').write_text(json.dumps(settings))
    command = [sys.executable, '-W', 'ignore', str(RUNNERS / 'train.py'), 'train.json']
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rattled_water(stiffness: dict[str, float]) -> list[Atoms]:
    """Return frames of water, four a split, whose springs (eV/Å²) differ between the splits."""
    frames = []
    for index in range(4):
        for split, value in stiffness.items():
            home = molecule('H2O')
            atoms = home.copy()
            atoms.rattle(0.05, seed=index)
            moved = atoms.positions - home.positions
            energy = -2020.625 + 0.5 * value * float((moved**2).sum())
            frames.append(labelled_atoms(atoms, energy, -value * moved, split=split))
    return frames


@pytest.mark.slow
@pytest.mark.parametrize(
    ('choose_epoch', 'stage_two', 'expected'), [('best', None, 0), ('last', None, 8), ('last', 0.5, 8)]
)
def test_the_epoch_of_the_model(tmp_path: Path, choose_epoch: str, stage_two: float | None, expected: int) -> None:
    """What is learnt from these frames makes the error on those for validation ever larger."""
    import torch

    frames = rattled_water({'train': 30.0, 'validation': -30.0})
    own = {'gradient_steps': 9, 'choose_epoch': choose_epoch, 'stage_two_fraction': stage_two}
    arguments = {'lr': 0.01, 'batch_size': 4, 'eval_interval': 4, 'ema': True, 'ema_decay': 0.9}
    printed = train(tmp_path, frames, arguments, **own)
    assert chosen_epoch(printed) == expected
    curve = parse_results(next((tmp_path / 'results').glob('*_train.txt')).read_text())
    assert curve.epochs == [0, 4, 8]
    name = 'mace.model' if stage_two is None else 'mace_stagetwo.model'
    error = np.abs(forces_of(tmp_path / name, frames[1::2]) - [a.arrays['REF_forces'] for a in frames[1::2]]).mean()
    assert error == pytest.approx(curve.metrics['force_mae'][curve.epochs.index(expected)], rel=1e-3), (
        'averaged weights'
    )
    kept = {path.name for path in (tmp_path / 'checkpoints').glob('*.pt')}
    ends = (
        {f'mace_run-1_epoch-{expected}.pt'}
        if stage_two is None
        else {'mace_run-1_epoch-0.pt', 'mace_run-1_epoch-8_swa.pt'}
    )
    assert kept == ends, 'one for each stage, and what a training that is cut off would go on from'
    assert all(bool(torch.isfinite(p).all()) for p in torch.load(tmp_path / name, weights_only=False).parameters())


def test_a_checkpoint_is_whole_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended while it writes (time limit, node): the one before is still there, and it is what a training goes on from."""
    import torch
    from mace.tools.checkpoint import CheckpointIO

    monkeypatch.setattr(CheckpointIO, 'save', save_checkpoint)
    saved = CheckpointIO(str(tmp_path / 'checkpoints'), tag='mace', swa_start=6)
    files = tmp_path / 'checkpoints'
    saved.save({'weight': torch.tensor(1.0)}, 2)
    saved.save({'weight': torch.tensor(2.0)}, 4)
    assert [path.name for path in files.iterdir()] == ['mace_epoch-4.pt']

    def write_half(checkpoint: object, path: Path) -> None:
        path.write_bytes(b'PK half of it')
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', write_half)
        with pytest.raises(KeyboardInterrupt):
            saved.save({'weight': torch.tensor(3.0)}, 5)
    checkpoint, epoch = CheckpointIO(str(files), tag='mace', swa_start=6).load_latest()
    assert (checkpoint, epoch) == ({'weight': 2.0}, 4)

    saved.save({'weight': torch.tensor(4.0)}, 4)
    assert saved.load_latest()[0] == {'weight': 4.0}, 'the same epoch again'
    saved.save({'weight': torch.tensor(5.0)}, 6)
    saved.save({'weight': torch.tensor(6.0)}, 8)
    assert {path.name for path in files.glob('*.pt')} == {'mace_epoch-4.pt', 'mace_epoch-8_swa.pt'}
    assert saved.load_latest(swa=True) == ({'weight': 6.0}, 8)


def forces_of(model: Path, frames: list[Atoms]) -> np.ndarray:
    """Return a model's forces (frames, atoms, 3) in eV/Å."""
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=str(model), device='cpu', default_dtype='float64')
    return np.array([calculator.get_forces(frame) for frame in frames])


@pytest.mark.slow
def test_a_foundation_gets_the_reference_energies_of_the_labels(tmp_path: Path) -> None:
    import torch
    from helpers.tiny_mace import write_committee

    (file,) = write_committee(tmp_path, ['H', 'C', 'O'], 1, atomic_energies={'H': -1.0, 'C': -2.0, 'O': -3.0})
    file.rename(tmp_path / 'initial.model')
    arguments = {
        'lr': 1e-6,
        'foundation_model': 'initial.model',
        'multiheads_finetuning': False,
        'foundation_model_elements': True,
    }
    train(tmp_path, rattled_water({'train': 0.0, 'validation': 0.0}), arguments)
    made = torch.load(tmp_path / 'mace.model', weights_only=False)
    assert made.atomic_numbers.tolist() == [1, 6, 8], 'all elements of the foundation stay'
    energies = made.atomic_energies_fn.atomic_energies.flatten().tolist()
    assert energies == pytest.approx([-10.25, -2.0, -2000.125], abs=1e-4)
