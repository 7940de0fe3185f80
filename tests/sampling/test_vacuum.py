"""Vacuum found in structures that say that they are periodic everywhere, and what the seeders make of it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule, nanotube
from ase.lattice.hexagonal import Graphite
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_al.sampling import SEEDERS
from aiida_mlip_al.sampling.cells import periodic_axes
from aiida_mlip_al.sampling.vacuum import empty_layers, vacuum_axes, vacuum_warning

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=25, deadline=None, derandomize=True)


def claimed(atoms: Atoms) -> Atoms:
    """Return the structure as most files have it: periodic in three directions."""
    atoms.pbc = True
    return atoms


def slab() -> Atoms:
    return claimed(fcc111('Cu', (1, 1, 3), vacuum=6))


@pytest.mark.parametrize(
    ('atoms', 'expected'),
    [
        (bulk('Cu'), 'FFF'),
        (bulk('NaCl', 'rocksalt', a=5.64, cubic=True), 'FFF'),
        (Graphite('C', latticeconstant={'a': 2.46, 'c': 6.7}), 'FFF'),
        (slab(), 'FFT'),
        (claimed(graphene(vacuum=10)), 'FFT'),
        (claimed(nanotube(6, 0, vacuum=6)), 'TTF'),
        (claimed(Atoms('C', cell=[12, 3, 12])), 'TFT'),
        (claimed(molecule('H2O', vacuum=5)), 'TTT'),
        (graphene(vacuum=10), 'FFF'),
        (molecule('H2O'), 'FFF'),
    ],
    ids=['copper', 'salt', 'graphite', 'slab', 'graphene', 'nanotube', 'wire', 'boxed water', 'open graphene', 'water'],
)
def test_known_structures(atoms: Atoms, expected: str) -> None:
    assert ''.join('T' if vacuum else 'F' for vacuum in vacuum_axes(atoms)) == expected


def test_thickness_of_the_layer_and_the_limit() -> None:
    atoms = slab()
    assert empty_layers(atoms)[2] == pytest.approx(12.0, abs=1e-9)
    layer = empty_layers(bulk('Cu', a=3.6, cubic=True))
    np.testing.assert_allclose(layer, 1.8, atol=1e-12)
    assert not vacuum_axes(atoms, gap=12.001).any()
    assert vacuum_axes(atoms, gap=11.999).tolist() == [False, False, True]


def test_layer_is_measured_along_the_normal() -> None:
    atoms = claimed(Atoms('H', cell=[[3, 0, 0], [0, 3, 0], [40, 0, 7.9]]))
    assert empty_layers(atoms)[2] == pytest.approx(7.9)
    assert not vacuum_axes(atoms)[2]


def test_sentence_names_the_directions() -> None:
    assert vacuum_warning(bulk('Cu')) is None
    assert vacuum_warning(slab()) == (
        "the cell vector c (12.0 Å empty) leads through vacuum and counts as not periodic; set the structure's pbc, or "
        "'periodic', to say which directions are periodic"
    )
    message = vacuum_warning(claimed(Atoms('C', cell=[12, 3, 13])))
    assert message is not None
    assert message.startswith('the cell vectors a (12.0 Å empty) and c (13.0 Å empty) lead through vacuum and count as')


def dense_crystal(seed: int) -> Atoms:
    """Return a skewed crystal without an empty layer of 5 Å."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(4, 9, 3)) + rng.uniform(-2, 2, (3, 3))
    corners = np.stack(np.meshgrid(*[[0, 0.5]] * 3), axis=-1).reshape(-1, 3)
    return Atoms(['Cu'] * 8, cell=cell, pbc=True, scaled_positions=corners + rng.uniform(-0.05, 0.05, (8, 3)))


@FEW
@given(seed=SEEDS, axis=st.integers(0, 2), gap=st.floats(8.5, 30))
def test_vacuum_is_found_where_it_was_put(seed: int, axis: int, gap: float) -> None:
    atoms = dense_crystal(seed)
    assert not vacuum_axes(atoms).any()
    normal = np.linalg.inv(atoms.cell.array)[:, axis]
    height = 1 / np.linalg.norm(normal)
    before = empty_layers(atoms)
    cell = atoms.cell.array
    cell[axis] *= 1 + gap / height
    atoms.set_cell(cell, scale_atoms=False)
    after = empty_layers(atoms)
    assert vacuum_axes(atoms).tolist() == [i == axis for i in range(3)]
    assert gap - 1e-9 <= after[axis] <= gap + before[axis] + 1e-9
    np.testing.assert_allclose(np.delete(after, axis), np.delete(before, axis), atol=1e-9)


@FEW
@given(seed=SEEDS)
def test_neither_origin_nor_order_nor_rotation_nor_image_matters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = dense_crystal(seed)
    expected = empty_layers(atoms)
    moved = atoms[rng.permutation(len(atoms))]
    moved.positions += rng.uniform(-20, 20, 3) + rng.integers(-2, 3, (len(moved), 3)) @ moved.cell.array
    moved.rotate(rng.uniform(0, 360), rng.normal(size=3), rotate_cell=True)
    np.testing.assert_allclose(empty_layers(moved), expected, atol=1e-8)
    np.testing.assert_allclose(empty_layers(atoms * (2, 1, 3)), expected, atol=1e-8)


class TestPeriodicAxes:
    """The user's word, then the pbc, then what is found."""

    def test_found_with_a_warning(self) -> None:
        with pytest.warns(
            UserWarning, match=r'^x: structure 0: the cell vector c \(12\.0 Å empty\) leads through vacuum'
        ):
            assert periodic_axes(slab(), None, 'x: structure 0').tolist() == [True, True, False]

    def test_given_without_one(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            assert periodic_axes(slab(), (True, True, True), 'x').all()
            assert periodic_axes(slab(), (True, False, False), 'x').tolist() == [True, False, False]
            assert periodic_axes(graphene(vacuum=10), None, 'x').tolist() == [True, True, False]
            assert periodic_axes(bulk('Cu'), None, 'x').all()


@pytest.mark.filterwarnings('ignore:.*leads? through vacuum')
class TestSeeders:
    """A claimed slab is treated as the slab that it is."""

    def test_supercell_repeats_the_plane(self) -> None:
        (frame,) = SEEDERS['supercell']([slab()], {'min_image_distance': 9}).frames
        assert len(frame) == 3 * 4 * 4
        np.testing.assert_array_equal(frame.cell.array[2], slab().cell.array[2])
        np.testing.assert_array_equal(frame.pbc, True)

    def test_supercell_matrix_must_leave_the_vacuum_alone(self) -> None:
        with pytest.raises(ValueError, match='a direction that is not periodic'):
            SEEDERS['supercell']([slab()], {'matrix': [1, 1, 2]})
        (frame,) = SEEDERS['supercell']([slab()], {'matrix': [1, 1, 2], 'periodic': [True, True, True]}).frames
        assert len(frame) == 6

    def test_volume_scan_stretches_the_plane(self) -> None:
        (frame,) = SEEDERS['volume_scan']([slab()], {'quantity': 'length', 'factors': [1.05]}).frames
        np.testing.assert_allclose(frame.cell.array[:2], slab().cell.array[:2] * 1.05, atol=1e-12)
        np.testing.assert_array_equal(frame.cell.array[2], slab().cell.array[2])
        np.testing.assert_array_equal(frame.positions[:, 2], slab().positions[:, 2])
        with pytest.raises(ValueError, match="use quantity 'length' for slabs and wires"):
            SEEDERS['volume_scan']([slab()], {'quantity': 'volume'})

    def test_lattice_perturbation_keeps_vacuum_and_heights_to_the_bit(self) -> None:
        frames = SEEDERS['lattice_perturbation']([slab()], {'copies': 30}).frames
        for frame in frames:
            np.testing.assert_array_equal(frame.cell.array[2], slab().cell.array[2])
            np.testing.assert_array_equal(frame.positions[:, 2], slab().positions[:, 2])
            np.testing.assert_array_equal(frame.pbc, True)
        assert np.std([frame.cell.lengths()[0] for frame in frames]) > 0.01
        expected = slab()
        expected.pbc = [True, True, False]
        assert [f.cell.tolist() for f in frames] == [
            f.cell.tolist() for f in SEEDERS['lattice_perturbation']([expected], {'copies': 30}).frames
        ]

    def test_only_angles_within_the_plane_are_checked(self) -> None:
        parameters = {'angle_range': [50, 70], 'copies': 20}
        assert SEEDERS['lattice_perturbation']([slab()], parameters).rejected == {}

    def test_oblique_vacuum_is_refused_with_the_vector_to_use(self) -> None:
        atoms = slab()
        atoms.cell[2] += [1.0, 0, 0]
        with pytest.raises(ValueError, match=r'structure 0: the vacuum vector .* perpendicular part \[0\.0, 0\.0, 16'):
            SEEDERS['lattice_perturbation']([atoms])

    def test_boxed_molecule_has_nothing_to_strain(self) -> None:
        with pytest.raises(ValueError, match='no periodic direction to strain'):
            SEEDERS['lattice_perturbation']([claimed(molecule('H2O', vacuum=6))])


def test_one_warning_a_structure_not_one_a_copy() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('default')
        SEEDERS['lattice_perturbation']([slab()], {'copies': 20})
    assert len(caught) == 1
