"""The calcfunctions of seeding: chains of steps, and what their jobs need and give."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode, Process
from ase import Atoms

from aiida_mlip_al.calculations.caching import calcfunction
from aiida_mlip_al.data import FrameData
from aiida_mlip_al.data.vasp_md import VaspDynamics
from aiida_mlip_al.sampling import (
    JOB_STEPS,
    MdStep,
    RejectionLimitError,
    evenly_spaced,
    job_positions,
    md_walkers,
    run_steps,
    step_seeds,
)
from aiida_mlip_al.sampling.base import parse_parameters, stream, stream_seed
from aiida_mlip_al.sampling.relax import RelaxStep, relaxation_of
from aiida_mlip_al.sampling.walkers import dynamics_of
from aiida_mlip_al.selection.splits import assign_splits

from .functions import frame_of


@calcfunction
def split_chain(chain: orm.List, seed: orm.Int) -> dict[str, orm.Dict]:
    """Divide a chain of seeding steps into stretches that run here and steps that run as jobs.

    :param chain: the steps, each a mapping of one name to its parameters.
    :param seed: of the chain; every step has its own, derived from it.
    """
    steps, seeds = chain.get_list(), step_seeds(chain.get_list(), seed.value)
    borders = [0, *(border for position in job_positions(steps) for border in (position, position + 1)), len(steps)]
    segments: list[dict[str, Any]] = []
    for start, stop in pairwise(borders):
        if start == stop:
            continue
        name = next(iter(steps[start]))
        if name in JOB_STEPS:
            segments.append({name: steps[start][name] or {}, 'seed': seeds[start]})
        else:
            segments.append({'chain': steps, 'start': start, 'stop': stop, 'seed': seed.value})
    return {f'segment_{index:02d}': orm.Dict(segment) for index, segment in enumerate(segments)}


@calcfunction
def seed_frames(segment: orm.Dict, split: orm.Dict, **inputs: Any) -> dict[str, Any] | ExitCode:
    """Make frames from structures by the pure steps of a segment.

    :param segment: the chain, and which stretch of it.
    :param split: ``name`` of the split, or ``validation_fraction``.
    :param inputs: ``structures`` to start from by name, and for some of them, by the same name in ``references``, the
        equilibrium structure with the same atoms that they derive from.
    """
    structures, references = inputs['structures'], inputs.get('references', {})
    names = sorted(structures)
    seed = segment['seed']
    # One object for all frames of one trajectory: molecules are followed along it.
    known: dict[tuple[str, str | None], Atoms] = {}
    for name, node in references.items():
        known.setdefault((node.uuid, _trajectory_of(structures[name])), node.get_ase())
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always', UserWarning)
            result = run_steps(
                [structures[name].get_ase() for name in names],
                segment['chain'],
                seed,
                start=segment['start'],
                stop=segment['stop'],
                references=[
                    known[references[name].uuid, _trajectory_of(structures[name])] if name in references else None
                    for name in names
                ],
            )
    except (RejectionLimitError, ValueError) as error:
        return ExitCode(401, str(error), invalidates_cache=True)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        Process.current().report(message)
    kept, made = result.kept, list(zip(result.frames, result.records, strict=True))
    splits = assign_splits(len(kept) + len(made), split.get_dict(), np.random.default_rng(stream(seed, 'split')))
    frames: list[FrameData] = []
    for (frame, record), drawn in zip([*kept, *made], splits, strict=True):
        is_isolated = len(frame) == 1 and not frame.pbc.any()
        first = record
        while first['parent'] is not None:
            first = first['parent']
        parent = structures[names[first['source']]]
        frames.append(
            FrameData.from_ase(
                frame,
                'train' if drawn == 'validation' and is_isolated else drawn,  # it has no forces to be wrong about
                kind=record['seeder'],
                parent_uuid=parent.uuid,
                index=len(frames),
                seed=seed,
                temperature_K=parent.base.attributes.get('origin', {}).get('temperature_K'),
                record=record,
            )
        )
    return {
        'kept': {f'frame_{index:03d}': frame for index, frame in enumerate(frames[: len(kept)])},
        'frames': {f'frame_{index:03d}': frame for index, frame in enumerate(frames[len(kept) :])},
        'rejected': orm.Dict(dict(result.rejected)),
    }


def _trajectory_of(frame: orm.StructureData) -> str | None:
    """Return the UUID of the trajectory that a frame was taken from."""
    origin = frame.base.attributes.get('origin', {})
    return origin['parent_uuid'] if 'walker' in origin else None


@calcfunction
def plan_md(segment: orm.Dict, **structures: orm.StructureData) -> dict[str, orm.Data]:
    """Give every walker of an MD step its start, condition and seed.

    :param segment: ``md`` with its parameters, and its seed.
    :param structures: the structures to start from.
    """
    step = parse_parameters('md', MdStep, segment['md'])
    names = sorted(structures)
    walkers = [
        {**walker, 'structure': names[walker['structure']]} for walker in md_walkers(step, len(names), segment['seed'])
    ]
    plan = {'dynamics': orm.Dict(dynamics_of(step, step.every)), 'walkers': orm.List(walkers)}
    if step.calculator is not None:
        plan['calculator'] = orm.Dict({'calculator': step.calculator, 'arguments': step.arguments or {}})
    return plan


@calcfunction
def plan_vasp_md(segment: orm.Dict, **structures: orm.StructureData) -> dict[str, Any]:
    """Give every walker of an MD step by VASP its start, and a dynamics of its own.

    :param segment: ``md`` with its parameters, and its seed.
    :param structures: the structures to start from.
    """
    step = parse_parameters('md', MdStep, segment['md'])
    names = sorted(structures)
    walkers = [
        {**walker, 'structure': names[walker['structure']]} for walker in md_walkers(step, len(names), segment['seed'])
    ]
    shared = {key: value for key, value in dynamics_of(step, step.every).items() if key in VaspDynamics.model_fields}
    dynamics = {
        f'walker_{number:02d}': orm.Dict(
            {**shared, **{key: walker[key] for key in ('temperature_K', 'pressure_GPa', 'seed')}}
        )
        for number, walker in enumerate(walkers)
    }
    return {'walkers': orm.List(walkers), 'dynamics': dynamics}


@calcfunction
def trajectory_frames(
    segment: orm.Dict, split: orm.Dict, walkers: orm.List, **trajectories: orm.TrajectoryData
) -> dict[str, Any]:
    """Take frames out of trajectories, evenly over their length.

    :param segment: ``md`` with ``frames``, the number over all trajectories (all recorded frames without it), and its seed.
    :param split: ``name`` of the split, or ``validation_fraction``.
    :param walkers: the conditions of each trajectory.
    :param trajectories: by walker name.
    """
    names = sorted(trajectories)
    rows = [(name, row) for name in names for row in range(trajectories[name].numsteps)]
    rows = [rows[index] for index in evenly_spaced(len(rows), segment['md'].get('frames'))]
    splits = assign_splits(len(rows), split.get_dict(), np.random.default_rng(stream(segment['seed'], 'split')))
    conditions = walkers.get_list()
    frames = {}
    for index, (name, row) in enumerate(rows):
        number = int(name.rsplit('_', 1)[1])
        walker = conditions[number]
        temperature = walker['temperature_K']
        frames[f'frame_{index:03d}'] = FrameData.from_ase(
            frame_of(trajectories[name], row),
            splits[index],
            kind='md',
            parent_uuid=trajectories[name].uuid,
            walker=number,
            index=row,
            time_fs=float(trajectories[name].get_times()[row] * 1000.0),
            temperature_K=temperature if isinstance(temperature, (int, float)) else None,
            pressure_GPa=walker['pressure_GPa'] if isinstance(walker['pressure_GPa'], (int, float)) else None,
            seed=walker['seed'],
        )
    return {'frames': frames}


@calcfunction
def hold_out(frame: FrameData) -> FrameData:
    """Return a frame for validation.

    :param frame: the same to train on.
    """
    held_out = frame.clone()
    held_out.base.attributes.set('split', 'validation')
    return held_out


@calcfunction
def round_seed(seed: orm.Int) -> orm.Int:
    """Return the seed of the next round of seeding.

    :param seed: of the round before.
    """
    return orm.Int(stream_seed(seed.value, 'round', 0) % 2**31)


@calcfunction
def plan_relax(segment: orm.Dict) -> dict[str, orm.Data]:
    """Take out of a relax step the job's settings, and the calculator if the step names one.

    :param segment: ``relax`` with its parameters, and its seed.
    """
    step = parse_parameters('relax', RelaxStep, segment['relax'])
    plan = {'settings': orm.Dict(relaxation_of(step))}
    if step.calculator is not None:
        plan['calculator'] = orm.Dict({'calculator': step.calculator, 'arguments': step.arguments or {}})
    return plan


@calcfunction
def relaxed_frames(segment: orm.Dict, split: orm.Dict, **structures: orm.StructureData) -> dict[str, Any]:
    """Make frames of relaxed structures.

    :param segment: ``relax`` with its parameters, and its seed.
    :param split: ``name`` of the split, or ``validation_fraction``.
    :param structures: by name.
    """
    names = sorted(structures)
    seed = segment['seed']
    splits = assign_splits(len(names), split.get_dict(), np.random.default_rng(stream(seed, 'split')))
    return {
        'frames': {
            f'frame_{index:03d}': FrameData.from_ase(
                structures[name].get_ase(),
                splits[index],
                kind='relax',
                parent_uuid=structures[name].uuid,
                index=index,
                seed=seed,
            )
            for index, name in enumerate(names)
        }
    }
