"""UncertaintyCalculation, and the jobs that take its output in the place of a committee."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm

from aiida_mlip_al.data.uncertainty import UncertaintyData

Make = Callable[..., Any]


@pytest.fixture
def model(make_model: Make) -> Any:
    """The only model."""
    return make_model(b'first', ('C', 'H', 'O'))


@pytest.fixture
def uncertainty(model: Any) -> UncertaintyData:
    """Its uncertainty."""
    sha256 = model.base.attributes.get('sha256')
    return UncertaintyData.from_bytes(b'arrays', model_sha256=sha256, n_samples=8, alpha=0.3)


@pytest.fixture
def inputs(python_code: Any, model: Any, make_dataset: Make) -> dict[str, Any]:
    """Inputs of UncertaintyCalculation."""
    return {'code': python_code, 'model': model, 'datasets': {'seeds': make_dataset(), 'extra': make_dataset(seed=9)}}


def test_job(generate_calc_job: Make, inputs: dict[str, Any]) -> None:
    inputs['settings'] = orm.Dict({'samples': 4})
    _, folder, calcinfo = generate_calc_job('mlip_al.uncertainty', inputs)
    assert json.loads((folder / 'uncertainty.json').read_text()) == {
        'model': 'model_00.model',
        'datasets': {'extra': 'extra.xyz', 'seeds': 'seeds.xyz'},
        'device': 'cpu',
        'samples': 4,
    }
    datasets = inputs['datasets']
    assert calcinfo.local_copy_list == [
        (inputs['model'].uuid, 'mace.model', 'model_00.model'),
        (datasets['extra'].uuid, 'dataset.xyz', 'extra.xyz'),
        (datasets['seeds'].uuid, 'dataset.xyz', 'seeds.xyz'),
    ]
    assert calcinfo.retrieve_list == ['uncertainty.out', 'uncertainty.status.json', 'uncertainty.npz']


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'sample': 4}, '`sample` is not a setting'),
        ({'samples': 1}, '`samples` is 1, but must be a whole number of at least 2'),
        ({'regularisation': 0}, '`regularisation` is 0, but must be a positive number'),
    ],
)
def test_refuses_settings(
    generate_calc_job: Make, inputs: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    inputs['settings'] = orm.Dict(settings)
    with pytest.raises(ValueError, match=message):
        generate_calc_job('mlip_al.uncertainty', inputs)


def test_refuses_datasets_without_validation_frames(
    generate_calc_job: Make, inputs: dict[str, Any], make_dataset: Make
) -> None:
    inputs['datasets'] = {'seeds': make_dataset(validation=0)}
    with pytest.raises(ValueError, match='No frame of the datasets has the split `validation`'):
        generate_calc_job('mlip_al.uncertainty', inputs)


@pytest.mark.parametrize('name', ['explore', 'evaluate', 'deviate'])
def test_one_model_in_the_place_of_a_committee(
    generate_calc_job: Make, request: Any, model: Any, uncertainty: UncertaintyData, name: str
) -> None:
    inputs = {**request.getfixturevalue(f'{name}_inputs'), 'committee': {'member_00': model}}
    _, folder, calcinfo = generate_calc_job(f'mlip_al.{name}', {**inputs, 'uncertainty': uncertainty})
    settings = json.loads((folder / ('explore.json' if name == 'explore' else 'evaluate.json')).read_text())
    assert (settings['models'], settings['uncertainty']) == (['model_00.model'], 'uncertainty.npz')
    assert (uncertainty.uuid, 'uncertainty.npz', 'uncertainty.npz') in calcinfo.local_copy_list


@pytest.mark.parametrize('name', ['explore', 'evaluate', 'deviate'])
def test_refuses_what_does_not_belong_together(
    generate_calc_job: Make, request: Any, make_model: Make, uncertainty: UncertaintyData, name: str
) -> None:
    inputs = {**request.getfixturevalue(f'{name}_inputs'), 'uncertainty': uncertainty}
    with pytest.raises(ValueError, match='but `committee` has 2: give one'):
        generate_calc_job(f'mlip_al.{name}', inputs)
    inputs['committee'] = {'member_00': make_model(b'second', ('C', 'H', 'O'))}
    with pytest.raises(ValueError, match='`uncertainty` is about another model'):
        generate_calc_job(f'mlip_al.{name}', inputs)
