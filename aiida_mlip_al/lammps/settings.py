"""What may be said about an exploration with LAMMPS."""

from __future__ import annotations

from typing import Annotated, Literal

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from aiida_mlip_al.sampling.base import Positive, StepParameters
from aiida_mlip_al.sampling.walkers import Ends, ExploreSettings

Axis = Literal['x', 'y', 'z', 'xy', 'xz', 'yz']
PairStyle = Literal['committee', 'mliap', 'mace', 'symmetrix']


class Minimize(StepParameters):
    """A minimisation of the energy before the dynamics."""

    force_tolerance: Positive = Field(default=0.05, description='it ends below this norm of all forces, eV/Å')
    max_steps: int = Field(default=200, ge=1, description='and after so many steps')


class Swap(StepParameters):
    """Monte Carlo exchange of atoms of two elements (`fix atom/swap`)."""

    elements: Annotated[list[str], Ends] = Field(description='the two elements')
    every: int = Field(default=100, ge=1, description='MD steps between exchanges')
    attempts: int = Field(default=10, ge=1, description='exchanges tried each time')
    temperature: Positive | None = Field(default=None, description="K; left out: the walker's own at the start")

    @field_validator('elements')
    @classmethod
    def _known_elements(cls, value: list[str]) -> list[str]:
        wrong = [symbol for symbol in value if symbol not in atomic_numbers]
        if wrong or value[0] == value[1]:
            raise ValueError(f'give two elements, not {" and ".join(value)}')
        return value


class LammpsExploreSettings(ExploreSettings):
    """An exploration with LAMMPS: what it has beyond that with ASE."""

    thermostat: Literal['langevin', 'nose-hoover', 'csvr'] = Field(  # type: ignore[assignment]
        default='langevin', description='langevin, nose-hoover or csvr'
    )
    pair_style: PairStyle = Field(
        default='committee',
        description='committee: lmp-mace, which checks the deviation in the run; mliap, mace or symmetrix: a native LAMMPS '
        'with one model, the deviation is evaluated after the run',
    )
    minimize: Minimize | None = Field(default=None, description='minimise first; `{}`: with the defaults')
    remove_drift: bool = Field(default=True, description='keep the total momentum at zero (`fix momentum`)')
    strain_rate: dict[Axis, float] = Field(
        default_factory=dict, description='engineering strain rate of axes, 1/ps (`fix deform`), such as `{z: 0.01}`'
    )
    swaps: list[Swap] = Field(default_factory=list, description='Monte Carlo exchanges of atoms in alloys')
    wrap: bool = Field(default=False, description='wrap the positions into the cell; otherwise atoms move on')
    restart_interval: int | None = Field(
        default=None, ge=1, description='steps between restart files; left out: a tenth of all'
    )
    arguments: list[str] = Field(
        default_factory=list, description='further arguments of LAMMPS, such as `[-k, on, g, 1, -sf, kk]`'
    )
    before_run: str = Field(default='', description="LAMMPS' own commands before the run, such as `fix wall all …`")
    after_run: str = Field(default='', description="LAMMPS' own commands after the run")

    @model_validator(mode='after')
    def _check_lammps(self) -> LammpsExploreSettings:
        free = {'x', 'y', 'z'} if self.barostat_mask in (None, 'isotropic') else set()
        if isinstance(self.barostat_mask, list):
            free = {axis for axis, moves in zip('xyz', self.barostat_mask, strict=True) if moves}
        elif self.barostat_mask is None:
            free |= {'xy', 'xz', 'yz'}
        both = sorted(free & set(self.strain_rate)) if self.ensemble == 'npt' else []
        if both:
            raise ValueError(f"the axis {both[0]} cannot follow both 'pressure' and 'strain_rate': see 'barostat_mask'")
        return self

    @property
    def in_run(self) -> bool:
        """Whether the program checks the deviation during the run."""
        return self.pair_style == 'committee'

    @property
    def last_step(self) -> int:
        """The last MD step."""
        return self.equilibration + self.steps
