"""Labels by any executable: what the input file says of it."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, Literal

from ase.io.formats import ioformats
from pydantic import Field, field_validator, model_validator

from aiida_mlip_al.sampling.base import Axes, Positive

from .section import Section

# What programs print when they end without having converged, with exit status 0 or not.
UNCONVERGED_PATTERNS = {'cp2k': 'SCF run NOT converged', 'quantum_espresso': 'convergence NOT achieved'}
STDOUT = 'stdout'
# Taken by aiida-shell; a file of its own that is called `file.txt` has no name for it.
RESERVED_NAMES = {STDOUT, 'stderr', 'status', 'file.txt'}


def plain_name(value: str) -> str:
    """Return a file name that can stand in the job's folder.

    :raises ValueError: if it has a path or a wildcard, or is taken.
    """
    if not re.fullmatch(r'\w[\w.+-]*', value, re.ASCII):
        raise ValueError(f'`{value}` must be a plain file name: letters, digits and `. _ + -`')
    if value in RESERVED_NAMES:
        raise ValueError(f'the file name `{value}` is taken: choose another one')
    return value


def known_format(value: str, use: Literal['read', 'write']) -> str:
    """Return the name of a format that ASE can read or write.

    :raises ValueError: if there is none of that name.
    """
    able = [name for name, item in ioformats.items() if getattr(item, f'can_{use}')]
    if value in able:
        return value
    close = get_close_matches(value, able, n=1)
    hint = f'; did you mean `{close[0]}`?' if close else ''
    raise ValueError(f'`{value}` is no format that ASE can {use} (`ase info --formats` lists all){hint}')


class ShellInput(Section):
    """The file that the program reads structures from."""

    filename: str = Field(default='structures.extxyz', description='name of the file in the job')
    format: str | None = Field(
        default=None,
        description='format of one structure, by the name of its writer in ASE, such as `espresso-in`; left out, without a '
        '`template`: all structures of the job as extended XYZ',
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description='keyword arguments of the writer')

    @field_validator('filename')
    @classmethod
    def _plain(cls, value: str) -> str:
        return plain_name(value)

    @field_validator('format')
    @classmethod
    def _writable(cls, value: str | None) -> str | None:
        return None if value is None else known_format(value, 'write')


class ShellOutput(Section):
    """The file that the labels are read from."""

    filename: str = Field(default='labels.extxyz', description='name of the file in the job; `stdout`: what is printed')
    format: str = Field(default='extxyz', description='its format, by the name of its reader in ASE')

    @field_validator('filename')
    @classmethod
    def _plain(cls, value: str) -> str:
        return value if value == STDOUT else plain_name(value)

    @field_validator('format')
    @classmethod
    def _readable(cls, value: str) -> str:
        return known_format(value, 'read')


class ShellSettings(Section):
    """What a program is given, how its labels are read, and which of them count."""

    input: ShellInput = Field(default_factory=ShellInput, description='what the program reads')
    stdin: bool = Field(default=False, description='feed the input file to the program as standard input')
    output: ShellOutput = Field(default_factory=ShellOutput, description='where the labels are read from')
    keys: dict[Literal['energy', 'forces', 'stress'], str] = Field(
        default_factory=dict,
        description='names of energy (eV), forces (eV/Å) and stress (eV/Å³) in the output; left out: `REF_energy`, '
        "`REF_forces`, `REF_stress`, else what ASE's reader found, the free energy before the energy",
    )
    unconverged: list[str] = Field(
        default_factory=list,
        description=f'what an unconverged run prints: regular expressions, or {", ".join(UNCONVERGED_PATTERNS)}',
    )
    theory: str | None = Field(default=None, description='name of the level of theory, for people')
    version: str | None = Field(
        default=None,
        description='version of the program: tells its levels of theory apart instead of the path of the executable and '
        'the modules that are loaded for it',
    )
    max_force: Positive = Field(default=50.0, description='a label with a larger force is rejected, eV/Å')
    min_distance_fraction: Positive = Field(
        default=0.5, description='closer atoms are rejected, as part of the radii sum'
    )
    periodic: Axes | None = Field(
        default=None,
        description='directions whose stress counts, if the pbc of the structures claims too many; left out: their pbc',
    )

    @field_validator('unconverged', mode='before')
    @classmethod
    def _one_pattern(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator('unconverged')
    @classmethod
    def _patterns(cls, value: list[str]) -> list[str]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f'`{pattern}` is no regular expression ({error})') from None
        return value

    @model_validator(mode='after')
    def _two_files(self) -> ShellSettings:
        if self.input.filename == self.output.filename:
            raise ValueError(f'input and output are both `{self.input.filename}`: give them different names')
        return self

    def patterns(self) -> list[str]:
        """Return the regular expressions that tell an unconverged run."""
        return [UNCONVERGED_PATTERNS.get(pattern, pattern) for pattern in self.unconverged]


class ShellLabels(ShellSettings):
    """Labels by any executable, through aiida-shell."""

    command: str = Field(
        min_length=1,
        description='the program: a code such as `pw.x@cluster` (label or UUID), or an executable of this machine',
    )
    arguments: list[str] = Field(default_factory=list, description='its arguments; files go by their names in the job')
    files: list[str] = Field(
        default_factory=list,
        description='files or nodes (PK, UUID) that the program reads, put into the job under their names',
    )
    template: str | None = Field(
        default=None,
        description='file (or PK, UUID) with Jinja placeholders, such as `{{ structure }}`, that becomes the input of one '
        'structure',
    )
    batch_size: int = Field(default=20, ge=1, description='structures in one job; 1 if the input is of one structure')

    @field_validator('arguments')
    @classmethod
    def _no_redirection(cls, value: list[str]) -> list[str]:
        if {'<', '>'} & set(value):
            raise ValueError('`<` and `>` do not redirect here: use `stdin: true`, and `output: {filename: stdout}`')
        return value

    @model_validator(mode='before')
    @classmethod
    def _one_structure_a_job(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = values.get('input')
        single = values.get('template') or (isinstance(given, dict) and given.get('format'))
        return {'batch_size': 1, **values} if single else values

    @model_validator(mode='after')
    def _batch_fits(self) -> ShellLabels:
        single = self.template is not None or self.input.format is not None
        if single and self.batch_size != 1:
            raise ValueError(f'the input is of one structure, so `batch_size` must be 1, got {self.batch_size}')
        if not single and self.output.format != 'extxyz':
            raise ValueError(
                f'`output.format: {self.output.format}` is for an input of one structure: give `input.format` or '
                '`template`, or let the program write extended XYZ'
            )
        return self

    def settings(self) -> dict[str, Any]:
        """Return the settings of the job as plain data: all that is not code, argument, file or scheduling."""
        return self.model_dump(mode='json', include=set(ShellSettings.model_fields))
