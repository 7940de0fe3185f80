"""Ensembles: temperatures, pressures, masks, ramps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from dynamics import Dynamics, Settings, degrees_of_freedom, prepare
from fakes.calculators import Crystal, Springs


def temperatures(atoms: Atoms, steps: int, pressure: float | None = None, **values: Any) -> tuple[np.ndarray, Dynamics]:
    """Return the temperatures of every step, without those of the centre of mass, and the dynamics."""
    settings = Settings.from_dict({'timestep_fs': 0.5, 'friction_per_fs': 0.05, **values})
    rng = np.random.default_rng(0)
    prepare(atoms, settings, 500.0, rng)
    dynamics = Dynamics(atoms, settings, 500.0, pressure, rng)
    n_degrees = degrees_of_freedom(atoms)
    found = np.empty(steps)
    for step in range(steps):
        dynamics.step()
        found[step] = 2 * atoms.get_kinetic_energy() / (n_degrees * units.kB)
    return found, dynamics


def sprung_ethanol() -> Atoms:
    """Ethanol on springs of many frequencies, out of phase."""
    atoms = molecule('CH3CH2OH')
    atoms.calc = Springs(stiffness=20.0, spread=0.1)
    atoms.get_forces()
    atoms.rattle(0.05, seed=4)
    return atoms


@pytest.mark.parametrize('thermostat', ['langevin', 'bussi'])
def test_a_small_molecule_has_the_temperature_asked_for(thermostat: str) -> None:
    atoms = sprung_ethanol()
    centre = atoms.get_center_of_mass()
    found, _ = temperatures(atoms, 10_000, thermostat=thermostat, taut_fs=10.0)
    assert found[1000:].mean() == pytest.approx(500, rel=0.04)
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-9
    assert atoms.get_center_of_mass() == pytest.approx(centre, abs=1e-9)
    if thermostat == 'langevin':  # the canonical spread of 24 degrees of freedom
        assert found[1000:].std() == pytest.approx(500 * np.sqrt(2 / 24), rel=0.15)


def test_hydrogens_are_as_warm_as_the_rest() -> None:
    atoms = molecule('CH3CH2OH')
    atoms.calc = Springs(stiffness=20.0)
    settings = Settings(friction_per_fs=0.05)
    rng = np.random.default_rng(1)
    prepare(atoms, settings, 500, rng)
    dynamics = Dynamics(atoms, settings, 500, None, rng)
    energies = np.zeros(9)
    for step in range(8000):
        dynamics.step()
        if step >= 1000:
            energies += 0.5 * atoms.get_masses() * (atoms.get_velocities() ** 2).sum(axis=1)
    warm = 2 * energies / 7000 / (3 * units.kB)
    assert warm[3:].mean() == pytest.approx(500, rel=0.05)


def test_nve_conserves_energy() -> None:
    atoms = molecule('CH3CH2OH')
    atoms.calc = Springs(stiffness=20.0)
    temperatures(atoms, 1, ensemble='nve')
    start = atoms.get_total_energy()
    dynamics = Dynamics(atoms, Settings(ensemble='nve', timestep_fs=0.1), 500, None, np.random.default_rng(0))
    for _ in range(500):
        dynamics.step()
    assert atoms.get_total_energy() == pytest.approx(start, abs=2e-4)
    assert start > 0.1


@pytest.fixture
def crystal() -> Atoms:
    atoms = bulk('Cu', cubic=True) * (2, 2, 2)
    atoms.calc = Crystal()
    return atoms


def test_stress_of_the_model_crystal_is_the_derivative_of_its_energy(crystal: Atoms) -> None:
    from ase.calculators.fd import calculate_numerical_stress

    crystal.get_forces()
    crystal.rattle(0.05, seed=1)
    crystal.positions -= crystal.positions.mean(axis=0)
    crystal.set_cell(crystal.cell.array * [1.02, 0.99, 1.01], scale_atoms=True)
    assert crystal.get_stress()[:3] == pytest.approx(
        calculate_numerical_stress(crystal, force_consistent=False)[:3], abs=1e-6
    )


@pytest.mark.parametrize('mask', [[True, True, False], [1, 1, 0], [False, True, False]])
def test_masks_free_what_they_say(crystal: Atoms, mask: list[bool]) -> None:
    before = crystal.cell.lengths()
    temperatures(crystal, 300, pressure=5.0, ensemble='npt', taup_fs=100.0, barostat_mask=mask)
    change = np.abs(crystal.cell.lengths() - before)
    assert (change[np.array(mask, dtype=bool)] > 1e-3).all()
    assert (change[~np.array(mask, dtype=bool)] == 0).all()
    assert crystal.cell.angles() == pytest.approx([90, 90, 90], abs=1e-6)


def test_a_slab_breathes_in_its_plane_and_its_vacuum_stays() -> None:
    atoms = fcc111('Cu', (2, 2, 2), vacuum=6, orthogonal=True)
    atoms.pbc = True
    atoms.calc = EMT()
    before = atoms.cell.array.copy()
    temperatures(
        atoms, 100, pressure=0.0, ensemble='npt', timestep_fs=2.0, taup_fs=100.0, barostat_mask=[True, True, False]
    )
    change = np.abs(atoms.cell.array - before)
    assert change[0, 0] > 0.01
    assert change[1, 1] > 0.01
    np.testing.assert_array_equal(atoms.cell.array[2], before[2])
    np.testing.assert_array_equal(atoms.cell.array[:, 2], before[:, 2])


def test_isotropic_keeps_the_shape(crystal: Atoms) -> None:
    crystal.set_cell(crystal.cell.array * [1.0, 1.2, 0.9], scale_atoms=True)
    before = crystal.cell.array.copy()
    temperatures(crystal, 300, pressure=5.0, ensemble='npt', taup_fs=100.0, barostat_mask='isotropic')
    ratio = crystal.cell.array.diagonal() / before.diagonal()
    assert ratio == pytest.approx(np.full(3, ratio[0]), abs=1e-12)
    assert abs(ratio[0] - 1) > 1e-3


def test_a_free_cell_changes_its_angles(crystal: Atoms) -> None:
    temperatures(crystal, 300, pressure=5.0, ensemble='npt', taup_fs=100.0)
    assert np.abs(crystal.cell.angles() - 90).max() > 1e-3


@pytest.mark.slow
def test_npt_temperature_and_volume() -> None:
    atoms = bulk('Cu', cubic=True)  # four atoms: the centre of mass is a quarter of the degrees of freedom
    atoms.calc = Crystal(bulk=0.3)
    atoms.get_forces()
    lengths = []
    rest = atoms.cell.lengths()[0]
    settings = Settings(ensemble='npt', timestep_fs=2.0, taut_fs=50.0, taup_fs=200.0, barostat_mask='isotropic')
    rng = np.random.default_rng(2)
    prepare(atoms, settings, 300, rng)
    dynamics = Dynamics(atoms, settings, 300, 10.0, rng)
    found = []
    for step in range(6000):
        dynamics.step()
        if step > 1000:
            found.append(2 * atoms.get_kinetic_energy() / (degrees_of_freedom(atoms) * units.kB))
            lengths.append(atoms.cell.lengths()[0])
    assert np.mean(found) == pytest.approx(300, rel=0.05)
    # the enthalpy V0 3B/2 (ln x)² + P V0 x³ of the relative length x is least where B ln x = -P x³
    strain = np.linspace(-0.3, 0, 30_001)
    expected = rest * np.exp(strain[np.argmin(np.abs(0.3 * strain + 10 * units.GPa * np.exp(3 * strain)))])
    assert np.mean(lengths) == pytest.approx(expected, rel=0.02)
    assert expected < 0.9 * rest


@pytest.mark.parametrize('values', [{}, {'thermostat': 'bussi', 'taut_fs': 20.0}])
def test_temperature_follows_its_target(values: dict) -> None:
    atoms = sprung_ethanol()
    _, dynamics = temperatures(atoms, 10, **values)
    dynamics.set_conditions(50.0, None)
    found = []
    for step in range(4000):
        dynamics.step()
        if step > 1000:
            found.append(atoms.get_kinetic_energy() * 2 / (24 * units.kB))
    assert np.mean(found) == pytest.approx(50, rel=0.15)


def test_npt_follows_pressure_and_temperature(crystal: Atoms) -> None:
    _, dynamics = temperatures(crystal, 10, pressure=0.0, ensemble='npt', taup_fs=100.0, barostat_mask='isotropic')
    volume = crystal.get_volume()
    dynamics.set_conditions(100.0, 20.0)
    found = []
    for step in range(2000):
        dynamics.step()
        if step > 1000:
            found.append(crystal.get_kinetic_energy() * 2 / (93 * units.kB))
    assert crystal.get_volume() < 0.9 * volume
    assert np.mean(found) == pytest.approx(100, rel=0.15)


def test_velocities_are_canonical_and_without_momentum() -> None:
    found = []
    for seed in range(400):
        atoms = molecule('CH3CH2OH')
        prepare(atoms, Settings(), 300.0, np.random.default_rng(seed))
        assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-10
        found.append(2 * atoms.get_kinetic_energy() / (degrees_of_freedom(atoms) * units.kB))
    assert np.mean(found) == pytest.approx(300, rel=0.05)
    assert np.std(found) == pytest.approx(300 * np.sqrt(2 / 24), rel=0.15)


def test_own_constraints_are_kept() -> None:
    from ase.constraints import FixAtoms

    atoms = molecule('CH3CH2OH')
    atoms.set_constraint(FixAtoms([0, 1]))
    prepare(atoms, Settings(), 300.0, np.random.default_rng(0))
    assert degrees_of_freedom(atoms) == 21
    assert not atoms.get_momenta()[:2].any()


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'ensemble': 'nph'}, 'ensemble must be one of'),
        ({'thermostat': 'berendsen'}, 'thermostat must be one of'),
        ({'steps': 0}, 'steps must be positive'),
        ({'steps': 5, 'stride': 10}, 'no frame would be recorded'),
        ({'barostat_mask': [True, False]}, 'three booleans'),
        ({'barostat_mask': [False] * 3}, 'frees no cell vector'),
        ({'barostat_mask': 'anisotropic'}, 'three booleans'),
        ({'timestep': 1.0}, 'unknown keys: timestep'),
    ],
)
def test_senseless_settings(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings.from_dict(values)


def test_structures_that_an_ensemble_cannot_treat(crystal: Atoms) -> None:
    rng = np.random.default_rng(0)
    npt = Settings(ensemble='npt')
    with pytest.raises(ValueError, match='two atoms'):
        prepare(Atoms('Cu'), Settings(), 300, rng)
    with pytest.raises(ValueError, match='three directions'):
        prepare(molecule('H2O'), npt, 300, rng)
    with pytest.raises(ValueError, match='pressure_GPa'):
        Dynamics(crystal, npt, 300, None, rng)
