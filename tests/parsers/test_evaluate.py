"""EvaluateParser: the committee against the labels, split by split."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm

from aiida_mlip_al.data import DatasetData

Make = Callable[..., Any]
sys.path.insert(0, str(Path(__file__).parent / 'recorded'))
from record import labelled_waters  # noqa: E402


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def load(content: bytes) -> dict[str, np.ndarray]:
    return dict(np.load(io.BytesIO(content)))


@pytest.fixture
def inputs() -> dict[str, Any]:
    """The shards that were evaluated, and one without a frame of the wanted splits."""
    seeds = [*labelled_waters(2, 'train'), *labelled_waters(1, 'validation')]
    return {
        'datasets': {
            'seeds': DatasetData.from_ase(seeds, 'springs', 'abc'),
            'test': DatasetData.from_ase(labelled_waters(2, 'test'), 'springs', 'abc'),
        },
        'settings': orm.Dict({'descriptors': 'features'}),
    }


def test_finished(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    files = recorded('evaluate/finished')
    outputs, status, _ = parse_retrieved('mlip_al.evaluate', inputs, files)
    assert status == 0
    assert set(outputs) == {'errors', 'deviations', 'parity'}
    errors = outputs['errors'].get_dict()
    assert set(errors) == {'train', 'validation', 'test', 'wall_s', 'core_s'}
    assert [errors[split]['n_frames'] for split in ('train', 'validation', 'test')] == [2, 1, 2]
    assert {split: node.n_frames for split, node in outputs['deviations'].items()} == {
        'train': 2,
        'validation': 1,
        'test': 2,
    }
    arrays = load(files['evaluation_test.npz'])
    frames = labelled_waters(2, 'test')
    reference = np.concatenate([frame.arrays['REF_forces'] for frame in frames])
    predicted = arrays['forces'].mean(axis=0)
    # Extended XYZ keeps eight decimals of the reference.
    assert errors['test']['force_mae'] == pytest.approx(np.abs(predicted - reference).mean(), abs=1e-7)
    energies = np.array([frame.info['REF_energy'] for frame in frames])
    expected = np.abs(arrays['energies'].mean(axis=0) - energies).mean() / 3
    assert errors['test']['energy_mae'] == pytest.approx(expected, rel=1e-9)
    parity = outputs['parity']['test']
    np.testing.assert_allclose(parity.get_array('forces_reference'), reference.ravel(), rtol=0, atol=1e-8)
    np.testing.assert_array_equal(parity.get_array('forces_predicted'), predicted.ravel())
    assert 'stress_reference' not in parity.get_arraynames()
    deviation = outputs['deviations']['test']
    spread = np.sqrt((np.linalg.norm(arrays['forces'] - predicted, axis=2) ** 2).mean(axis=0)).reshape(2, 3)
    np.testing.assert_allclose(deviation.max_force_deviation, spread.max(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(deviation.get_array('descriptors'), arrays['descriptors'])


def test_only_some_splits(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    files = recorded('evaluate/finished')
    del files['evaluation_seeds.npz']
    inputs['settings'] = orm.Dict({'splits': ['test']})
    outputs, status, _ = parse_retrieved('mlip_al.evaluate', inputs, files)
    assert status == 0
    assert list(outputs['deviations']) == ['test']


def test_rows_go_to_their_split(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    files = recorded('evaluate/finished')
    arrays = load(files['evaluation_seeds.npz'])
    reference = np.concatenate([frame.arrays['REF_forces'] for frame in inputs['datasets']['seeds'].iterate()])
    arrays['forces'][:] = reference
    arrays['forces'][:, 6:] += 1.0
    outputs, _, _ = parse_retrieved('mlip_al.evaluate', inputs, {**files, 'evaluation_seeds.npz': npz(arrays)})
    errors = outputs['errors'].get_dict()
    assert errors['train']['force_mae'] == pytest.approx(0.0, abs=1e-12)
    assert errors['validation']['force_mae'] == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize('content', [None, b'', b'PK', 'half', 'no energies'])
def test_missing_or_cut_arrays(
    parse_retrieved: Make, recorded: Make, inputs: dict[str, Any], content: bytes | str | None
) -> None:
    files = recorded('evaluate/finished')
    good = files.pop('evaluation_test.npz')
    if content == 'half':
        content = good[: len(good) // 2]
    elif content == 'no energies':
        content = npz({name: array for name, array in load(good).items() if name != 'energies'})
    if content is not None:
        files['evaluation_test.npz'] = content
    outputs, status, message = parse_retrieved('mlip_al.evaluate', inputs, files)
    assert (status, message) == (300, 'The job left no results: evaluation_test.npz is missing or cut.')
    assert not outputs


def test_wrong_number_of_frames(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    files = recorded('evaluate/finished')
    files['evaluation_test.npz'] = files['evaluation_seeds.npz']
    _, status, message = parse_retrieved('mlip_al.evaluate', inputs, files)
    assert (status, message) == (300, 'The job left no results: test has 2 frames, but 3 were evaluated.')


@pytest.mark.parametrize('name', ['energies', 'forces'])
def test_prediction_that_is_not_finite(
    parse_retrieved: Make, recorded: Make, inputs: dict[str, Any], name: str
) -> None:
    files = recorded('evaluate/finished')
    arrays = load(files['evaluation_test.npz'])
    arrays[name].flat[1] = np.nan
    files['evaluation_test.npz'] = npz(arrays)
    _, status, message = parse_retrieved('mlip_al.evaluate', inputs, files)
    assert (status, message) == (311, 'A model predicts an energy or a force that is not finite on `test`.')


@pytest.mark.parametrize(('scheduler', 'expected'), [(None, 400), (120, 120), (110, 110)])
def test_killed(
    parse_retrieved: Make, recorded: Make, inputs: dict[str, Any], scheduler: int | None, expected: int
) -> None:
    files = recorded('evaluate/finished')
    del files['evaluate.status.json'], files['evaluation_test.npz']
    outputs, status, _ = parse_retrieved('mlip_al.evaluate', inputs, files, scheduler)
    assert (outputs, status) == ({}, expected)


def test_runner_failed(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    _, status, message = parse_retrieved('mlip_al.evaluate', inputs, recorded('evaluate/no_model'))
    assert (status, message) == (310, 'The runner stopped: The model file nowhere.model does not exist.')
