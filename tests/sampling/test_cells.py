"""Supercell search, periodic spans and strain."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene

from aiida_mlip_al.sampling.cells import (
    minimal_repetitions,
    periodic_axes,
    periodic_projector,
    shortest_lattice_vector,
    span_projector,
    strained,
)

ALL = np.array([True, True, True])
PLANE = np.array([True, True, False])


def test_shortest_vector_of_a_skewed_cell_is_minkowski_reduced() -> None:
    cell = np.array([[3, 0, 0], [8.9, 1, 0], [0, 0, 3]])
    assert shortest_lattice_vector(cell, ALL) == pytest.approx(np.hypot(0.1, 1.0))
    assert min(np.linalg.norm(cell, axis=1)) == 3


@pytest.mark.parametrize(
    ('axes', 'expected'),
    [(ALL, 2.0), (PLANE, 3.0), ([True, False, False], 4.0), ([False, False, False], np.inf)],
)
def test_shortest_vector_counts_periodic_directions_only(axes: list[bool], expected: float) -> None:
    assert shortest_lattice_vector(np.diag([4.0, 3.0, 2.0]), axes) == expected


def test_repetitions_of_primitive_fcc_copper() -> None:
    assert minimal_repetitions(bulk('Cu', 'fcc', a=3.61).cell, ALL, 10.0) == (4, 4, 4)


def test_repetitions_of_an_orthorhombic_cell() -> None:
    cell = np.diag([4.0, 3.0, 5.0])
    assert minimal_repetitions(cell, ALL, 10.0) == (3, 4, 2)
    assert minimal_repetitions(cell, PLANE, 10.0) == (3, 4, 1)
    assert minimal_repetitions(cell, ALL, 3.0) == (1, 1, 1)


def test_equal_sizes_go_to_the_larger_image_distance() -> None:
    cell = np.array([[5, -1, -1], [-1, 5, -2], [-2, 0, 5]])
    images = [shortest_lattice_vector(cell * np.array(n)[:, None], ALL) for n in [(1, 1, 2), (1, 2, 1), (2, 1, 1)]]
    np.testing.assert_allclose(images, [5.196, 5.099, 5.385], atol=1e-3)
    assert minimal_repetitions(cell, ALL, 5.0) == (2, 1, 1)


@pytest.mark.parametrize('number', range(5))
def test_repetitions_are_enough_and_none_can_be_left_out(number: int) -> None:
    cell = np.eye(3) * 3 + np.random.default_rng(number).uniform(-1.5, 1.5, (3, 3))
    n = minimal_repetitions(cell, ALL, 7.0)
    assert shortest_lattice_vector(cell * np.array(n)[:, None], ALL) >= 7.0
    for axis in np.flatnonzero(np.array(n) > 1):
        fewer = np.array(n)
        fewer[axis] -= 1
        assert shortest_lattice_vector(cell * fewer[:, None], ALL) < 7.0


def test_periodic_axes_come_from_pbc_and_can_only_be_narrowed() -> None:
    atoms = graphene(vacuum=10)
    assert periodic_axes(atoms, None, 'x').tolist() == [True, True, False]
    assert periodic_axes(atoms, (True, False, False), 'x').tolist() == [True, False, False]
    with pytest.raises(ValueError, match="rattle: structure 3: 'periodic' names a direction"):
        periodic_axes(atoms, (True, True, True), 'rattle: structure 3')


def test_missing_periodic_vector_is_refused() -> None:
    with pytest.raises(ValueError, match='a periodic cell vector is zero'):
        periodic_axes(Atoms('H', cell=[1, 0, 1], pbc=True), None, 'x')


@pytest.mark.parametrize('axes', [ALL, PLANE, np.array([False, True, False]), ~ALL])
def test_projector_on_the_span_of_oblique_vectors(axes: np.ndarray) -> None:
    cell = np.random.default_rng(2).normal(size=(3, 3))
    projector = span_projector(cell, axes)
    np.testing.assert_allclose(cell[axes] @ projector, cell[axes], atol=1e-12)
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-12)
    assert np.trace(projector) == pytest.approx(np.count_nonzero(axes))


@pytest.mark.parametrize('axes', [ALL, PLANE, np.array([False, True, False])])
def test_projector_keeps_periodic_vectors_and_removes_the_rest(axes: np.ndarray) -> None:
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    atoms = Atoms('H', cell=np.diag([3.0, 4.0, 20.0]) @ rotation, pbc=axes)
    projector = periodic_projector(atoms, axes, 'x')
    np.testing.assert_allclose(atoms.cell.array[axes] @ projector, atoms.cell.array[axes], atol=1e-12)
    np.testing.assert_allclose(atoms.cell.array[~axes] @ projector, 0, atol=1e-12)


def test_oblique_vacuum_is_refused_with_the_vector_to_use() -> None:
    atoms = Atoms('H', cell=[[3, 0, 0], [0, 3, 0], [1, 0, 20]], pbc=PLANE)
    with pytest.raises(ValueError, match=r'not perpendicular .* perpendicular part \[0.0, 0.0, 20.0\]'):
        periodic_projector(atoms, PLANE, 'x')


def test_no_periodic_direction_is_refused() -> None:
    with pytest.raises(ValueError, match='x: the structure has no periodic direction'):
        periodic_projector(Atoms('H'), ~ALL, 'x')


def test_strain_moves_atoms_with_the_cell_and_leaves_the_source_alone() -> None:
    atoms = bulk('NaCl', 'rocksalt', a=5.6)
    strain = np.array([[0.1, 0.02, 0], [0.02, 0, 0], [0, 0, -0.05]])
    frame, deformation = strained(atoms, strain, ALL)
    np.testing.assert_array_equal(deformation, np.eye(3) + strain)
    np.testing.assert_allclose(frame.cell.array, atoms.cell.array @ deformation, atol=1e-14)
    np.testing.assert_allclose(frame.get_scaled_positions(), atoms.get_scaled_positions(), atol=1e-12)
    assert atoms == bulk('NaCl', 'rocksalt', a=5.6)


def test_vacuum_vector_is_kept_to_the_bit_even_if_not_quite_perpendicular() -> None:
    atoms = Atoms('H', cell=[[3, 0, 0], [0, 3, 0], [1e-7, 0, 20]], pbc=PLANE)
    frame, _ = strained(atoms, 0.1 * periodic_projector(atoms, PLANE, 'x'), PLANE)
    np.testing.assert_array_equal(frame.cell.array[2], atoms.cell.array[2])
    np.testing.assert_allclose(frame.cell.lengths(), [3.3, 3.3, 20])
