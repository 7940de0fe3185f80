"""Step ``relax``: relaxation of atoms and cell at the label level, or with any calculator. It is a job, run by the work chain."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from aiida_mlip_al.sampling.base import Axes, Positive, StepParameters

Strain = tuple[bool, bool, bool, bool, bool, bool]


class Relaxation(StepParameters):
    """How atoms and cell are relaxed, and when they count as relaxed."""

    fmax: Positive = Field(
        default=0.02,
        description='largest force on an atom, eV/Å; of a free cell also the largest stress times volume per atom, eV',
    )
    max_steps: int = Field(default=500, ge=1, description='steps of the optimiser before the relaxation has failed')
    optimizer: Literal['FIRE', 'BFGS', 'LBFGS'] = Field(
        default='FIRE',
        description='FIRE, which rough starts and noisy forces do not mislead; BFGS or LBFGS, with fewer steps',
    )
    cell: Literal['none', 'full', 'isotropic'] | Strain = Field(
        default='none',
        description="what of the cell changes within its periodic directions: 'none', 'full', 'isotropic', or which of the "
        'strains xx yy zz yz xz xy',
    )
    pressure_GPa: float = Field(default=0.0, description='external pressure, GPa; for crystals with a free cell')
    periodic: Axes | None = Field(
        default=None, description="periodic directions, if the structure's pbc claims too many"
    )
    min_distance_fraction: Positive = Field(
        default=0.5, description='a result with closer atoms is a failure, as part of the radii sum'
    )
    keep_unconverged: bool = Field(
        default=False, description='go on with structures that max_steps did not relax, instead of an error'
    )

    @model_validator(mode='after')
    def _check_cell(self) -> Relaxation:
        if isinstance(self.cell, tuple) and not any(self.cell):
            raise ValueError("'cell' frees none of the six strains; say 'none'")
        if self.pressure_GPa != 0 and self.cell == 'none':
            raise ValueError("'pressure_GPa' needs a 'cell' that may change, such as 'full'")
        return self


class RelaxStep(Relaxation):
    """Every structure is replaced by the nearest minimum of its energy."""

    calculator: str | None = Field(
        default=None, description="ASE calculator as 'module:name'; left out, the engine that makes the labels"
    )
    arguments: dict[str, Any] | None = Field(default=None, description='keyword arguments of the calculator')

    @field_validator('calculator')
    @classmethod
    def _import_path(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r'[\w.]+:[\w.]+', value):
            raise ValueError("must read 'module:name', such as 'tblite.ase:TBLite'")
        return value

    @model_validator(mode='after')
    def _check_arguments(self) -> RelaxStep:
        if self.arguments is not None and self.calculator is None:
            raise ValueError("'arguments' need a 'calculator'")
        return self


def relaxation_of(step: Relaxation) -> dict[str, Any]:
    """Return what the job calls its settings: everything but the calculator.

    :param step: the step.
    """
    return step.model_dump(mode='json', include=set(Relaxation.model_fields))
