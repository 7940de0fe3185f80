"""Seeder ``random_clusters``: small heaps of atoms without order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import Draw, Positive, SeedResult, StepParameters, sample_copies
from aiida_mlip_al.sampling.checks import TOO_CLOSE, too_close

OUTSIDE_BOX = 'outside_box'
PLACEMENTS = 50
Size = Annotated[int, Field(ge=2)]


class RandomClustersParameters(StepParameters):
    """Sizes and distances of the clusters."""

    copies: int = Field(default=20, ge=1, description='clusters made from each incoming structure')
    n_atoms: tuple[Size, Size] = Field(
        default=(3, 10), description='smallest and largest number of atoms, all numbers between equally likely'
    )
    distance_range: tuple[Positive, Positive] = Field(
        default=(0.8, 1.5),
        description='shortest distance between two atoms, and longest from an atom to the one it is attached to, '
        'as fractions of the covalent radii sum',
    )
    box: float = Field(default=20.0, gt=0, description='edge of the cubic cell, Å; the cluster is not periodic')
    max_attempts: int = Field(default=100, ge=1, description='draws for one cluster before the step gives up')

    @model_validator(mode='after')
    def _check(self) -> RandomClustersParameters:
        if self.n_atoms[0] > self.n_atoms[1]:
            raise ValueError(f"'n_atoms' must go from few to many, got {list(self.n_atoms)}")
        if self.distance_range[0] >= self.distance_range[1]:
            raise ValueError(f"'distance_range' must go from short to long, got {list(self.distance_range)}")
        return self

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        return incoming * self.copies


def random_clusters(structures: Sequence[Atoms], parameters: RandomClustersParameters, seed: int) -> SeedResult:
    """Grow clusters atom by atom, each new one attached to a random one of those already there.

    An atom is drawn from the composition of the incoming structure; its direction is uniform on the sphere, its distance
    uniform in the range. In a chain of steps the clusters are added to the structures.

    :param structures: incoming structures, of which only the composition counts.
    :param parameters: see the model.
    :param seed: of every random number.
    :raises RejectionLimitError: atoms too close, or the cluster larger than the box, in every attempt.
    """

    def grow(atoms: Atoms, draw: Draw) -> tuple[Atoms, None]:
        return _cluster(atoms, parameters, draw.rng), None

    def rejection(frame: Atoms) -> str | None:
        if np.ptp(frame.positions, axis=0).max() >= parameters.box:
            return OUTSIDE_BOX
        return TOO_CLOSE if too_close(frame, parameters.distance_range[0]) else None

    return sample_copies(
        'random_clusters',
        structures,
        parameters,
        seed,
        grow,
        copies=parameters.copies,
        max_attempts=parameters.max_attempts,
        rejection=rejection,
    )


def _cluster(atoms: Atoms, parameters: RandomClustersParameters, rng: np.random.Generator) -> Atoms:
    """One cluster in the middle of its box; an atom that finds no room is left where it is too close."""
    low, high = parameters.distance_range
    smallest, largest = parameters.n_atoms
    numbers = rng.choice(atoms.numbers, size=rng.integers(smallest, largest + 1))
    radii = covalent_radii[numbers]
    positions = np.zeros((len(numbers), 3))
    for new in range(1, len(numbers)):
        for _ in range(PLACEMENTS):
            anchor = rng.integers(new)
            direction = rng.normal(size=3)
            distance = rng.uniform(low, high) * (radii[anchor] + radii[new])
            positions[new] = positions[anchor] + distance * direction / np.linalg.norm(direction)
            others = np.linalg.norm(positions[:new] - positions[new], axis=1)
            if np.all(others >= low * (radii[:new] + radii[new])):
                break
    middle = (positions.min(axis=0) + positions.max(axis=0)) / 2
    return Atoms(numbers, positions=positions - middle + parameters.box / 2, cell=[parameters.box] * 3, pbc=False)
