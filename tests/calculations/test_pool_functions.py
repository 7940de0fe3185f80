"""Planning a look at a pool, labels that exist, and beginnings drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase import Atoms
from ase.build import bulk, molecule
from helpers.geometry import geometry

from aiida_mlip_al.calculations.pool_functions import (
    different_frames,
    draw,
    draw_dataset,
    plan_pool,
    read_pool_labels,
)
from aiida_mlip_al.data import DatasetData, FrameData
from aiida_mlip_al.data.extxyz import labelled_atoms
from aiida_mlip_al.data.pool import frames_of, trajectories_of

Make = Callable[..., Any]
pytestmark = pytest.mark.usefixtures('aiida_profile')


def shaken(count: int, seed: int = 0, atoms: Atoms | None = None) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        frame = molecule('H2O') if atoms is None else atoms.copy()
        frame.positions += rng.normal(scale=0.1, size=frame.positions.shape)
        frames.append(frame)
    return frames


def planned(frames: dict[str, orm.Data], settings: dict[str, Any] | None = None, **others: Any) -> Any:
    """Return the trajectories of each job, and the report."""
    plan = plan_pool(orm.Dict(settings or {}), orm.Int(0), frames=frames, **others)
    return plan.get('walkers', {}), plan['report'].get_dict()


def geometries(jobs: Any) -> list[Any]:
    nodes = [node for name in sorted(jobs) for _, node in sorted(jobs[name].items())]
    return [geometry(frame) for node in nodes for frame in frames_of(node)]


def sizes(jobs: Any) -> dict[str, dict[str, int]]:
    return {name: {key: node.numsteps for key, node in job.items()} for name, job in jobs.items()}


def test_the_pool_is_divided_over_jobs() -> None:
    water, copper = shaken(5), shaken(3, atoms=bulk('Cu', cubic=True))
    frames = {'b': trajectories_of(enumerate(copper))[0], 'a': trajectories_of(enumerate(water))[0]}
    jobs, report = planned(frames, {'frames_per_job': 4})
    assert sizes(jobs) == {'job_00': {'a_00': 4}, 'job_01': {'a_00': 1, 'b_00': 3}}
    assert report == {'n_frames': 0, 'n_pool': 8, 'n_left': 8, 'wall_s': 0.0, 'core_s': 0.0}
    assert geometries(jobs) == [geometry(frame) for frame in (*water, *copper)]
    assert jobs['job_01']['a_00'].get_stepids().tolist() == [4], 'the place in the pool'
    assert jobs['job_00']['a_00'].creator.process_label == 'plan_pool'


def test_all_jobs_but_the_last_are_full() -> None:
    """Of whatever nodes and compositions their frames are, so that one can tell how many there will be."""
    water, mixed = shaken(6), []
    for frame, other in zip(shaken(4, 1), shaken(4, 2, bulk('Cu', cubic=True)), strict=True):
        mixed += [frame, other]
    dataset = DatasetData.from_ase([labelled_atoms(frame, -1.0, 0 * frame.positions) for frame in mixed], 'PBE', 'PBE')
    jobs, _ = planned({'a': trajectories_of(enumerate(water))[0], 'b': dataset}, {'frames_per_job': 5})
    found = sizes(jobs)
    assert [sum(job.values()) for job in found.values()] == [5, 5, 4]
    assert found['job_01'] == {'a_00': 1, 'b_00': 4}
    assert sorted(geometries(jobs)) == sorted(geometry(frame) for frame in (*water, *mixed))


def test_known_and_equal_frames_are_left_out(make_dataset: Make) -> None:
    dataset = make_dataset(train=5, validation=1, test=1)
    first, *others, tested = dataset.get_ase_list()
    assert tested.info['split'] == 'test'
    known = DatasetData.from_ase(others[:2], dataset.theory, dataset.theory_hash)
    chosen = FrameData.from_ase(others[2])
    (again,) = trajectories_of([(0, first)])
    jobs, report = planned({'a': dataset, 'b': again}, known={'datasets': known, 'chosen_0000': chosen})
    assert geometries(jobs) == [geometry(frame) for frame in (first, *others[3:])]
    assert (report['n_pool'], report['n_left']) == (8, 3)


def test_what_is_equal_to_a_test_frame_is_never_learned_from(make_dataset: Make) -> None:
    """Whether it stands before or after it, in the same node or another one."""
    pool, tested = make_dataset(train=3, validation=0), make_dataset(train=0, validation=0, test=3, seed=1)
    frames = [*pool.iterate(), *tested.iterate()]
    both = DatasetData.from_ase(frames, pool.theory, pool.theory_hash)
    for nodes in ({'a': pool, 'b': tested}, {'a': tested, 'b': pool}, {'a': both}):
        jobs, report = planned(nodes)
        assert geometries(jobs) == [geometry(frames[0])]
        assert report['n_left'] == 1
        assert [geometry(frame) for frame in different_frames(nodes)] == [geometry(frames[0])]


def test_nothing_is_left_of_a_pool_that_is_known(make_dataset: Make) -> None:
    dataset = make_dataset()
    jobs, report = planned({'a': dataset}, known={'given': dataset})
    assert jobs == {}
    assert report['n_left'] == 0


def test_frames_that_no_model_can_be_evaluated_on_are_left_out() -> None:
    frames = shaken(5, atoms=bulk('Cu', cubic=True))
    frames[3].positions[1] = frames[3].positions[0]
    (node,) = trajectories_of(enumerate(frames))
    positions, cells = node.get_positions(), node.get_cells()
    positions[1, 0, 0] = np.nan
    cells[2, 0, 0] = np.inf
    node.set_array('positions', positions)
    node.set_array('cells', cells)
    jobs, report = planned({'a': node})
    assert geometries(jobs) == [geometry(frames[0]), geometry(frames[4])]
    assert (report['n_pool'], report['n_left']) == (5, 2)


def test_of_a_large_pool_each_iteration_sees_others() -> None:
    (node,) = trajectories_of(enumerate(shaken(40)))
    first, report = planned({'a': node}, {'max_frames': 10})
    assert report['n_left'] == 40
    assert len(geometries(first)) == 10
    second, _ = planned({'a': node}, {'max_frames': 10}, history=orm.Dict({'rows': [{}]}))
    assert geometries(first) != geometries(second)


def test_labels_are_those_of_the_data_sets(make_labelled: Make) -> None:
    stress = np.arange(6.0)
    frames = [make_labelled(seed, temperature_K=300.0, split='train') for seed in range(4)]
    periodic = make_labelled(9, stress=stress, split='train')
    dataset = DatasetData.from_ase([*frames, periodic], 'PBE', 'hash')
    structures = {
        'frame_000': FrameData.from_ase(frames[2], 'validation', temperature_K=300.0),
        'frame_001': FrameData.from_ase(periodic),
        'frame_002': FrameData.from_ase(shaken(1)[0]),
    }
    found = read_pool_labels(structures=structures, frames={'pool_00': dataset})
    assert sorted(found['labels']) == ['frame_000', 'frame_001']
    label = found['labels']['frame_000'].to_ase()
    assert label.info['REF_energy'] == pytest.approx(frames[2].info['REF_energy'], abs=1e-10)
    np.testing.assert_allclose(label.arrays['REF_forces'], frames[2].arrays['REF_forces'], atol=1e-8)
    np.testing.assert_allclose(found['labels']['frame_001'].to_ase().info['REF_stress'], periodic.info['REF_stress'])
    assert found['dataset'].splits == {'train': 1, 'validation': 1, 'test': 0}, 'the split is that of the choice'
    assert (found['dataset'].theory, found['dataset'].theory_hash) == ('PBE', 'hash')
    report = found['report'].get_dict()
    assert (report['n_labelled'], report['n_rejected'], report['reasons']) == (2, 1, {'unknown': 1})
    assert report['rejected'][0]['structure'] == 'frame_002'


def test_frames_to_begin_with_and_to_test_on_are_drawn_apart(make_dataset: Make) -> None:
    shards = {'shard_00': make_dataset(train=20, validation=0), 'shard_01': make_dataset(train=10, seed=1)}
    settings = {'frames': 10, 'test': 8, 'validation_fraction': 0.2, 'seed': 1}
    drawn = draw_dataset(orm.Dict(settings), **shards)
    assert drawn['begin'].splits == {'train': 8, 'validation': 2, 'test': 0}
    assert drawn['test'].splits == {'train': 0, 'validation': 0, 'test': 8}
    begin, test = ({geometry(frame) for frame in drawn[name].iterate()} for name in ('begin', 'test'))
    assert (len(begin), len(test)) == (10, 8)
    assert not begin & test
    again = draw_dataset(orm.Dict(settings), **shards)
    assert again['begin'].get_content() == drawn['begin'].get_content()
    other = draw_dataset(orm.Dict({**settings, 'seed': 2}), **shards)
    assert other['begin'].get_content() != drawn['begin'].get_content()


@pytest.mark.parametrize(('frames', 'fraction', 'held_out'), [(2, 0.99, 1), (2, 0.0, 1), (5, 0.15, 1), (5, 0.9, 4)])
def test_a_beginning_has_frames_to_train_on_and_held_out(
    make_dataset: Make, frames: int, fraction: float, held_out: int
) -> None:
    for seed in range(5):
        settings = {'frames': frames, 'test': 0, 'validation_fraction': fraction, 'seed': seed}
        drawn = draw_dataset(orm.Dict(settings), shard_00=make_dataset(train=8))
        assert drawn['begin'].splits == {'train': frames - held_out, 'validation': held_out, 'test': 0}


def test_the_frames_that_are_trained_on_have_every_element(make_labelled: Make) -> None:
    species = ['H2O'] * 20 + ['CH4', 'CH3CH2OH', 'NH3']
    frames = [make_labelled(seed, name) for seed, name in enumerate(species)]
    for seed in range(10):
        drawn = draw(frames, {'frames': 5, 'test': 4, 'validation_fraction': 0.2, 'seed': seed})
        trained = [frame for frame in drawn['begin'] if frame.info['split'] == 'train']
        assert (len(drawn['begin']), len(drawn['test']), len(trained)) == (5, 4, 4)
        assert {symbol for frame in trained for symbol in frame.get_chemical_symbols()} == {'H', 'O', 'C', 'N'}


@pytest.mark.parametrize(
    ('frames', 'test', 'sentence'),
    [
        (1, 0, 'A run cannot begin with 1 frames: ask for two or more, one of which is held out.'),
        (3, 2, '5 frames cannot be drawn of 4 that differ: ask for fewer.'),
        (2, 0, '2 frames to begin with are too few to train on .*, too: ask for more.'),
    ],
)
def test_draws_that_are_no_beginning_are_refused(make_labelled: Make, frames: int, test: int, sentence: str) -> None:
    four = [make_labelled(seed, name) for seed, name in enumerate(['H2O', 'H2O', 'H2O', 'NH3'])]
    with pytest.raises(ValueError, match=sentence):
        draw(four, {'frames': frames, 'test': test, 'validation_fraction': 0.2, 'seed': 0})


def test_only_frames_that_differ_are_drawn(make_dataset: Make) -> None:
    dataset = make_dataset(train=3, validation=0, test=2)
    twice = {'shard_00': dataset, 'shard_01': dataset}
    assert len(different_frames(twice)) == 3
    with pytest.raises(ValueError, match='cannot be mixed'):
        different_frames({'a': dataset, 'b': make_dataset(theory='other')})
