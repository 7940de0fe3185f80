"""A Verlet list: pairs within the cutoff and a skin, kept until an atom could have come in from farther away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiida_mlip_al.lmp_mace.runner_modules import neighbour_list

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass
class Neighbours:
    """Positions (n, 3) in Å, of which whole cell vectors may have been subtracted; pairs (2, m) of sender and receiver
    in both directions; cell images (m, 3) of the receivers; cell (3, 3) with unit vectors along open directions."""

    positions: Floats
    pairs: Integers
    images: Floats
    cell: Floats


@dataclass
class _Built:
    tags: Integers
    positions: Floats
    cell: Floats
    pairs: Integers
    images: Floats


class VerletList:
    """Neighbours of a moving configuration.

    :param cutoff: in Å.
    :param skin: how much farther pairs are looked for, in Å; changes the speed, never the result.
    """

    def __init__(self, cutoff: float, skin: float = 1.0) -> None:
        self.cutoff, self.skin = cutoff, skin
        self.builds = 0
        self._built: _Built | None = None

    def update(self, tags: Integers, positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> Neighbours:
        """Return all pairs nearer than the cutoff.

        A list is good while no pair outside of it can have come within the cutoff. With F the deformation of the cell
        since it was made, and u the largest displacement beyond that deformation, a pair that was at least
        cutoff + skin apart is now at least σ_min(F) (cutoff + skin) - 2 u apart. Any change of the cell is thus allowed
        for, and the periodic images that atoms are wrapped to do not matter.

        :param tags: (n,) names of the atoms; when they change, the list is made anew.
        :param positions: (n, 3) in Å, with respect to the cell's origin along periodic directions.
        :param cell: (3, 3) lower triangular, in Å.
        :param pbc: (3,) periodic directions.
        """
        cell = np.where(pbc[:, None], cell, np.eye(3))
        unwrapped = self._follow(tags, positions, cell, pbc)
        if unwrapped is None:
            unwrapped = positions
            self._build(tags, positions, cell, pbc)
        assert self._built is not None
        first, second = self._built.pairs
        separation = unwrapped[second] - unwrapped[first] + self._built.images @ cell
        near = np.einsum('ij,ij->i', separation, separation) < self.cutoff**2
        # Rows that are contiguous: the models gather and scatter by them, a sixth slower otherwise.
        pairs = np.stack([first[near], second[near]])
        return Neighbours(unwrapped, pairs, self._built.images[near], cell)

    def _follow(self, tags: Integers, positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> Floats | None:
        """Return the positions in the images that the list was made with, or None if it is no longer good."""
        built = self._built
        if built is None or not np.array_equal(tags, built.tags):
            return None
        deformation = np.linalg.inv(built.cell) @ cell
        displacement = positions - built.positions @ deformation
        wrapped = (np.rint(displacement @ np.linalg.inv(cell)) * pbc) @ cell
        displacement -= wrapped
        farthest = np.sqrt(np.einsum('ij,ij->i', displacement, displacement).max())
        shortest = np.linalg.svd(deformation, compute_uv=False)[-1] * (self.cutoff + self.skin)
        # Not `<`, so that positions that are not finite make a new list and not a wrong one.
        return positions - wrapped if shortest - 2 * farthest >= self.cutoff else None

    def _build(self, tags: Integers, positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> None:
        pairs, images = neighbour_list(positions, cell, pbc, self.cutoff + self.skin)
        self._built = _Built(tags.copy(), positions.copy(), cell.copy(), pairs, images)
        self.builds += 1
