"""Seeder ``supercell``: repeat structures along their periodic directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import Axes, SeedResult, StepParameters, sample_copies
from aiida_mlip_al.sampling.cells import minimal_repetitions, periodic_axes

DEFAULT_IMAGE_DISTANCE = 10.0
Row = tuple[int, int, int]


class SupercellParameters(StepParameters):
    """Give ``matrix`` or ``min_image_distance``; without both, no atom comes within 10 Å of its own image."""

    matrix: Row | tuple[Row, Row, Row] | None = Field(
        default=None, description='repetitions along the three cell vectors, or a 3x3 matrix (rows: new vectors)'
    )
    min_image_distance: float | None = Field(
        default=None,
        gt=0,
        description='smallest distance of an atom to its own image, Å; the smallest diagonal cell is taken',
    )
    max_atoms: int = Field(default=500, ge=1, description='refuse larger supercells')
    periodic: Axes | None = Field(
        default=None, description="periodic directions, if the structure's pbc claims too many"
    )

    @model_validator(mode='after')
    def _check(self) -> SupercellParameters:
        if self.matrix is not None:
            if self.min_image_distance is not None:
                raise ValueError("give 'matrix' or 'min_image_distance', not both")
            matrix = self.integer_matrix
            if np.ndim(self.matrix) == 1 and matrix.diagonal().min() < 1:
                raise ValueError(f"'matrix' needs repetitions of at least 1, got {matrix.diagonal().tolist()}")
            if round(np.linalg.det(matrix)) < 1:
                raise ValueError(f"'matrix' needs a positive determinant, got {matrix.tolist()}")
        return self

    @property
    def integer_matrix(self) -> NDArray[np.int_]:
        """The (3, 3) matrix of ``matrix``."""
        matrix = np.array(self.matrix, dtype=int)
        return np.diag(matrix) if matrix.ndim == 1 else matrix


def supercell(structures: Sequence[Atoms], parameters: SupercellParameters, seed: int) -> SeedResult:
    """Repeat each structure; directions that are not periodic are never repeated.

    :param structures: incoming structures.
    :param parameters: see the model.
    :param seed: only recorded.
    :raises ValueError: a supercell would be larger than ``max_atoms``, or the matrix touches a vacuum direction.
    """
    return sample_copies(
        'supercell', structures, parameters, seed, lambda atoms, draw: (_repeat(atoms, parameters, draw.where), None)
    )


def _repeat(atoms: Atoms, parameters: SupercellParameters, where: str) -> Atoms:
    axes = periodic_axes(atoms, parameters.periodic, where)
    if parameters.matrix is None:
        distance = parameters.min_image_distance or DEFAULT_IMAGE_DISTANCE
        matrix = np.diag(minimal_repetitions(atoms.cell.array, axes, distance))
    else:
        matrix = parameters.integer_matrix
    outside = (matrix - np.eye(3, dtype=int))[~(axes[:, None] & axes[None, :])]
    if np.any(outside):
        msg = f"{where}: 'matrix' repeats or mixes a direction that is not periodic; put 1 on its diagonal and 0 beside"
        raise ValueError(msg)
    cells = round(np.linalg.det(matrix))
    if cells * len(atoms) > parameters.max_atoms:
        msg = (
            f"{where}: {cells} cells of {len(atoms)} atoms exceed 'max_atoms' {parameters.max_atoms}; "
            'ask for a smaller supercell or raise it'
        )
        raise ValueError(msg)
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        repeated: Atoms = atoms.repeat(tuple(np.diag(matrix).tolist()))
    else:
        repeated = make_supercell(atoms, matrix, wrap=False)
    return repeated
