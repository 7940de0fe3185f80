"""Seeder ``rattle``: Gaussian displacement of every atom."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from pydantic import Field

from aiida_mlip_al.sampling.base import CopyParameters, Draw, SeedResult, sample_copies
from aiida_mlip_al.sampling.checks import TOO_CLOSE, too_close


class RattleParameters(CopyParameters):
    """Size of the displacements."""

    stdev: float = Field(default=0.05, gt=0, description='standard deviation of each Cartesian component, Å')


def rattle(structures: Sequence[Atoms], parameters: RattleParameters, seed: int) -> SeedResult:
    """Displace every atom by independent normal numbers; the cell stays as it is.

    :param structures: incoming structures.
    :param parameters: see the model.
    :param seed: of every random number.
    :raises RejectionLimitError: atoms too close in every attempt.
    """

    def displace(atoms: Atoms, draw: Draw) -> tuple[Atoms, None]:
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
