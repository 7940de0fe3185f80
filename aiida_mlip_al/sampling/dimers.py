"""Seeder ``dimers``: two free atoms at growing distance, for every pair of elements."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import Positive, SeedResult, StepParameters, make_record


class DimersParameters(StepParameters):
    """Distances, and the box around each dimer."""

    n_points: int = Field(default=21, ge=2, description='distances for each pair of elements, evenly spaced')
    distance_range: tuple[Positive, Positive] = Field(
        default=(0.7, 2.5), description='shortest and longest distance, as fractions of the covalent radii sum'
    )
    box: float = Field(default=20.0, gt=0, description='edge of the cubic cell, Å; the dimer is not periodic')

    @model_validator(mode='after')
    def _check(self) -> DimersParameters:
        if self.distance_range[0] >= self.distance_range[1]:
            raise ValueError(f"'distance_range' must go from short to long, got {list(self.distance_range)}")
        return self

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames there are for each pair of elements."""
        return self.n_points


def dimers(structures: Sequence[Atoms], parameters: DimersParameters, seed: int) -> SeedResult:
    """Make dimers of all pairs of the structures' elements, equal ones included, in the order of the atomic numbers.

    In a chain of steps they are added to the structures. The record's ``source`` is the first structure by which both
    elements have come up, its ``copy`` the number of the distance.

    :param structures: incoming structures.
    :param parameters: see the model.
    :param seed: only recorded.
    :raises ValueError: a dimer does not fit into the box.
    """
    first: dict[int, int] = {}
    for source, atoms in enumerate(structures):
        for number in atoms.numbers.tolist():
            first.setdefault(number, source)
    frames, records = [], []
    for pair in combinations_with_replacement(sorted(first), 2):
        distances = np.linspace(*parameters.distance_range, parameters.n_points) * covalent_radii[list(pair)].sum()
        if distances[-1] >= parameters.box:
            formula = Atoms(pair).get_chemical_formula()
            msg = f"dimers: {formula} of {distances[-1]:.1f} Å does not fit into the box; raise 'box' ({parameters.box} Å)"
            raise ValueError(msg)
        for copy, distance in enumerate(distances.tolist()):
            frame = Atoms(pair, positions=[[-distance / 2, 0, 0], [distance / 2, 0, 0]], cell=[parameters.box] * 3)
            frame.positions += parameters.box / 2
            frames.append(frame)
            records.append(make_record('dimers', parameters, seed, max(first[number] for number in pair), copy=copy))
    return SeedResult(frames, records)
