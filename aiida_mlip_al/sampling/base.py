"""What every seeder shares: parameters, records, random streams and the retry loop."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict, TypeVar

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Matrix = NDArray[np.float64]
Positive = Annotated[float, Field(gt=0)]
Axes = tuple[bool, bool, bool]


class StepParameters(BaseModel):
    """Parameters of one step: immutable, and every unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra='forbid', allow_inf_nan=False)

    def expected_frames(self, incoming: int) -> int:
        """Return about how many frames the step makes of so many structures, for a plan."""
        return incoming


class CopyParameters(StepParameters):
    """Parameters of the seeders that draw random copies and reject bad ones."""

    copies: int = Field(default=10, ge=1, description='structures made from each incoming structure')
    min_distance_fraction: float = Field(
        default=0.6,
        ge=0,
        lt=1,
        description='reject when two atoms are closer than this fraction of their covalent radii sum',
    )
    max_attempts: int = Field(default=100, ge=1, description='draws for one copy before the step gives up')

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        return incoming * self.copies


P = TypeVar('P', bound=StepParameters)


class SeedRecord(TypedDict):
    """Where one seed structure came from; plain JSON data.

    ``source`` is the index in the step's input list, ``copy`` the number among that source's copies (None for the
    unperturbed source itself), ``attempt`` the accepted draw, ``deformation`` the matrix F of ``x' = x F`` (rows are
    vectors), ``parent`` the record of the structure it was made from.
    """

    seeder: str
    parameters: dict[str, Any]
    seed: int
    source: int
    copy: int | None
    attempt: int
    deformation: list[list[float]] | None
    parent: SeedRecord | None


@dataclass(frozen=True)
class SeedResult:
    """Structures, one record for each of them, and how many draws were rejected for which reason.

    ``kept`` are those that a step ``keep`` of a chain set aside on the way.
    """

    frames: list[Atoms]
    records: list[SeedRecord]
    rejected: dict[str, int] = field(default_factory=dict)
    kept: list[tuple[Atoms, SeedRecord]] = field(default_factory=list)


@dataclass(frozen=True)
class Seeder:
    """A named step that turns structures into structures without a job.

    :param name: the key in the list of steps.
    :param parameters: model of the parameters.
    :param sample: the pure function (structures, parameters, seed) -> result.
    :param appends: the result is added to the incoming structures instead of replacing them in a chain.
    :param same_sites: each atom of a result that has the same elements stands on the site that it had, displaced or strained.
    :param uses_references: ``sample`` takes a fourth argument, the equilibrium structure that each structure derives from.
    """

    name: str
    parameters: type[StepParameters]
    sample: Callable[..., SeedResult]
    appends: bool = False
    same_sites: bool = True
    uses_references: bool = False

    def __call__(
        self,
        structures: Sequence[Atoms],
        parameters: Mapping[str, Any] | StepParameters | None = None,
        seed: int = 0,
        references: Sequence[Atoms | None] | None = None,
    ) -> SeedResult:
        """Check the parameters and sample.

        :param structures: incoming structures, never changed.
        :param parameters: keys of the parameter model; None takes every default.
        :param seed: non-negative; equal seeds give equal results.
        :param references: for each structure, the equilibrium structure with the same atoms that it derives from, or None.
        :raises ValueError: a parameter is wrong, or does not fit a structure.
        :raises RejectionLimitError: a copy was rejected ``max_attempts`` times.
        """
        parsed = parse_parameters(self.name, self.parameters, parameters)
        if self.uses_references:
            return self.sample(structures, parsed, seed, references)
        return self.sample(structures, parsed, seed)


class RejectionLimitError(RuntimeError):
    """Every attempt at one copy was rejected; a seeder never returns fewer structures than asked for."""


def parse_parameters(name: str, model: type[P], values: Mapping[str, Any] | StepParameters | None) -> P:
    """Build the parameters of a step from plain data.

    :param name: name of the step, for the message.
    :param model: the parameter model.
    :param values: plain keys and values, a ready model, or None for the defaults.
    :raises ValueError: one sentence with the step, the key and what is allowed.
    """
    if isinstance(values, model):
        return values
    if values is not None and not isinstance(values, Mapping):
        msg = f'{name}: the parameters must be keys and values, got {values!r}'
        raise ValueError(msg)
    try:
        return model.model_validate(dict(values or {}))
    except ValidationError as error:
        raise ValueError(_sentence(name, model, error)) from None


def wrong_parameters(step: str, model: type[P], values: Mapping[str, Any]) -> str | None:
    """Return one sentence on the first wrong parameter, or None."""
    try:
        parse_parameters(step, model, values)
    except ValueError as error:
        return str(error)
    return None


def _sentence(name: str, model: type[StepParameters], error: ValidationError) -> str:
    """One sentence on the first wrong key of a validation error."""
    errors = error.errors(include_url=False)
    first = errors[0]
    if not first['loc']:
        return f'{name}: {first["msg"].removeprefix("Value error, ")}'
    key = str(first['loc'][0])
    if first['type'] == 'extra_forbidden':
        return f"{name}: unknown key '{key}', allowed are {', '.join(sorted(model.model_fields))}"
    if first['type'] == 'missing':
        return f"{name}: '{key}' is required, {model.model_fields[key].description}"
    reasons = [e['msg'].removeprefix('Value error, ').removeprefix('Input ') for e in errors if e['loc'][0] == key]
    return f"{name}: '{key}' {' or '.join(dict.fromkeys(reasons))}, got {first['input']!r}"


def stream(seed: int, name: str, *indices: int) -> np.random.SeedSequence:
    """Seed of one independent random stream, so that neither a retry nor a further copy shifts any other stream.

    :param seed: the step's seed, non-negative.
    :param name: what the stream is for; the seeder's name.
    :param indices: source, copy and attempt.
    :raises ValueError: the seed is negative.
    """
    if seed < 0:
        msg = f'{name}: the seed must be a non-negative integer, got {seed}'
        raise ValueError(msg)
    return np.random.SeedSequence([seed, zlib.crc32(name.encode()), *indices])


def stream_seed(seed: int, name: str, *indices: int) -> int:
    """The stream of :func:`stream` as one integer below 2^32, for programs that take a plain seed."""
    return int(stream(seed, name, *indices).generate_state(1, np.uint32)[0])


def bare(atoms: Atoms) -> Atoms:
    """Copy only what defines the structure: no calculator, velocities, constraints, info or stale labels.

    :param atoms: any structure; elements, positions, cell, pbc, tags, initial charges and moments are kept.
    """
    copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in ('tags', 'initial_magmoms', 'initial_charges'):
        if atoms.has(name):
            copy.set_array(name, atoms.get_array(name))
    return copy


@dataclass(frozen=True)
class Draw:
    """One attempt at one copy of one structure.

    :param name: the seeder's name.
    :param source: index of the structure in the input list.
    :param copy: number of the copy.
    :param rng: this attempt's own random generator.
    """

    name: str
    source: int
    copy: int
    rng: np.random.Generator

    @property
    def where(self) -> str:
        """Begin of an error message."""
        return f'{self.name}: structure {self.source}'


Propose = Callable[[Atoms, Draw], tuple[Atoms, Matrix | None]]


def sample_copies(
    name: str,
    structures: Sequence[Atoms],
    parameters: StepParameters,
    seed: int,
    propose: Propose,
    *,
    copies: int = 1,
    max_attempts: int = 1,
    rejection: Callable[[Atoms], str | None] = lambda atoms: None,
    include_sources: bool = False,
) -> SeedResult:
    """Make copies of every structure, drawing each again until it is accepted.

    :param name: the seeder's name.
    :param structures: incoming structures.
    :param parameters: what the records keep.
    :param seed: the step's seed.
    :param propose: (bare copy of the source, draw) -> (structure, deformation or None).
    :param copies: structures made from each source, ordered by source, then copy.
    :param max_attempts: draws for one copy.
    :param rejection: reason why a proposed structure is not acceptable, or None.
    :param include_sources: put each source itself before its copies.
    :raises RejectionLimitError: no draw for a copy was acceptable.
    """
    frames: list[Atoms] = []
    records: list[SeedRecord] = []
    rejected: Counter[str] = Counter()
    for source, atoms in enumerate(structures):
        if include_sources:
            frames.append(bare(atoms))
            records.append(make_record(name, parameters, seed, source, copy=None))
        for copy in range(copies):
            reasons: Counter[str] = Counter()
            for attempt in range(max_attempts):
                rng = np.random.default_rng(stream(seed, name, source, copy, attempt))
                frame, deformation = propose(bare(atoms), Draw(name, source, copy, rng))
                reason = rejection(frame)
                if reason is None:
                    frames.append(frame)
                    records.append(
                        make_record(name, parameters, seed, source, copy=copy, attempt=attempt, deformation=deformation)
                    )
                    break
                reasons[reason] += 1
            else:
                counts = ', '.join(f'{reason}: {count}' for reason, count in sorted(reasons.items()))
                msg = (
                    f'{name}: structure {source}, copy {copy}: no attempt out of {max_attempts} was acceptable '
                    f'({counts}); check the structure, or make the perturbation smaller'
                )
                raise RejectionLimitError(msg)
            rejected += reasons
    return SeedResult(frames, records, dict(sorted(rejected.items())))


def make_record(
    name: str,
    parameters: StepParameters,
    seed: int,
    source: int,
    *,
    copy: int | None = 0,
    attempt: int = 0,
    deformation: Matrix | None = None,
) -> SeedRecord:
    """Record of one structure; the chain fills in its parent."""
    return {
        'seeder': name,
        'parameters': parameters.model_dump(mode='json'),
        'seed': seed,
        'source': source,
        'copy': copy,
        'attempt': attempt,
        'deformation': None if deformation is None else deformation.tolist(),
        'parent': None,
    }
