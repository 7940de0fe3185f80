"""Atoms are taken out where symmetry tells the sites apart."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_al.sampling import Seeder
from aiida_mlip_al.sampling.vacancies import VacanciesParameters, site_permutations, vacancies

sample = Seeder('vacancies', VacanciesParameters, vacancies)


def salt() -> Atoms:
    return bulk('NaCl', 'rocksalt', a=5.64, cubic=True)


def fingerprint(atoms: Atoms) -> tuple[Any, ...]:
    """All distances below 6 Å with the elements at their ends: the same for symmetry-equivalent structures."""
    first, second, distance = neighbor_list('ijd', atoms, 6.0)
    ends = np.sort(np.column_stack([atoms.numbers[first], atoms.numbers[second]]), axis=1)
    return tuple(sorted(map(tuple, np.column_stack([ends, distance.round(3)]).tolist())))


def without(atoms: Atoms, sites: tuple[int, ...]) -> Atoms:
    rest: Atoms = atoms[[i for i in range(len(atoms)) if i not in sites]]
    return rest


def test_salt_has_two_vacancies() -> None:
    result = sample([salt()])
    assert sorted(frame.get_chemical_formula() for frame in result.frames) == ['Cl3Na4', 'Cl4Na3']
    assert [record['copy'] for record in result.records] == [0, 1]
    for frame in result.frames:
        np.testing.assert_array_equal(frame.cell.array, salt().cell.array)
        assert {*map(tuple, frame.positions.round(6).tolist())} < {*map(tuple, salt().positions.round(6).tolist())}


@pytest.mark.parametrize(
    'atoms',
    [
        salt(),
        bulk('Cu', cubic=True) * (2, 1, 2),
        bulk('Si', cubic=True),
        graphene(size=(3, 3, 1), vacuum=6),
        graphene(size=(3, 3, 1)),
    ],
    ids=['NaCl', 'Cu16', 'Si', 'graphene', 'graphene without c'],
)
def test_pairs_are_all_there_and_differ(atoms: Atoms) -> None:
    expected = {fingerprint(without(atoms, pair)) for pair in combinations(range(len(atoms)), 2)}
    found = [fingerprint(frame) for frame in sample([atoms], {'n_vacancies': 2}).frames]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_both_sides_of_a_slab_count_as_one() -> None:
    layer = Atoms('CHH', positions=[[0, 0, 0], [0, 0, 1.1], [0, 0, -1.1]], cell=[4, 4, 0], pbc=[True, True, False])
    formulas = [frame.get_chemical_formula() for frame in sample([layer]).frames]
    assert sorted(formulas) == ['CH', 'H2']


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), shape=st.tuples(*[st.integers(1, 2)] * 3))
def test_site_orbits_are_those_of_spglib(seed: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * 4 + rng.uniform(-2, 2, (3, 3))
    primitive = Atoms('CNC', scaled_positions=rng.random((3, 3)), cell=cell, pbc=True)
    # A centre of inversion.
    primitive += Atoms('CNC', positions=-primitive.positions)
    atoms = primitive.repeat(shape)
    translations, rotations = site_permutations(atoms, 1e-3, '')
    assert len(translations) == np.prod(shape)
    operations = translations[:, rotations].reshape(-1, len(atoms))
    np.testing.assert_array_equal(np.sort(operations, axis=1), np.arange(len(atoms))[None].repeat(len(operations), 0))
    assert np.all(atoms.numbers[operations] == atoms.numbers)
    expected = spglib.get_symmetry((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3)
    assert len(operations) == len(expected['rotations'])
    np.testing.assert_array_equal(operations.min(axis=0), expected['equivalent_atoms'])


def test_more_copies_keep_the_first_and_seeds_differ() -> None:
    atoms = salt()
    atoms.rattle(0.1, seed=1)
    few = sample([atoms], {'copies': 3}, seed=4).frames
    assert sample([atoms], {'copies': 7}, seed=4).frames[:3] == few
    assert sample([atoms], {'copies': 3}, seed=5).frames != few
    assert len({fingerprint(frame) for frame in sample([atoms]).frames}) == 8


def test_without_unique_any_sites_are_taken() -> None:
    result = sample([salt()], {'unique': False, 'copies': 200, 'n_vacancies': 2}, seed=1)
    missing = [
        set(range(8)) - {int(np.argmin(np.linalg.norm(salt().positions - x, axis=1))) for x in f.positions}
        for f in result.frames
    ]
    assert all(len(pair) == 2 for pair in missing)
    assert len({tuple(sorted(pair)) for pair in missing}) == 28
    assert sample([molecule('H2O')], {'unique': False, 'copies': 1}).frames[0].pbc.any() == np.False_


def test_tags_stay_with_their_atoms() -> None:
    atoms = salt()
    atoms.set_tags(range(8))
    for frame in sample([atoms]).frames:
        np.testing.assert_array_equal(frame.positions, atoms.positions[frame.get_tags()])


@pytest.mark.parametrize(
    ('atoms', 'parameters', 'message'),
    [
        (salt(), {'n_vacancies': 8}, "structure 0: 'n_vacancies' 8 leaves nothing of 8 atoms"),
        (bulk('Cu'), {}, "'n_vacancies' 1 leaves nothing of 1 atoms"),
        (salt(), {'copies': 3}, "symmetry leaves 2 inequivalent choices of sites; set 'copies' to at most that"),
        (salt() * 3, {'n_vacancies': 4}, 'ways to take 4 of 216 atoms are too many to compare'),
        (molecule('CH4'), {}, 'crystals and layers only'),
        (Atoms('Cu2', cell=[3] * 3, pbc=True), {}, 'no symmetry was found; check that no atoms are on top'),
        (salt(), {'unique': False}, "with 'unique: false' say how many 'copies' to make"),
    ],
)
def test_what_cannot_be_done_is_said(atoms: Atoms, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match='vacancies: .*' + message):
        sample([atoms], parameters)


def test_too_many_choices_need_a_number() -> None:
    atoms = bulk('Cu', cubic=True) * 3
    atoms.rattle(0.1, seed=1)
    with pytest.raises(ValueError, match="more than 100 inequivalent choices of sites; say how many 'copies' to make"):
        sample([atoms])
    assert len(sample([atoms], {'copies': 108}).frames) == 108
