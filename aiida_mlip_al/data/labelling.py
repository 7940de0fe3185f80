"""From an engine's numbers to labels and their shard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida.orm import StructureData

from .dataset import DatasetData
from .extxyz import labelled_atoms
from .label import LabelData


def label_structure(
    structure: StructureData,
    energy: float,
    forces: np.ndarray,
    stress: np.ndarray | None,
    theory: tuple[str, str],
    stress_axes: Any = None,
) -> LabelData:
    """Return the unstored label of a structure, on the structure's own coordinates, with its split and temperature.

    :param energy: eV.
    :param forces: (n_atoms, 3), eV/Å.
    :param stress: (6,), eV/Å³, ASE's order and sign, or None.
    :param theory: name for people, and fingerprint.
    :param stress_axes: (3,) which cell vectors the stress is of; None for the structure's pbc.
    :raises ValueError: if a number is missing, misshapen or not finite.
    """
    attributes = structure.base.attributes
    temperature = attributes.get('origin', {}).get('temperature_K')
    atoms = labelled_atoms(structure.get_ase(), energy, forces, stress, stress_axes, temperature_K=temperature)
    return LabelData.from_ase(atoms, *theory, attributes.get('split', 'train'))


def make_shard(labels: Mapping[str, LabelData]) -> DatasetData:
    """Return the unstored dataset of labels; its frames have the names of their structures, so each leads back to its label."""
    frames = []
    for name in sorted(labels):
        frame = labels[name].to_ase()
        frame.info['name'] = name
        frames.append(frame)
    first = labels[min(labels)]
    return DatasetData.from_ase(frames, first.base.attributes.get('theory'), first.theory_hash)
