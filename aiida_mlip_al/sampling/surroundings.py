"""Molecules around the centre of a structure, ranked by distance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.geometry import find_mic
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from aiida_mlip_al.sampling.base import Matrix
from aiida_mlip_al.sampling.molecules import Integers, Molecule

Metric = Literal['center', 'min', 'max']

TIE_DECIMALS = 6
MARGIN = 1e-3


class Ranking(NamedTuple):
    """Molecules in order of distance.

    :param members: (m,) numbers of the molecules.
    :param shifts: (m, 3) which image of each, in cell vectors.
    :param distances: (m,) Å, rounded to 1e-6 so that equally distant molecules compare as equal.
    """

    members: Integers
    shifts: Integers
    distances: Matrix

    def first(self, number: int) -> Ranking:
        """Return the first so many, or all if there are fewer."""
        return Ranking(self.members[:number], self.shifts[:number], self.distances[:number])


class Surroundings:
    """The centre of a structure, and the molecules and periodic images around it.

    The centre of mass of a periodic structure is that of its molecules, each in its image nearest to the first one; the
    central molecule is the one closest to it. So neither the origin nor the wrapping of the structure has a say.
    Molecules at equal distances are ordered by number, and images of one by their shift.

    :param atoms: the structure.
    :param molecules: its molecules, one or more.
    :param metric: what distance means: ``center``, from centre of mass to the centre of mass of the structure; ``min``
        or ``max``, the smallest or largest from an atom to one of the central molecule (zero for that molecule itself).
    :param axes: (3,) cell vectors along which periodic images are taken too, else each molecule once, in its image
        nearest to the centre.
    """

    def __init__(self, atoms: Atoms, molecules: Sequence[Molecule], metric: Metric, axes: NDArray[np.bool_]):
        self._cell, self._axes, self._metric = atoms.cell, axes, metric
        centers = np.array([molecule.center_of_mass for molecule in molecules])
        masses = [atoms.get_masses()[molecule.indices].sum() for molecule in molecules]
        gathered = centers + _nearest_shifts(centers, centers[0], atoms) @ self._cell.array
        self._origin = np.average(gathered, axis=0, weights=masses)
        self._central = int(np.argmin(_rounded(np.linalg.norm(gathered - self._origin, axis=1))))
        if metric != 'center':
            self._origin = centers[self._central]
        self._nearest = _nearest_shifts(centers, self._origin, atoms)
        moves = self._nearest @ self._cell.array
        self._centers = centers + moves
        self._whole = [molecule.whole(atoms) + move for molecule, move in zip(molecules, moves, strict=True)]
        # Two molecules' atoms are nearer to each other than their centres by at most twice the largest radius.
        radius = max(np.linalg.norm(x - c, axis=1).max() for x, c in zip(self._whole, self._centers, strict=True))
        self._reach = 2.0 * float(radius) if metric == 'min' else 0.0

    def closest(self, number: int) -> Ranking:
        """Return the first so many molecules, or all if there are fewer."""
        radius = self._reach + 5.0 if self._axes.any() else np.inf
        while True:
            ranking = self._ranked(radius)
            # Molecules outside the radius are at a distance of at least radius - reach.
            if radius == np.inf or np.count_nonzero(ranking.distances < radius - self._reach - MARGIN) >= number:
                return ranking.first(number)
            radius *= 1.3

    def nearer_than(self, limit: float) -> Ranking:
        """Return every molecule at a distance below a limit (Å)."""
        ranking = self._ranked(limit + self._reach + MARGIN)
        return ranking.first(int(np.searchsorted(ranking.distances, limit)))

    def _ranked(self, radius: float) -> Ranking:
        """Sort what is within a radius by distance, then by molecule, then by shift."""
        members, shifts = _images_within(self._centers - self._origin, self._cell, self._axes, radius)
        offsets = self._centers[members] + shifts @ self._cell.array - self._origin
        if self._metric == 'center':
            distances = np.linalg.norm(offsets, axis=1)
        else:
            distances = np.array([self._atomic_distance(*pair) for pair in zip(members, shifts, strict=True)])
        distances = _rounded(distances)
        order = np.argsort(distances, kind='stable')
        return Ranking(members[order], (shifts + self._nearest[members])[order], distances[order])

    def _atomic_distance(self, member: int, shift: Integers) -> float:
        """Smallest or largest distance between atoms of a molecule and of the central one."""
        if member == self._central and not shift.any():
            return 0.0
        distances = cdist(self._whole[self._central], self._whole[member] + shift @ self._cell.array)
        return float(distances.min() if self._metric == 'min' else distances.max())


def _nearest_shifts(centers: Matrix, point: Matrix, atoms: Atoms) -> Integers:
    """(m, 3) cell vectors that bring each centre nearest to a point; of several, the one first by place."""
    offsets = centers - point
    _, lengths = find_mic(offsets, atoms.cell.array, atoms.pbc)
    members, shifts = _images_within(offsets, atoms.cell, atoms.pbc, float(np.max(lengths)) + MARGIN)
    places = offsets[members] + shifts @ atoms.cell.array
    order = np.lexsort((*_rounded(places).T[::-1], _rounded(np.linalg.norm(places, axis=1)), members))
    _, first = np.unique(members[order], return_index=True)
    return shifts[order[first]]


def _images_within(offsets: Matrix, cell: Cell, axes: NDArray[np.bool_], radius: float) -> tuple[Integers, Integers]:
    """Points, and their shifts by whole cell vectors along some axes, within a radius of the origin, in ascending order."""
    shifts = np.zeros((1, 3), dtype=int)
    if axes.any():
        scaled = cell.scaled_positions(offsets)
        # A vector of length r has a component of at most r / (height of the cell) along each cell vector.
        bound = radius * np.linalg.norm(np.linalg.inv(cell.complete().array), axis=0)
        low = np.where(axes, np.ceil(-bound - scaled.max(axis=0)), 0).astype(int)
        high = np.where(axes, np.floor(bound - scaled.min(axis=0)), 0).astype(int)
        shifts = np.array(list(product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))
    points, images = np.nonzero(np.linalg.norm(offsets[:, None] + shifts @ cell.array, axis=2) <= radius)
    return points, shifts[images]


def _rounded(values: Matrix) -> Matrix:
    """Values in which numerical noise makes no difference."""
    return np.round(values, TIE_DECIMALS)
