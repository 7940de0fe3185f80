"""Seeder ``isolated_atoms``: one free atom of each element."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from pydantic import Field

from aiida_mlip_al.sampling.base import SeedResult, StepParameters, make_record


class IsolatedAtomsParameters(StepParameters):
    """The box around each atom."""

    box: float = Field(default=20.0, gt=0, description='edge of the cubic cell, Å; the atom is not periodic')


def isolated_atoms(structures: Sequence[Atoms], parameters: IsolatedAtomsParameters, seed: int) -> SeedResult:
    """Put one atom of each element of the structures in the middle of a box, in the order of the atomic numbers.

    In a chain of steps they are added to the structures. The record's ``source`` is the first structure that has the
    element.

    :param structures: incoming structures.
    :param parameters: see the model.
    :param seed: only recorded.
    """
    first: dict[int, int] = {}
    for source, atoms in enumerate(structures):
        for number in atoms.numbers.tolist():
            first.setdefault(number, source)
    frames = [
        Atoms([number], positions=[[parameters.box / 2] * 3], cell=[parameters.box] * 3, pbc=False)
        for number in sorted(first)
    ]
    return SeedResult(
        frames, [make_record('isolated_atoms', parameters, seed, first[number]) for number in sorted(first)]
    )
