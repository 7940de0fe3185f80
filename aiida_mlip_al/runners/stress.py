"""Stress of crystals, slabs and wires: what of it has a meaning, and with respect to which volume."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from calculator import offers_stress


def span_projector(cell: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return the projector on the span of the periodic cell vectors.

    :param cell: (3, 3) cell vectors as rows in Å.
    :param axes: (3,) which of them are periodic.
    :returns: (3, 3) with exact zeros along a Cartesian axis that is perpendicular to all of them.
    """
    vectors = cell[axes]
    if len(vectors) == 2:
        normal = np.cross(*vectors)
        normal /= np.linalg.norm(normal)
        return np.asarray(np.eye(3) - np.outer(normal, normal))
    if len(vectors) == 1:
        direction = vectors[0] / np.linalg.norm(vectors[0])
        return np.asarray(np.outer(direction, direction))
    return np.eye(3) if len(vectors) else np.zeros((3, 3))


def periodic_stress(calculator: Any, atoms: Atoms, axes: np.ndarray) -> np.ndarray | None:
    """Return the stress without the components that involve a direction without periodicity.

    Across vacuum there is nothing to strain: what a code reports there depends on the cell and not on the material. The
    volume that the rest refers to is that of the cell, vacuum included.

    :param calculator: an ASE calculator; the calculator of `atoms`.
    :param atoms: the structure.
    :param axes: (3,) which cell vectors are periodic.
    :returns: (6,) in eV/Å³, P σ P with the projector P on the span of the periodic vectors; None without a periodic
        direction, for a cell without volume, and where the calculator has no stress.
    """
    if not axes.any() or atoms.cell.rank < 3 or not offers_stress(calculator):
        return None
    try:
        stress = np.array(atoms.get_stress(voigt=True, apply_constraint=False), dtype=float)
    except (PropertyNotImplementedError, NotImplementedError):
        return None
    if axes.all():
        return stress
    projector = span_projector(atoms.cell.array, axes)
    inside = projector @ voigt_6_to_full_3x3_stress(stress * _volume_ratio(calculator, atoms)) @ projector
    return np.asarray(full_3x3_to_voigt_6_stress(inside))


def _volume_ratio(calculator: Any, atoms: Atoms) -> float:
    """Return the volume that a calculator divides by, in units of the cell's.

    MACE stretches the cell along directions that are not periodic before it computes neighbours and volume.
    """
    if atoms.pbc.all() or not type(calculator).__module__.startswith('mace.'):
        return 1.0
    from mace.data.neighborhood import get_neighborhood

    pbc = tuple(bool(axis) for axis in atoms.pbc)
    stretched = get_neighborhood(atoms.positions, float(calculator.r_max), pbc, atoms.cell.array.copy())[3]
    return abs(float(np.linalg.det(stretched))) / float(atoms.get_volume())
