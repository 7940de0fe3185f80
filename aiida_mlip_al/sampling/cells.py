"""Cells with one, two or three periodic directions: which they are, how to strain them, how large to repeat them."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import ArrayLike, NDArray

from aiida_mlip_al.sampling.base import Axes, Matrix
from aiida_mlip_al.sampling.vacuum import vacuum_axes, vacuum_warning

PERPENDICULAR_TOLERANCE = 1e-6


def periodic_axes(atoms: Atoms, periodic: Axes | None, where: str) -> NDArray[np.bool_]:
    """Which cell vectors are periodic.

    :param atoms: the structure.
    :param periodic: the user's word, which can only narrow ``atoms.pbc``; None takes ``atoms.pbc`` without the directions
        that lead through vacuum, and warns of these.
    :param where: step and structure, for the message.
    :returns: (3,) mask.
    :raises ValueError: the user's word contradicts ``atoms.pbc``, or a periodic cell vector is missing.
    """
    axes = np.array(atoms.pbc if periodic is None else periodic, dtype=bool)
    if np.any(axes & ~atoms.pbc):
        msg = f"{where}: 'periodic' names a direction in which the structure has no periodic boundary (pbc {atoms.pbc})"
        raise ValueError(msg)
    if np.linalg.matrix_rank(atoms.cell.array[axes]) < np.count_nonzero(axes):
        msg = f'{where}: a periodic cell vector is zero or depends on another; set the cell or the pbc of the structure'
        raise ValueError(msg)
    message = vacuum_warning(atoms) if periodic is None else None
    if message is not None:
        warnings.warn(f'{where}: {message}', stacklevel=3)
        axes &= ~vacuum_axes(atoms)
    return axes


def span_projector(cell: ArrayLike, axes: ArrayLike) -> Matrix:
    """Projector on the span of some cell vectors.

    :param cell: (3, 3) cell vectors as rows, Å.
    :param axes: (3,) which of them; linearly independent.
    :returns: (3, 3), exact zeros along a Cartesian direction that is perpendicular to all of them.
    """
    vectors = np.asarray(cell, dtype=float)[np.asarray(axes, dtype=bool)]
    if len(vectors) == 0:
        return np.zeros((3, 3))
    if len(vectors) == 1:
        direction = vectors[0] / np.linalg.norm(vectors[0])
        return np.asarray(np.outer(direction, direction))
    if len(vectors) == 2:
        normal = np.cross(vectors[0], vectors[1])
        normal /= np.linalg.norm(normal)
        return np.asarray(np.eye(3) - np.outer(normal, normal))
    return np.eye(3)


def periodic_projector(atoms: Atoms, axes: NDArray[np.bool_], where: str) -> Matrix:
    """Projector on the span of the periodic cell vectors.

    :param atoms: the structure.
    :param axes: (3,) periodic cell vectors.
    :param where: step and structure, for the message.
    :returns: (3, 3), exact zeros along a Cartesian vacuum direction.
    :raises ValueError: no direction is periodic, or a vacuum vector is not perpendicular to the periodic ones.
    """
    cell = atoms.cell.array
    if not axes.any():
        msg = f'{where}: the structure has no periodic direction to strain; leave the step out for molecules'
        raise ValueError(msg)
    projector = span_projector(cell, axes)
    for vacuum in cell[~axes]:
        if np.linalg.norm(projector @ vacuum) > PERPENDICULAR_TOLERANCE * np.linalg.norm(vacuum):
            msg = (
                f'{where}: the vacuum vector {np.round(vacuum, 3).tolist()} is not perpendicular to the periodic '
                f'vectors; replace it by its perpendicular part {np.round(vacuum - projector @ vacuum, 3).tolist()}'
            )
            raise ValueError(msg)
    return projector


def strained(atoms: Atoms, strain: Matrix, axes: NDArray[np.bool_]) -> tuple[Atoms, Matrix]:
    """Strain the periodic cell vectors and carry the atoms along, x' = x (1 + strain).

    :param atoms: the structure.
    :param strain: (3, 3) symmetric, zero outside the span of the periodic vectors.
    :param axes: (3,) periodic cell vectors; the others are kept to the bit.
    :returns: the strained structure with unchanged fractional coordinates, and the deformation 1 + strain.
    """
    frame = atoms.copy()
    cell = frame.cell.array.copy()
    cell[axes] += cell[axes] @ strain
    frame.set_cell(cell)
    frame.positions += frame.positions @ strain
    return frame, np.eye(3) + strain


def shortest_lattice_vector(cell: ArrayLike, axes: ArrayLike) -> float:
    """Distance of an atom to its nearest own image: the shortest vector of the Minkowski-reduced periodic lattice.

    :param cell: (3, 3) cell vectors as rows, Å.
    :param axes: (3,) periodic cell vectors.
    :returns: Å; infinity without a periodic direction.
    """
    axes = np.asarray(axes, dtype=bool)
    if not axes.any():
        return np.inf
    reduced, _ = minkowski_reduce(np.asarray(cell, dtype=float), pbc=axes)
    return float(np.linalg.norm(np.asarray(reduced)[axes], axis=1).min())


def minimal_repetitions(cell: ArrayLike, axes: ArrayLike, distance: float) -> tuple[int, int, int]:
    """Smallest diagonal supercell in which no atom is closer than a distance to its own image.

    The search is complete: n_i is at least distance / |a_i|, and with n_i = distance / (height of the cell along i)
    no image across that direction can be nearer. Equal sizes go to the larger image distance.

    :param cell: (3, 3) cell vectors as rows, Å.
    :param axes: (3,) periodic cell vectors; the others are not repeated.
    :param distance: smallest allowed distance between an atom and its own image, Å.
    :returns: repetitions along each cell vector.
    """
    vectors = np.asarray(cell, dtype=float)
    axes = np.asarray(axes, dtype=bool)
    ranges = [range(1, 2)] * 3
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(vectors[axes]), axis=0) if axes.any() else np.empty(0)
    for axis, height in zip(np.flatnonzero(axes), heights, strict=True):
        least = int(np.ceil(distance / np.linalg.norm(vectors[axis]) - 1e-9))
        most = int(np.ceil(distance / height - 1e-9))
        ranges[axis] = range(max(1, least), max(1, most) + 1)
    best: tuple[int, float, tuple[int, int, int]] | None = None
    for n in sorted(product(*ranges), key=lambda n: (int(np.prod(n)), n)):
        size = int(np.prod(n))
        if best is not None and size > best[0]:
            break
        shortest = shortest_lattice_vector(vectors * np.array(n)[:, None], axes)
        if shortest >= distance - 1e-9 and (best is None or shortest > best[1] + 1e-9):
            best = (size, shortest, (n[0], n[1], n[2]))
    assert best is not None
    return best[2]
