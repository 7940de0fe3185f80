"""A computer and its programs: what stands in the file of `aiida-mlip-al setup computer`."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from aiida_mlip_al.sampling.base import Positive

from .errors import ConfigError, sentence
from .load import read_yaml
from .resources import COUNTS
from .section import Section

WORD = r'^\S+$'
NAME = r'^[\w.-]+$'


def absolute_path(value: str) -> str:
    """Return a path on another machine.

    :raises ValueError: if it is not absolute.
    """
    if not value.startswith('/') or '\n' in value:
        raise ValueError('it must be an absolute path on the computer')
    return value


def only_placeholders(value: str, known: Collection[str]) -> str:
    """Return a text whose `{…}` are filled in by AiiDA.

    :raises ValueError: if there is another one.
    """
    wrong = [name for _, name, _, _ in Formatter().parse(value) if name is not None and name not in known]
    if wrong:
        raise ValueError(f'`{{{wrong[0]}}}` is not filled in; known here: {", ".join(f"{{{name}}}" for name in known)}')
    return value


class Program(Section):
    """A program on a computer."""

    path: str = Field(description='the executable, as an absolute path on the computer')
    prepend_text: str | None = Field(
        default=None, description='lines that go before it in a job, such as `module load`; after those of the computer'
    )

    @field_validator('path')
    @classmethod
    def _absolute(cls, value: str) -> str:
        return absolute_path(value)


class PythonProgram(Program):
    """A Python that has ASE, and mace-torch or the calculator."""

    label: str = Field(default='python', pattern=NAME, description='name of the code')
    device: Literal['cpu', 'cuda'] = Field(default='cpu', description='where torch computes')


class MpiProgram(Program):
    """A program that runs in parallel."""

    mpi: bool | None = Field(
        default=None, description='whether it is started with mpirun; left out: as the job says, VASP with it'
    )


class Programs(Section):
    """The programs of a computer; a path alone is enough, and several are a list."""

    python: list[PythonProgram] = Field(default_factory=list, description='Pythons for labels, training and MD')
    lammps: list[MpiProgram] = Field(default_factory=list, description='lmp-mace, or a native LAMMPS')
    vasp: list[MpiProgram] = Field(default_factory=list, description='VASP')

    @field_validator('python', 'lammps', 'vasp', mode='before')
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        items = value if isinstance(value, list) else [value]
        return [{'path': item} if isinstance(item, str) else item for item in items]


class ComputerConfig(Section):
    """A computer: how it is reached, what hands out its nodes, where jobs run."""

    label: str = Field(pattern=NAME, description='its name, as in `python@NAME`')
    hostname: str = Field(pattern=WORD, description='its address, or its name in ~/.ssh/config')
    description: str = Field(default='', description='for people')
    transport: str = Field(
        default='core.ssh_async',
        pattern=WORD,
        description='`core.ssh_async`, `core.ssh`, or `core.local` for this machine',
    )
    scheduler: str = Field(
        default='core.slurm',
        pattern=WORD,
        description='`core.slurm`, `core.pbspro`, …, or `core.direct` without a queue',
    )
    work_dir: str = Field(description='folder for jobs there, such as `/scratch/{username}/aiida`')
    prepend_text: str = Field(default='', description='lines at the beginning of every job, such as `module load`')
    mpiprocs_per_machine: int = Field(default=1, ge=1, description='MPI processes on a node if a job does not say')
    mpirun_command: list[str] = Field(
        default=['mpirun', '-np', '{tot_num_mpiprocs}'], min_length=1, description='what starts an MPI program'
    )
    poll_interval_s: Positive | None = Field(
        default=None, description='time between two looks at the queue; left out: 30 s, 1 s on this machine'
    )
    safe_interval_s: float | None = Field(
        default=None, ge=0, description='time between two connections; left out: 15 s, none on this machine'
    )
    ssh: dict[str, Any] = Field(
        default_factory=dict, description='options of the transport, as `verdi computer configure` has them'
    )
    codes: Programs = Field(default_factory=Programs, description='its programs')

    @field_validator('work_dir')
    @classmethod
    def _absolute(cls, value: str) -> str:
        return only_placeholders(absolute_path(value), ['username'])

    @field_validator('mpirun_command', mode='before')
    @classmethod
    def _words(cls, value: Any) -> Any:
        return shlex.split(value) if isinstance(value, str) else value

    @field_validator('mpirun_command')
    @classmethod
    def _counts(cls, value: list[str]) -> list[str]:
        return [only_placeholders(word, COUNTS) for word in value]

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.transport == 'core.local'


def make_computer_config(values: Any) -> ComputerConfig:
    """Check the description of a computer.

    :raises ConfigError: one sentence on the first mistake.
    """
    if not isinstance(values, dict):
        raise ConfigError('The description of a computer must be keys and values, such as `label: cluster`.')
    try:
        return ComputerConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(ComputerConfig, error)) from None


def load_computer_config(path: str | Path) -> ComputerConfig:
    """Read the description of a computer.

    :raises ConfigError: one sentence on the first mistake.
    """
    return make_computer_config(read_yaml(path))
