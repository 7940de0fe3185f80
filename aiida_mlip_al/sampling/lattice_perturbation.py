"""Seeder ``lattice_perturbation``: random symmetric strain of the cell, and random displacements if asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_mlip_al.sampling.base import Axes, CopyParameters, Draw, Matrix, SeedResult, sample_copies
from aiida_mlip_al.sampling.cells import periodic_axes, periodic_projector, strained
from aiida_mlip_al.sampling.checks import DEFAULT_ANGLE_RANGE, SKEWED_CELL, TOO_CLOSE, skewed_cell, too_close
from aiida_mlip_al.sampling.vacuum import vacuum_axes


class LatticePerturbationParameters(CopyParameters):
    """Ranges of the uniform random strain; fractional coordinates are kept."""

    cell_fraction: float = Field(
        default=0.06, ge=0, lt=0.5, description='diagonal strain lies within plus or minus this'
    )
    shear_fraction: float | None = Field(
        default=None,
        ge=0,
        lt=0.5,
        description='off-diagonal strain lies within plus or minus this; half of cell_fraction',
    )
    atom_distance: float = Field(
        default=0.0, ge=0, description='root-mean-square length of a further Gaussian displacement of every atom, Å'
    )
    include_unperturbed: bool = Field(default=False, description='put each incoming structure itself before its copies')
    angle_range: tuple[float, float] = Field(
        default=DEFAULT_ANGLE_RANGE, description='reject cells with an angle between periodic vectors outside, degrees'
    )
    periodic: Axes | None = Field(
        default=None, description="periodic directions, if the structure's pbc claims too many"
    )

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        return incoming * (self.copies + self.include_unperturbed)


def lattice_perturbation(
    structures: Sequence[Atoms], parameters: LatticePerturbationParameters, seed: int
) -> SeedResult:
    """Strain the periodic cell vectors at random, x' = x (1 + P eps P).

    eps is symmetric, its elements uniform in their ranges (the convention of dpdata and PWMLFF); P projects on the span
    of the periodic vectors, so that vacuum, slab thickness and layer distances stay as they are.

    :param structures: incoming structures.
    :param parameters: see the model.
    :param seed: of every random number.
    :raises ValueError: a structure is not periodic, or its vacuum vector is oblique.
    :raises RejectionLimitError: atoms too close or cells too skewed in every attempt.
    """
    shear = parameters.cell_fraction / 2 if parameters.shear_fraction is None else parameters.shear_fraction

    def perturb(atoms: Atoms, draw: Draw) -> tuple[Atoms, Matrix]:
        axes = periodic_axes(atoms, parameters.periodic, draw.where)
        projector = periodic_projector(atoms, axes, draw.where)
        frame, deformation = strained(
            atoms, projector @ random_strain(draw.rng, parameters.cell_fraction, shear) @ projector, axes
        )
        if parameters.atom_distance > 0:
            frame.positions += draw.rng.normal(scale=parameters.atom_distance / np.sqrt(3), size=(len(frame), 3))
        return frame, deformation

    def rejection(frame: Atoms) -> str | None:
        axes = frame.pbc & ~vacuum_axes(frame) if parameters.periodic is None else parameters.periodic
        if skewed_cell(frame.cell.array, axes, parameters.angle_range):
            return SKEWED_CELL
        return TOO_CLOSE if too_close(frame, parameters.min_distance_fraction) else None

    return sample_copies(
        'lattice_perturbation',
        structures,
        parameters,
        seed,
        perturb,
        copies=parameters.copies,
        max_attempts=parameters.max_attempts,
        rejection=rejection,
        include_sources=parameters.include_unperturbed,
    )


def random_strain(rng: np.random.Generator, diagonal: float, shear: float) -> Matrix:
    """Symmetric strain with uniform elements.

    :param rng: random generator.
    :param diagonal: diagonal elements lie within plus or minus this.
    :param shear: off-diagonal elements lie within plus or minus this.
    :returns: (3, 3).
    """
    xx, yy, zz = rng.uniform(-diagonal, diagonal, 3)
    yz, xz, xy = rng.uniform(-shear, shear, 3)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
