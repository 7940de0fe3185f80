"""LabelCalculation: structures in one file, the calculator in another."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase.build import bulk
from ase.io import read

Make = Callable[..., Any]


def test_job(generate_calc_job: Make, label_inputs: dict[str, Any]) -> None:
    _, folder, calcinfo = generate_calc_job('mlip_al.label', label_inputs)
    assert json.loads((folder / 'label.json').read_text()) == {
        'calculator': 'tblite.ase:TBLite',
        'arguments': {'method': 'GFN2-xTB'},
        'max_force': 50.0,
        'min_distance_fraction': 0.5,
        'timeout_s': None,
        'periodic': None,
    }
    assert calcinfo.local_copy_list == []
    assert calcinfo.retrieve_list == ['label.out', 'label.status.json', 'labels.extxyz', 'label.jsonl']
    assert sorted(path.name for path in folder.iterdir()) == ['label.json', 'runners', 'structures.extxyz']


def test_structures_in_the_order_of_their_names(generate_calc_job: Make, label_inputs: dict[str, Any]) -> None:
    slab = bulk('Cu', cubic=True)
    slab.pbc = [True, True, False]
    label_inputs['structures']['copper'] = orm.StructureData(ase=slab)
    folder = generate_calc_job('mlip_al.label', label_inputs).folder
    frames = read(folder / 'structures.extxyz', index=':')
    assert [frame.get_chemical_formula() for frame in frames] == ['Cu4', 'CH4', 'H2O']
    np.testing.assert_array_equal(frames[0].pbc, slab.pbc)
    np.testing.assert_allclose(frames[0].cell, slab.cell, rtol=0, atol=1e-12)
    np.testing.assert_allclose(frames[0].positions, slab.positions, rtol=0, atol=1e-8)
    assert not frames[1].pbc.any()


def test_limits_and_name_of_the_theory(generate_calc_job: Make, label_inputs: dict[str, Any]) -> None:
    label_inputs['calculator'] = orm.Dict(
        {
            'calculator': 'a.b:C',
            'max_force': 20.0,
            'min_distance_fraction': 0.7,
            'timeout_s': 60,
            'periodic': [True, True, False],
            'theory': 'mine',
        }
    )
    settings = json.loads((generate_calc_job('mlip_al.label', label_inputs).folder / 'label.json').read_text())
    assert settings == {
        'calculator': 'a.b:C',
        'arguments': {},
        'max_force': 20.0,
        'min_distance_fraction': 0.7,
        'timeout_s': 60,
        'periodic': [True, True, False],
    }


def test_files_of_the_calculator_keep_their_names(generate_calc_job: Make, label_inputs: dict[str, Any]) -> None:
    teacher = orm.SinglefileData.from_string('weights', filename='teacher.model')
    calcinfo = generate_calc_job('mlip_al.label', {**label_inputs, 'files': {'teacher': teacher}}).calcinfo
    assert calcinfo.local_copy_list == [(teacher.uuid, 'teacher.model', 'teacher.model')]


@pytest.mark.parametrize(
    ('calculator', 'sentence'),
    [
        ({}, '`calculator` is `None`, but must be an import path such as `tblite.ase:TBLite`.'),
        ({'calculator': 'TBLite'}, '`calculator` is `TBLite`, but must be an import path'),
        ({'calculator': ':TBLite'}, '`calculator` is `:TBLite`, but must be an import path'),
        ({'calculator': 'a:b:c'}, '`calculator` is `a:b:c`, but must be an import path'),
        ({'calculator': 3}, '`calculator` is `3`, but must be an import path'),
        ({'calculator': 'a:B', 'argument': {}}, 'The calculator has the unknown key `argument`; it knows arguments,'),
        ({'calculator': 'a:B', 'arguments': [1]}, '`arguments` must be a mapping of keyword arguments'),
        ({'calculator': 'a:B', 'max_force': -1}, '`max_force` is -1, but must be a positive number.'),
        ({'calculator': 'a:B', 'min_distance_fraction': 0}, '`min_distance_fraction` is 0, but must be a positive'),
        ({'calculator': 'a:B', 'periodic': [True, True]}, '`periodic` is [True, True], but must be three booleans,'),
        ({'calculator': 'a:B', 'periodic': [1, 1, 0]}, '`periodic` is [1, 1, 0], but must be three booleans,'),
        ({'calculator': 'a:B', 'periodic': 'xy'}, '`periodic` is xy, but must be three booleans,'),
        ({'calculator': 'a:B', 'timeout_s': 'long'}, '`timeout_s` is long, but must be a positive number.'),
    ],
)
def test_refuses_a_bad_calculator(
    generate_calc_job: Make, label_inputs: dict[str, Any], calculator: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:
        generate_calc_job('mlip_al.label', {**label_inputs, 'calculator': orm.Dict(calculator)})
    assert sentence in str(caught.value)
