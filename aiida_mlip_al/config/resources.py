"""What a stage asks of the scheduler: short names in the input file, AiiDA's options in the jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from .errors import ConfigError
from .protocols import merge
from .section import Section

COUNTS = (
    'num_machines',
    'num_mpiprocs_per_machine',
    'num_cores_per_machine',
    'num_cores_per_mpiproc',
    'tot_num_mpiprocs',
)
GPU_LINE = {'core.slurm': '#SBATCH --gres=gpu:{}'}
# Nothing is handed out there: a job sees all GPUs.
WITHOUT_QUEUE = ('core.direct', 'core.bash')
WORD = r'^\S+$'


class StageResources(Section):
    """Options of a stage's jobs; the names are AiiDA's own but for `gpus`."""

    num_machines: int | None = Field(default=None, ge=1, description='nodes')
    num_mpiprocs_per_machine: int | None = Field(default=None, ge=1, description='MPI processes on each node')
    num_cores_per_machine: int | None = Field(default=None, ge=1, description='cores on each node')
    num_cores_per_mpiproc: int | None = Field(
        default=None, ge=1, description='cores of each MPI process, and OMP_NUM_THREADS unless it is given'
    )
    tot_num_mpiprocs: int | None = Field(default=None, ge=1, description='MPI processes in all')
    resources: dict[str, int | str] = Field(
        default_factory=dict, description="the same in AiiDA's own way, or what else the scheduler knows"
    )
    gpus: str | None = Field(
        default=None,
        pattern=r'^([\w-]+:)?[0-9]+$',
        description='GPUs on each node: 1, or with their type `a100:2` (SLURM: --gres)',
    )
    max_wallclock_seconds: int | None = Field(default=None, ge=1, description='time limit, s')
    max_memory_kb: int | None = Field(default=None, ge=1, description='memory on each node, kB')
    account: str | None = Field(default=None, pattern=WORD, description='whom the time is charged to')
    queue_name: str | None = Field(default=None, pattern=WORD, description='queue, or partition of SLURM')
    qos: str | None = Field(default=None, pattern=WORD, description='quality of service')
    priority: str | None = Field(default=None, pattern=WORD, description='priority (SLURM: --nice)')
    custom_scheduler_commands: str | None = Field(default=None, description='further lines such as `#SBATCH …`')
    withmpi: bool | None = Field(default=None, description='whether the program is started with mpirun')
    mpirun_extra_params: list[str] | None = Field(default=None, description='further arguments of mpirun')
    environment_variables: dict[str, str] | None = Field(default=None, description='environment of the job')
    environment_variables_double_quotes: bool | None = Field(default=None, description='let bash expand their values')
    import_sys_environment: bool | None = Field(default=None, description='SLURM: --get-user-env')
    rerunnable: bool | None = Field(default=None, description='whether the scheduler may start a lost job again')
    prepend_text: str | None = Field(default=None, description='lines before the program, such as `module load`')
    append_text: str | None = Field(default=None, description='lines after the program')

    @field_validator('gpus', mode='before')
    @classmethod
    def _number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator('environment_variables', mode='before')
    @classmethod
    def _text(cls, value: Any) -> Any:
        return {key: str(item) for key, item in value.items()} if isinstance(value, dict) else value

    @field_validator('environment_variables')
    @classmethod
    def _names(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        wrong = [name for name in value or {} if not (name.isidentifier() and name.isascii())]
        if wrong:
            raise ValueError(f'`{wrong[0]}` is no name of an environment variable')
        return value

    @model_validator(mode='after')
    def _counted_once(self) -> StageResources:
        twice = [name for name in COUNTS if getattr(self, name) is not None and name in self.resources]
        if twice:
            raise ValueError(f'`{twice[0]}` is given twice: take it out of the inner `resources`')
        return self

    @model_serializer(mode='wrap')
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}

    def values(self) -> dict[str, Any]:
        """Return what was given, with the counts among the inner `resources`."""
        given = self.model_dump()
        counts = {name: given.pop(name) for name in COUNTS if name in given}
        return {**given, 'resources': {**given.get('resources', {}), **counts}}


def job_options(stages: Mapping[str, StageResources], stage: str, scheduler: str | None) -> dict[str, Any]:
    """Return the scheduler options of a stage's jobs as AiiDA knows them.

    :param stages: options by stage, and those of all stages as `default`.
    :param stage: the stage; what it says goes over `default` key by key, and `null` takes a key out.
    :param scheduler: entry point of the computer's scheduler, such as `core.slurm`.
    :raises ConfigError: if GPUs are wanted and their line for this scheduler is not known here.
    """
    named = [stages[name].values() for name in ('default', stage) if name in stages]
    options = _without_none(merge(named[0], named[-1]) if named else {})
    options['resources'] = _with_default_counts(_without_none(options.get('resources', {})))
    gpus = str(options.pop('gpus', 0))
    if int(gpus.rpartition(':')[2]) > 0:
        _ask_for_gpus(options, gpus, stage, scheduler)
    threads = _cores_per_process(options['resources'])
    if threads is not None or 'environment_variables' in options:
        variables = options.get('environment_variables', {})
        options['environment_variables'] = {'OMP_NUM_THREADS': str(threads or 1), **variables}
    return options


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _with_default_counts(given: dict[str, Any]) -> dict[str, Any]:
    """Return one process on one node, less what is given, in the two numbers that AiiDA needs."""
    if 'parallel_env' in given:
        return {'tot_num_mpiprocs': 1, **given}
    if 'tot_num_mpiprocs' in given and 'num_mpiprocs_per_machine' in given:
        return given
    if 'tot_num_mpiprocs' in given:
        return {'num_machines': 1, **given}
    return {'num_machines': 1, 'num_mpiprocs_per_machine': 1, **given}


def _ask_for_gpus(options: dict[str, Any], gpus: str, stage: str, scheduler: str | None) -> None:
    if scheduler in WITHOUT_QUEUE:
        return
    if scheduler not in GPU_LINE:
        raise ConfigError(
            f'`gpus` under `resources`, for the stage `{stage}`, is known for core.slurm and not for {scheduler}: write the '
            'line of that scheduler into `custom_scheduler_commands`.'
        )
    lines = [options.get('custom_scheduler_commands', '').rstrip('\n'), GPU_LINE[scheduler].format(gpus)]
    options['custom_scheduler_commands'] = '\n'.join(filter(None, lines))


def _cores_per_process(resources: Mapping[str, Any]) -> int | None:
    if 'num_cores_per_mpiproc' in resources:
        return int(resources['num_cores_per_mpiproc'])
    if 'num_cores_per_machine' in resources:
        return int(resources['num_cores_per_machine']) // int(resources.get('num_mpiprocs_per_machine', 1))
    return None
