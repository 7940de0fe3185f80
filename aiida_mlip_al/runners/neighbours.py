"""Neighbour lists for one structure, by whatever is fastest for it."""

from __future__ import annotations

import numpy as np

try:
    from matscipy.neighbours import neighbour_list as _cell_list
except ImportError:  # a dependency of mace-torch, so rarely missing
    _cell_list = None
from ase import Atoms
from ase.neighborlist import primitive_neighbor_list

_ALL_PAIRS_UP_TO = 100  # atoms


def neighbour_list(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return all ordered pairs of atoms nearer than a cutoff, an atom's own images included.

    :param positions: (n, 3) in Å.
    :param cell: (3, 3) in Å; rows of directions that are not periodic do not matter.
    :param pbc: (3,) booleans.
    :param cutoff: in Å.
    :returns: pairs (2, m) of sender and receiver, and the cell images (m, 3) of the receivers as floats.
    """
    if not pbc.any() and len(positions) <= _ALL_PAIRS_UP_TO:
        separation = positions[:, None] - positions
        near = np.einsum('ijk,ijk->ij', separation, separation) < cutoff**2
        np.fill_diagonal(near, False)
        pairs = np.array(np.nonzero(near))
        return pairs, np.zeros((pairs.shape[1], 3))
    if not pbc.all():
        # A box along the open directions that holds all atoms; the cell list wants them inside it.
        span = np.ptp(positions, axis=0).sum() + 2 * cutoff + 1
        cell, positions = cell.copy(), positions.copy()
        cell[~pbc] = _complement(cell, pbc) * span
        positions += cell[~pbc].sum(axis=0) / 2
    if _cell_list is None:
        first, second, images = primitive_neighbor_list('ijS', pbc, cell, positions, cutoff)
    else:
        first, second, images = _cell_list('ijS', pbc=pbc, cell=cell, positions=positions, cutoff=cutoff)
    return np.array([first, second], dtype=np.int64).reshape(2, -1), np.asarray(images, dtype=float).reshape(-1, 3)


def distances(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all ordered pairs of atoms nearer than a cutoff, an atom's own images included, and how far apart they are.

    :param atoms: the structure; positions in Å.
    :param cutoff: in Å.
    :returns: first and second atoms (m,), and distances (m,) in Å.
    """
    (first, second), images = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    separation = atoms.positions[second] - atoms.positions[first] + images @ atoms.cell.array
    return first, second, np.linalg.norm(separation, axis=1)


def _complement(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Return unit vectors perpendicular to the periodic cell vectors, one for each open direction."""
    if not pbc.any():
        return np.eye(3)
    _, _, basis = np.linalg.svd(cell[pbc])
    return basis[int(pbc.sum()) :]
