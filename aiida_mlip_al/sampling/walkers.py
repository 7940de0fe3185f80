"""Settings of the MD that samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Annotated, Any, Literal, TypeVar

from ase.data import atomic_numbers
from ase.formula import Formula
from pydantic import Field, NonNegativeInt, field_validator, model_validator

from aiida_mlip_al.sampling.base import Positive, StepParameters, parse_parameters

Descriptors = Literal['features', 'gradient']

Condition = Positive | Annotated[list[Positive], Field(min_length=1)]
Ends = Field(min_length=2, max_length=2)


class Dynamics(StepParameters):
    """How walkers move, and within which limits."""

    ensemble: Literal['nve', 'nvt', 'npt'] = Field(default='nvt', description='nve, nvt or npt')
    temperature: Condition = Field(default=300.0, description='K; each of a list is run')
    pressure: float | Annotated[list[float], Field(min_length=1)] | None = Field(
        default=None, description='GPa; each of a list is run; required with ensemble npt and only there'
    )
    steps: int = Field(default=2000, ge=1, description='MD steps of each walker after the equilibration')
    timestep_fs: float = Field(default=0.5, gt=0, le=10, description='time step, fs')
    equilibration: int = Field(default=0, ge=0, description='steps before the first recorded one')
    thermostat: Literal['langevin', 'bussi'] = Field(default='langevin', description='langevin or bussi')
    friction_per_fs: Positive = Field(default=0.01, description='Langevin friction, 1/fs')
    taut_fs: Positive = Field(default=100.0, description='time constant of the thermostat, fs')
    taup_fs: Positive = Field(default=1000.0, description='time constant of the barostat, fs')
    barostat_mask: Literal['isotropic'] | Annotated[list[bool], Field(min_length=3, max_length=3)] | None = Field(
        default=None, description='isotropic, or three booleans: the axes that may change; left out: the full cell'
    )
    min_distance_fraction: Positive = Field(
        default=0.5, description='stop when atoms are closer than this part of the radii sum'
    )
    max_temperature_factor: Positive = Field(
        default=5.0, description='stop above this multiple of the target temperature'
    )
    max_force: Positive = Field(default=100.0, description='stop above this force, eV/Å')

    @model_validator(mode='after')
    def _check_dynamics(self) -> Dynamics:
        if self.has_pressure != (self.ensemble == 'npt'):
            raise ValueError("'pressure' (GPa) goes with ensemble 'npt' and only with it")
        if isinstance(self.barostat_mask, list) and not any(self.barostat_mask):
            raise ValueError("'barostat_mask' lets no axis change: choose the ensemble 'nvt', or set an axis to true")
        return self

    @property
    def has_pressure(self) -> bool:
        """Whether a pressure is asked for."""
        return self.pressure is not None

    @property
    def temperatures(self) -> list[float]:
        """Every temperature, K."""
        return as_list(self.temperature)

    @property
    def pressures(self) -> list[float | None]:
        """Every pressure, GPa; one None without a barostat."""
        return as_list(self.pressure)


class DistanceLimit(StepParameters):
    """Two atoms that must stay within limits, such as those of a bond; the nearest image counts."""

    pair: Annotated[list[NonNegativeInt], Ends] = Field(description='the two atoms, counted from 0')
    min: float = Field(default=0.0, ge=0, description='a walker stops when they are closer, Å')
    max: Positive | None = Field(default=None, description='a walker stops when they are farther apart, Å')

    @model_validator(mode='after')
    def _check_limits(self) -> DistanceLimit:
        if self.pair[0] == self.pair[1]:
            raise ValueError(f"'pair' names atom {self.pair[0]} twice")
        if self.max is None and self.min == 0:
            raise ValueError("a distance limit needs 'min', 'max' or both")
        if self.max is not None and self.max <= self.min:
            raise ValueError(f"'max' ({self.max:g}) must be above 'min' ({self.min:g})")
        return self


class Bias(StepParameters):
    """A bias on collective variables that drives the walkers. Labels are of the plain energy: no bias ever is in them."""

    plumed: str | None = Field(default=None, description='input file of PLUMED')
    colvars: str | None = Field(default=None, description='input file of Colvars (engine lammps)')
    start_iteration: int = Field(default=1, ge=1, description='iterations before this one are not biased')

    @model_validator(mode='after')
    def _one_program(self) -> Bias:
        if (self.plumed is None) == (self.colvars is None):
            raise ValueError("give either 'plumed' or 'colvars', an input file")
        return self

    @property
    def program(self) -> str:
        """The program that reads the input: plumed or colvars."""
        return 'plumed' if self.plumed is not None else 'colvars'

    @property
    def file(self) -> str:
        """Its input file."""
        return str(self.plumed or self.colvars)


class UncertaintyBias(StepParameters):
    """A bias towards structures on whose energy the committee disagrees. Labels are of the plain energy.

    The energy is that of the first model minus tau times the standard deviation of the members' energies, as in hyperactive
    learning (van der Oord et al., npj Comput. Mater. 9, 168 (2023)); tau follows from the ratio of the forces. Every step
    then costs a pass of all members.
    """

    ratio: float = Field(
        default=0.25, gt=0, le=1, description="mean force of the bias over the mean force of the model: tau's measure"
    )
    memory: int = Field(default=100, ge=1, description='steps over which these means are taken')
    max_force: Positive = Field(default=2.0, description='no atom feels more of the bias than this, eV/Å')
    start_iteration: int = Field(default=1, ge=1, description='iterations before this one are not biased')


E = TypeVar('E', bound='ExploreSettings')


class ExploreSettings(Dynamics):
    """An exploration with any engine: dynamics, walkers, and how the committee watches itself."""

    temperature_ramp: Annotated[list[Positive], Ends] | None = Field(
        default=None, description='K at the start and at the end; replaces temperature'
    )
    pressure_ramp: Annotated[list[float], Ends] | None = Field(
        default=None, description='GPa at the start and at the end; replaces pressure'
    )
    walkers: int = Field(default=1, ge=1, description='independent trajectories, spread over structures and conditions')
    check_interval: int = Field(default=10, ge=1, description='steps between evaluations of the whole committee')
    stride: int | None = Field(default=None, ge=1, description='steps between recorded frames; default: check_interval')
    upper: Positive | None = Field(default=None, description='stop a walker above this force deviation, eV/Å')
    dtype: Literal['float32', 'float64'] = Field(default='float32', description='precision of the models')
    distance_limits: list[DistanceLimit] = Field(
        default_factory=list, description='pairs of atoms that must stay within limits'
    )
    descriptors: Descriptors = Field(
        default='features', description='what frames are described by; set by `select: {descriptors: …}`'
    )
    bias: Bias | None = Field(default=None, description='a bias on collective variables')
    systems: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description='what differs for the structures of a composition, such as `{Cu: {temperature: 900, walkers: 4}}`: dynamics, '
        'conditions, distance_limits, walkers',
    )

    @field_validator('systems')
    @classmethod
    def _reduce_formulas(cls, systems: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        reduced = {formula: reduced_formula(formula) for formula in systems}
        for formula, other in combinations(reduced, 2):
            if reduced[formula] == reduced[other]:
                raise ValueError(
                    f"'{formula}' and '{other}' are one system: structures count as one that have the same composition"
                )
        return {reduced[formula]: changes for formula, changes in systems.items()}

    @model_validator(mode='after')
    def _check_systems(self) -> ExploreSettings:
        for formula, changes in self.systems.items():
            unknown = sorted(set(changes) - SYSTEM_KEYS)
            if unknown:
                raise ValueError(
                    f"'{unknown[0]}' cannot differ from system to system; what can is {', '.join(sorted(SYSTEM_KEYS))}"
                )
            self.of_system(formula)
        return self

    def of_system(self: E, formula: str) -> E:
        """Return the settings for structures of a composition.

        :param formula: from :func:`reduced_formula`.
        """
        changes = self.systems.get(formula, {})
        # A condition in the place of a ramp, and a ramp in the place of a condition.
        replaced = {f'{name}_ramp' for name in ('temperature', 'pressure') if name in changes}
        own = self.model_dump(exclude={'systems', *replaced})
        return parse_parameters(f'system {formula}', type(self), {**own, **changes})

    @model_validator(mode='after')
    def _check_stride(self) -> ExploreSettings:
        if self.stride is not None and self.stride % self.check_interval:
            raise ValueError(f"'stride' ({self.stride}) must be a multiple of 'check_interval' ({self.check_interval})")
        if self.recorded_every > self.steps:
            name = 'check_interval' if self.stride is None else 'stride'
            raise ValueError(
                f"'{name}' ({self.recorded_every}) must not exceed 'steps' ({self.steps}), or no frame is recorded"
            )
        return self

    @property
    def recorded_every(self) -> int:
        """Steps between recorded frames."""
        return self.stride or self.check_interval

    @property
    def has_pressure(self) -> bool:
        """Whether a pressure is asked for."""
        return self.pressure is not None or self.pressure_ramp is not None

    @property
    def job_size(self) -> int:
        """Walkers in one job."""
        return 1


SYSTEM_KEYS = {*Dynamics.model_fields, 'temperature_ramp', 'pressure_ramp', 'distance_limits', 'walkers'}


def reduced_formula(formula: str | Sequence[str]) -> str:
    """Return the composition in Hill order, the same for a cell and its supercells.

    :param formula: of the structure, or its symbols.
    :raises ValueError: if it is no formula.
    """
    try:
        made = Formula(formula) if isinstance(formula, str) else Formula.from_list(list(formula))
        unknown = set(made.count()) - set(atomic_numbers)
    except ValueError:
        unknown = {str(formula)}
    if unknown:
        raise ValueError(f"'{formula}' is no chemical formula")
    return str(made.reduce()[0].format('hill'))


class AseExploreSettings(ExploreSettings):
    """An exploration with ASE."""

    walkers_per_job: int = Field(default=16, ge=1, description='trajectories that advance together in one job')
    stress_deviation: bool = Field(
        default=False,
        description="record the committee's disagreement on the stress; set by `select: {measure: stress}`",
    )
    processes: int = Field(
        default=1,
        ge=1,
        description='processes among which the walkers of a job are divided, each with a GPU of its own',
    )
    uncertainty_bias: UncertaintyBias | None = Field(
        default=None, description='a bias towards structures on whose energy the committee disagrees'
    )

    @model_validator(mode='after')
    def _check_bias(self) -> AseExploreSettings:
        if self.bias is not None and self.bias.program != 'plumed':
            raise ValueError("the engine 'ase' is biased by 'plumed'; 'colvars' is of the engine 'lammps'")
        if self.uncertainty_bias is not None:
            if self.ensemble == 'npt':
                raise ValueError("'uncertainty_bias' has no stress: choose the ensemble nvt or nve")
            if self.bias is not None:
                raise ValueError("give 'bias' or 'uncertainty_bias', not both")
        return self

    @property
    def job_size(self) -> int:
        """Walkers in one job."""
        return self.walkers_per_job


DYNAMICS_KEYS = (
    'ensemble',
    'thermostat',
    'friction_per_fs',
    'taut_fs',
    'taup_fs',
    'barostat_mask',
    'timestep_fs',
    'steps',
    'equilibration',
    'min_distance_fraction',
    'max_temperature_factor',
    'max_force',
)


def dynamics_of(settings: Dynamics, stride: int) -> dict[str, Any]:
    """Return what the runners call dynamics; `distance_limits` is there only if there are any.

    :param stride: steps between recorded frames.
    """
    dynamics = {**{key: getattr(settings, key) for key in DYNAMICS_KEYS}, 'stride': stride}
    limits = settings.distance_limits if isinstance(settings, ExploreSettings) else []
    return {**dynamics, 'distance_limits': [limit.model_dump() for limit in limits]} if limits else dynamics


def check_of(settings: AseExploreSettings, iteration: int) -> dict[str, Any]:
    """Return how the committee watches the walkers of an iteration, and whether it biases them.

    :param iteration: of the loop, from 1.
    """
    check: dict[str, Any] = {key: getattr(settings, key) for key in ('check_interval', 'upper', 'dtype')}
    if settings.processes > 1:
        check['processes'] = settings.processes
    if settings.stress_deviation:
        check['stress_deviation'] = True
    if settings.descriptors != 'features':
        check['descriptors'] = settings.descriptors
    bias = settings.uncertainty_bias
    if bias is not None and iteration >= bias.start_iteration:
        check['uncertainty_bias'] = bias.model_dump(exclude={'start_iteration'})
    return check


def as_list(value: Any) -> list[Any]:
    """Return a list of one for a single value."""
    return list(value) if isinstance(value, list) else [value]
