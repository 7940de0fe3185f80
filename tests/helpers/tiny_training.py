"""A MACE training of seconds: its parameters, and the frames that it learns from."""

from __future__ import annotations

from typing import Any

from aiida_mlip_al.data import DatasetData
from aiida_mlip_al.data.extxyz import labelled_atoms

TINY: dict[str, Any] = {
    'gradient_steps': 6,
    'r_max': 3.0,
    'num_channels': 4,
    'max_L': 0,
    'max_ell': 1,
    'correlation': 1,
    'num_interactions': 1,
    'batch_size': 4,
    'valid_batch_size': 4,
    'lr': 0.01,
    'default_dtype': 'float32',
}


def distorted_water() -> DatasetData:
    """Return twelve distorted water molecules with EMT labels, three of them for validation, stored."""
    from ase.build import molecule
    from ase.calculators.emt import EMT

    frames = []
    for index in range(12):
        atoms = molecule('H2O')
        atoms.rattle(0.05, seed=index)
        atoms.calc = EMT()
        split = 'validation' if index % 4 == 0 else 'train'
        frames.append(labelled_atoms(atoms, atoms.get_potential_energy(), atoms.get_forces(), split=split))
    return DatasetData.from_ase(frames, 'EMT', 'emt').store()
