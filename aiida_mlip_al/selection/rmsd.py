"""Molecules that are alike but for a rotation and a translation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
SHAPE = 3  # atoms: one has no shape, two have one distance
PERIODIC = "diversity 'rmsd' compares molecules, and a structure is periodic; choose 'farthest_point'"


def kabsch_rmsd(reference: ArrayLike, others: ArrayLike) -> Floats:
    """Root-mean-square distance of the atoms after the best rotation and translation.

    Kabsch, Acta Cryst. A 32, 922 (1976): with the singular values s of the covariance matrix of the two sets of centred
    positions x and y, n rmsd² = sum x² + sum y² - 2 (s_1 + s_2 ± s_3), minus where only a reflection would fit better.

    :param reference: (n, 3) positions, Å.
    :param others: (M, n, 3) positions of the same atoms in the same order, Å.
    :returns: (M,), Å.
    """
    x, y = np.asarray(reference, dtype=float), np.asarray(others, dtype=float)
    x, y = x - x.mean(axis=0), y - y.mean(axis=1, keepdims=True)
    covariance = np.einsum('ia,mib->mab', x, y)
    values = np.linalg.svd(covariance, compute_uv=False)
    values[:, 2] *= np.where(np.linalg.det(covariance) < 0, -1.0, 1.0)
    squares = (x**2).sum() + (y**2).sum(axis=(1, 2)) - 2.0 * values.sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0) / len(x)))


def alike_molecules(molecules: Sequence[Atoms], min_rmsd: float, exclude_hydrogen: bool = True) -> NDArray[np.bool_]:
    """Mark molecules that repeat an earlier one that is itself not marked: the greedy filter of SPARC.

    SPARC (github.com/rahulumrao/sparc; J. Open Source Softw., 10.21105/joss.09468). Molecules with other atoms, or the same
    ones in another order, are never alike.

    :param molecules: in order of preference: of two like ones the earlier is kept.
    :param min_rmsd: molecules closer than this are alike, Å.
    :param exclude_hydrogen: compare the other atoms only, where there are at least three of them.
    :returns: (N,) True for those that are alike.
    :raises ValueError: a structure is periodic.
    """
    if any(atoms.pbc.any() for atoms in molecules):
        raise ValueError(PERIODIC)
    alike = np.zeros(len(molecules), dtype=bool)
    kinds: dict[tuple[int, ...], list[int]] = {}
    for index, atoms in enumerate(molecules):
        kinds.setdefault(tuple(atoms.numbers.tolist()), []).append(index)
    for numbers, members in kinds.items():
        heavy = np.array(numbers) != 1
        compared = heavy if exclude_hydrogen and heavy.sum() >= SHAPE else np.ones_like(heavy)
        positions = np.array([molecules[index].positions[compared] for index in members])
        left = np.arange(len(members))
        while len(left) > 1:
            near = kabsch_rmsd(positions[left[0]], positions[left[1:]]) < min_rmsd
            alike[np.array(members)[left[1:][near]]] = True
            left = left[1:][~near]
    return alike
