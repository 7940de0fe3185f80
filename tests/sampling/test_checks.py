"""Distances and angles."""

import numpy as np
import pytest
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from aiida_mlip_al.sampling.checks import cell_angles, computable, min_distance_ratio, skewed_cell, too_close


def test_ratio_of_a_dimer_is_its_length_in_radii() -> None:
    atoms = Atoms('CO', [[0, 0, 0], [0, 0, 1.128]])
    assert min_distance_ratio(atoms) == pytest.approx(1.128 / (covalent_radii[6] + covalent_radii[8]))


def test_own_image_counts() -> None:
    atoms = Atoms('H', cell=[0.4, 9, 9], pbc=[True, False, False])
    assert min_distance_ratio(atoms) == pytest.approx(0.4 / 0.62)
    assert too_close(atoms, 0.65)
    assert not too_close(atoms, 0.64)
    atoms.pbc = False
    assert min_distance_ratio(atoms) == np.inf
    assert not too_close(atoms, 0.99)


def test_close_through_the_boundary_and_coincident_atoms_are_too_close() -> None:
    atoms = Atoms('Cu2', [[0.1, 5, 5], [9.9, 5, 5]], cell=[10, 10, 10], pbc=True)
    assert too_close(atoms, 0.1)
    assert too_close(Atoms('H2'), 0.1)
    assert not too_close(Atoms(), 0.5)
    assert min_distance_ratio(Atoms()) == np.inf


@pytest.mark.parametrize('seed', range(30))
def test_pairs_are_those_of_ase(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(2, 9, 3)) + rng.uniform(-1.5, 1.5, (3, 3))
    n_atoms = int(rng.integers(1, 130))
    atoms = Atoms(
        rng.choice(['H', 'O', 'Cs'], n_atoms),
        positions=rng.uniform(-10, 20, (n_atoms, 3)) * min(1, (n_atoms / 8) ** (1 / 3)),
        cell=cell * max(1.0, (n_atoms / 8) ** (1 / 3)),
        pbc=rng.random(3) < 0.5,
    )
    radii = covalent_radii[atoms.numbers]
    first, second, distance = neighbor_list('ijd', atoms, 2 * radii)
    ratio = float((distance / (radii[first] + radii[second])).min(initial=2.0))
    assert too_close(atoms, ratio * 1.001) == (ratio < 2)
    assert not too_close(atoms, ratio * 0.999)


def test_what_a_potential_can_be_evaluated_on() -> None:
    tilted = Atoms('Cu2', [[0, 0, 0], [1.5, 4, 5]], cell=[[6, 0, 0], [3, 5, 0], [0, 0, 9]], pbc=[True, True, False])
    assert computable(tilted)
    assert computable(Atoms('H'))
    for shift in ([0, 0, 0], [6, 0, 0], [-3, -5, 0], [9.01, 5, 0], [2.999, 4.999, 0.001]):
        atoms = tilted.copy()
        atoms.positions[1] = shift
        assert not computable(atoms), shift
        atoms.positions[1, 2] = 9.0
        assert computable(atoms), 'not periodic'
    flat, lost = tilted.copy(), tilted.copy()
    flat.cell[1] = 2 * flat.cell[0]
    lost.cell[2, 0] = np.nan
    assert not computable(flat)
    assert not computable(lost)
    flat.pbc = False
    assert computable(flat)


def test_angles_between_periodic_vectors_only() -> None:
    cell = Atoms(cell=[3, 4, 5, 70, 80, 100]).cell.array
    np.testing.assert_allclose(sorted(cell_angles(cell, [True] * 3)), [70, 80, 100])
    np.testing.assert_allclose(cell_angles(cell, [True, True, False]), [100])
    assert len(cell_angles(cell, [True, False, False])) == 0


def test_skewed_cell_uses_the_range() -> None:
    cell = Atoms(cell=[3, 4, 5, 90, 90, 25]).cell.array
    assert skewed_cell(cell, [True] * 3)
    assert not skewed_cell(cell, [True] * 3, (20, 160))
    assert not skewed_cell(cell, [True, False, True])
