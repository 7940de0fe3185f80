"""Displaced supercells and force constants against direct derivatives and known answers."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_al.sampling.base import parse_parameters
from aiida_mlip_al.sampling.force_constants import (
    ForceConstantsParameters,
    HarmonicCrystal,
    displaced_supercells,
    force_constants,
)

SKEWED = ((1, 1, 0), (0, 2, 1), (1, 0, 2))
Forces = Callable[[Atoms], np.ndarray]


def parameters(**values: object) -> ForceConstantsParameters:
    return parse_parameters('force_constants', ForceConstantsParameters, values)


def emt(atoms: Atoms) -> np.ndarray:
    atoms = atoms.copy()
    atoms.calc = EMT()
    return np.asarray(atoms.get_forces())


def springs(rest: Atoms, reach: float) -> Forces:
    """Forces of springs of 1 eV/Å² in all directions between neighbours of the structure at rest, images included."""
    first, second = neighbor_list('ij', rest, reach)

    def forces(atoms: Atoms) -> np.ndarray:
        moved = atoms.positions - rest.positions
        result = np.zeros_like(moved)
        np.add.at(result, first, moved[second] - moved[first])
        return result

    return forces


def constants(atoms: Atoms, forces: Forces, **values: object) -> HarmonicCrystal:
    plan = displaced_supercells(atoms, parameters(**values))
    return force_constants(
        atoms, parameters(**values), [forces(frame) for frame in plan.displaced], forces(plan.equilibrium)
    )


def derivatives(rest: Atoms, forces: Forces, atom: int, step: float = 0.01) -> np.ndarray:
    """(N, 3, 3): minus the change of all forces with each direction of one atom, by central differences."""
    columns = []
    for axis in range(3):
        pair = []
        for sign in (1, -1):
            moved = rest.copy()
            moved.positions[atom, axis] += sign * step
            pair.append(forces(moved))
        columns.append(-(pair[0] - pair[1]) / (2 * step))
    return np.array(columns).transpose(1, 2, 0)


@pytest.mark.parametrize(
    ('atoms', 'n_displacements'),
    [(bulk('Cu'), 1), (bulk('Cu', cubic=True), 1), (bulk('NaCl', 'rocksalt', a=5.64), 2), (bulk('Ti'), 1)],
    ids=['fcc', 'cubic', 'salt', 'hcp'],
)
def test_symmetry_leaves_few_displacements_of_one_atom_each(atoms: Atoms, n_displacements: int) -> None:
    plan = displaced_supercells(atoms, parameters(supercell=[2, 2, 2], displacement=0.02))
    assert len(plan.displaced) == n_displacements
    assert len(plan.equilibrium) == 8 * len(atoms)
    for frame in plan.displaced:
        lengths = np.linalg.norm(frame.positions - plan.equilibrium.positions, axis=1)
        assert np.sort(lengths)[-2:] == pytest.approx([0.0, 0.02], abs=1e-12)
        np.testing.assert_array_equal(frame.cell.array, plan.equilibrium.cell.array)
        np.testing.assert_array_equal(frame.numbers, plan.equilibrium.numbers)


def test_rows_of_the_matrix_are_the_new_vectors() -> None:
    """The transposed matrix would make another cell."""
    atoms = bulk('Ti')
    plan = displaced_supercells(atoms, parameters(supercell=SKEWED))
    np.testing.assert_array_equal(plan.matrix, SKEWED)
    np.testing.assert_allclose(plan.equilibrium.cell.array, np.array(SKEWED) @ atoms.cell.array, atol=1e-12)
    assert len(plan.equilibrium) == 2 * 5
    # Every atom of the supercell sits on an atom of the crystal.
    offsets = (plan.equilibrium.positions[:, None] - atoms.positions[None]) @ np.linalg.inv(atoms.cell.array)
    assert np.abs(offsets - np.rint(offsets)).max(axis=2).min(axis=1).max() < 1e-9


def test_supercell_is_ordered_by_atom_of_the_unit_cell() -> None:
    plan = displaced_supercells(bulk('NaCl', 'rocksalt', a=5.64, cubic=True), parameters(supercell=[1, 2, 3]))
    crystal = HarmonicCrystal(plan.equilibrium, np.zeros((48, 48, 3, 3)), plan.matrix)
    assert crystal.n_cells == 6
    np.testing.assert_array_equal(crystal.unit_atoms, np.repeat(range(8), 6))
    np.testing.assert_array_equal(
        plan.equilibrium.numbers.reshape(8, 6), plan.equilibrium.numbers[::6, None].repeat(6, 1)
    )
    for atom in range(8):
        points = {tuple(point) for point in crystal.lattice_points[crystal.unit_atoms == atom]}
        assert points == {tuple(np.array(p) - crystal.lattice_points[6 * atom]) for p in np.ndindex(1, 2, 3)}


def test_default_supercell_keeps_images_ten_angstrom_apart() -> None:
    plan = displaced_supercells(bulk('Cu', a=3.61), parameters())
    np.testing.assert_array_equal(plan.matrix, 4 * np.eye(3, dtype=int))
    near = displaced_supercells(bulk('Cu', a=3.61), parameters(min_image_distance=5))
    np.testing.assert_array_equal(near.matrix, 2 * np.eye(3, dtype=int))


@pytest.mark.parametrize('supercell', [[2, 2, 2], SKEWED], ids=['diagonal', 'skewed'])
def test_force_constants_are_second_derivatives(supercell: object) -> None:
    crystal = constants(bulk('Cu'), emt, supercell=supercell)
    np.testing.assert_allclose(crystal.force_constants[0], derivatives(crystal.supercell, emt, 0), atol=2e-3)
    assert np.abs(crystal.force_constants[0]).max() > 5
    np.testing.assert_allclose(crystal.force_constants.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(crystal.force_constants, crystal.force_constants.transpose(1, 0, 3, 2), atol=1e-9)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_force_constants_of_springs_in_random_cells_are_exact(number: int) -> None:
    rng = np.random.default_rng(number)
    cell = 3 * np.eye(3) + rng.uniform(-1.2, 1.2, (3, 3))
    atoms = Atoms('CuAg', scaled_positions=rng.random((2, 3)), cell=cell, pbc=True)
    values = {'supercell': [2, 1, 2], 'max_residual_force': 10}
    rest = displaced_supercells(atoms, parameters(**values)).equilibrium
    forces = springs(rest, 4.0)
    crystal = constants(atoms, forces, **values)
    np.testing.assert_allclose(crystal.force_constants[5], derivatives(rest, forces, 5), atol=1e-6)


def test_residual_forces_are_subtracted() -> None:
    push = np.random.default_rng(0).normal(scale=0.03, size=(8, 3))
    pushed = constants(bulk('Cu'), lambda atoms: emt(atoms) + push, supercell=[2, 2, 2], max_residual_force=0.2)
    np.testing.assert_allclose(
        pushed.force_constants, constants(bulk('Cu'), emt, supercell=[2, 2, 2]).force_constants, atol=1e-9
    )


def test_unrelaxed_structure_is_refused() -> None:
    atoms = bulk('NaCl', 'rocksalt', a=5.64)
    with pytest.raises(ValueError, match=r'not relaxed, the largest force on an atom is 0\.500 eV/Å; relax it'):
        constants(atoms, lambda frame: np.tile([0.3, 0.0, 0.4], (len(frame), 1)), supercell=[1, 1, 1])


def test_forces_must_fit_the_displacements() -> None:
    with pytest.raises(ValueError, match=r'1 displaced supercells of 8 atoms need forces \(1, 8, 3\)'):
        force_constants(bulk('Cu'), parameters(supercell=[2, 2, 2]), [np.zeros((1, 3))], np.zeros((8, 3)))


class TestLowDimensions:
    def layers(self, vacuum: float) -> Atoms:
        """Three flat square layers, evenly spaced over the cell if the vacuum is the distance of the layers."""
        return Atoms('C3', [[0, 0, 0], [0, 0, 3], [0, 0, 6]], cell=[2.5, 2.5, 6 + vacuum], pbc=[True, True, False])

    @pytest.mark.parametrize('vacuum', [3.0, 0.0, 20.0])
    def test_images_across_the_vacuum_make_no_symmetry(self, vacuum: float) -> None:
        """Were the slab a crystal, all three layers would be alike."""
        atoms = self.layers(vacuum)
        atoms.positions[:, 2] -= 4.0
        plan = displaced_supercells(atoms, parameters(min_image_distance=6))
        np.testing.assert_array_equal(plan.matrix, np.diag([3, 3, 1]))
        moved = {
            int(np.linalg.norm(frame.positions - plan.equilibrium.positions, axis=1).argmax()) // 9
            for frame in plan.displaced
        }
        assert moved == {0, 1}
        for frame in [plan.equilibrium, *plan.displaced]:
            np.testing.assert_array_equal(frame.cell.array[2], atoms.cell.array[2])
            np.testing.assert_array_equal(frame.pbc, atoms.pbc)
        np.testing.assert_allclose(plan.equilibrium.positions[:, 2], np.repeat([-4, -1, 2], 9), atol=1e-9)

    def test_force_constants_of_a_slab(self) -> None:
        atoms = self.layers(3.0)
        rest = displaced_supercells(atoms, parameters(supercell=[3, 2, 1])).equilibrium
        forces = springs(rest, 3.2)
        crystal = constants(atoms, forces, supercell=[3, 2, 1])
        for atom in (0, 6, 17):
            np.testing.assert_allclose(crystal.force_constants[atom], derivatives(rest, forces, atom), atol=1e-9)

    def test_wire_without_vacuum_vectors(self) -> None:
        atoms = Atoms('C', cell=[2, 0, 0], pbc=[True, False, False])
        plan = displaced_supercells(atoms, parameters(supercell=[4, 1, 1]))
        assert plan.equilibrium.cell.array.tolist() == [[8, 0, 0], [0, 0, 0], [0, 0, 0]]
        np.testing.assert_allclose(np.sort(plan.equilibrium.positions[:, 0]), [0, 2, 4, 6], atol=1e-9)

    @pytest.mark.parametrize(
        ('atoms', 'supercell', 'sentence'),
        [
            (molecule('H2O'), [1, 1, 1], 'has no periodic direction, so it has no phonons'),
            (Atoms('C', cell=[2, 2, 9], pbc=[1, 1, 0]), [1, 1, 2], 'a direction that is not periodic'),
            (Atoms('C', cell=[[2, 0, 0], [0, 2, 0], [1, 0, 9]], pbc=[1, 1, 0]), [1, 1, 1], 'not perpendicular'),
        ],
        ids=['molecule', 'vacuum', 'oblique'],
    )
    def test_what_cannot_be_repeated_is_refused(self, atoms: Atoms, supercell: list, sentence: str) -> None:
        with pytest.raises(ValueError, match=f'force constants: .*{sentence}'):
            displaced_supercells(atoms, parameters(supercell=supercell))


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'supercell': [2, 2, 2], 'min_image_distance': 8}, "give 'supercell' or 'min_image_distance', not both"),
        ({'supercell': [0, 1, 1]}, "'supercell' needs repetitions of at least 1"),
        ({'supercell': [[0, 1, 0], [1, 0, 0], [0, 0, 1]]}, "'supercell' needs a positive determinant"),
        ({'displacement': 0}, "'displacement' should be greater than 0"),
        ({'radius': 1}, "unknown key 'radius'"),
    ],
)
def test_bad_parameters_are_refused(values: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=f'force_constants: {sentence}'):
        parameters(**values)


def test_too_many_atoms_are_refused() -> None:
    with pytest.raises(ValueError, match="27 cells of 4 atoms exceed 'max_atoms' 100; ask for a smaller supercell"):
        displaced_supercells(bulk('Cu', cubic=True), parameters(supercell=[3, 3, 3], max_atoms=100))


def test_crystal_refuses_what_does_not_belong_together() -> None:
    cubic = bulk('Cu', cubic=True)
    with pytest.raises(ValueError, match=r'a supercell of 4 atoms needs an array \(4, 4, 3, 3\), got \(3, 3, 3, 3\)'):
        HarmonicCrystal(cubic, np.zeros((3, 3, 3, 3)), np.eye(3, dtype=int))
    with pytest.raises(ValueError, match='a supercell of 4 atoms cannot hold 3 unit cells'):
        HarmonicCrystal(cubic, np.zeros((4, 4, 3, 3)), np.diag([3, 1, 1]))
    cells = cubic.repeat((2, 1, 1))
    with pytest.raises(ValueError, match='not ordered by atom of the unit cell'):
        HarmonicCrystal(cells, np.zeros((8, 8, 3, 3)), np.diag([2, 1, 1]))
