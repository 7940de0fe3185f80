"""Chains of steps: the registry, the check of a whole chain, and running its pure part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms

from aiida_mlip_al.sampling.base import (
    Seeder,
    SeedRecord,
    SeedResult,
    StepParameters,
    bare,
    make_record,
    parse_parameters,
    stream_seed,
)
from aiida_mlip_al.sampling.input import InputParameters, pass_on
from aiida_mlip_al.sampling.isolated_atoms import IsolatedAtomsParameters, isolated_atoms
from aiida_mlip_al.sampling.lattice_perturbation import LatticePerturbationParameters, lattice_perturbation
from aiida_mlip_al.sampling.md import MdStep
from aiida_mlip_al.sampling.rattle import RattleParameters, rattle
from aiida_mlip_al.sampling.supercell import SupercellParameters, supercell
from aiida_mlip_al.sampling.volume_scan import VolumeScanParameters, volume_scan

SEEDERS: dict[str, Seeder] = {
    seeder.name: seeder
    for seeder in (
        Seeder('input', InputParameters, pass_on),
        Seeder('supercell', SupercellParameters, supercell),
        Seeder('volume_scan', VolumeScanParameters, volume_scan),
        Seeder('lattice_perturbation', LatticePerturbationParameters, lattice_perturbation),
        Seeder('rattle', RattleParameters, rattle),
        Seeder('isolated_atoms', IsolatedAtomsParameters, isolated_atoms, appends=True),
    )
}
#: Steps that need a job: the work chain runs them between two stretches of pure steps.
JOB_STEPS: dict[str, type[StepParameters]] = {'md': MdStep}

Step = tuple[str, StepParameters]


def parse_steps(steps: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Turn a list of one-key mappings into names and checked parameters.

    :param steps: for instance ``[{'supercell': {'matrix': [2, 2, 2]}}, {'rattle': None}]``.
    :raises ValueError: one sentence on the first mistake.
    """
    if not isinstance(steps, Sequence) or isinstance(steps, str | bytes) or not steps:
        msg = f"the steps must be a list of one or more, such as [{{'rattle': {{'copies': 10}}}}], got {steps!r}"
        raise ValueError(msg)
    models = {name: seeder.parameters for name, seeder in SEEDERS.items()} | JOB_STEPS
    parsed: list[Step] = []
    for number, step in enumerate(steps, start=1):
        if not isinstance(step, Mapping) or len(step) != 1:
            msg = f"step {number} must be one name with its parameters, such as {{'rattle': {{}}}}, got {step!r}"
            raise ValueError(msg)
        name, values = next(iter(step.items()))
        if name not in models:
            raise ValueError(f"step {number}: unknown step '{name}', allowed are {', '.join(models)}")
        try:
            parsed.append((name, parse_parameters(name, models[name], values)))
        except ValueError as error:
            raise ValueError(f'step {number}: {error}') from None
    return parsed


def validate_steps(steps: Sequence[Mapping[str, Any]]) -> str | None:
    """Message on the first mistake in a list of steps, or None if there is none.

    :param steps: as for :func:`parse_steps`.
    """
    try:
        parse_steps(steps)
    except ValueError as error:
        return str(error)
    return None


def job_positions(steps: Sequence[Mapping[str, Any]]) -> list[int]:
    """Positions of the steps that need a job, from 0.

    :param steps: as for :func:`parse_steps`.
    """
    return [position for position, (name, _) in enumerate(parse_steps(steps)) if name in JOB_STEPS]


def step_seeds(steps: Sequence[Mapping[str, Any]], seed: int) -> list[int]:
    """Seed of every step: the given one, or another derived from it where a step's name comes up again.

    Steps of other names never share random numbers, so inserting a step leaves the numbers of the others unchanged.

    :param steps: as for :func:`parse_steps`.
    :param seed: of the whole chain.
    """
    seen: Counter[str] = Counter()
    seeds = []
    for name, _ in parse_steps(steps):
        seeds.append(stream_seed(seed, name, seen[name]) if seen[name] else seed)
        seen[name] += 1
    return seeds


def run_steps(
    structures: Sequence[Atoms],
    steps: Sequence[Mapping[str, Any]],
    seed: int,
    *,
    start: int = 0,
    stop: int | None = None,
    parents: Sequence[SeedRecord | None] | None = None,
) -> SeedResult:
    """Run a stretch of pure steps, each on the structures of the one before.

    With a job in the chain, give the whole chain each time and the stretch by ``start`` and ``stop``: seeds belong to
    positions in the whole chain.

    :param structures: what the first step of the stretch starts from; never changed.
    :param steps: the whole chain, as for :func:`parse_steps`.
    :param seed: of the whole chain.
    :param start: first step to run, from 0.
    :param stop: step before which to stop; None runs to the end.
    :param parents: record of each structure, kept as the parent of what is made from it; None for first structures.
    :raises ValueError: a step is wrong, does not fit a structure, or needs a job.
    :raises RejectionLimitError: a copy was rejected in every attempt.
    """
    seeds = step_seeds(steps, seed)
    stretch = list(zip(parse_steps(steps), seeds, strict=True))[start:stop]
    frames = [bare(atoms) for atoms in structures]
    records: list[SeedRecord | None] = [None] * len(frames) if parents is None else list(parents)
    if len(records) != len(frames):
        msg = f'there must be one parent record for each of the {len(frames)} structures, got {len(records)}'
        raise ValueError(msg)
    rejected: Counter[str] = Counter()
    for (name, parameters), step_seed in stretch:
        if name in JOB_STEPS:
            raise ValueError(f"step '{name}' needs a job; run the steps before and after it with 'start' and 'stop'")
        seeder = SEEDERS[name]
        result = seeder(frames, parameters, step_seed)
        for record in result.records:
            record['parent'] = records[record['source']]
        frames = [*(frames if seeder.appends else ()), *result.frames]
        records = [*(records if seeder.appends else ()), *result.records]
        rejected.update(result.rejected)
    complete = [
        record or make_record('input', InputParameters(), seed, source) for source, record in enumerate(records)
    ]
    return SeedResult(frames, complete, dict(sorted(rejected.items())))
