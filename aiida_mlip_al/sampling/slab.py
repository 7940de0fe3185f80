"""Seeder ``slab``: cut crystals along lattice planes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, gcd
from typing import Annotated

import numpy as np
from ase import Atoms
from ase.build import surface
from pydantic import Field, field_validator

from aiida_mlip_al.sampling.base import Draw, SeedResult, StepParameters, sample_copies
from aiida_mlip_al.sampling.cells import periodic_axes

Plane = tuple[int, int, int]


class SlabParameters(StepParameters):
    """Planes and sizes of the slabs."""

    miller: Annotated[tuple[Plane, ...], Field(min_length=1)] = Field(
        default=((1, 1, 1), (1, 1, 0), (1, 0, 0)),
        description='one slab for each plane: Miller indices of the cell as it is given, which should be the conventional one',
    )
    min_thickness: float = Field(default=10.0, gt=0, description='smallest distance between its outermost atoms, Å')
    vacuum: float = Field(default=15.0, gt=0, description='gap between a slab and its image above, Å')
    max_atoms: int = Field(default=450, ge=1, description='refuse larger slabs')

    @field_validator('miller')
    @classmethod
    def _check_miller(cls, miller: tuple[Plane, ...]) -> tuple[Plane, ...]:
        if (0, 0, 0) in miller:
            raise ValueError('has the indices (0, 0, 0), which name no plane')
        return miller

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        return incoming * len(self.miller)


def slab(structures: Sequence[Atoms], parameters: SlabParameters, seed: int) -> SeedResult:
    """Cut a slab out of each crystal along each plane, with whole cells only, so that the composition is the crystal's.

    The third cell vector is perpendicular to the plane and not periodic.

    :param structures: incoming crystals; the records' ``copy`` is the number of the plane.
    :param parameters: see the model.
    :param seed: only recorded.
    :raises ValueError: a structure is not periodic in three directions, or a slab has more atoms than ``max_atoms``.
    """

    def cut(atoms: Atoms, draw: Draw) -> tuple[Atoms, None]:
        axes = periodic_axes(atoms, None, draw.where)
        if not axes.all():
            msg = f'{draw.where}: slabs are cut out of crystals, which have three periodic directions, not {axes.sum()}'
            raise ValueError(msg)
        return _cut(atoms, parameters.miller[draw.copy], parameters, draw.where), None

    return sample_copies('slab', structures, parameters, seed, cut, copies=len(parameters.miller))


def _cut(atoms: Atoms, miller: Plane, parameters: SlabParameters, where: str) -> Atoms:
    crystal, plane = _right_handed(atoms, miller)
    layer = surface(crystal, plane, layers=1)
    spacing = crystal.get_volume() / np.linalg.norm(np.cross(layer.cell[0], layer.cell[1]))
    n_layers = 1 + max(0, ceil((parameters.min_thickness - np.ptp(layer.positions[:, 2])) / spacing - 1e-9))
    if n_layers * len(atoms) > parameters.max_atoms:
        msg = (
            f"{where}: a {miller} slab of {n_layers} layers with {len(atoms)} atoms each exceeds 'max_atoms' "
            f'{parameters.max_atoms}; start from a smaller cell, ask for a thinner slab or raise it'
        )
        raise ValueError(msg)
    result: Atoms = surface(crystal, plane, layers=n_layers, vacuum=parameters.vacuum / 2)
    del result.arrays['tags']
    if atoms.has('tags'):
        result.set_tags(np.tile(atoms.get_tags(), n_layers))
    return result


def _right_handed(atoms: Atoms, miller: Plane) -> tuple[Atoms, Plane]:
    """Same crystal and plane with a right-handed cell and no negative index.

    Otherwise ``ase.build.surface`` would cut the mirror image of the crystal.
    """
    indices = np.array(miller) // gcd(*miller)
    signs = np.where(indices < 0, -1, 1)
    if np.prod(signs) * np.linalg.det(atoms.cell.array) < 0:
        signs[np.flatnonzero(indices == 0)[:1] if 0 in indices else slice(None)] *= -1
    crystal = atoms.copy()
    crystal.set_cell(atoms.cell.array * signs[:, None])
    h, k, l = np.abs(indices).tolist()  # noqa: E741
    return crystal, (h, k, l)
