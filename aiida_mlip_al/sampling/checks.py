"""Geometric checks on one structure, periodic images of an atom on itself included."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import complete_cell
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from aiida_mlip_al.runners.neighbours import distances

TOO_CLOSE = 'too_close'
SKEWED_CELL = 'skewed_cell'
ONE_PLACE = 0.1
DEFAULT_ANGLE_RANGE = (30.0, 150.0)


def too_close(atoms: Atoms, fraction: float) -> bool:
    """Whether two atoms, or an atom and its own image, are closer than a fraction of the sum of their covalent radii.

    :param atoms: structure of n atoms; its pbc decides which images exist.
    :param fraction: of the sum of the covalent radii (Cordero et al. 2008, as tabulated in ASE).
    """
    if fraction <= 0 or len(atoms) == 0:
        return False
    radii = fraction * covalent_radii[atoms.numbers]
    first, second, distance = distances(atoms, 2 * radii.max())
    return bool(np.any(distance < radii[first] + radii[second]))


def computable(atoms: Atoms) -> bool:
    """Whether a potential can be evaluated at all: finite numbers, a cell in all periodic directions, no two atoms in one place.

    In one place are atoms within about 0.1 Å, periodic images included..
    """
    periodic = atoms.pbc
    if not (len(atoms) and np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return False
    cell = np.where(periodic[:, None], atoms.cell.array, 0.0)
    if np.linalg.matrix_rank(cell) < periodic.sum():
        return False
    normals = np.linalg.inv(complete_cell(cell))
    heights = 1.0 / np.linalg.norm(normals, axis=0)
    # Along the normals of the cell's faces, so that a periodic box has right angles.
    places = atoms.positions @ (normals * heights)
    places[:, periodic] %= heights[periodic]
    places[places == heights] = 0.0
    return not cKDTree(places, boxsize=np.where(periodic, heights, 0.0)).query_pairs(ONE_PLACE, p=np.inf)


def min_distance_ratio(atoms: Atoms, maximum: float = 2.0) -> float:
    """Smallest distance divided by the sum of the two covalent radii, own images included.

    :param atoms: structure of n atoms.
    :param maximum: pairs with a larger ratio are not looked for.
    :returns: the ratio, or infinity if no pair is below ``maximum``.
    """
    if len(atoms) == 0:
        return np.inf
    radii = covalent_radii[atoms.numbers]
    first, second, distance = distances(atoms, 2 * maximum * radii.max())
    ratio = distance / (radii[first] + radii[second])
    return float(np.min(ratio[ratio < maximum], initial=np.inf))


def min_distance(atoms: Atoms, maximum: float = 6.0) -> float:
    """Smallest distance between two atoms, own images included.

    :param atoms: structure of n atoms.
    :param maximum: larger distances are not looked for, Å.
    :returns: Å, or infinity if no pair is nearer than ``maximum``.
    """
    if len(atoms) == 0:
        return np.inf
    return float(np.min(distances(atoms, maximum)[2], initial=np.inf))


def cell_angles(cell: ArrayLike, periodic: ArrayLike) -> NDArray[np.float64]:
    """Angles between the periodic cell vectors.

    :param cell: (3, 3) cell vectors as rows, Å.
    :param periodic: (3,) which of them are periodic.
    :returns: 3, 1 or 0 angles in degrees for 3, 2 or fewer periodic vectors.
    """
    vectors = np.asarray(cell, dtype=float)[np.asarray(periodic, dtype=bool)]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), k=1)
    cosine = np.einsum('ij,ij->i', unit[first], unit[second])
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def skewed_cell(cell: ArrayLike, periodic: ArrayLike, angle_range: tuple[float, float] = DEFAULT_ANGLE_RANGE) -> bool:
    """Whether an angle between periodic cell vectors leaves the allowed range.

    :param cell: (3, 3) cell vectors as rows, Å.
    :param periodic: (3,) which of them are periodic.
    :param angle_range: smallest and largest allowed angle in degrees.
    """
    angles = cell_angles(cell, periodic)
    low, high = angle_range
    return bool(np.any((angles < low) | (angles > high)))
