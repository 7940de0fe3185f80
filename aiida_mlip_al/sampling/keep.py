"""Seeder ``keep``: the structures at this point of a chain belong to the result as well."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from aiida_mlip_al.sampling.base import SeedResult, StepParameters, sample_copies


class KeepParameters(StepParameters):
    """No parameters."""


def keep(structures: Sequence[Atoms], parameters: KeepParameters, seed: int) -> SeedResult:
    """Put the structures into the result and go on with them, as after relax in ``[relax, keep, rattle]``.

    :param structures: incoming structures.
    :param parameters: none.
    :param seed: only recorded.
    """
    return sample_copies('keep', structures, parameters, seed, lambda atoms, draw: (atoms, None))
