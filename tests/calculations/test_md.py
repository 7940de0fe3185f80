"""MdCalculation: walkers, their structures by number, and the calculator."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from ase.io import read

Make = Callable[..., Any]


def test_job(generate_calc_job: Make, md_inputs: dict[str, Any]) -> None:
    _, folder, calcinfo = generate_calc_job('mlip_al.md', md_inputs)
    assert json.loads((folder / 'md.json').read_text()) == {
        'calculator': 'ase.calculators.emt:EMT',
        'arguments': {},
        'dynamics': {'ensemble': 'nvt', 'steps': 20, 'stride': 5},
        'walkers': [
            {'structure': 1, 'temperature_K': 300.0, 'pressure_GPa': None, 'seed': 1},
            {'structure': 0, 'temperature_K': [100.0, 300.0], 'pressure_GPa': None, 'seed': 2},
        ],
        'continued': False,
    }
    frames = read(folder / 'structures.extxyz', index=':')
    assert [frame.get_chemical_formula() for frame in frames] == ['CH4', 'H2O']
    assert calcinfo.codes_info[0].cmdline_params == ['runners/md.py', 'md.json']
    assert calcinfo.local_copy_list == []
    assert calcinfo.retrieve_list == ['md.out', 'md.status.json', ('walker_*', '.', 0)]


def test_files_of_the_calculator(generate_calc_job: Make, md_inputs: dict[str, Any]) -> None:
    teacher = orm.SinglefileData.from_string('weights', filename='teacher.model')
    calcinfo = generate_calc_job('mlip_al.md', {**md_inputs, 'files': {'teacher': teacher}}).calcinfo
    assert calcinfo.local_copy_list == [(teacher.uuid, 'teacher.model', 'teacher.model')]


@pytest.mark.parametrize(('kind', 'fixture'), [('mlip_al.md', 'md_inputs'), ('mlip_al.explore', 'explore_inputs')])
def test_what_was_interrupted_goes_on_from_its_files(
    generate_calc_job: Make, request: pytest.FixtureRequest, aiida_localhost: Any, kind: str, fixture: str
) -> None:
    folder = orm.RemoteData(remote_path='/scratch/job', computer=aiida_localhost).store()
    inputs = {**request.getfixturevalue(fixture), 'parent_folder': folder}
    _, written, calcinfo = generate_calc_job(kind, inputs)
    assert json.loads((written / f'{kind.split(".")[1]}.json').read_text())['continued']
    assert calcinfo.remote_copy_list == [(aiida_localhost.uuid, '/scratch/job/walker_*', '.')]


def test_refuses_a_bad_calculator(generate_calc_job: Make, md_inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='`calculator` is `EMT`, but must be an import path'):
        generate_calc_job('mlip_al.md', {**md_inputs, 'calculator': orm.Dict({'calculator': 'EMT'})})


@pytest.mark.parametrize(('kind', 'fixture'), [('mlip_al.md', 'md_inputs'), ('mlip_al.explore', 'explore_inputs')])
class TestWalkers:
    """Both kinds of dynamics refuse walkers that cannot start."""

    def test_unknown_structure(
        self, generate_calc_job: Make, request: pytest.FixtureRequest, kind: str, fixture: str
    ) -> None:
        inputs = request.getfixturevalue(fixture)
        inputs['walkers'] = orm.List([{'structure': 'ethanol', 'temperature_K': 300.0, 'seed': 1}])
        with pytest.raises(
            ValueError, match='Walker 0 starts from `ethanol`, which is none of the structures methane, water'
        ):
            generate_calc_job(kind, inputs)

    def test_no_walker(self, generate_calc_job: Make, request: pytest.FixtureRequest, kind: str, fixture: str) -> None:
        inputs = request.getfixturevalue(fixture)
        with pytest.raises(ValueError, match=r'There is no walker: give at least one in `walkers`\.'):
            generate_calc_job(kind, {**inputs, 'walkers': orm.List([])})
