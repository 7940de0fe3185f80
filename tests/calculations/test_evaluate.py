"""EvaluateCalculation: models and shards."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm

Make = Callable[..., Any]


def test_job(generate_calc_job: Make, evaluate_inputs: dict[str, Any], committee: dict[str, Any]) -> None:
    _, folder, calcinfo = generate_calc_job('mlip_al.evaluate', evaluate_inputs)
    assert json.loads((folder / 'evaluate.json').read_text()) == {
        'models': ['model_00.model', 'model_01.model'],
        'dtype': 'float64',
        'device': 'cpu',
        'batch_size': 16,
        'datasets': {'extra': 'extra.xyz', 'seeds': 'seeds.xyz'},
        'splits': ['train', 'validation', 'test'],
        'descriptors': None,
    }
    shards = evaluate_inputs['datasets']
    assert calcinfo.local_copy_list == [
        (committee['member_00'].uuid, 'mace.model', 'model_00.model'),
        (committee['member_01'].uuid, 'mace.model', 'model_01.model'),
        (shards['extra'].uuid, 'dataset.xyz', 'extra.xyz'),
        (shards['seeds'].uuid, 'dataset.xyz', 'seeds.xyz'),
    ]
    assert calcinfo.retrieve_list == ['evaluate.out', 'evaluate.status.json', ('evaluation_*.npz', '.', 0)]


def test_settings(generate_calc_job: Make, evaluate_inputs: dict[str, Any]) -> None:
    evaluate_inputs['settings'] = orm.Dict(
        {'dtype': 'float32', 'batch_size': 4, 'splits': ['test'], 'descriptors': 'gradient'}
    )
    evaluate_inputs['code'].base.extras.set('device', 'cuda')
    settings = json.loads((generate_calc_job('mlip_al.evaluate', evaluate_inputs).folder / 'evaluate.json').read_text())
    evaluate_inputs['code'].base.extras.delete('device')
    assert settings['dtype'] == 'float32'
    assert settings['device'] == 'cuda'
    assert settings['batch_size'] == 4
    assert settings['splits'] == ['test']
    assert settings['descriptors'] == 'gradient'


def test_refuses_models_of_other_elements(
    generate_calc_job: Make, evaluate_inputs: dict[str, Any], make_model: Make
) -> None:
    evaluate_inputs['committee']['member_02'] = make_model(b'third', ('H', 'O'))
    with pytest.raises(ValueError, match='must know the same elements'):
        generate_calc_job('mlip_al.evaluate', evaluate_inputs)
