"""LabelData: one structure's label, and what one filters by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida.orm import ArrayData, QueryBuilder, load_node
from ase import units

from aiida_mlip_al.data import LabelData
from aiida_mlip_al.data.extxyz import labelled_atoms, stress_of

Make = Callable[..., Any]
STRESS = [-0.01, -0.02, -0.03, 0.004, 0.005, 0.006]


def test_comes_back_from_the_database(make_labelled: Make) -> None:
    frame = make_labelled(stress=STRESS, temperature_K=450.0)
    node = load_node(LabelData.from_ase(frame, 'xtb', 'abc', 'validation').store().pk)
    found = node.to_ase()
    np.testing.assert_array_equal(found.numbers, frame.numbers)
    np.testing.assert_array_equal(found.positions, frame.positions)
    np.testing.assert_array_equal(found.cell.array, frame.cell.array)
    np.testing.assert_array_equal(found.pbc, frame.pbc)
    np.testing.assert_array_equal(found.arrays['REF_forces'], frame.arrays['REF_forces'])
    np.testing.assert_array_equal(found.info['REF_stress'], STRESS)
    assert found.info['REF_energy'] == node.energy
    assert node.energy == pytest.approx(frame.info['REF_energy'], rel=1e-13), 'AiiDA keeps 14 digits of an attribute'
    assert found.info['split'] == node.split == 'validation'
    assert found.info['temperature_K'] == 450.0
    assert set(found.info) == {'REF_energy', 'REF_stress', 'split', 'temperature_K'}


def test_extrapolated_energy_is_kept_beside_the_label(make_labelled: Make) -> None:
    """One can ask for it; it is never trained on."""
    frame = make_labelled()
    kept = LabelData.from_ase(frame, 'PBE', 'abc', energy_extrapolated=-3.25).store()
    for value in (None, float('nan')):
        assert LabelData.from_ase(frame, 'PBE', 'abc', energy_extrapolated=value).store().energy_extrapolated is None
    query = QueryBuilder().append(LabelData, filters={'attributes.energy_extrapolated': {'<': -3.0}}, project='id')
    assert kept.pk in query.all(flat=True)
    assert load_node(kept.pk).energy_extrapolated == -3.25
    assert set(kept.to_ase().info) == {'REF_energy', 'split'}


def test_without_stress_and_temperature(make_labelled: Make) -> None:
    node = LabelData.from_ase(make_labelled(), 'xtb', 'abc').store()
    assert node.stress is None
    assert node.stress_axes is None
    assert node.base.attributes.get('pressure_GPa') is None
    assert set(node.to_ase().info) == {'REF_energy', 'split'}
    assert not node.to_ase().cell.array.any()


@pytest.mark.parametrize(
    ('pbc', 'axes', 'expected', 'kept'),
    [
        ([True, True, False], None, [True, True, False], [0, 1, 5]),
        ([True, True, True], [True, True, False], [True, True, False], [0, 1, 5]),
        ([True, False, True], [True, True, False], [True, False, False], [0]),
        ([True, True, True], [True, True, True], [True, True, True], range(6)),
    ],
)
def test_stress_of_fewer_directions(
    make_labelled: Make, pbc: list[bool], axes: list[bool] | None, expected: list[bool], kept: list[int]
) -> None:
    frame = make_labelled(stress=STRESS)
    frame.pbc = pbc
    masked = labelled_atoms(frame, -1.0, frame.arrays['REF_forces'], STRESS, axes)
    node = load_node(LabelData.from_ase(masked, 'xtb', 'abc').store().pk)
    assert node.stress is not None
    np.testing.assert_array_equal(node.stress[list(kept)], np.array(STRESS)[list(kept)])
    np.testing.assert_array_equal(np.delete(node.stress, list(kept)), 0)
    assert node.stress_axes == expected
    assert (node.base.attributes.get('pressure_GPa') is None) == (not all(expected))
    found = node.to_ase()
    assert ('REF_stress' in found.info) == all(expected)
    assert ('REF_masked_stress' in found.info) == (not all(expected))
    np.testing.assert_array_equal(stress_of(found), node.stress)


def test_stress_of_a_molecule_in_a_box_is_dropped(make_labelled: Make) -> None:
    frame = make_labelled(stress=STRESS)
    frame.pbc = False
    assert stress_of(labelled_atoms(frame, -1.0, frame.arrays['REF_forces'], STRESS)) is None


def test_attributes(make_labelled: Make) -> None:
    frame = make_labelled(stress=STRESS)
    frame.arrays['REF_forces'] = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, -2.0], [1.0, 1.0, 1.0]])
    frame.info['REF_energy'] = -6.0
    attributes = LabelData.from_ase(frame, 'GFN2-xTB', 'abc').base.attributes
    assert attributes.get('energy') == -6.0
    assert attributes.get('energy_per_atom') == -2.0
    assert attributes.get('max_force') == 5.0
    assert attributes.get('n_atoms') == 3
    assert attributes.get('formula') == 'H2O'
    assert attributes.get('elements') == ['H', 'O']
    assert attributes.get('theory') == 'GFN2-xTB'
    assert attributes.get('theory_hash') == 'abc'
    assert attributes.get('split') == 'train'


def test_compression_is_positive_pressure(make_labelled: Make) -> None:
    node = LabelData.from_ase(make_labelled(stress=STRESS), 'xtb', 'abc')
    assert node.base.attributes.get('pressure_GPa') == pytest.approx(0.02 / units.GPa, rel=1e-12)
    assert node.base.attributes.get('pressure_GPa') == pytest.approx(3.204353268, rel=1e-8)


@pytest.mark.parametrize(
    ('spoil', 'sentence'),
    [
        (lambda frame: frame.info.pop('REF_energy'), 'The structure H2O has no energy'),
        (lambda frame: frame.arrays.pop('REF_forces'), 'The structure H2O has no forces'),
        (lambda frame: frame.info.update(REF_energy=np.inf), 'The structure H2O has a energy that is not finite'),
        (lambda frame: frame.info.update(REF_stress=np.zeros(9)), r'The structure H2O has a stress of shape \(9,\)'),
    ],
)
def test_refuses_a_bad_label(make_labelled: Make, spoil: Make, sentence: str) -> None:
    frame = make_labelled()
    spoil(frame)
    with pytest.raises(ValueError, match=f'^{sentence}'):
        LabelData.from_ase(frame, 'xtb', 'abc')


def test_refuses_an_unknown_split(make_labelled: Make) -> None:
    with pytest.raises(ValueError, match=r'^The split `dev` is none of train, validation, test\.'):
        LabelData.from_ase(make_labelled(), 'xtb', 'abc', 'dev')


def test_equal_content_has_equal_hashes(make_labelled: Make) -> None:
    def hash_of(seed: int = 0, theory_hash: str = 'abc', split: str = 'train') -> str:
        return LabelData.from_ase(make_labelled(seed), 'xtb', theory_hash, split).store().base.caching.get_hash()

    assert hash_of() == hash_of()
    assert len({hash_of(), hash_of(seed=1), hash_of(theory_hash='abd'), hash_of(split='test')}) == 4


def test_queried_by_attributes(make_labelled: Make) -> None:
    nodes = [LabelData.from_ase(make_labelled(seed), 'queried', 'abc').store() for seed in range(4)]
    energies = sorted(node.energy for node in nodes)
    query = QueryBuilder().append(
        LabelData,
        filters={'attributes.theory': 'queried', 'attributes.energy': {'<': energies[1] + 1e-9}},
        project=['attributes.energy'],
    )
    assert sorted(query.all(flat=True)) == energies[:2]


def test_one_file_holds_all_arrays(make_labelled: Make) -> None:
    """AiiDA's own interface to arrays still works, also on a node from the database."""
    frame = make_labelled(stress=STRESS)
    node = LabelData.from_ase(frame, 'xtb', 'abc')
    node.set_array('charges', np.array([0.5, -0.25, -0.25]))
    found = load_node(node.store().pk)
    assert found.base.repository.list_object_names() == ['label.npz']
    assert sorted(found.get_arraynames()) == ['cell', 'charges', 'forces', 'numbers', 'pbc', 'positions', 'stress']
    assert found.get_shape('forces') == (len(frame), 3)
    np.testing.assert_array_equal(found.get_array('charges'), [0.5, -0.25, -0.25])
    np.testing.assert_array_equal(dict(found.get_iterarrays())['positions'], frame.positions)
    with pytest.raises(KeyError, match='no array `spins`'):
        found.get_array('spins')


def test_label_with_a_file_for_each_array_is_read(make_labelled: Make) -> None:
    """As AiiDA itself writes arrays."""
    label = LabelData.from_ase(make_labelled(), 'xtb', 'abc')
    other = LabelData()
    for name in label.get_arraynames():
        ArrayData.set_array(other, name, label.get_array(name))
    other.base.attributes.set_many(label.base.attributes.all)
    loaded = load_node(other.store().pk)
    assert loaded.base.repository.list_object_names() != [LabelData.FILENAME]
    assert sorted(loaded.get_arraynames()) == sorted(label.get_arraynames())
    np.testing.assert_array_equal(loaded.forces, label.forces)
    assert loaded.energy == pytest.approx(label.energy)
