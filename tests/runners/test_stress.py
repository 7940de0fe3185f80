"""Stress of slabs and wires against the derivative of the energy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.stress import voigt_6_to_full_3x3_stress
from stress import periodic_stress, span_projector

PLANE = np.array([True, True, False])
WIRE = np.array([False, True, False])


def slab(pbc: Any = (True, True, False)) -> Atoms:
    atoms = fcc111('Cu', (1, 1, 3), vacuum=6)
    atoms.rattle(0.05, seed=2)
    atoms.pbc = pbc
    return atoms


def work(atoms: Atoms, calculator: Any, strain: np.ndarray, size: float = 1e-4) -> float:
    """Return the derivative of the energy with respect to a strain, in eV."""
    energies = []
    for sign in (1, -1):
        frame = atoms.copy()
        frame.set_cell(atoms.cell.array @ (np.eye(3) + sign * size * strain), scale_atoms=False)
        frame.positions = atoms.positions @ (np.eye(3) + sign * size * strain)
        frame.calc = calculator
        energies.append(frame.get_potential_energy())
    return (energies[0] - energies[1]) / (2 * size)


def check_against_the_energy(atoms: Atoms, calculator: Any, axes: np.ndarray, tolerance: float) -> np.ndarray:
    atoms.calc = calculator
    atoms.get_forces()
    found = periodic_stress(calculator, atoms, axes)
    assert found is not None
    full, projector = voigt_6_to_full_3x3_stress(found), span_projector(atoms.cell.array, axes)
    for row in range(3):
        for column in range(row, 3):
            strain = np.zeros((3, 3))
            strain[row, column] += 0.5
            strain[column, row] += 0.5
            expected = work(atoms, calculator, projector @ strain @ projector)
            assert full[row, column] * atoms.get_volume() == pytest.approx(expected, abs=tolerance)
    return found


@pytest.mark.parametrize('pbc', [(True, True, False), (True, True, True)])
def test_slab_keeps_the_stress_of_its_plane(pbc: tuple[bool, bool, bool]) -> None:
    found = check_against_the_energy(slab(pbc), EMT(), PLANE, 1e-5)
    reference = slab(pbc)
    reference.calc = EMT()
    np.testing.assert_array_equal(found[[2, 3, 4]], 0)
    np.testing.assert_array_equal(found[[0, 1, 5]], reference.get_stress()[[0, 1, 5]])
    assert np.abs(reference.get_stress()[2:5]).min() > 1e-4, 'there was something to mask'


def test_wire_keeps_the_stress_along_itself() -> None:
    atoms = Atoms('Cu2', [[0, 0, 0], [0.3, 2.2, 0.1]], cell=[10, 4.8, 12], pbc=WIRE)
    found = check_against_the_energy(atoms, EMT(), WIRE, 1e-5)
    np.testing.assert_array_equal(found[[0, 2, 3, 4, 5]], 0)
    assert abs(found[1]) > 1e-4


def test_turned_slab() -> None:
    atoms = slab()
    atoms.rotate(50, (1, 2, 3), rotate_cell=True)
    found = check_against_the_energy(atoms, EMT(), PLANE, 1e-5)
    normal = np.cross(*atoms.cell.array[:2])
    assert np.abs(voigt_6_to_full_3x3_stress(found) @ normal).max() < 1e-12


def test_crystal_keeps_all_of_it() -> None:
    atoms = bulk('Cu', cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    found = periodic_stress(atoms.calc, atoms, atoms.pbc)
    np.testing.assert_array_equal(found, atoms.get_stress())


def test_mace_refers_to_another_volume_and_is_corrected(tmp_path: Path) -> None:
    from helpers.tiny_mace import write_committee
    from mace.calculators import MACECalculator

    (model,) = write_committee(tmp_path, ['C'], 1, atomic_energies={'C': -2.0}, scale=1.0)
    calculator = MACECalculator(model_paths=str(model), device='cpu', default_dtype='float64')
    atoms = graphene(vacuum=8)
    atoms.rattle(0.1, seed=1)
    found = check_against_the_energy(atoms, calculator, PLANE, 1e-6)
    raw = atoms.get_stress()
    assert found[0] / raw[0] > 2
    atoms.pbc = True
    assert check_against_the_energy(atoms, calculator, PLANE, 1e-6) == pytest.approx(found, rel=1e-9)


def test_no_stress_where_there_is_none() -> None:
    class Unwilling(EMT):
        def get_stress(self, atoms: Atoms) -> np.ndarray:
            raise PropertyNotImplementedError

    flat = fcc111('Cu', (1, 1, 3))
    assert flat.cell.rank == 2
    molecule = Atoms('Cu2', [[0, 0, 0], [2.2, 0, 0]], cell=[9, 9, 9])
    for atoms, calculator in ((flat, EMT()), (molecule, EMT()), (slab(), Unwilling())):
        atoms.calc = calculator
        atoms.get_forces()
        assert periodic_stress(calculator, atoms, atoms.pbc) is None


@pytest.mark.parametrize('axes', [[True] * 3, PLANE, WIRE, [False] * 3])
def test_projector(axes: Any) -> None:
    axes = np.array(axes)
    cell = np.random.default_rng(1).normal(size=(3, 3))
    projector = span_projector(cell, axes)
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-12)
    np.testing.assert_allclose(cell[axes] @ projector, cell[axes], atol=1e-12)
    assert np.trace(projector) == pytest.approx(axes.sum())
