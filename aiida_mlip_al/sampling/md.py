"""Step ``md``: molecular dynamics at the label level, or with any calculator. It is a job, run by the work chain."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypedDict

import numpy as np
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import Positive, stream_seed
from aiida_mlip_al.sampling.walkers import Dynamics, Ends


class MdStep(Dynamics):
    """One trajectory for every structure, temperature, pressure and walker."""

    every: int = Field(default=100, ge=1, description='steps between kept frames')
    walkers_per_structure: int = Field(
        default=1, ge=1, description='trajectories with other velocities for each condition'
    )
    calculator: str | None = Field(
        default=None,
        description="ASE calculator as 'module:name'; left out, the engine that makes the labels",
    )
    arguments: dict[str, Any] | None = Field(default=None, description='keyword arguments of the calculator')
    vasp: str | None = Field(
        default=None,
        min_length=1,
        description='a level of theory of VASP by its name; each walker is then a run of VASP',
    )
    reuse_labels: bool = Field(
        default=False,
        description="with 'vasp': what the MD has computed for a frame is its label; needs the level of theory of the labels",
    )
    temperature_ramp: Annotated[list[Positive], Ends] | None = Field(
        default=None, description='K after the equilibration and at the end; replaces temperature'
    )
    frames: int | None = Field(default=None, ge=1, description='keep at most so many frames, evenly spread over all')

    @model_validator(mode='after')
    def _check_frames(self) -> MdStep:
        if self.every > self.steps:
            raise ValueError(f"'every' ({self.every}) must not exceed 'steps' ({self.steps}), or no frame is kept")
        if self.calculator is not None and not re.fullmatch(r'[\w.]+:[\w.]+', self.calculator):
            raise ValueError(
                f"'calculator' must read 'module:name', such as 'tblite.ase:TBLite', got {self.calculator!r}"
            )
        if self.arguments is not None and self.calculator is None:
            raise ValueError("'arguments' need a 'calculator'")
        if self.vasp is not None:
            self._check_vasp()
        elif self.reuse_labels:
            raise ValueError("'reuse_labels' is for MD by VASP at the level of theory of the labels")
        return self

    def _check_vasp(self) -> None:
        if self.calculator is not None:
            raise ValueError("give 'calculator' or 'vasp', not both")
        if self.thermostat != 'langevin':
            raise ValueError("with 'vasp' the thermostat is 'langevin'")
        if self.barostat_mask == 'isotropic':
            raise ValueError("with 'vasp', 'barostat_mask' is three booleans: VASP changes the shape of the cell too")
        if self.reuse_labels and self.ensemble == 'npt':
            raise ValueError(
                "'reuse_labels' is not for ensemble 'npt': VASP keeps the plane waves and k-points of the first cell, so that "
                'the frames are of another level of theory'
            )

    @property
    def conditions(self) -> list[float | list[float]]:
        """Every temperature, K, or the one ramp."""
        return [self.temperature_ramp] if self.temperature_ramp is not None else [*self.temperatures]

    def walkers(self, incoming: int) -> int:
        """Return how many trajectories start from so many structures."""
        return incoming * len(self.conditions) * len(self.pressures) * self.walkers_per_structure

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        n_frames = self.walkers(incoming) * (self.steps // self.every)
        return n_frames if self.frames is None else min(n_frames, self.frames)


class Walker(TypedDict):
    """One trajectory to run: start structure, conditions and seed of its velocities and thermostat."""

    structure: int
    temperature_K: float | list[float]
    pressure_GPa: float | None
    seed: int


def md_walkers(parameters: MdStep, n_structures: int, seed: int) -> list[Walker]:
    """Every trajectory of an MD step, ordered by structure, temperature, pressure, walker.

    :param parameters: the step.
    :param n_structures: structures to start from.
    :param seed: of the step; each walker gets a seed of its own, which more walkers, temperatures or structures do not
        change.
    """
    return [
        {
            'structure': structure,
            'temperature_K': temperature,
            'pressure_GPa': pressure,
            'seed': stream_seed(seed, 'md', structure, i, j, walker),
        }
        for structure in range(n_structures)
        for i, temperature in enumerate(parameters.conditions)
        for j, pressure in enumerate(parameters.pressures)
        for walker in range(parameters.walkers_per_structure)
    ]


def evenly_spaced(n_frames: int, maximum: int | None) -> list[int]:
    """Indices of at most so many frames, evenly spread, the last one included.

    :param n_frames: frames there are.
    :param maximum: frames wanted at most; None for all.
    """
    if maximum is None or maximum >= n_frames:
        return list(range(n_frames))
    last = np.arange(1, maximum + 1) * n_frames // maximum
    return [int(index) - 1 for index in last]
