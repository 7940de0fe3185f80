"""Force constants by finite displacements: which supercells to label, and what their forces give (phonopy)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError, model_validator

from aiida_mlip_al.sampling.base import Matrix, Positive, StepParameters, bare
from aiida_mlip_al.sampling.cells import minimal_repetitions, periodic_axes, periodic_projector
from aiida_mlip_al.sampling.supercell import DEFAULT_IMAGE_DISTANCE, Row, SupercellParameters

if TYPE_CHECKING:
    from phonopy import Phonopy

WHERE = 'force constants'
VACUUM = 10.0
LATTICE_TOLERANCE = 1e-3


class ForceConstantsParameters(StepParameters):
    """Give ``supercell`` or ``min_image_distance``; without both, no atom comes within 10 Å of its own image."""

    supercell: Row | tuple[Row, Row, Row] | None = Field(
        default=None, description='repetitions along the three cell vectors, or a 3x3 matrix (rows: new vectors)'
    )
    min_image_distance: float | None = Field(
        default=None,
        gt=0,
        description='smallest distance of an atom to its own image, Å; the smallest diagonal cell is taken',
    )
    max_atoms: int = Field(default=500, ge=1, description='refuse larger supercells')
    displacement: Positive = Field(default=0.01, description='distance by which one atom at a time is displaced, Å')
    max_residual_force: Positive = Field(
        default=0.1, description='refuse a structure with a larger force on an atom, eV/Å; relax it first'
    )

    @model_validator(mode='after')
    def _check_supercell(self) -> ForceConstantsParameters:
        if self.supercell is not None:
            if self.min_image_distance is not None:
                raise ValueError("give 'supercell' or 'min_image_distance', not both")
            try:
                SupercellParameters(matrix=self.supercell)
            except ValidationError as error:
                message = error.errors()[0]['msg'].removeprefix('Value error, ')
                raise ValueError(message.replace("'matrix'", "'supercell'")) from None
        return self


@dataclass(frozen=True)
class HarmonicCrystal:
    """A crystal at rest and how it responds to small displacements.

    :param supercell: N atoms at equilibrium, ordered by atom of the unit cell: the n-th block of |det(matrix)| atoms holds
        the images of its n-th atom.
    :param force_constants: (N, N, 3, 3) second derivatives of the energy, eV/Å².
    :param matrix: (3, 3) integers; the rows of ``matrix @ unit_cell`` are the vectors of the supercell.
    :raises ValueError: shapes, order or periodicity do not fit together.
    """

    supercell: Atoms
    force_constants: Matrix
    matrix: NDArray[np.int_]

    def __post_init__(self) -> None:
        n = len(self.supercell)
        if self.force_constants.shape != (n, n, 3, 3):
            msg = f'{WHERE}: a supercell of {n} atoms needs an array ({n}, {n}, 3, 3), got {self.force_constants.shape}'
            raise ValueError(msg)
        if n % self.n_cells:
            msg = f'{WHERE}: a supercell of {n} atoms cannot hold {self.n_cells} unit cells; give the matrix it was made with'
            raise ValueError(msg)
        points = self._lattice_coordinates()
        if np.abs(points - np.rint(points)).max() > LATTICE_TOLERANCE:
            msg = f'{WHERE}: the atoms of the supercell are not ordered by atom of the unit cell, or do not repeat it'
            raise ValueError(msg)

    @property
    def n_cells(self) -> int:
        """Unit cells in the supercell."""
        return abs(round(np.linalg.det(self.matrix)))

    @property
    def unit_atoms(self) -> NDArray[np.int_]:
        """(N,) atom of the unit cell that each atom of the supercell is an image of."""
        return np.arange(len(self.supercell)) // self.n_cells

    @property
    def lattice_points(self) -> NDArray[np.int_]:
        """(N, 3) unit cell of each atom, counted along the unit cell's vectors from the first image of the same atom."""
        return np.rint(self._lattice_coordinates()).astype(int)

    def _lattice_coordinates(self) -> Matrix:
        positions = self.supercell.positions.reshape(-1, self.n_cells, 3)
        unit_cell = np.linalg.solve(self.matrix.astype(float), self.supercell.cell.complete().array)
        offsets = (positions - positions[:, :1]).reshape(-1, 3)
        return np.asarray(offsets @ np.linalg.inv(unit_cell))


@dataclass(frozen=True)
class DisplacedSupercells:
    """What to label: the supercell at rest and each of its displaced copies; same atoms in the same order.

    :param matrix: (3, 3), see :class:`HarmonicCrystal`.
    """

    equilibrium: Atoms
    displaced: list[Atoms]
    matrix: NDArray[np.int_]


def supercell_matrix(atoms: Atoms, parameters: ForceConstantsParameters) -> NDArray[np.int_]:
    """Integer matrix of the supercell; directions that are not periodic are never repeated.

    :param atoms: the unit cell.
    :param parameters: see the model.
    :returns: (3, 3), new vectors are the rows of ``matrix @ cell``.
    :raises ValueError: no direction is periodic, the supercell is too large, or it repeats a vacuum direction.
    """
    axes = periodic_axes(atoms, None, WHERE)
    if not axes.any():
        raise ValueError(f'{WHERE}: the structure has no periodic direction, so it has no phonons; leave the step out')
    if parameters.supercell is None:
        distance = parameters.min_image_distance or DEFAULT_IMAGE_DISTANCE
        matrix = np.diag(minimal_repetitions(atoms.cell.array, axes, distance))
    else:
        matrix = SupercellParameters(matrix=parameters.supercell).integer_matrix
    if np.any((matrix - np.eye(3, dtype=int))[~(axes[:, None] & axes[None, :])]):
        msg = f"{WHERE}: 'supercell' repeats or mixes a direction that is not periodic; put 1 on its diagonal and 0 beside"
        raise ValueError(msg)
    cells = abs(round(np.linalg.det(matrix)))
    if cells * len(atoms) > parameters.max_atoms:
        msg = (
            f"{WHERE}: {cells} cells of {len(atoms)} atoms exceed 'max_atoms' {parameters.max_atoms}; "
            'ask for a smaller supercell or raise it'
        )
        raise ValueError(msg)
    return matrix


def displaced_supercells(atoms: Atoms, parameters: ForceConstantsParameters) -> DisplacedSupercells:
    """Supercells that the crystal's symmetry needs, with one atom displaced in each.

    :param atoms: the relaxed unit cell, periodic in one, two or three directions.
    :param parameters: see the model.
    :raises ValueError: the structure is not periodic, or the supercell does not fit it.
    """
    return _plan(atoms, parameters)[0]


def force_constants(
    atoms: Atoms, parameters: ForceConstantsParameters, forces: Sequence[ArrayLike], residual: ArrayLike
) -> HarmonicCrystal:
    """Force constants from the forces on the displaced supercells, less those on the supercell at rest.

    phonopy's finite differences, spread by symmetry, then made to obey the acoustic sum rule and Φ(i, j) = Φ(j, i)ᵀ.

    :param atoms: as for :func:`displaced_supercells`.
    :param parameters: as for :func:`displaced_supercells`.
    :param forces: (N, 3) for each displaced supercell in its order, eV/Å.
    :param residual: (N, 3) on the supercell at rest, eV/Å.
    :raises ValueError: the forces do not fit the displacements, or the structure is not relaxed.
    """
    plan, phonopy = _plan(atoms, parameters)
    rest = np.asarray(residual, dtype=float)
    response = np.asarray(forces, dtype=float)
    n = len(plan.equilibrium)
    if rest.shape != (n, 3) or response.shape != (len(plan.displaced), n, 3):
        msg = (
            f'{WHERE}: {len(plan.displaced)} displaced supercells of {n} atoms need forces '
            f'({len(plan.displaced)}, {n}, 3) and ({n}, 3) at rest, got {response.shape} and {rest.shape}'
        )
        raise ValueError(msg)
    largest = float(np.linalg.norm(rest, axis=1).max())
    if largest > parameters.max_residual_force:
        msg = (
            f'{WHERE}: the structure is not relaxed, the largest force on an atom is {largest:.3f} eV/Å; relax it with the '
            f"same method first, or raise 'max_residual_force' ({parameters.max_residual_force:g} eV/Å)"
        )
        raise ValueError(msg)
    phonopy.forces = response - rest
    phonopy.produce_force_constants(show_drift=False)
    phonopy.symmetrize_force_constants(show_drift=False)
    return HarmonicCrystal(plan.equilibrium, np.array(phonopy.force_constants), plan.matrix)


def _plan(atoms: Atoms, parameters: ForceConstantsParameters) -> tuple[DisplacedSupercells, Phonopy]:
    """Supercells to label, and phonopy with the same displacements."""
    matrix = supercell_matrix(atoms, parameters)
    unit, shift = _as_three_dimensional(atoms)
    phonopy = _phonopy(unit, matrix)
    phonopy.generate_displacements(distance=parameters.displacement)
    cell = atoms.cell.array.copy()
    cell[atoms.pbc] = (matrix @ cell)[atoms.pbc]

    def frame(positions: Matrix) -> Atoms:
        return Atoms(phonopy.supercell.numbers, positions=positions - shift, cell=cell, pbc=atoms.pbc)

    displaced = []
    for number, *vector in phonopy.displacements:
        moved = phonopy.supercell.positions.copy()
        moved[int(number)] += vector
        displaced.append(frame(moved))
    return DisplacedSupercells(frame(phonopy.supercell.positions), displaced, matrix), phonopy


def _as_three_dimensional(atoms: Atoms) -> tuple[Atoms, NDArray[np.float64]]:
    """Structure with enough vacuum across each direction that is not periodic, and the shift (3,) of its atoms, Å.

    phonopy knows three-dimensional crystals only: with a vacuum of its own it neither wraps atoms across the border, nor
    finds symmetries with images that do not exist.
    """
    unit = bare(atoms)
    vacuum = np.flatnonzero(~atoms.pbc)
    if len(vacuum):
        periodic_projector(atoms, atoms.pbc, WHERE)
        unit.center(vacuum=VACUUM, axis=tuple(vacuum.tolist()))
    return unit, unit.positions[0] - atoms.positions[0]


def _phonopy(unit: Atoms, matrix: NDArray[np.int_]) -> Phonopy:
    """phonopy on exactly this unit cell."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=unit.get_chemical_symbols(), positions=unit.positions, cell=unit.cell.array, masses=unit.get_masses()
    )
    with warnings.catch_warnings():
        # A supercell less symmetric than its unit cell is the user's choice, and only costs more displacements.
        warnings.filterwarnings('ignore', message='.*Point group symmetries')
        # Vectors are columns in phonopy, rows here; without the identity it would go on with a primitive cell of its own.
        return Phonopy(cell, supercell_matrix=matrix.T, primitive_matrix=np.eye(3), log_level=0)
