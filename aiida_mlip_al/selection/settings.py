"""What the user says about choosing frames and about stopping."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import Positive, StepParameters, parse_parameters
from aiida_mlip_al.sampling.walkers import Descriptors
from aiida_mlip_al.selection.levels import Conformal, Fixed, LevelRule, LevelRules
from aiida_mlip_al.selection.measure import MeasureName
from aiida_mlip_al.selection.sanity import PhysicalLimits
from aiida_mlip_al.selection.select import Diversity, Share, Strata


class SelectParameters(StepParameters):
    """Trust levels, budget and choice of one iteration."""

    measure: MeasureName = Field(default='max', description='number of a frame that is compared with the levels')
    tolerance: Positive | None = Field(
        default=None, description='accepted largest force error, eV/Å: the lower level follows from it'
    )
    lower: Positive | None = Field(
        default=None, description='fixed lower level instead, in the unit of the measure (eV/Å)'
    )
    upper: Positive | None = Field(
        default=None, description='beyond this level, in the unit of the measure (eV/Å), a frame is failed'
    )
    levels: LevelRules | None = Field(
        default=None, description='another rule for the lower level; `tolerance` is then what the audit is held against'
    )
    coverage: float = Field(
        default=0.9, gt=0, lt=1, description='part of the errors that the calibrated bound must cover'
    )
    max_labels: int = Field(default=20, ge=1, description='labels of one iteration, audit included')
    label_budget: int | None = Field(default=None, ge=1, description='labels of the whole run, seeds included')
    audit_fraction: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description='part of the labels spent on random accurate frames; all of them only if it is 1',
    )
    diversity: Diversity = Field(default='largest_cluster', description='order of the candidates')
    descriptors: Descriptors = Field(default='features', description='what frames are compared by')
    strata: Strata = Field(default='deviation', description='what `stratified` takes in turn')
    min_rmsd: Positive = Field(default=0.05, description='molecules closer than this are alike for `rmsd`, Å')
    exclude_hydrogen: bool = Field(
        default=True, description='`rmsd` compares the other atoms, if there are at least three'
    )
    duplicate_tolerance: float | None = Field(
        default=0.01, ge=0, description='descriptor distance below which frames are duplicates'
    )
    max_per_trajectory: Share = Field(
        default=None, description='most candidates from one trajectory; fair: an even share'
    )
    max_per_system: Share = Field(
        default=None, description='most candidates with the same atoms in the same order; fair: an even share'
    )
    max_per_composition: Share = Field(
        default=None, description='most candidates of the same reduced formula; fair: an even share'
    )
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

    @property
    def level_rule(self) -> LevelRule:
        """How the lower level is found."""
        if self.levels is not None:
            return self.levels.rule
        return Conformal(coverage=self.coverage) if self.lower is None else Fixed(lower=self.lower)

    @model_validator(mode='after')
    def _levels(self) -> SelectParameters:
        if self.levels is not None and self.lower is not None:
            raise ValueError("give either 'lower' or a rule under 'levels'")
        if self.levels is None and (self.tolerance is None) == (self.lower is None):
            raise ValueError("give either 'tolerance' or 'lower' (eV/Å), or a rule under 'levels'")
        if self.levels is not None and self.levels.error_fit is not None and self.tolerance is None:
            raise ValueError("the rule 'error_fit' needs 'tolerance' (eV/Å)")
        if self.tolerance is not None and self.max_force is not None and self.tolerance >= self.max_force:
            raise ValueError(
                f"'tolerance' ({self.tolerance}) must be below 'max_force' ({self.max_force}), the largest force that a frame may "
                'have: both are in eV/Å'
            )
        if self.lower is not None and self.upper is not None and self.upper < self.lower:
            raise ValueError(f"'upper' ({self.upper}) must not be below 'lower' ({self.lower})")
        return self

    @model_validator(mode='after')
    def _limits(self) -> SelectParameters:
        _ = self.limits
        return self


class PropertyGate(StepParameters):
    """How much the properties that a committee predicts for the given structures may differ from those of the committee before.

    A property whose tolerance is left out is not computed. All are those of the committee's mean.
    """

    volume: Positive | None = Field(
        default=None, description='relative change of the equilibrium volume; of periodic crystals'
    )
    bulk_modulus: Positive | None = Field(
        default=None, description='relative change of the bulk modulus; of periodic crystals'
    )
    frequencies: Positive | None = Field(
        default=None, description='root-mean-square change of the harmonic frequencies of the relaxed structure, THz'
    )
    rdf: float | None = Field(
        default=None, gt=0, lt=1, description='change of the pair distances in MD: 0 for the same, 1 for none in common'
    )
    drift: Positive | None = Field(
        default=None, description='drift of the total energy in MD at constant energy, meV/atom/ps; not a change'
    )
    temperature: Positive = Field(default=300.0, description='of the MD, K')
    steps: int = Field(default=2000, ge=10, description='of the MD, after a tenth of them to equilibrate')
    timestep_fs: float = Field(default=0.5, gt=0, le=10, description='of the MD, fs')

    @model_validator(mode='after')
    def _something_to_compare(self) -> PropertyGate:
        if not self.tolerances:
            raise ValueError(f'give a tolerance for at least one of {", ".join(_PROPERTIES)}')
        return self

    @property
    def tolerances(self) -> dict[str, float]:
        """The tolerances that are given, by property."""
        return {name: value for name in _PROPERTIES if (value := getattr(self, name)) is not None}

    def job_settings(self) -> dict[str, Any]:
        """Return what the property job is to compute: the same for any tolerances."""
        wanted = set(self.tolerances)
        return {
            'equation_of_state': bool(wanted & {'volume', 'bulk_modulus'}),
            'frequencies': 'frequencies' in wanted,
            'dynamics': {'temperature_K': self.temperature, 'steps': self.steps, 'timestep_fs': self.timestep_fs}
            if wanted & {'rdf', 'drift'}
            else None,
        }


_PROPERTIES = ('volume', 'bulk_modulus', 'frequencies', 'rdf', 'drift')


class StopParameters(StepParameters):
    """When the loop ends: limits of what it may use, and targets for what it must reach. Null asks for nothing."""

    max_iterations: int = Field(default=10, ge=1, description='limit: iterations at most')
    max_labels: int | None = Field(
        default=None, ge=1, description='limit: labels at most, seeds and validation included'
    )
    max_core_hours: Positive | None = Field(
        default=None, description='limit: core-hours at most, as the jobs report them'
    )
    max_hours: Positive | None = Field(
        default=None, description='limit: hours at most since the run began, looked at when an iteration is done'
    )
    accurate_fraction: float | None = Field(
        default=0.95, gt=0, le=1, description='target: part of the explored frames that must be accurate'
    )
    target_force_error: Positive | None = Field(
        default=None, description='target: force MAE on new labels that must be reached, eV/Å'
    )
    test_force_error: Positive | None = Field(
        default=None, description='target: force MAE on the test set that must be reached, eV/Å'
    )
    level_drift: Positive | None = Field(
        default=None,
        description='target: the lower level must change by less from one iteration to the next, in its unit (eV/Å)',
    )
    false_negative_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description='target: part of the frames called accurate that may be wrong, at most, by the audit',
    )
    confidence: float = Field(
        default=0.95, gt=0, lt=1, description="of the two-sided interval of the audit's false-negative rate"
    )
    properties: PropertyGate | None = Field(
        default=None, description='target: properties that must no longer change, with their tolerances'
    )
    require: Literal['all', 'any'] = Field(
        default='all', description='whether all targets that are given must be met, or any one of them'
    )
    rounds: int = Field(default=2, ge=1, description='successive iterations in which the targets must be met')
    min_gain: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description='end when the labels left in `max_labels` would lower the error by a smaller part than this',
    )
    gain_rounds: int = Field(default=4, ge=3, description='last iterations that the learning curve is fitted to')

    @model_validator(mode='after')
    def _gain_of_a_budget(self) -> StopParameters:
        if self.min_gain is not None and self.max_labels is None:
            raise ValueError("'min_gain' needs 'max_labels': it asks what the labels that are left would bring")
        needed = self.gain_rounds + self.rounds - 1
        if self.min_gain is not None and needed > self.max_iterations:
            raise ValueError(
                f"'min_gain' takes {needed} iterations ('gain_rounds' + 'rounds' - 1), but 'max_iterations' is "
                f'{self.max_iterations}: raise it, ask for fewer rounds, or leave it out'
            )
        return self


def stop_conflict(stop: StopParameters, select: SelectParameters) -> str | None:
    """Return one sentence on a target that the selection gives no number for, or None.

    :param stop: what is asked for.
    :param select: how frames are chosen.
    """
    targets = (
        'accurate_fraction',
        'target_force_error',
        'test_force_error',
        'level_drift',
        'false_negative_rate',
        'properties',
    )
    if stop.require == 'any' and all(getattr(stop, name) is None for name in targets):
        return f"stop: 'require: any' needs at least one target: give one of {', '.join(targets)}"
    if stop.level_drift is not None and isinstance(select.level_rule, Fixed):
        return "stop: 'level_drift' looks at a lower level that moves, but 'select' fixes it"
    if stop.false_negative_rate is not None and select.tolerance is None:
        return "stop: 'false_negative_rate' needs select.tolerance, which says from where on a frame is wrong"
    if stop.false_negative_rate is not None and not select.audit_fraction:
        return "stop: 'false_negative_rate' needs a select.audit_fraction above 0"
    return None


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
