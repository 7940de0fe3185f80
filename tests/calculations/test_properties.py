"""PropertiesCalculation: a committee, structures and what is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from ase.io import read

Make = Callable[..., Any]


@pytest.fixture
def inputs(python_code: Any, committee: dict[str, Any], structures: dict[str, Any]) -> dict[str, Any]:
    dynamics = {'temperature_K': 300.0, 'steps': 100, 'timestep_fs': 0.5}
    return {
        'code': python_code,
        'committee': committee,
        'structures': structures,
        'settings': orm.Dict({'equation_of_state': True, 'frequencies': False, 'dynamics': dynamics}),
        'seed': orm.Int(7),
    }


def test_job(generate_calc_job: Make, inputs: dict[str, Any]) -> None:
    _, folder, calcinfo = generate_calc_job('mlip_al.properties', inputs)
    assert json.loads((folder / 'properties.json').read_text()) == {
        'models': ['model_00.model', 'model_01.model'],
        'device': 'cpu',
        'equation_of_state': True,
        'frequencies': False,
        'dynamics': {'temperature_K': 300.0, 'steps': 100, 'timestep_fs': 0.5, 'seed': 7},
    }
    written = read(folder / 'structures.extxyz', ':')
    assert [atoms.get_chemical_formula() for atoms in written] == ['CH4', 'H2O']
    assert [target for _, _, target in calcinfo.local_copy_list] == ['model_00.model', 'model_01.model']
    assert calcinfo.retrieve_list == ['properties.out', 'properties.status.json', 'properties.jsonl']


@pytest.mark.parametrize(
    ('settings', 'sentence'),
    [
        ({'volume': True}, 'unknown key `volume`'),
        ({}, 'asks for nothing'),
        ({'frequencies': False, 'dynamics': None, 'dtype': 'float32'}, 'asks for nothing'),
    ],
)
def test_settings_that_cannot_be(
    generate_calc_job: Make, inputs: dict[str, Any], settings: dict, sentence: str
) -> None:
    inputs['settings'] = orm.Dict(settings)
    with pytest.raises(ValueError, match=sentence):
        generate_calc_job('mlip_al.properties', inputs)
