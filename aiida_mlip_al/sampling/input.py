"""Seeder ``input``: the structures as they came."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from aiida_mlip_al.sampling.base import SeedResult, StepParameters, sample_copies


class InputParameters(StepParameters):
    """No parameters."""


def pass_on(structures: Sequence[Atoms], parameters: InputParameters, seed: int) -> SeedResult:
    """Pass the structures on, without calculators, velocities or stale labels.

    :param structures: incoming structures.
    :param parameters: none.
    :param seed: only recorded.
    """
    return sample_copies('input', structures, parameters, seed, lambda atoms, draw: (atoms, None))
