"""Chains of steps: the registry, the check of a whole chain, and running its pure part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
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
from aiida_mlip_al.sampling.dimers import DimersParameters, dimers
from aiida_mlip_al.sampling.input import InputParameters, pass_on
from aiida_mlip_al.sampling.isolated_atoms import IsolatedAtomsParameters, isolated_atoms
from aiida_mlip_al.sampling.keep import KeepParameters, keep
from aiida_mlip_al.sampling.lattice_perturbation import LatticePerturbationParameters, lattice_perturbation
from aiida_mlip_al.sampling.md import MdStep
from aiida_mlip_al.sampling.molecular_clusters import MolecularClustersParameters, molecular_clusters
from aiida_mlip_al.sampling.phonon_displacements import PhononStep
from aiida_mlip_al.sampling.random_clusters import RandomClustersParameters, random_clusters
from aiida_mlip_al.sampling.rattle import RattleParameters, rattle
from aiida_mlip_al.sampling.relax import RelaxStep
from aiida_mlip_al.sampling.slab import SlabParameters, slab
from aiida_mlip_al.sampling.substitution import SubstitutionParameters, substitution
from aiida_mlip_al.sampling.supercell import SupercellParameters, supercell
from aiida_mlip_al.sampling.trajectory import TrajectoryParameters, trajectory
from aiida_mlip_al.sampling.vacancies import VacanciesParameters, vacancies
from aiida_mlip_al.sampling.volume_scan import VolumeScanParameters, volume_scan

SEEDERS: dict[str, Seeder] = {
    seeder.name: seeder
    for seeder in (
        Seeder('input', InputParameters, pass_on),
        Seeder('keep', KeepParameters, keep),
        Seeder('supercell', SupercellParameters, supercell),
        Seeder('volume_scan', VolumeScanParameters, volume_scan),
        Seeder('lattice_perturbation', LatticePerturbationParameters, lattice_perturbation),
        Seeder('rattle', RattleParameters, rattle),
        Seeder('vacancies', VacanciesParameters, vacancies),
        Seeder('substitution', SubstitutionParameters, substitution, same_sites=False),
        Seeder('slab', SlabParameters, slab),
        Seeder('isolated_atoms', IsolatedAtomsParameters, isolated_atoms, appends=True, same_sites=False),
        Seeder('dimers', DimersParameters, dimers, appends=True, same_sites=False),
        Seeder('random_clusters', RandomClustersParameters, random_clusters, appends=True, same_sites=False),
        Seeder('trajectory', TrajectoryParameters, trajectory),
        Seeder('molecular_clusters', MolecularClustersParameters, molecular_clusters, uses_references=True),
    )
}
#: Steps that need a job: the work chain runs them between two stretches of pure steps.
JOB_STEPS: dict[str, type[StepParameters]] = {'md': MdStep, 'relax': RelaxStep, 'phonon_displacements': PhononStep}

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
    references: Sequence[Atoms | None] | None = None,
) -> SeedResult:
    """Run a stretch of pure steps, each on the structures of the one before.

    With a job in the chain, give the whole chain each time and the stretch by ``start`` and ``stop``: seeds belong to
    positions in the whole chain.

    :param structures: what the first step of the stretch starts from; never changed.
    :param steps: the whole chain, as for :func:`parse_steps`.
    :param seed: of the whole chain.
    :param start: first step to run, from 0.
    :param stop: step before which to stop; None runs to the end.
    :param references: for each structure, the equilibrium structure with the same atoms that it derives from, or None. A
        structure that a step makes without changing which atoms there are has the reference of the one that it was made from,
        or else that one itself.
    :raises ValueError: a step is wrong, does not fit a structure, or needs a job.
    :raises RejectionLimitError: a copy was rejected in every attempt.
    """
    seeds = step_seeds(steps, seed)
    stretch = list(zip(parse_steps(steps), seeds, strict=True))[start:stop]
    frames = [bare(atoms) for atoms in structures]
    records: list[SeedRecord | None] = [None] * len(frames)
    known: list[Atoms | None] = [None] * len(frames) if references is None else list(references)
    if len(known) != len(frames):
        msg = f'there must be one reference (or None) for each of the {len(frames)} structures, got {len(known)}'
        raise ValueError(msg)
    rejected: Counter[str] = Counter()
    kept: list[tuple[Atoms, SeedRecord]] = []
    for (name, parameters), step_seed in stretch:
        if name in JOB_STEPS:
            raise ValueError(f"step '{name}' needs a job; run the steps before and after it with 'start' and 'stop'")
        seeder = SEEDERS[name]
        result = seeder(frames, parameters, step_seed, known)
        for record in result.records:
            record['parent'] = records[record['source']]
        if name == 'keep':
            kept += zip(frames, result.records, strict=True)
            continue
        inherited = [
            _reference_of(frame, frames[record['source']], known[record['source']]) if seeder.same_sites else None
            for frame, record in zip(result.frames, result.records, strict=True)
        ]
        frames = [*(frames if seeder.appends else ()), *result.frames]
        records = [*(records if seeder.appends else ()), *result.records]
        known = [*(known if seeder.appends else ()), *inherited]
        rejected.update(result.rejected)
    if stop is None or stop >= len(seeds):
        # What is kept at the very end is not given twice.
        kept = [(atoms, record) for atoms, record in kept if not any(atoms is frame for frame in frames)]
    complete = [
        record or make_record('input', InputParameters(), seed, source) for source, record in enumerate(records)
    ]
    return SeedResult(frames, complete, dict(sorted(rejected.items())), kept)


def _reference_of(frame: Atoms, source: Atoms, reference: Atoms | None) -> Atoms | None:
    """Return the equilibrium structure of a frame, if it still has the same atoms."""
    found = source if reference is None else reference
    return found if np.array_equal(frame.numbers, found.numbers) else None
