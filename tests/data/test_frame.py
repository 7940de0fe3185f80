"""FrameData: a structure and where it came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida.orm import QueryBuilder, StructureData, load_node
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_mlip_al.data import FrameData
from aiida_mlip_al.data.frame import atoms_of

ORIGIN: dict[str, Any] = {
    'kind': 'explore',
    'parent_uuid': 'c0ffee',
    'index': 3,
    'time_fs': 1.5,
    'temperature_K': 300.0,
    'seed': 11,
    'max_force_deviation': 0.2,
    'verdict': 'selected',
}


def test_comes_back_from_the_database() -> None:
    atoms = bulk('NaCl', 'rocksalt', a=5.6)
    atoms.pbc = [True, True, False]
    atoms.positions += 0.1
    node = load_node(FrameData.from_ase(atoms, 'test', **ORIGIN).store().pk)
    assert isinstance(node, FrameData)
    assert isinstance(node, StructureData)
    found = node.to_ase()
    assert found.get_chemical_symbols() == ['Na', 'Cl']
    np.testing.assert_array_equal(found.positions, atoms.positions)
    np.testing.assert_array_equal(found.cell.array, atoms.cell.array)
    np.testing.assert_array_equal(found.pbc, atoms.pbc)
    assert node.origin == ORIGIN
    assert node.split == 'test'


def test_what_is_unknown_is_left_out() -> None:
    node = FrameData.from_ase(molecule('H2O'), kind='rattle', parent_uuid=None, pressure_GPa=None)
    assert node.origin == {'kind': 'rattle'}
    assert node.split == 'train'


def test_calculator_tags_and_velocities_are_not_kept() -> None:
    plain, adorned = molecule('H2O'), molecule('H2O')
    adorned.set_tags([1, 2, 3])
    adorned.set_velocities(np.ones((3, 3)))
    adorned.calc = SinglePointCalculator(adorned, energy=1.0)
    one, other = (FrameData.from_ase(atoms).store() for atoms in (plain, adorned))
    assert one.base.caching.get_hash() == other.base.caching.get_hash()
    assert other.get_kind_names() == ['O', 'H']


def test_hash_ignores_the_parents_uuid_and_nothing_else() -> None:
    def hash_of(split: str = 'train', **changes: Any) -> str:
        node = FrameData.from_ase(molecule('H2O'), split, **{**ORIGIN, **changes}).store()
        return str(node.base.caching.get_hash())

    assert hash_of() == hash_of(parent_uuid='another')
    others = {hash_of(index=4), hash_of(seed=12), hash_of(split='validation'), hash_of(kind='md'), hash_of(time_fs=2.0)}
    assert len(others | {hash_of()}) == 6


def test_hash_without_an_origin_differs_from_a_plain_structures() -> None:
    plain = StructureData(ase=molecule('H2O')).store()
    assert FrameData.from_ase(molecule('H2O')).store().base.caching.get_hash() != plain.base.caching.get_hash()


def test_moved_atoms_change_the_hash() -> None:
    moved = molecule('H2O')
    moved.positions[0, 0] += 1e-3
    one, other = FrameData.from_ase(molecule('H2O')).store(), FrameData.from_ase(moved).store()
    assert one.base.caching.get_hash() != other.base.caching.get_hash()


def test_queried_by_origin() -> None:
    node = FrameData.from_ase(molecule('CH4'), 'test', kind='queried', max_force_deviation=0.9).store()
    FrameData.from_ase(molecule('CH4'), 'train', kind='queried', max_force_deviation=0.9).store()
    FrameData.from_ase(molecule('CH4'), 'test', kind='queried', max_force_deviation=0.1).store()
    query = QueryBuilder().append(
        FrameData,
        filters={
            'attributes.origin.kind': 'queried',
            'attributes.origin.max_force_deviation': {'>': 0.5},
            'attributes.split': 'test',
        },
        project='uuid',
    )
    assert query.all(flat=True) == [node.uuid]


def test_atoms_of_is_get_ase() -> None:
    """For the numbers that a label is computed from; positions outside of the cell stay there."""
    atoms = bulk('NaCl', 'rocksalt', a=5.6).repeat((2, 1, 1))
    atoms.positions[0] -= 7.0
    atoms.pbc = [True, False, True]
    for node in (FrameData.from_ase(atoms), StructureData(ase=atoms).store(), StructureData(ase=molecule('H2O'))):
        found, expected = atoms_of(node), node.get_ase()
        np.testing.assert_array_equal(found.numbers, expected.numbers)
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.cell.array, expected.cell.array)
        np.testing.assert_array_equal(found.pbc, expected.pbc)


def test_atoms_of_a_mixed_site_is_refused_as_by_get_ase() -> None:
    node = StructureData(cell=np.eye(3).tolist())
    node.append_atom(position=(0.0, 0.0, 0.0), symbols=['Cu', 'Ni'], weights=[0.5, 0.5])
    with pytest.raises(ValueError, match='alloy'):
        atoms_of(node)
