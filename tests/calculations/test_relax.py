"""RelaxCalculation: settings, and the directions in which each structure is periodic."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from ase.build import bulk, fcc111
from ase.io import read

Make = Callable[..., Any]


@pytest.fixture
def relax_inputs(python_code: Any, structures: dict[str, orm.StructureData]) -> dict[str, Any]:
    """Inputs of RelaxCalculation."""
    return {
        'code': python_code,
        'structures': structures,
        'calculator': orm.Dict({'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN2-xTB'}}),
    }


@pytest.fixture
def crystals(relax_inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs with a crystal, a slab that says what it is, and one that claims to be periodic in three directions."""
    slab = fcc111('Cu', (1, 1, 2), vacuum=6)
    claimed = slab.copy()
    claimed.pbc = True
    frames = {'slab': slab, 'bulk': bulk('Cu', cubic=True), 'claimed': claimed}
    return {**relax_inputs, 'structures': {name: orm.StructureData(ase=atoms) for name, atoms in frames.items()}}


def settings_of(generate_calc_job: Make, inputs: dict[str, Any], **settings: Any) -> dict[str, Any]:
    folder = generate_calc_job('mlip_al.relax', {**inputs, 'settings': orm.Dict(settings)}).folder
    return json.loads((folder / 'relax.json').read_text())


def test_job(generate_calc_job: Make, relax_inputs: dict[str, Any]) -> None:
    process, folder, calcinfo = generate_calc_job('mlip_al.relax', relax_inputs)
    assert json.loads((folder / 'relax.json').read_text()) == {
        'calculator': 'tblite.ase:TBLite',
        'arguments': {'method': 'GFN2-xTB'},
        'fmax': 0.02,
        'max_steps': 500,
        'optimizer': 'FIRE',
        'cell': 'none',
        'pressure_GPa': 0.0,
        'periodic': None,
        'min_distance_fraction': 0.5,
    }
    assert process.node.get_option('parser_name') == 'mlip_al.relax'
    assert calcinfo.codes_info[0].cmdline_params == ['runners/relax.py', 'relax.json']
    assert calcinfo.local_copy_list == []
    assert calcinfo.retrieve_list == ['relax.out', 'relax.status.json', 'relaxed.extxyz', 'relax.jsonl']
    frames = read(folder / 'structures.extxyz', index=':')
    assert [frame.get_chemical_formula() for frame in frames] == ['CH4', 'H2O']
    assert not frames[0].pbc.any()


def test_settings_reach_the_runner(generate_calc_job: Make, crystals: dict[str, Any]) -> None:
    given = {
        'fmax': 0.1,
        'max_steps': 20,
        'optimizer': 'LBFGS',
        'cell': [True, True, False, False, False, True],
        'pressure_GPa': 2.0,
        'min_distance_fraction': 0.7,
    }
    written = settings_of(generate_calc_job, crystals, keep_unconverged=True, **given)
    assert {key: written[key] for key in given} == given
    assert 'keep_unconverged' not in written


def test_directions_from_pbc_and_vacuum(
    generate_calc_job: Make, crystals: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """In the order of the names: bulk, claimed, slab."""
    written = settings_of(generate_calc_job, crystals, cell='full')
    assert written['periodic'] == [[True, True, True], [True, True, False], [True, True, False]]
    (message,) = [record.message for record in caplog.records if 'vacuum' in record.message]
    assert 'structure `claimed`: the cell vector c (12.0 Å empty) leads through vacuum' in message


def test_directions_from_the_user(generate_calc_job: Make, crystals: dict[str, Any]) -> None:
    written = settings_of(generate_calc_job, crystals, cell='full', periodic=[True, True, True])
    assert written['periodic'] == [[True, True, True], [True, True, True], [True, True, False]]
    written = settings_of(generate_calc_job, crystals, cell='isotropic', periodic=[True, False, False])
    assert written['periodic'] == [[True, False, False]] * 3


def test_cell_without_volume_is_left_to_the_runner(generate_calc_job: Make, crystals: dict[str, Any]) -> None:
    crystals['structures'] = {'flat': orm.StructureData(ase=fcc111('Cu', (1, 1, 2)))}
    assert settings_of(generate_calc_job, crystals, cell='full')['periodic'] == [[True, True, False]]


def test_files_of_the_calculator(generate_calc_job: Make, relax_inputs: dict[str, Any]) -> None:
    teacher = orm.SinglefileData.from_string('weights', filename='teacher.model')
    calcinfo = generate_calc_job('mlip_al.relax', {**relax_inputs, 'files': {'teacher': teacher}}).calcinfo
    assert calcinfo.local_copy_list == [(teacher.uuid, 'teacher.model', 'teacher.model')]


def test_cell_and_pbc_are_written_as_they_are(generate_calc_job: Make, crystals: dict[str, Any]) -> None:
    folder = generate_calc_job('mlip_al.relax', crystals).folder
    _, claimed, slab = read(folder / 'structures.extxyz', index=':')
    np.testing.assert_array_equal(slab.pbc, [True, True, False])
    np.testing.assert_array_equal(claimed.pbc, True)
    np.testing.assert_array_equal(slab.cell.array, crystals['structures']['slab'].get_ase().cell.array)


def test_whole_job_leaves_the_vacuum_vector_as_it_is(crystals: dict[str, Any]) -> None:
    settings = {'cell': 'full', 'optimizer': 'BFGS', 'fmax': 0.005}
    calculator = orm.Dict({'calculator': 'ase.calculators.emt:EMT'})
    inputs = {**crystals, 'settings': orm.Dict(settings), 'calculator': calculator}
    inputs['structures'].pop('bulk')
    outputs, node = run_get_node(CalculationFactory('mlip_al.relax'), **inputs)
    assert node.is_finished_ok, node.exit_message
    for name in ('claimed', 'slab'):
        before, after = (structures[name].get_ase() for structures in (inputs['structures'], outputs['structures']))
        np.testing.assert_array_equal(after.cell.array[2], before.cell.array[2])
        np.testing.assert_array_equal(after.pbc, before.pbc)
        assert after.cell.lengths()[0] < before.cell.lengths()[0] - 0.01
    assert outputs['report']['n_converged'] == 2


@pytest.mark.parametrize(
    ('settings', 'sentence'),
    [
        ({'fmaxx': 1}, "relax: unknown key 'fmaxx'"),
        ({'calculator': 'a:B'}, "relax: unknown key 'calculator'"),
        ({'fmax': -1}, "relax: 'fmax' should be greater than 0"),
        ({'pressure_GPa': 1.0}, "'pressure_GPa' needs a 'cell' that may change"),
    ],
)
def test_refuses_wrong_settings(
    generate_calc_job: Make, relax_inputs: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:
        settings_of(generate_calc_job, relax_inputs, **settings)
    assert sentence in str(caught.value)


def test_refuses_a_bad_calculator(generate_calc_job: Make, relax_inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='`calculator` is `EMT`, but must be an import path'):
        generate_calc_job('mlip_al.relax', {**relax_inputs, 'calculator': orm.Dict({'calculator': 'EMT'})})
