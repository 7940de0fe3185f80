"""The calcfunctions of explorations, labels and beginnings from frames that exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from aiida import orm
from ase import Atoms

from aiida_mlip_al.calculations.caching import calcfunction
from aiida_mlip_al.data import DatasetData
from aiida_mlip_al.data.dataset import check_same_theory
from aiida_mlip_al.data.extxyz import ENERGY_KEY, FORCES_KEY, STRESS_AXES_KEY, stress_of
from aiida_mlip_al.data.frame import atoms_of
from aiida_mlip_al.data.labelling import Rejection, Theory, label_outputs, label_structure
from aiida_mlip_al.data.pool import TEST, frames_left, kind_of, trajectories_of
from aiida_mlip_al.sampling.base import parse_parameters, stream
from aiida_mlip_al.sampling.pool import Lookup, PoolSettings, draw_frames


@calcfunction
def plan_pool(settings: orm.Dict, seed: orm.Int, **inputs: Any) -> dict[str, Any]:
    """Divide the frames of a pool that are not labelled yet over jobs.

    :param settings: see :class:`PoolSettings`.
    :param seed: of the draw, where there are more frames than the committee shall look at.
    :param inputs: ``frames``, the pool by name, and ``known``, data sets and structures: see :func:`frames_left`; the loop's
        ``history``, so that each iteration draws others.
    """
    parsed = parse_parameters('explore', PoolSettings, settings.get_dict())
    rows = inputs['history']['rows'] if 'history' in inputs else []
    left, n_frames = frames_left(inputs['frames'], inputs.get('known', {}).values())
    drawn = draw_frames(left, parsed.max_frames, seed.value, len(rows))
    # Frames of one kind side by side, so that few trajectories are cut where a job is full.
    drawn.sort(key=lambda place: (place[0], kind_of(left[place])))
    jobs = []
    for first in range(0, len(drawn), parsed.frames_per_job):
        job: dict[str, list[tuple[int, Atoms]]] = {}
        for name, number in drawn[first : first + parsed.frames_per_job]:
            job.setdefault(name, []).append((number, left[name, number]))
        jobs.append(
            {
                f'{name}_{index:02d}': trajectory
                for name, frames in job.items()
                for index, trajectory in enumerate(trajectories_of(frames))
            }
        )
    report = {'n_frames': 0, 'n_pool': n_frames, 'n_left': len(left), 'wall_s': 0.0, 'core_s': 0.0}
    return {'report': orm.Dict(report), 'walkers': {f'job_{number:02d}': job for number, job in enumerate(jobs)}}


@calcfunction
def read_pool_labels(**inputs: Any) -> dict[str, Any]:
    """Make labels, their shard and the report of structures whose labels exist.

    :param inputs: ``structures`` by name, and the data sets ``frames`` that have them, all of one level of theory.
    """
    datasets, structures = inputs['frames'], inputs['structures']
    first = datasets[min(datasets)]
    theory = Theory(first.theory, first.theory_hash)
    atoms = {name: atoms_of(node) for name, node in sorted(structures.items())}
    labelled = _labelled(datasets, atoms.values())
    labels, rejected = {}, {}
    for name, item in atoms.items():
        frame = labelled.get(item)
        if frame is None:
            rejected[name] = Rejection('unknown', 'no data set of `labels.pool` has this structure.')
            continue
        axes = frame.info.get(STRESS_AXES_KEY)
        energy, forces, stress = frame.info[ENERGY_KEY], frame.arrays[FORCES_KEY], stress_of(frame)
        labels[name] = label_structure(structures[name], energy, forces, stress, theory, axes)
    return label_outputs(len(structures), labels, rejected, theory, wall_s=0.0, core_s=0.0)


def _labelled(datasets: Mapping[str, DatasetData], structures: Iterable[Atoms]) -> Lookup[Atoms]:
    """Return the labelled frames that some structures are."""
    wanted: Lookup[bool] = Lookup()
    for item in structures:
        wanted.add(item, True)
    found: Lookup[Atoms] = Lookup()
    for name in sorted(datasets):
        for frame in datasets[name].iterate():
            if wanted.get(frame):
                found.add(frame, frame)
    return found


def different_frames(datasets: Mapping[str, DatasetData]) -> list[Atoms]:
    """Return the frames of data sets that are no test frames, nor repeats of one; of repeated ones the first.

    :raises ValueError: levels of theory differ.
    """
    check_same_theory(datasets)
    return list(frames_left(datasets)[0].values())


def new_elements(frames: Sequence[Atoms]) -> dict[int, str]:
    """Return which frames have an element that none before has, by their places, and that element."""
    seen: set[str] = set()
    found = {}
    for place, frame in enumerate(frames):
        new = sorted(set(frame.get_chemical_symbols()) - seen)
        if new:
            found[place] = new[0]
            seen.update(new)
    return found


def draw(frames: Sequence[Atoms], settings: Mapping[str, Any]) -> dict[str, list[Atoms]]:
    """Return copies of frames to ``begin`` with and to ``test`` on, in their order, with their split; see :func:`draw_dataset`.

    Of the frames to begin with those that are trained on have every element, for a model must know it to look at the others.

    :raises ValueError: there are not so many frames, or those to begin with are too few to train on and to hold one out.
    """
    n_begin, n_test = settings['frames'], settings['test']
    if n_begin < 2:
        raise ValueError(f'A run cannot begin with {n_begin} frames: ask for two or more, one of which is held out.')
    if n_begin + n_test > len(frames):
        raise ValueError(f'{n_begin + n_test} frames cannot be drawn of {len(frames)} that differ: ask for fewer.')
    order = np.random.default_rng(stream(settings['seed'], 'draw')).permutation(len(frames)).tolist()
    trained = new_elements([frames[index] for index in order])
    if len(trained) >= n_begin:
        element = list(trained.values())[n_begin - 1]
        raise ValueError(f'{n_begin} frames to begin with are too few to train on {element}, too: ask for more.')
    first = [order[place] for place in trained]
    others = [index for place, index in enumerate(order) if place not in trained]
    rest = others[n_test : n_test + n_begin - len(first)]
    n_held_out = min(max(round(n_begin * settings['validation_fraction']), 1), len(rest))
    splits = {
        'test': dict.fromkeys(others[:n_test], TEST),
        'begin': {**dict.fromkeys([*first, *rest], 'train'), **dict.fromkeys(rest[:n_held_out], 'validation')},
    }
    drawn = {}
    for name, chosen in splits.items():
        drawn[name] = [frames[index].copy() for index in sorted(chosen)]
        for frame, index in zip(drawn[name], sorted(chosen), strict=True):
            frame.info['split'] = chosen[index]
    return drawn


@calcfunction
def draw_dataset(settings: orm.Dict, **datasets: DatasetData) -> dict[str, DatasetData]:
    """Draw frames to begin with and frames to test on, none of them twice, from labelled frames.

    :param settings: ``frames`` to begin with, of which ``validation_fraction`` are held out, one at least; ``test`` frames, and the
        ``seed``.
    :param datasets: all of one level of theory.
    """
    first = datasets[min(datasets)]
    drawn = draw(different_frames(datasets), settings.get_dict())
    return {
        name: DatasetData.from_ase(frames, first.theory, first.theory_hash) for name, frames in drawn.items() if frames
    }
