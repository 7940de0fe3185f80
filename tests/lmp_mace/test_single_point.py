"""Energy, forces and pressure against MACE's own calculator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from lmp_mace.lmp_files import Finished, alloy, calculator, last_frame, write_data

BAR = 1.6021765e6  # LAMMPS' nktv2p: eV/Å³ in bar
ORDER = ('O', 'Au', 'Cu')
VOIGT = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])  # LAMMPS' pxx pyy pzz pxy pxz pyz

SCRIPT = """
units metal
boundary {boundary}
read_data data
pair_style mace no_domain_decomposition
pair_coeff * * {model} {order}
compute atomic all pe/atom
compute total all reduce sum c_atomic
thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol c_total
thermo_modify format float %.17g
dump frame all custom 1 dump.frame id fx fy fz
dump_modify frame format float %.17g
run 0
"""


def single_point(
    run: Any, atoms: Atoms, model: Path, boundary: str = 'p p p', order: Sequence[str] = ORDER, dtype: str = 'float64'
) -> tuple[Finished, np.ndarray, np.ndarray]:
    """Return the run, its row of thermo output and the forces by id."""
    done = run(SCRIPT.format(model=model, boundary=boundary, order=' '.join(order)), '--dtype', dtype)
    assert done.returncode == 0, done.output
    return done, done.thermo[0], last_frame(done.folder / 'dump.frame')[1][:, 1:]


@pytest.mark.parametrize(
    ('repeat', 'triclinic'),
    [((2, 2, 2), True), ((1, 1, 1), True), ((1, 1, 3), True), ((3, 2, 2), False)],
    ids=['triclinic', 'smaller than r_max', 'needle', 'orthogonal'],
)
def test_periodic(
    repeat: tuple[int, int, int], triclinic: bool, lmp_mace: Any, models: list[Path], tmp_path: Path
) -> None:
    atoms = alloy(repeat, triclinic=triclinic)
    ids = np.random.default_rng(5).permutation(len(atoms)) + 1
    write_data(tmp_path / 'data', atoms, ORDER, ids)
    done, thermo, forces = single_point(lmp_mace, atoms, models[0])
    atoms.calc = calculator(models[0])
    wanted = atoms.get_forces()
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(thermo[1], atoms.get_potential_energy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(thermo[9], thermo[1], rtol=0, atol=1e-8)
    np.testing.assert_allclose(forces[ids - 1], wanted, rtol=0, atol=1e-10)
    pressure = -atoms.get_stress(voigt=False)[VOIGT] * BAR
    np.testing.assert_allclose(thermo[2:8], pressure, rtol=0, atol=1e-9 * np.abs(pressure).max())
    assert done.status['finished']
    assert done.status['end'] == 'finished'


def test_order_of_types(lmp_mace: Any, models: list[Path], tmp_path: Path) -> None:
    """The same crystal with the types in two orders, and wrongly named: gallium is never arsenic."""
    atoms = alloy((2, 2, 1))
    results = []
    for order in (('Cu', 'Au', 'O'), ('Au', 'O', 'Cu')):
        write_data(tmp_path / 'data', atoms, order)
        _, thermo, forces = single_point(lmp_mace, atoms, models[0], order=order)
        results.append((thermo[1], forces))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=0, atol=1e-10)
    swapped = lmp_mace(SCRIPT.format(model=models[0], boundary='p p p', order='Cu O Au'))
    assert swapped.returncode == 1
    assert 'pair_coeff says that atom type 1 is Cu, but its mass of 196.967 is that of Au' in swapped.output


def test_slab(lmp_mace: Any, models: list[Path], tmp_path: Path) -> None:
    """Open along z; the in-plane pressure against energies of strained slabs."""
    atoms = bulk('Cu', 'fcc', a=3.9, cubic=True).repeat((2, 2, 2))
    atoms.symbols[::3] = 'Au'
    atoms.symbols[1::5] = 'O'
    atoms.positions += np.random.default_rng(3).normal(scale=0.1, size=atoms.positions.shape)
    atoms.positions[:, 2] += 4.0
    atoms.set_cell([*atoms.cell.lengths()[:2], 16.0])
    atoms.pbc = (True, True, False)
    write_data(tmp_path / 'data', atoms, ORDER)
    _, thermo, forces = single_point(lmp_mace, atoms, models[0], boundary='p p f')
    atoms.calc = calculator(models[0])
    np.testing.assert_allclose(thermo[1], atoms.get_potential_energy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-10)
    for column, (row, other) in zip((2, 3, 5), ((0, 0), (1, 1), (0, 1)), strict=True):
        energies = []
        for size in (-1e-4, 1e-4):
            strain = np.eye(3)
            strain[row, other] += size / 2
            strain[other, row] += size / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=False)
            strained.positions = atoms.positions @ strain
            strained.calc = atoms.calc
            energies.append(strained.get_potential_energy())
        virial = -(energies[1] - energies[0]) / 2e-4
        np.testing.assert_allclose(thermo[column] * thermo[8] / BAR, virial, rtol=1e-5, atol=1e-4)


def test_molecule(lmp_mace: Any, models: list[Path], tmp_path: Path) -> None:
    """No periodic direction, atoms outside of the box that the first ones span."""
    atoms = Atoms('CuAuOCuO', np.random.default_rng(8).uniform(5, 9, (5, 3)), cell=np.eye(3) * 14)
    write_data(tmp_path / 'data', atoms, ORDER)
    _, thermo, forces = single_point(lmp_mace, atoms, models[0], boundary='s f m')
    atoms.calc = calculator(models[0])
    np.testing.assert_allclose(thermo[1], atoms.get_potential_energy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-10)


def test_float32(lmp_mace: Any, models: list[Path], tmp_path: Path) -> None:
    """The isolated atoms' energies do not cost digits."""
    atoms = alloy((2, 2, 2))
    write_data(tmp_path / 'data', atoms, ORDER)
    _, thermo, forces = single_point(lmp_mace, atoms, models[0], dtype='float32')
    atoms.calc = calculator(models[0])
    wanted = atoms.get_potential_energy()
    assert abs(wanted) > 5e4
    np.testing.assert_allclose(thermo[1], wanted, rtol=0, atol=2e-4)
    assert thermo[1] != wanted
    np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-4)
