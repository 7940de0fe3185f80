"""Frames that exist, from which an exploration chooses instead of moving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_mlip_al.sampling.base import StepParameters, stream

# Of positions in extended XYZ.
FILE_DECIMALS = 8
Geometry = tuple[bytes, bytes, bytes]
T = TypeVar('T')


class PoolSettings(StepParameters):
    """The committee looks at frames that exist, such as those of ab initio MD, in the place of its own dynamics."""

    max_frames: int = Field(
        default=10000, ge=1, description='frames that the committee looks at in an iteration; of more, random ones'
    )
    frames_per_job: int = Field(default=1000, ge=1, description='frames that one job evaluates')

    # What an exploration by dynamics may have.
    bias: ClassVar[None] = None
    systems: ClassVar[Mapping[str, Any]] = {}


def geometry(atoms: Atoms) -> Geometry:
    """Return elements, positions and cell, to 1e-6 Å, as what can be looked up; the same before and after it was in a file."""
    places = (np.round(np.round(array, FILE_DECIMALS), 6) + 0.0 for array in (atoms.positions, atoms.cell.array))
    positions, cell = (array.tobytes() for array in places)
    return atoms.numbers.tobytes(), positions, cell


def draw_frames(places: Iterable[T], count: int, seed: int, iteration: int) -> list[T]:
    """Return so many of the frames, drawn at random, in their order; all of them if there are no more.

    :param places: what says which frame it is.
    :param seed: fixes the draw of each iteration.
    """
    everything = list(places)
    if len(everything) <= count:
        return everything
    chosen = np.random.default_rng(stream(seed, 'pool', iteration)).permutation(len(everything))[:count]
    return [everything[index] for index in sorted(chosen)]
