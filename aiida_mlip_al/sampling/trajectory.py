"""Seeder ``trajectory``: take some of the frames of one trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from ase import Atoms
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import SeedResult, StepParameters, bare, make_record
from aiida_mlip_al.sampling.md import evenly_spaced


class TrajectoryParameters(StepParameters):
    """What is left out: first the beginning, then all but every n-th frame, then what exceeds the maximum."""

    every: int = Field(default=1, ge=1, description='keep each so many-th frame')
    discard_frames: int | None = Field(default=None, ge=1, description='frames left out at the beginning')
    discard_time_fs: float | None = Field(
        default=None, gt=0, description='leave out the frames before this time, fs; the first frame is at time 0'
    )
    timestep_fs: float | None = Field(
        default=None, gt=0, description="time between two incoming frames, fs; goes with 'discard_time_fs'"
    )
    max_frames: int | None = Field(
        default=None, ge=1, description='keep at most so many frames, evenly spread, the last one included'
    )

    @model_validator(mode='after')
    def _check(self) -> TrajectoryParameters:
        if self.discard_frames is not None and self.discard_time_fs is not None:
            raise ValueError("give 'discard_frames' or 'discard_time_fs', not both")
        if (self.discard_time_fs is None) != (self.timestep_fs is None):
            raise ValueError("'discard_time_fs' and 'timestep_fs' (between two incoming frames) go together")
        return self

    @property
    def n_discarded(self) -> int:
        """Frames left out at the beginning."""
        if self.discard_time_fs is not None and self.timestep_fs is not None:
            return ceil(self.discard_time_fs / self.timestep_fs - 1e-9)
        return self.discard_frames or 0

    def chosen(self, n_frames: int) -> list[int]:
        """Return which of so many frames are kept."""
        left = range(self.n_discarded, n_frames, self.every)
        return [left[index] for index in evenly_spaced(len(left), self.max_frames)]

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        return len(self.chosen(incoming))


def trajectory(structures: Sequence[Atoms], parameters: TrajectoryParameters, seed: int) -> SeedResult:
    """Keep some frames of the incoming structures, which are taken as one trajectory in its order.

    :param structures: frames of one trajectory; the records' ``source`` is the number of the frame in it.
    :param parameters: see the model.
    :param seed: only recorded.
    :raises ValueError: every frame would be left out.
    """
    chosen = parameters.chosen(len(structures))
    if structures and not chosen:
        msg = (
            f'trajectory: nothing is left of {len(structures)} frames when {parameters.n_discarded} are discarded; '
            'discard less, or run a longer trajectory'
        )
        raise ValueError(msg)
    return SeedResult(
        [bare(structures[source]) for source in chosen],
        [make_record('trajectory', parameters, seed, source) for source in chosen],
    )
