"""What the user says about choosing frames and about stopping."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import Positive, StepParameters, parse_parameters
from aiida_mlip_al.selection.sanity import PhysicalLimits


class SelectParameters(StepParameters):
    """Trust levels, budget and choice of one iteration."""

    tolerance: Positive | None = Field(
        default=None, description='accepted largest force error, eV/Å: the lower level follows from it'
    )
    lower: Positive | None = Field(
        default=None, description='fixed lower level of the force deviation, eV/Å, instead of tolerance'
    )
    upper: Positive | None = Field(default=None, description='beyond this force deviation a frame is failed, eV/Å')
    coverage: float = Field(
        default=0.9, gt=0, lt=1, description='part of the errors that the calibrated bound must cover'
    )
    max_labels: int = Field(default=20, ge=1, description='labels of one iteration, audit included')
    label_budget: int | None = Field(default=None, ge=1, description='labels of the whole run, seeds included')
    audit_fraction: float = Field(
        default=0.05, ge=0, le=1, description='part of the labels spent on random accurate frames'
    )
    diversity: Literal['farthest_point', 'top', 'random'] = Field(
        default='farthest_point', description='order of the candidates'
    )
    duplicate_tolerance: float | None = Field(
        default=0.01, ge=0, description='descriptor distance below which frames are duplicates'
    )
    max_per_trajectory: int | None = Field(default=None, ge=1, description='most labels from one trajectory')
    max_force: Positive | None = Field(
        default=50.0, description='a frame with a larger predicted force is unphysical, eV/Å'
    )
    min_distance_fraction: float | None = Field(
        default=0.5,
        gt=0,
        lt=1,
        description='a frame with closer atoms is unphysical, as part of the sum of covalent radii',
    )
    volume_factor: float | None = Field(
        default=2.0, gt=1, description='a frame whose cell grew or shrank by more than this factor is unphysical'
    )
    angle_range: tuple[float, float] | None = Field(
        default=(30.0, 150.0), description='a frame whose cell angles leave this range is unphysical, degrees'
    )
    validation_fraction: float = Field(
        default=0.1, ge=0, lt=1, description='part of the new labels that is held out for validation'
    )

    @property
    def limits(self) -> PhysicalLimits:
        """What a frame may look like."""
        return PhysicalLimits(self.min_distance_fraction, self.max_force, self.volume_factor, self.angle_range)

    @model_validator(mode='after')
    def _levels(self) -> SelectParameters:
        if (self.tolerance is None) == (self.lower is None):
            raise ValueError("give either 'tolerance' or 'lower' (eV/Å)")
        if self.lower is not None and self.upper is not None and self.upper < self.lower:
            raise ValueError(f"'upper' ({self.upper}) must not be below 'lower' ({self.lower})")
        return self


class StopParameters(StepParameters):
    """When the loop ends."""

    max_iterations: int = Field(default=10, ge=1, description='iterations at most')
    max_labels: int | None = Field(default=None, ge=1, description='labels at most, seeds and validation included')
    accurate_fraction: float = Field(
        default=0.95, gt=0, le=1, description='part of the explored frames that must be accurate'
    )
    target_force_error: Positive | None = Field(
        default=None, description='force MAE on new labels that must be reached, eV/Å'
    )
    rounds: int = Field(default=2, ge=1, description='successive iterations in which the targets must be met')


class SeedRounds(StepParameters):
    """Seeding again, with other random numbers, until a committee trained on the seeds alone is good enough to explore."""

    max_rounds: int = Field(default=3, ge=1, description='rounds of seeding and labelling at most')
    target_force_error: Positive = Field(
        description="the seeds' committee must reach this force MAE on their validation frames, eV/Å"
    )


def validate_seed_rounds(values: dict[str, Any]) -> str | None:
    """Return one sentence on the first wrong setting, or None."""
    return _validate('seed_rounds', SeedRounds, values)


def validate_select(values: dict[str, Any]) -> str | None:
    """Return one sentence on the first wrong setting, or None."""
    return _validate('select', SelectParameters, values)


def validate_stop(values: dict[str, Any]) -> str | None:
    """Return one sentence on the first wrong setting, or None."""
    return _validate('stop', StopParameters, values)


def _validate(name: str, model: type[StepParameters], values: dict[str, Any]) -> str | None:
    try:
        parse_parameters(name, model, values)
    except ValueError as error:
        return str(error)
    return None
