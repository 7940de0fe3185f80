"""What may stand in an input file."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from ase.data import atomic_numbers
from pydantic import Field, ValidationError, field_validator, model_validator

from aiida_mlip_al.lammps.settings import LammpsExploreSettings
from aiida_mlip_al.sampling import SEEDERS, job_positions, validate_steps
from aiida_mlip_al.sampling.base import Positive
from aiida_mlip_al.sampling.pool import PoolSettings
from aiida_mlip_al.sampling.steps import JOB_STEPS
from aiida_mlip_al.sampling.walkers import AseExploreSettings, ExploreSettings
from aiida_mlip_al.selection.settings import SeedRounds, SelectParameters, StopParameters, stop_conflict

from .errors import sentence
from .resources import StageResources
from .section import Section
from .shell import ShellLabels
from .vasp import VaspLabels, VaspLevel

STAGES = ('seed', 'label', 'train', 'explore', 'evaluate')
Chains = dict[str, list[dict[str, Any]]]
LABEL_ENGINES = ('ase', 'shell', 'vasp', 'pool')
EXPLORE_ENGINES = ('ase', 'lammps', 'pool')
# The name of the level of theory of the labels, for steps that VASP runs at it.
LABEL_LEVEL = 'label'
IMPORT_PATH = r'^[\w.]+:[\w.]+$'


class AseLabels(Section):
    """Labels by an ASE calculator."""

    calculator: str = Field(
        pattern=IMPORT_PATH, description='import path of an ASE calculator, such as `tblite.ase:TBLite`, or its name'
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description='keyword arguments of the calculator')
    files: list[str] = Field(default_factory=list, description='files that the calculator reads, put into the job')
    theory: str | None = Field(default=None, description='name of the level of theory, for people')
    max_force: Positive = Field(default=50.0, description='a label with a larger force is rejected, eV/Å')
    min_distance_fraction: Positive = Field(
        default=0.5, description='closer atoms are rejected, as part of the radii sum'
    )
    timeout_s: Positive | None = Field(default=None, description='time limit of one structure, s')
    periodic: tuple[bool, bool, bool] | None = Field(
        default=None,
        description='directions whose stress counts, if the pbc of the structures claims too many; left out: their pbc',
    )
    batch_size: int = Field(default=20, ge=1, description='structures in one job')


class NamedCalculator(Section):
    """A calculator with a name, for `labels` or for the steps of `seed`: one level of theory."""

    calculator: str | None = Field(default=None, pattern=IMPORT_PATH, description='import path of an ASE calculator')
    vasp: VaspLevel | None = Field(default=None, description='or a level of theory of VASP, for `md`')
    arguments: dict[str, Any] = Field(default_factory=dict, description='keyword arguments of the calculator')
    files: list[str] = Field(
        default_factory=list, description='files or nodes (PK, UUID) that the calculator reads, put into the job'
    )
    theory: str | None = Field(default=None, description='name of the level of theory, for people')

    @model_validator(mode='after')
    def _one_kind(self) -> NamedCalculator:
        if (self.calculator is None) == (self.vasp is None):
            raise ValueError('give either `calculator`, an import path, or `vasp`')
        if self.vasp is not None and (self.arguments or self.files or self.theory):
            raise ValueError('`arguments`, `files` and `theory` are of ASE calculators, not of `vasp`')
        return self


class PoolLabels(Section):
    """Labels that exist, in the data sets that an exploration chooses from."""

    batch_size: ClassVar[int] = 1_000_000  # all are looked up at once


class Labels(Section):
    """How structures are labelled."""

    ase: AseLabels | None = Field(
        default=None, description='any ASE calculator, such as `{calculator: tblite.ase:TBLite}`'
    )
    shell: ShellLabels | None = Field(default=None, description='any executable, such as `{command: my_program}`')
    vasp: VaspLabels | None = Field(
        default=None, description='VASP, such as `{code: vasp@cluster, potential_family: PBE.54}`'
    )
    pool: PoolLabels | None = Field(
        default=None, description='those of the data sets of `explore.pool`: `{}`; nothing is computed'
    )
    max_failed_fraction: float = Field(
        default=0.3, ge=0, le=1, description='the run stops when more structures get no label'
    )
    min_label_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description='training begins when all structures are sent and so many are labelled; late labels join later',
    )
    max_concurrent: int = Field(default=2, ge=1, description='jobs in flight at the same time')

    @model_validator(mode='after')
    def _one_engine(self) -> Labels:
        given = [name for name in LABEL_ENGINES if getattr(self, name) is not None]
        if len(given) != 1:
            described = ' or '.join(f'`{name}` ({type(self).model_fields[name].description})' for name in LABEL_ENGINES)
            raise ValueError(f'give one engine, {described}; {len(given)} are given')
        return self

    @property
    def batch_size(self) -> int:
        """Structures in one job."""
        return next(engine.batch_size for name in LABEL_ENGINES if (engine := getattr(self, name)) is not None)


class MaceSettings(Section):
    """One MACE training; the names are mace_run_train's own where it has one."""

    gradient_steps: int = Field(default=1000, ge=1, description='optimiser steps of a training from scratch')
    final_lr_fraction: float | None = Field(
        default=None, gt=0, le=1, description='the learning rate decays to this part of `lr`'
    )
    stage_two_fraction: float | None = Field(
        default=None, gt=0, lt=1, description='where stage two starts; left out: never'
    )
    choose_epoch: Literal['last', 'best'] = Field(
        default='last', description='whose weights the model gets; best: that with the smallest validation loss'
    )
    bootstrap: float | None = Field(
        default=None, gt=0, le=1, description='part of the training frames drawn with replacement'
    )
    model: Literal['MACE', 'ScaleShiftMACE'] = Field(default='ScaleShiftMACE', description='architecture')
    r_max: Positive = Field(default=5.0, description='cutoff radius, Å')
    num_channels: int = Field(default=32, ge=1, description='channels of the node features')
    max_L: int = Field(default=0, ge=0, le=3, description='highest order of the equivariant messages')
    max_ell: int = Field(default=3, ge=0, le=4, description='highest order of the spherical harmonics')
    correlation: int = Field(default=3, ge=1, le=4, description='body order of the products')
    num_interactions: int = Field(default=2, ge=1, le=4, description='message-passing layers')
    num_radial_basis: int = Field(default=8, ge=1, description='radial basis functions')
    batch_size: int = Field(default=5, ge=1, description='frames of one optimiser step')
    valid_batch_size: int = Field(default=32, ge=1, description='frames of one validation pass')
    eval_interval: int = Field(default=1, ge=1, description='epochs between validations')
    lr: Positive = Field(default=0.01, description='learning rate')
    loss: Literal['auto', 'weighted', 'stress', 'universal', 'forces_only', 'huber'] = Field(
        default='auto', description='loss function; auto: with stress if the labels have it'
    )
    energy_weight: float = Field(default=1.0, ge=0, description='weight of the energies')
    forces_weight: float = Field(default=100.0, ge=0, description='weight of the forces')
    stress_weight: float = Field(default=500.0, ge=0, description='weight of the stresses; 100 or more to learn them')
    ema: bool = Field(default=True, description='average the weights over the steps')
    ema_decay: float = Field(default=0.99, gt=0, lt=1, description='decay of that average')
    amsgrad: bool = Field(default=True, description='AMSGrad variant of Adam')
    weight_decay: float = Field(default=5e-7, ge=0, description='weight decay')
    clip_grad: float = Field(default=10.0, gt=0, description='gradient clipping')
    default_dtype: Literal['float32', 'float64'] = Field(default='float64', description='precision of the training')
    extra: dict[str, Any] = Field(
        default_factory=dict, description='further arguments of mace_run_train, by its own names'
    )


class MaceTraining(MaceSettings):
    """A committee of MACE models."""

    members: int = Field(default=4, ge=1, description='models of the committee')
    min_members: int = Field(default=2, ge=1, description='the committee goes on with at least so many good models')
    warm_start: dict[str, Any] | None = Field(
        default=None,
        description='keys that differ when a member starts from its predecessor; left out: always from scratch',
    )
    final: dict[str, Any] = Field(default_factory=dict, description='keys that differ for the final committee')
    replay: str | None = Field(
        default=None, description='DatasetData (PK or UUID) of the foundation model to replay: multihead fine-tuning'
    )
    foundation_model: str | None = Field(default=None, description='model file or node (PK, UUID) to fine-tune')

    @field_validator('warm_start', 'final')
    @classmethod
    def _changes(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            MaceSettings(**(value or {}))
        except ValidationError as error:
            raise ValueError(sentence(MaceSettings, error).rstrip('.')) from None
        return value

    @model_validator(mode='after')
    def _enough_members(self) -> MaceTraining:
        if self.min_members > self.members:
            raise ValueError(f'min_members ({self.min_members}) exceeds members ({self.members})')
        return self

    def parameters(self, **changes: Any) -> dict[str, Any]:
        """Return the training job's parameters: mace_run_train's arguments and the few of our own.

        :param changes: keys that differ; without any, the warm start's are passed on too.
        """
        values = {**{key: getattr(self, key) for key in MaceSettings.model_fields}, **changes}
        extra = values.pop('extra')
        parameters = {key: value for key, value in values.items() if value is not None}
        if self.warm_start is not None and not changes:
            parameters['warm_start'] = self.warm_start
        return {**parameters, **extra}


class Llpr(Section):
    """Last-layer prediction rigidity: virtual members that differ from the model in its last layer."""

    samples: int | None = Field(
        default=16, ge=2, description='virtual members; null: as many as make the variance exact'
    )


class Uncertainty(Section):
    """How one model says how sure it is."""

    llpr: Llpr = Field(description='last-layer prediction rigidity')


class Train(Section):
    """How committees are trained."""

    mace: MaceTraining = Field(default_factory=MaceTraining, description='a committee of MACE models')
    uncertainty: Uncertainty | None = Field(
        default=None, description='one model in the place of a committee, such as `{llpr: {}}`'
    )
    members_per_job: int = Field(default=1, ge=1, description='members that one job trains side by side, over its GPUs')
    max_concurrent: int = Field(default=2, ge=1, description='jobs in flight at the same time')


class LammpsExplore(LammpsExploreSettings):
    """MD with LAMMPS, and the program that does it."""

    code: str = Field(default='lmp-mace@localhost', description='code of lmp-mace, or of a native LAMMPS')
    template: str | None = Field(default=None, description='file with your own input script, in Jinja')
    max_restarts: int = Field(default=10, ge=0, description='how often a walker is continued after an interruption')

    @property
    def values(self) -> LammpsExploreSettings:
        """The settings without the program."""
        return LammpsExploreSettings(**self.model_dump(include=set(LammpsExploreSettings.model_fields)))


class PoolExplore(PoolSettings):
    """No dynamics: the committee looks at frames that exist, such as those of ab initio MD or of a data set."""

    frames: list[str] = Field(
        min_length=1,
        description='files of ASE with any number of frames, or nodes (PK, UUID): DatasetData, TrajectoryData',
    )

    @field_validator('frames', mode='before')
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]

    @property
    def values(self) -> PoolSettings:
        """The settings without the frames."""
        return PoolSettings(**self.model_dump(include=set(PoolSettings.model_fields)))


class Explore(Section):
    """How new structures are looked for."""

    ase: AseExploreSettings | None = Field(default=None, description='MD with ASE')
    lammps: LammpsExplore | None = Field(default=None, description='MD with LAMMPS')
    pool: PoolExplore | None = Field(default=None, description='frames that exist')
    max_concurrent: int = Field(default=2, ge=1, description='jobs in flight at the same time')

    @model_validator(mode='before')
    @classmethod
    def _ase_by_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and not any(map(values.get, EXPLORE_ENGINES)):
            engine = next((name for name in EXPLORE_ENGINES if name in values), 'ase')
            return {**values, engine: values.get(engine) or {}}
        return values

    @model_validator(mode='after')
    def _one_engine(self) -> Explore:
        given = [name for name in EXPLORE_ENGINES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f'give one engine, `ase`, `lammps` or `pool`, not {" and ".join(given)}')
        return self

    @property
    def settings(self) -> ExploreSettings | PoolExplore:
        """The settings of the engine that is given."""
        return next(settings for settings in (self.ase, self.lammps, self.pool) if settings is not None)


class RunConfig(Section):
    """A whole run."""

    label: str = Field(default='', max_length=100, description='a name for the run')
    protocol: str = Field(default='balanced', description='where the numbers come from that the file does not give')
    structures: list[str] = Field(
        min_length=1, description='structure files, or nodes by PK or UUID: what the potential is for'
    )
    random_seed: int = Field(default=0, ge=0, description='fixes every random choice')
    datasets: list[str] = Field(default_factory=list, description='DatasetData nodes (PK or UUID) to begin with')
    seed: Chains | None = Field(
        default=None, description='chains of seeding steps; null: begin with the datasets alone'
    )
    test: Chains | None = Field(
        default=None, description='chains of steps whose frames are labelled and never trained on'
    )
    seed_validation_fraction: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description='part of the seeds held out for validation: at least one frame, unless it is 0',
    )
    seed_rounds: SeedRounds | None = Field(
        default=None,
        description='seed again until a committee trained on the seeds alone is good enough; left out: once',
    )
    seed_max_concurrent: int = Field(
        default=2, ge=1, description='jobs of the steps of `seed` (and of `test`) in flight at the same time'
    )
    calculators: dict[str, NamedCalculator] = Field(
        default_factory=dict, description='calculators by name: a step or `labels.ase` says `calculator: NAME`'
    )
    labels: Labels
    train: Train = Field(default_factory=Train)
    explore: Explore = Field(default_factory=Explore)
    select: SelectParameters = Field(default_factory=lambda: SelectParameters(tolerance=0.1))
    stop: StopParameters = Field(default_factory=StopParameters)
    reference_energies: dict[str, float] | None = Field(
        default=None, description='isolated-atom energies, eV, by element; left out: fitted'
    )
    codes: dict[str, str] = Field(default_factory=dict, description='code of each stage, or of all as `default`')
    resources: dict[str, StageResources] = Field(
        default_factory=dict, description='scheduler options of each stage, or of all as `default`'
    )

    @model_validator(mode='before')
    @classmethod
    def _named_calculators(cls, values: Any) -> Any:
        return with_named_calculators(values) if isinstance(values, dict) else values

    @field_validator('structures', 'datasets', mode='before')
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]

    @field_validator('seed', 'test', mode='before')
    @classmethod
    def _chains(cls, value: Any) -> Any:
        return as_chains(value)

    @field_validator('seed', 'test')
    @classmethod
    def _steps(cls, value: Chains | None) -> Chains | None:
        for name, chain in (value or {}).items():
            message = validate_steps(chain)
            if message:
                raise ValueError(f'chain `{name}`, {message}')
            if not name.isidentifier():
                raise ValueError(f'the chain `{name}` needs a name of letters, digits and underscores')
        return value

    @field_validator('codes', 'resources')
    @classmethod
    def _stages(cls, value: dict[str, Any]) -> dict[str, Any]:
        wrong = sorted(set(value) - {*STAGES, 'default'})
        if wrong:
            raise ValueError(f'`{wrong[0]}` is not a stage; stages are default, {", ".join(STAGES)}')
        return value

    @field_validator('reference_energies')
    @classmethod
    def _elements(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        wrong = sorted(set(value or {}) - set(atomic_numbers))
        if wrong:
            raise ValueError(f'`{wrong[0]}` is not an element')
        return value

    @model_validator(mode='after')
    def _labels_of_a_pool_are_of_its_frames(self) -> RunConfig:
        if self.labels.pool is None:
            return self
        if self.explore.pool is None:
            raise ValueError('`labels.pool` has the labels of frames that `explore.pool` chooses: give that, too')
        made = next((name for name in ('seed', 'test') if getattr(self, name)), None)
        if made or not self.datasets:
            cause = f'has no labels of the frames that `{made}` makes' if made else 'has no labels of seeds'
            raise ValueError(
                f'`labels.pool` {cause}: begin with `datasets`, which `aiida-mlip-al dataset draw` draws from the pool'
            )
        return self

    @model_validator(mode='after')
    def _something_to_begin_with(self) -> RunConfig:
        if not self.seed and not self.datasets:
            raise ValueError('There is nothing to begin with: give `seed` steps or labelled `datasets`')
        if self.select.max_labels > (self.stop.max_labels or self.select.max_labels):
            raise ValueError(
                f'`select.max_labels` ({self.select.max_labels}, of one iteration) exceeds `stop.max_labels` '
                f'({self.stop.max_labels}, of the whole run)'
            )
        message = stop_conflict(self.stop, self.select)
        if message:
            raise ValueError(message)
        if self.stop.test_force_error is not None and not self.test and not self.datasets:
            raise ValueError('`stop.test_force_error` needs test frames: give `test` steps')
        return self

    @model_validator(mode='after')
    def _engine_has_its_own_program(self) -> RunConfig:
        engine = 'shell' if self.labels.shell is not None else 'vasp' if self.labels.vasp is not None else None
        if engine is None:
            return self
        if 'label' in self.codes:
            program = 'labels.shell.command' if engine == 'shell' else 'labels.vasp.code'
            raise ValueError(f'`codes.label` is not for the engine `{engine}`: its program is `{program}`')
        for name, chain in {**(self.seed or {}), **(self.test or {})}.items():
            for position in job_positions(chain):
                ((step, parameters),) = chain[position].items()
                if not (parameters or {}).get('calculator') and not (parameters or {}).get('vasp'):
                    raise ValueError(
                        f'chain `{name}`, step {position + 1}, `{step}`: name its `calculator`, for the engine `{engine}` does '
                        'not run this step'
                    )
        return self

    @model_validator(mode='after')
    def _lammps_is_a_program_of_its_own(self) -> RunConfig:
        if self.explore.lammps is not None and 'explore' in self.codes:
            raise ValueError('`codes.explore` is not for the engine `lammps`: its program is `explore.lammps.code`')
        return self

    @model_validator(mode='after')
    def _level_of_the_labels_keeps_its_name(self) -> RunConfig:
        if self.labels.vasp is not None and LABEL_LEVEL in self.calculators:
            raise ValueError(
                f'the calculator `{LABEL_LEVEL}` needs another name: this one is of the level of the labels'
            )
        return self

    @property
    def vasp_levels(self) -> dict[str, VaspLevel]:
        """The levels of theory of VASP by name; that of the labels is `label`."""
        named = {name: item.vasp for name, item in self.calculators.items() if item.vasp is not None}
        return named if self.labels.vasp is None else {**named, LABEL_LEVEL: self.labels.vasp}

    def code(self, stage: str) -> str:
        """Return the label of a stage's code."""
        return self.codes.get(stage, self.codes.get('default', 'python@localhost'))


def as_chains(value: Any) -> Any:
    """Return chains by name from any of the ways to write them: one chain as a list, one as a mapping of steps, or several.

    :param value: `[{rattle: {…}}, {md: {…}}]`, `{rattle: {…}, md: {…}}`, or `{near: [{rattle: {…}}], hot: [{md: {…}}]}`.
    """
    if isinstance(value, list):
        return {'seed': value}
    if isinstance(value, dict) and value and set(value) <= {*SEEDERS, *JOB_STEPS}:
        return {'seed': [{name: parameters} for name, parameters in value.items()]}
    return value


def with_named_calculators(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with every calculator that is given by name written out.

    :raises ValueError: if there is no calculator of that name.
    """
    named = values.get('calculators') or {}
    if not isinstance(named, dict) or not all(isinstance(item, dict) for item in named.values()):
        return values

    labels = values.get('labels')
    labelled_by_vasp = isinstance(labels, dict) and labels.get('vasp') is not None

    def written_out(section: Any, keys: tuple[str, ...]) -> Any:
        name = section.get('calculator') if isinstance(section, dict) else None
        if not isinstance(name, str) or ':' in name:
            return section
        if name not in named:
            raise ValueError(
                f'There is no calculator `{name}`: give an import path such as `tblite.ase:TBLite`, or define it under '
                '`calculators`'
            )
        if 'vasp' in named[name]:
            return {**{key: value for key, value in section.items() if key != 'calculator'}, 'vasp': name}
        chosen = {key: named[name][key] for key in keys if key in named[name]}
        return {**section, **chosen}

    def in_steps(value: Any) -> Any:
        if isinstance(value, list):
            return [in_steps(step) for step in value]
        if not isinstance(value, dict):
            return value
        inner = {key: in_steps(item) if isinstance(item, dict | list) else item for key, item in value.items()}
        for step in set(inner) & set(JOB_STEPS):
            inner[step] = by_vasp(step, inner[step] or {})
        return written_out(inner, ('calculator', 'arguments'))

    def by_vasp(step: str, parameters: Any) -> Any:
        """Let VASP do the MD that names no calculator, if it makes the labels."""
        if not isinstance(parameters, dict):
            return parameters
        if step == 'md' and labelled_by_vasp and not {'calculator', 'vasp'} & set(parameters):
            return {**parameters, 'vasp': LABEL_LEVEL}
        if step != 'md' and 'vasp' in parameters:
            raise ValueError(f'The step `{step}` cannot be done by VASP: name an ASE calculator.')
        return parameters

    resolved = {**values, **{key: in_steps(values[key]) for key in ('seed', 'test') if values.get(key)}}
    if isinstance(labels, dict) and isinstance(labels.get('ase'), dict):
        keys = ('calculator', 'arguments', 'files', 'theory')
        resolved['labels'] = {**labels, 'ase': written_out(labels['ase'], keys)}
    return resolved
