"""ExploreCalculation: dynamics, and the committee that watches it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm

Make = Callable[..., Any]


def test_job(generate_calc_job: Make, explore_inputs: dict[str, Any], committee: dict[str, Any]) -> None:
    _, folder, calcinfo = generate_calc_job('mlip_al.explore', explore_inputs)
    settings = json.loads((folder / 'explore.json').read_text())
    assert settings.pop('walkers') == [
        {'structure': 1, 'temperature_K': 300.0, 'pressure_GPa': None, 'seed': 1},
        {'structure': 0, 'temperature_K': [100.0, 300.0], 'pressure_GPa': None, 'seed': 2},
    ]
    assert settings == {
        'dynamics': {'ensemble': 'nvt', 'steps': 20, 'stride': 5},
        'models': ['model_00.model', 'model_01.model'],
        'dtype': 'float32',
        'device': 'cpu',
        'check_interval': 5,
        'levels': {'upper': 2.0},
        'descriptors': 'features',
        'continued': False,
    }
    assert calcinfo.local_copy_list == [
        (committee['member_00'].uuid, 'mace.model', 'model_00.model'),
        (committee['member_01'].uuid, 'mace.model', 'model_01.model'),
    ]
    assert calcinfo.codes_info[0].cmdline_params == ['runners/explore.py', 'explore.json']
    assert calcinfo.retrieve_list == ['explore.out', 'explore.status.json', ('walker_*', '.', 0)]
    assert (folder / 'structures.extxyz').exists()


def test_defaults_of_the_check(generate_calc_job: Make, explore_inputs: dict[str, Any]) -> None:
    explore_inputs['check'] = orm.Dict({'dtype': 'float64'})
    settings = json.loads((generate_calc_job('mlip_al.explore', explore_inputs).folder / 'explore.json').read_text())
    assert (settings['check_interval'], settings['levels'], settings['dtype']) == (10, {'upper': None}, 'float64')


def test_refuses_models_of_other_elements(
    generate_calc_job: Make, explore_inputs: dict[str, Any], make_model: Make
) -> None:
    explore_inputs['committee']['member_02'] = make_model(b'third', ('H', 'O'))
    with pytest.raises(ValueError, match='must know the same elements'):
        generate_calc_job('mlip_al.explore', explore_inputs)


def test_bias(generate_calc_job: Make, explore_inputs: dict[str, Any]) -> None:
    """The runner reads it under a fixed name; what PLUMED writes for each walker comes back."""
    explore_inputs['bias'] = orm.SinglefileData(io.BytesIO(b'd: DISTANCE ATOMS=1,2'), filename='pull.dat')
    _, folder, calcinfo = generate_calc_job('mlip_al.explore', explore_inputs)
    assert json.loads((folder / 'explore.json').read_text())['bias'] == 'plumed.dat'
    node = explore_inputs['bias']
    assert (node.uuid, 'pull.dat', 'plumed.dat') in calcinfo.local_copy_list
    assert calcinfo.retrieve_list[-2:] == [('walker_*', '.', 0), ('*.walker_*', '.', 0)]


def test_refuses_distance_limits_on_atoms_that_are_not_there(
    generate_calc_job: Make, explore_inputs: dict[str, Any]
) -> None:
    dynamics = explore_inputs['dynamics'].get_dict()
    sizes = {name: len(structure.sites) for name, structure in explore_inputs['structures'].items()}
    smallest = min(sizes, key=lambda name: sizes[name])
    for last, message in (
        (sizes[smallest] - 1, None),
        (sizes[smallest], f'but `.*` has the atoms 0 to {sizes[smallest] - 1}'),
    ):
        explore_inputs['dynamics'] = orm.Dict({**dynamics, 'distance_limits': [{'pair': [0, last], 'max': 3.0}]})
        if message is None:
            generate_calc_job('mlip_al.explore', explore_inputs)
            continue
        with pytest.raises(ValueError, match=message):
            generate_calc_job('mlip_al.explore', explore_inputs)


def test_bias_towards_uncertainty(generate_calc_job: Make, explore_inputs: dict[str, Any]) -> None:
    bias = {'ratio': 0.25, 'memory': 100, 'max_force': 2.0}
    explore_inputs['check'] = orm.Dict({'uncertainty_bias': bias})
    settings = json.loads((generate_calc_job('mlip_al.explore', explore_inputs).folder / 'explore.json').read_text())
    assert settings['uncertainty_bias'] == bias
