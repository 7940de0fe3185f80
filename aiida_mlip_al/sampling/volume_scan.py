"""Seeder ``volume_scan``: stretch and compress structures by given factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from ase import Atoms
from pydantic import Field

from aiida_mlip_al.sampling.base import Axes, Draw, Matrix, Positive, SeedResult, StepParameters, sample_copies
from aiida_mlip_al.sampling.cells import periodic_axes, periodic_projector, strained
from aiida_mlip_al.sampling.checks import TOO_CLOSE, too_close


class VolumeScanParameters(StepParameters):
    """Factors on the volume or on the lengths; fractional coordinates are kept."""

    quantity: Literal['volume', 'length'] = Field(
        description="'volume' (three periodic directions) or 'length' (each periodic direction by the same factor)"
    )
    factors: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        default=(0.94, 0.97, 1.0, 1.03, 1.06), description='one structure for each factor'
    )
    min_distance_fraction: float = Field(
        default=0.6,
        ge=0,
        lt=1,
        description='refuse when two atoms are closer than this fraction of their covalent radii sum',
    )
    periodic: Axes | None = Field(
        default=None, description="periodic directions, if the structure's pbc claims too many"
    )

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        return incoming * len(self.factors)


def volume_scan(structures: Sequence[Atoms], parameters: VolumeScanParameters, seed: int) -> SeedResult:
    """Scale the periodic cell vectors of each structure; a vacuum direction is never scaled.

    :param structures: incoming structures; the records' ``copy`` is the number of the factor.
    :param parameters: see the model.
    :param seed: only recorded.
    :raises ValueError: a structure is not periodic in the directions that the quantity needs.
    :raises RejectionLimitError: a factor brings atoms too close together.
    """

    def scale(atoms: Atoms, draw: Draw) -> tuple[Atoms, Matrix]:
        axes = periodic_axes(atoms, parameters.periodic, draw.where)
        factor = parameters.factors[draw.copy]
        if parameters.quantity == 'volume':
            if not axes.all():
                msg = (
                    f"{draw.where}: a volume needs three periodic directions; use quantity 'length' for slabs and wires"
                )
                raise ValueError(msg)
            factor **= 1 / 3
        return strained(atoms, (factor - 1.0) * periodic_projector(atoms, axes, draw.where), axes)

    return sample_copies(
        'volume_scan',
        structures,
        parameters,
        seed,
        scale,
        copies=len(parameters.factors),
        rejection=lambda frame: TOO_CLOSE if too_close(frame, parameters.min_distance_fraction) else None,
    )
