"""Conserved quantities: a neighbour list or a virial that is wrong passes no test here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lmp_mace.lmp_files import Finished, alloy, calculator, last_frame, write_data

ORDER = ('O', 'Au', 'Cu')
START = """
units metal
read_data data
pair_style mace {model}
pair_coeff * * O Au Cu
timestep 0.002
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_energy_is_conserved_across_neighbour_lists(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    atoms = alloy((2, 2, 2))
    write_data(tmp_path / 'data', atoms, ORDER)
    script = (
        START.format(model=models[0])
        + """
velocity all create 3000 11 mom no
thermo_style custom step etotal temp
thermo_modify format float %.17g
thermo 10
fix integrate all nve
dump last all custom 200 dump.last id type x y z ix iy iz
dump_modify last format float %.17g
run 200
"""
    )
    done = lmp_mace(script, '--dtype', 'float64')
    assert done.returncode == 0, done.output
    assert done.status['n_neighbour_lists'] >= 5
    energies = done.thermo[:, 1] / len(atoms)
    assert len(energies) == 21
    # The oxygen atoms see several neighbours come and go; the integrator's own error is a fraction of this.
    assert np.ptp(energies) < 5e-4
    _, rows = last_frame(tmp_path / 'dump.last')
    assert np.abs(rows[:, 5:]).max() >= 1, 'no atom was wrapped: the test is too short'
    moved = atoms.copy()
    moved.symbols[:] = [ORDER[int(number) - 1] for number in rows[:, 1]]
    moved.positions = rows[:, 2:5]
    moved.calc = calculator(models[0])
    kinetic = 1.5 * 8.617343e-5 * done.thermo[-1, 2] * (len(atoms) - 1)
    np.testing.assert_allclose(done.thermo[-1, 1] - kinetic, moved.get_potential_energy(), rtol=0, atol=1e-6)


def test_npt_conserves_its_energy(lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path) -> None:
    """The conserved quantity holds P dV: a wrong virial would drift with the volume."""
    atoms = alloy((2, 2, 2))
    write_data(tmp_path / 'data', atoms, ORDER)
    script = (
        START.format(model=models[0])
        + """
velocity all create 600 11
thermo_style custom step econserve vol xy
thermo_modify format float %.17g
thermo 5
timestep 0.001
fix integrate all npt temp 600 600 0.05 tri 20000 20000 0.1
run 120
"""
    )
    done = lmp_mace(script, '--dtype', 'float64')
    assert done.returncode == 0, done.output
    conserved, volume = done.thermo[:, 1], done.thermo[:, 2]
    assert np.ptp(volume) / volume.mean() > 0.05
    assert np.ptp(done.thermo[:, 3]) > 0.05
    assert np.ptp(conserved) < 0.002 * 20000 / 1.6021765e6 * np.ptp(volume)


def test_minimisation_lowers_the_energy_of_the_models(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    """The line search needs an energy that belongs to the forces."""
    atoms = alloy((2, 2, 1))
    write_data(tmp_path / 'data', atoms, ORDER)
    script = (
        START.format(model=models[0])
        + """
thermo_style custom step pe
thermo_modify format float %.17g
thermo 1
min_style cg
minimize 0 1e-8 12 100
write_dump all custom dump.frame id type x y z modify format float %.17g
"""
    )
    done = lmp_mace(script, '--dtype', 'float64')
    assert done.returncode == 0, done.output
    assert 'max iterations' in done.output
    energies = done.thermo[:, 1]
    assert len(energies) == 13
    assert np.all(np.diff(energies) < 0)
    _, rows = last_frame(tmp_path / 'dump.frame')
    atoms.positions = rows[:, 2:]
    atoms.calc = calculator(models[0])
    np.testing.assert_allclose(energies[-1], atoms.get_potential_energy(), rtol=0, atol=1e-9)


def test_monte_carlo_swaps_see_the_new_elements(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    """`fix atom/swap` asks for energies of swapped atoms, which stand at the same places."""
    atoms = alloy((2, 2, 1))
    write_data(tmp_path / 'data', atoms, ORDER)
    script = (
        START.format(model=models[0])
        + """
fix swap all atom/swap 1 4 29 3000 ke no types 2 3
thermo_style custom step pe f_swap[1] f_swap[2]
thermo_modify format float %.17g
neigh_modify delay 0 every 1 check no
dump frame all custom 5 dump.frame id type x y z
dump_modify frame format float %.17g
run 5
"""
    )
    done = lmp_mace(script, '--dtype', 'float64')
    assert done.returncode == 0, done.output
    _, rows = last_frame(tmp_path / 'dump.frame')
    symbols = [ORDER[int(number) - 1] for number in rows[:, 1]]
    assert symbols != atoms.get_chemical_symbols()
    assert done.thermo[-1, 2] >= done.thermo[-1, 3] > 0
    swapped = atoms.copy()
    swapped.symbols[:] = symbols
    swapped.calc = calculator(models[0])
    np.testing.assert_allclose(done.thermo[-1, 1], swapped.get_potential_energy(), rtol=0, atol=1e-9)
