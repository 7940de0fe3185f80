"""From a structure to LAMMPS' frame of reference, and back."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_al.lammps.box import PADDING, Box


def structure(seed, pbc):
    """Return four atoms in a skewed cell, some of them far outside."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(4, 7, 3)) + rng.uniform(-1.5, 1.5, (3, 3))
    return Atoms('GaAsGaP', rng.uniform(-10, 10, (4, 3)), cell=cell, pbc=pbc)


def read_data(text):
    """Return what LAMMPS reads: cell, elements and positions."""
    return read(io.StringIO(text), format='lammps-data', atom_style='atomic', units='metal')


def nearest_images(atoms, pbc):
    """Return the distances between nearest images, by trying all; ASE's own are wrong beside a tilted free direction."""
    ranges = [range(-9, 10) if periodic else (0,) for periodic in pbc]
    images = np.array(list(product(*ranges))) @ atoms.cell.array
    vectors = atoms.positions[:, None] - atoms.positions[None]
    return np.linalg.norm(vectors[:, :, None] + images, axis=-1).min(axis=-1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_distances_and_positions_survive_the_way_there_and_back(seed, pbc):
    atoms = structure(seed, pbc)
    box = Box(atoms)
    there = read_data(box.data(skewed=True))
    assert there.get_chemical_symbols() == atoms.get_chemical_symbols()
    np.testing.assert_allclose(there.cell.array, np.tril(there.cell.array), atol=1e-12)
    np.testing.assert_allclose(there.get_all_distances(), atoms.get_all_distances(), atol=1e-8)
    np.testing.assert_allclose(nearest_images(there, pbc), nearest_images(atoms, pbc), atol=1e-8)
    # LAMMPS moves its box: along periodic directions the atoms move with it.
    origins = np.array([[0.3, -0.2, 0.5]])
    moved = there.positions[None] + np.where(pbc, origins, 0.0)[:, None]
    np.testing.assert_allclose(box.positions_back(moved, origins)[0], atoms.positions, atol=1e-8)
    np.testing.assert_allclose(box.cells_back(there.cell.array[None])[0], atoms.cell.array, atol=1e-8)
    free = ~np.array(pbc)
    scaled = there.cell.scaled_positions(there.positions)[:, free]
    assert ((scaled > 0) & (scaled < 1)).all()


def test_vectors_are_turned_back():
    atoms = structure(3, True)
    box = Box(atoms)
    there = read_data(box.data(skewed=True))
    np.testing.assert_allclose(box.vectors_back(there.cell.array), atoms.cell.array, atol=1e-8)
    assert box.vectors_back(np.zeros((0, 4, 3))).shape == (0, 4, 3)


def test_types_are_elements_in_alphabetic_order():
    box = Box(structure(0, True))
    assert box.species == ['As', 'Ga', 'P']
    text = box.data(skewed=False)
    masses = text[text.index('Masses') : text.index('Atoms')].split('\n')[2:5]
    assert [line.split()[0] + line.split()[-1] for line in masses] == ['1As', '2Ga', '3P']
    assert [round(float(line.split()[1]), 2) for line in masses] == [74.92, 69.72, 30.97]


def test_free_directions_get_a_box_of_their_own():
    water = molecule('H2O')
    box = Box(water)
    assert box.boundary == 'm m m'
    there = read_data(box.data(skewed=False))
    np.testing.assert_allclose(there.cell.lengths(), np.ptp(water.positions, axis=0) + 2 * PADDING)
    np.testing.assert_allclose(there.positions.min(axis=0), PADDING)
    slab = fcc111('Cu', (1, 1, 2), vacuum=6)
    assert Box(slab).boundary == 'p p m'


def test_cell_without_tilt_is_written_with_one_only_where_it_may_change():
    assert 'xy xz yz' not in Box(bulk('Cu', cubic=True)).data(skewed=False)
    assert 'xy xz yz' in Box(bulk('Cu', cubic=True)).data(skewed=True)


@pytest.mark.parametrize('flip', [[[1, 0, 0], [-1, 1, 0], [0, 0, 1]], [[1, 0, 0], [1, 1, 0], [-1, 1, 1]]])
def test_other_vectors_of_the_same_lattice_are_those_of_the_structure_again(flip):
    atoms = bulk('Cu')
    box = Box(atoms)
    start = read_data(box.data(skewed=True)).cell.array
    strained = start @ (np.eye(3) + np.diag([0.01, -0.02, 0.03]))
    cells = np.array([start, strained, np.array(flip) @ strained])
    restored = box.cells_back(cells)
    np.testing.assert_allclose(restored[2], restored[1], atol=1e-10)
    np.testing.assert_allclose(restored[0], atoms.cell.array, atol=1e-10)


def test_positions_can_be_wrapped():
    atoms = structure(5, True)
    box = Box(atoms)
    there = read_data(box.data(skewed=True))
    (wrapped,) = box.positions_back(there.positions[None], np.zeros((1, 3)), atoms.cell.array[None])
    scaled = atoms.cell.scaled_positions(wrapped)
    assert ((scaled >= -1e-6) & (scaled < 1)).all()
    shifts = atoms.cell.scaled_positions(wrapped - atoms.positions)
    np.testing.assert_allclose(shifts, np.round(shifts), atol=1e-8)
