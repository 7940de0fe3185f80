"""Seeder ``rattle``: random displacement of every atom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ase import Atoms
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import CopyParameters, Draw, SeedResult, sample_copies
from aiida_mlip_al.sampling.checks import TOO_CLOSE, too_close
from aiida_mlip_al.sampling.mc_rattle import mc_rattled

DEFAULT_N_ITER = 10


class RattleParameters(CopyParameters):
    """Kind and size of the displacements."""

    kind: Literal['gaussian', 'mc'] = Field(
        default='gaussian',
        description='gaussian: independent normal numbers; mc: many small moves that avoid close atoms (hiPhive)',
    )
    stdev: float = Field(
        default=0.05, gt=0, description='standard deviation of each Cartesian component, of each single move for mc, Å'
    )
    n_iter: int | None = Field(
        default=None,
        ge=1,
        description=f'mc only: moves of every atom, {DEFAULT_N_ITER} if left out; displacements grow to about stdev times its root',
    )

    @model_validator(mode='after')
    def _check(self) -> RattleParameters:
        if self.kind == 'gaussian' and self.n_iter is not None:
            raise ValueError("'n_iter' goes with 'kind: mc'")
        return self


def rattle(structures: Sequence[Atoms], parameters: RattleParameters, seed: int) -> SeedResult:
    """Displace every atom at random; the cell stays as it is.

    :param structures: incoming structures.
    :param parameters: see the model.
    :param seed: of every random number.
    :raises ValueError: ``kind`` is mc and hiPhive is not installed.
    :raises RejectionLimitError: atoms too close in every attempt.
    """

    def displace(atoms: Atoms, draw: Draw) -> tuple[Atoms, None]:
        if parameters.kind == 'mc':
            n_iter = parameters.n_iter or DEFAULT_N_ITER
            return mc_rattled(atoms, parameters.stdev, parameters.min_distance_fraction, n_iter, draw), None
        atoms.positions += draw.rng.normal(scale=parameters.stdev, size=(len(atoms), 3))
        return atoms, None

    return sample_copies(
        'rattle',
        structures,
        parameters,
        seed,
        displace,
        copies=parameters.copies,
        max_attempts=parameters.max_attempts,
        rejection=lambda frame: TOO_CLOSE if too_close(frame, parameters.min_distance_fraction) else None,
    )
