"""UncertaintyParser, and the distance that one model with an uncertainty adds to what other jobs leave."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm

from aiida_mlip_al.data import DatasetData, ModelData

Make = Callable[..., Any]
sys.path.insert(0, str(Path(__file__).parent / 'recorded'))
from record import labelled_waters  # noqa: E402

FACTS = {
    'n_features': 3,
    'n_samples': 4,
    'n_train': 10,
    'n_validation': 5,
    'regularisation': 1e-6,
    'alpha': 0.4,
    'log_likelihood': 1.5,
}


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture
def files() -> dict[str, bytes]:
    """What a job left."""
    status = {'finished': True, 'wall_s': 3.0, 'cpu_s': 2.0, 'versions': {}, **FACTS}
    return {
        'uncertainty.status.json': json.dumps(status).encode(),
        'uncertainty.npz': npz(displacements=np.ones((4, 3)), factor=np.eye(3)),
    }


@pytest.fixture
def inputs() -> dict[str, Any]:
    """The model."""
    return {'model': ModelData.from_bytes(b'model', elements=['H', 'O']).store()}


def test_finished(parse_retrieved: Make, files: dict[str, bytes], inputs: dict[str, Any]) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.uncertainty', inputs, files)
    assert status == 0
    node = outputs['uncertainty']
    assert node.get_content(mode='rb') == files['uncertainty.npz']
    attributes = node.base.attributes.all
    assert {name: attributes[name] for name in FACTS} == FACTS
    assert node.model_sha256 == inputs['model'].base.attributes.get('sha256')
    assert outputs['report'].get_dict() == {**FACTS, 'wall_s': 3.0, 'core_s': 2.0}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'uncertainty.npz is missing or cut.'),
        (b'PK', 'uncertainty.npz is missing or cut.'),
        (npz(factor=np.array([np.nan])), 'the uncertainty is not finite.'),
    ],
)
def test_bad_file(
    parse_retrieved: Make, files: dict[str, bytes], inputs: dict[str, Any], content: bytes | None, message: str
) -> None:
    del files['uncertainty.npz']
    if content is not None:
        files['uncertainty.npz'] = content
    outputs, *end = parse_retrieved('mlip_al.uncertainty', inputs, files)
    assert end == [300, f'The job left no results: {message}']
    assert set(outputs) == {'report'}


def test_killed_and_failed(parse_retrieved: Make, files: dict[str, bytes], inputs: dict[str, Any]) -> None:
    del files['uncertainty.npz']
    error = json.dumps({'finished': False, 'error': 'the covariance is zero'}).encode()
    outputs, *end = parse_retrieved('mlip_al.uncertainty', inputs, {**files, 'uncertainty.status.json': error})
    assert end == [310, 'The runner stopped: the covariance is zero']
    assert set(outputs) == {'report'}
    del files['uncertainty.status.json']
    assert parse_retrieved('mlip_al.uncertainty', inputs, files)[1] == 400


def test_distances_of_evaluated_frames(parse_retrieved: Make, recorded: Make) -> None:
    files = recorded('evaluate/finished')
    seeds = [*labelled_waters(2, 'train'), *labelled_waters(1, 'validation')]
    shards = {'seeds': seeds, 'test': labelled_waters(2, 'test')}
    for number, (name, frames) in enumerate(shards.items()):
        arrays = dict(np.load(io.BytesIO(files[f'evaluation_{name}.npz'])))
        arrays['mahalanobis'] = 10.0 * number + np.arange(len(frames))
        files[f'evaluation_{name}.npz'] = npz(**arrays)
    inputs = {
        'datasets': {name: DatasetData.from_ase(frames, 'springs', 'abc') for name, frames in shards.items()},
        'settings': orm.Dict({}),
    }
    outputs, status, _ = parse_retrieved('mlip_al.evaluate', inputs, files)
    assert status == 0
    found = {split: node.get_array('mahalanobis').tolist() for split, node in outputs['deviations'].items()}
    assert found == {'train': [0.0, 1.0], 'validation': [2.0], 'test': [10.0, 11.0]}
