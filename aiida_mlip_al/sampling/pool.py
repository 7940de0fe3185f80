"""Frames that exist, from which an exploration chooses instead of moving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field

from aiida_mlip_al.sampling.base import StepParameters, stream

# Å.
TOLERANCE = 1e-4
BIN = 5e-4
N_MEANS = 6
Floats = NDArray[np.float64]
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


class Lookup(Generic[T]):
    """What is known of frames, found again by their elements, periodic directions, positions and cell.

    Frames whose positions and cells differ by at most ``TOLERANCE`` are the same one, such as those that went through a file.
    Weighted means of these numbers differ by no more, so that only frames with means in the same bins, or the next ones, have to
    be compared.
    """

    def __init__(self) -> None:
        self._bins: dict[tuple[Any, ...], list[tuple[Floats, T]]] = {}

    def add(self, atoms: Atoms, value: T) -> None:
        """Remember what is known of a frame."""
        kind, places, means = _described(atoms)
        self._bins.setdefault((kind, *np.floor(means / BIN).tolist()), []).append((places, value))

    def get(self, atoms: Atoms) -> T | None:
        """Return what is known of a frame, the nearest if several are the same one; None if it is unknown."""
        kind, places, means = _described(atoms)
        ends = np.floor([(means - TOLERANCE) / BIN, (means + TOLERANCE) / BIN]).T.tolist()
        nearest, found = TOLERANCE, None
        for bins in product(*(set(pair) for pair in ends)):
            for others, value in self._bins.get((kind, *bins), ()):
                distance = float(np.abs(others - places).max())
                if distance <= nearest and (found is None or distance < nearest):
                    nearest, found = distance, value
        return found


def _described(atoms: Atoms) -> tuple[bytes, Floats, Floats]:
    """Return what must be equal in the same frame, what may differ a little (Å), and weighted means of that."""
    places = np.concatenate([atoms.positions.ravel(), atoms.cell.array.ravel()])
    return atoms.numbers.tobytes() + atoms.pbc.tobytes(), places, _weights(len(places)) @ places


@lru_cache(maxsize=64)
def _weights(length: int) -> Floats:
    weights = np.random.default_rng(0).uniform(-1.0, 1.0, size=(N_MEANS, length))
    return np.asarray(weights / np.abs(weights).sum(axis=1, keepdims=True))


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
