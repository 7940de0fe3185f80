"""DeviateParser: deviations of trajectories, and the committee's means on them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm

Make = Callable[..., Any]
STATUS = {'finished': True, 'wall_s': 4.0, 'cpu_s': 3.5}
FRAMES, ATOMS, MEMBERS = 3, 2, 2


def trajectory(n_frames: int = FRAMES, *, temperatures: bool = True, stop_reason: str | None = None) -> Any:
    node = orm.TrajectoryData()
    rows = np.arange(1.0, n_frames + 1)
    node.set_trajectory(
        symbols=['O', 'H'],
        positions=np.arange(n_frames * ATOMS * 3, dtype=float).reshape(n_frames, ATOMS, 3) + 50.0,
        stepids=np.arange(10, 10 * n_frames + 1, 10),
        cells=np.array([np.diag([5.0, 6.0, 7.0 + row]) for row in rows]),
        times=rows * 0.005,
        velocities=np.ones((n_frames, ATOMS, 3)),
        pbc=[True, True, False],
    )
    node.set_array('energies', rows)
    if temperatures:
        node.set_array('temperatures', 100.0 * rows)
        node.set_array('target_temperatures', 300.0 + rows)
    if stop_reason is not None:
        node.base.attributes.set('stop_reason', stop_reason)
    return node


def arrays(n_frames: int = FRAMES) -> dict[str, np.ndarray]:
    """Mean forces (row, 0, 0) on O and (0, 3, 4) on H; the members differ from them by ±row along y, and ±2 row along z."""
    forces = np.zeros((MEMBERS, n_frames, ATOMS, 3))
    for row in range(n_frames):
        forces[:, row] = [[row, 0, 0], [0, 3, 4]]
        forces[0, row] += [[0, row, 0], [0, 0, 2 * row]]
        forces[1, row] -= [[0, row, 0], [0, 0, 2 * row]]
    rows = np.arange(n_frames)
    return {
        'n_atoms': np.full(n_frames, ATOMS),
        'energies': np.array([-10.0 - rows, -10.0 + rows]),
        'forces': forces.reshape(MEMBERS, -1, 3),
        'stresses': np.full((MEMBERS, n_frames, 6), np.nan),
        'descriptors': rows[:, None] * np.ones(4),
    }


def npz(content: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **content)
    return buffer.getvalue()


def files(**content: dict[str, np.ndarray] | bytes) -> dict[str, bytes]:
    """The files of a finished job."""
    written = {
        f'evaluation_{name}.npz': value if isinstance(value, bytes) else npz(value) for name, value in content.items()
    }
    return {**written, 'evaluate.status.json': json.dumps(STATUS).encode(), 'evaluate.out': b''}


def test_of_one_model_and_of_bulk(parse_retrieved: Make) -> None:
    bulk = trajectory()
    bulk.set_trajectory(
        symbols=['O', 'H'],
        positions=bulk.get_positions(),
        stepids=bulk.get_stepids(),
        cells=bulk.get_cells(),
        pbc=[True] * 3,
    )
    stresses = np.zeros((MEMBERS, FRAMES, 6))
    stresses[0, 1] += [0, 0, 0.2, 0.1, 0, 0]
    found = {**arrays(), 'stresses': stresses, 'mahalanobis': np.array([1.0, 2.0, 3.0])}
    found['energies'][1, 2] = np.nan
    outputs, status, _ = parse_retrieved('mlip_al.deviate', {'trajectories': {'bulk': bulk}}, files(bulk=found))
    assert status == 0
    deviation = outputs['deviations']['bulk']
    np.testing.assert_array_equal(deviation.get_array('mahalanobis'), [1.0, 2.0])
    np.testing.assert_allclose(deviation.get_array('stress_deviation'), [0, 0.1])
    assert deviation.base.attributes.get('stop_reason') == 'non_finite'


def test_finished(parse_retrieved: Make) -> None:
    walkers = {'first': trajectory(), 'second': trajectory(2, temperatures=False, stop_reason='high_temperature')}
    plain = {name: values for name, values in arrays(2).items() if name != 'descriptors'}
    outputs, status, _ = parse_retrieved(
        'mlip_al.deviate', {'trajectories': walkers}, files(first=arrays(), second=plain)
    )
    assert status == 0
    assert outputs['report'].get_dict() == {'n_frames': 5, 'wall_s': 4.0, 'core_s': 3.5}
    deviation, frames = outputs['deviations']['first'], outputs['trajectories']['first']
    expected = {
        'step': [10, 20, 30],
        'time_fs': [5, 10, 15],
        'temperature_K': [100, 200, 300],
        'target_temperature_K': [301, 302, 303],
        'energy': [-10, -10, -10],
        'max_force': [5, 5, 5],
        'max_force_deviation': [0, 2, 4],
        'mean_force_deviation': [0, 1.5, 3],
        'min_force_deviation': [0, 1, 2],
        'percentile_force_deviation': [0, 1.95, 3.9],
        'relative_force_deviation': [0, 1 / 1.2, 2 / 2.2],
        'energy_deviation_per_atom': [0, 0.5, 1],
        'descriptors': np.arange(3)[:, None] * np.ones(4),
    }
    assert set(deviation.get_arraynames()) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(deviation.get_array(name), values, rtol=1e-12, err_msg=name)
    assert deviation.get_array('descriptors').dtype == np.float32
    assert deviation.base.attributes.get('stopped_early') is False
    assert deviation.base.attributes.get('stop_reason') == 'finished'

    np.testing.assert_array_equal(frames.get_array('energies'), [-10, -10, -10])
    np.testing.assert_array_equal(frames.get_array('forces')[2], [[2, 0, 0], [0, 3, 4]])
    for name in ('positions', 'cells', 'velocities', 'times', 'steps', 'temperatures', 'target_temperatures'):
        np.testing.assert_array_equal(frames.get_array(name), walkers['first'].get_array(name), err_msg=name)
    assert (frames.symbols, list(frames.pbc)) == (['O', 'H'], [True, True, False])

    second = outputs['deviations']['second']
    assert not {'descriptors', 'temperature_K', 'target_temperature_K'} & set(second.get_arraynames())
    assert second.n_frames == outputs['trajectories']['second'].numsteps == 2
    for node in (second, outputs['trajectories']['second']):
        assert node.base.attributes.get('stop_reason') == 'high_temperature'
    assert second.base.attributes.get('stopped_early') is True


@pytest.mark.parametrize('name', ['energies', 'forces'])
def test_prediction_that_is_not_finite_ends_the_trajectory(parse_retrieved: Make, name: str) -> None:
    content = arrays()
    content[name][1, 2 if name == 'energies' else 5] = np.nan
    outputs, status, _ = parse_retrieved(
        'mlip_al.deviate', {'trajectories': {'walker': trajectory()}}, files(walker=content)
    )
    assert status == 0
    deviation, frames = outputs['deviations']['walker'], outputs['trajectories']['walker']
    assert deviation.get_array('step').tolist() == frames.get_stepids().tolist() == [10, 20]
    assert deviation.base.attributes.get('stop_reason') == frames.base.attributes.get('stop_reason') == 'non_finite'
    assert deviation.base.attributes.get('stopped_early') is True
    np.testing.assert_array_equal(frames.get_array('forces')[1], [[1, 0, 0], [0, 3, 4]])


def test_a_bad_frame_of_a_pool_takes_no_other_with_it(parse_retrieved: Make) -> None:
    """The second frame has no finite position, and there is no finite prediction of the third."""
    pool = trajectory(5)
    pool.base.attributes.set('independent', True)
    positions = pool.get_positions()
    positions[1] = np.inf
    pool.set_array('positions', positions)
    content = {**arrays(4), 'mahalanobis': np.arange(4.0)}
    content['energies'][0, 1] = np.nan
    outputs, status, _ = parse_retrieved('mlip_al.deviate', {'trajectories': {'pool': pool}}, files(pool=content))
    assert status == 0
    deviation, frames = outputs['deviations']['pool'], outputs['trajectories']['pool']
    assert deviation.get_array('step').tolist() == frames.get_stepids().tolist() == [10, 40, 50]
    np.testing.assert_array_equal(frames.get_positions(), positions[[0, 3, 4]])
    np.testing.assert_array_equal(deviation.get_array('mahalanobis'), [0, 2, 3])
    np.testing.assert_array_equal(frames.get_array('forces')[:, 0, 0], [0, 2, 3])
    assert deviation.base.attributes.get('stop_reason') == frames.base.attributes.get('stop_reason') == 'finished'
    assert frames.base.attributes.get('independent') is True


def test_frames_that_were_not_evaluated(parse_retrieved: Make) -> None:
    """The third frame of one trajectory and the first of another have positions that are not finite."""
    late, early = trajectory(), trajectory()
    for node, row in ((late, 2), (early, 0)):
        positions = node.get_positions()
        positions[row] = np.nan
        node.set_array('positions', positions)
    outputs, status, _ = parse_retrieved(
        'mlip_al.deviate', {'trajectories': {'late': late, 'early': early}}, files(late=arrays(2))
    )
    assert status == 0
    assert list(outputs['deviations']) == ['late']
    assert outputs['deviations']['late'].n_frames == 2
    assert outputs['deviations']['late'].base.attributes.get('stop_reason') == 'non_finite'


def test_nothing_finite(parse_retrieved: Make) -> None:
    content = arrays()
    content['energies'][0, 0] = np.inf
    outputs, status, message = parse_retrieved(
        'mlip_al.deviate', {'trajectories': {'walker': trajectory()}}, files(walker=content)
    )
    assert (status, message) == (300, 'The job left no results: no frame has finite energies and forces.')
    assert list(outputs) == ['report']


@pytest.mark.parametrize(
    'content', [b'', b'PK', npz(arrays())[:-400], npz(arrays(2))], ids=['empty', 'PK', 'cut', 'short']
)
def test_missing_or_cut_arrays(parse_retrieved: Make, content: bytes) -> None:
    walkers = {'trajectories': {'walker': trajectory()}}
    _, status, message = parse_retrieved('mlip_al.deviate', walkers, files(walker=content))
    expected = 'evaluation_walker.npz is missing, cut, or not of the 3 frames of `walker`.'
    assert (status, message) == (300, f'The job left no results: {expected}')


@pytest.mark.parametrize(('scheduler', 'expected'), [(None, 400), (120, 120)])
def test_killed_job_keeps_what_it_finished(parse_retrieved: Make, scheduler: int | None, expected: int) -> None:
    walkers = {'trajectories': {'first': trajectory(), 'second': trajectory(), 'third': trajectory()}}
    left = files(first=arrays(), second=npz(arrays())[:-400])
    del left['evaluate.status.json']
    outputs, status, _ = parse_retrieved('mlip_al.deviate', walkers, left, scheduler)
    assert status == expected
    assert list(outputs['deviations']) == list(outputs['trajectories']) == ['first']
    assert outputs['report']['n_frames'] == 3


def test_runner_failed(parse_retrieved: Make) -> None:
    left = {'evaluate.status.json': json.dumps({'finished': False, 'error': 'nowhere.model does not exist.'})}
    outputs, status, message = parse_retrieved('mlip_al.deviate', {'trajectories': {'walker': trajectory()}}, left)
    assert (status, message) == (310, 'The runner stopped: nowhere.model does not exist.')
    assert list(outputs) == ['report']
