"""What a committee predicts for structures, against what is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.eos import EquationOfState
from ase.units import GPa


def test_equation_of_state_of_copper() -> None:
    """EMT's copper: V0 11.565 Å³, B 134.4 GPa (ASE's tutorial gives them for a wider range); found from a cell far off."""
    import properties

    found = []
    for a in (3.6, 3.8):
        atoms = bulk('Cu', a=a)
        atoms.calc = EMT()
        found.append(properties.equation_of_state(atoms))
        assert atoms.cell.array == pytest.approx(bulk('Cu', a=a).cell.array)
    volumes = np.linspace(0.95, 1.05, 11) * found[0]['volume']
    energies = []
    for volume in volumes:
        atoms = bulk('Cu', a=(4 * volume) ** (1 / 3))
        atoms.calc = EMT()
        energies.append(atoms.get_potential_energy())
    volume, _, modulus = EquationOfState(volumes, energies, eos='birchmurnaghan').fit()
    for one in found:
        assert one['volume'] == pytest.approx(volume, rel=2e-4)
        assert one['bulk_modulus'] == pytest.approx(modulus / GPa, rel=0.01)
    assert 11.4 < volume < 11.7
    assert 125 < modulus / GPa < 145


class Spring(Calculator):
    """Two atoms on a spring of constant k (eV/Å²) and length 1 Å, which may push energy into the system."""

    implemented_properties = ('energy', 'forces')

    def __init__(self, k: float, pump: float = 0.0) -> None:
        super().__init__()
        self.k, self.pump = k, pump

    def calculate(self, atoms=None, properties=None, system_changes=None) -> None:
        super().calculate(atoms, properties, system_changes)
        vector = self.atoms.positions[1] - self.atoms.positions[0]
        length = np.linalg.norm(vector)
        force = self.k * (length - 1) * vector / length
        forces = np.array([force, -force]) * (1 + self.pump)
        self.results = {'energy': 0.5 * self.k * (length - 1) ** 2, 'forces': forces}


def test_frequency_of_a_spring() -> None:
    """ω² = k / μ: with k = 20 eV/Å² and masses 12 and 16 u, 26.7 THz. The other five are zero but for the displacements."""
    import properties

    atoms = Atoms('CO', [[0, 0, 0], [0, 0, 1.05]], calculator=Spring(20.0))
    atoms.set_masses([12.0, 16.0])
    found = properties.frequencies(atoms)
    mu = 12 * 16 / 28 * 1.66053906660e-27
    k = 20 * 1.602176634e-19 / 1e-20
    assert found[-1] == pytest.approx(np.sqrt(k / mu) / (2 * np.pi) / 1e12, rel=1e-3)
    assert np.abs(found[:5]) == pytest.approx(0, abs=0.5)


class TestDynamics:
    SETTINGS = {'temperature_K': 30.0, 'steps': 300, 'timestep_fs': 2.0, 'seed': 1}

    def test_argon(self) -> None:
        """A crystal of argon: hardly any drift, and the first neighbours at a / √2."""
        import properties

        atoms = bulk('Ar', cubic=True, a=5.3).repeat(2)
        atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0, smooth=True)
        found = properties.dynamics(atoms, **self.SETTINGS)
        assert abs(found['drift']) < 0.05
        assert 5 < found['temperature_K'] < 45
        rdf = found['rdf']
        assert rdf['peak'] == pytest.approx(5.3 / 2**0.5, abs=0.15)
        r, g = np.array(rdf['r']), np.array(rdf['g'])
        first = r < 4.5
        neighbours = np.sum(g[first] * 4 * np.pi * r[first] ** 2 * 0.1) * 4 / 5.3**3
        assert neighbours == pytest.approx(12, rel=0.01)

    def test_drift_is_the_slope_of_the_total_energy(self) -> None:
        """Forces that are no gradient: the kinetic energy of free atoms in a constant field of force grows."""
        import properties

        class Field(Spring):
            def calculate(self, atoms=None, properties=None, system_changes=None) -> None:
                super().calculate(atoms, properties, system_changes)
                self.results['energy'] = 2.0 * self.steps * self.slope * 0.002
                self.results['forces'] = np.zeros((2, 3))
                self.steps += 1

        calculator = Field(0.0)
        calculator.steps, calculator.slope = 0, 0.005
        atoms = Atoms('Ar2', [[0, 0, 0], [0, 0, 4]], calculator=calculator)
        assert properties.dynamics(atoms, **self.SETTINGS)['drift'] == pytest.approx(5.0, rel=1e-6)

    def test_that_runs_away(self) -> None:
        import properties

        atoms = Atoms('H2', [[0, 0, 0], [0, 0, 1.1]], calculator=Spring(-50.0))
        with pytest.raises(properties.FailedPropertyError, match='ran away after'):
            properties.dynamics(atoms, **{**self.SETTINGS, 'timestep_fs': 1.0})


def test_job(job, committee_files) -> None:
    """A molecule and a crystal with models that were never trained: what has no value says why, the rest is there."""
    structures = [molecule('CH3CH2OH'), bulk('C'), bulk('C', 'fcc', a=2.5)]
    config = {
        'models': [str(file) for file in committee_files[:1]],
        'equation_of_state': True,
        'frequencies': False,
        'dynamics': {'temperature_K': 50.0, 'steps': 20, 'timestep_fs': 0.2, 'seed': 3},
    }
    status = job.run_here('properties', config, structures)
    assert status['finished'], status
    assert status['n_structures'] == 3
    lines = [json.loads(line) for line in (job.folder / 'properties.jsonl').read_text().splitlines()]
    assert [line['index'] for line in lines] == [0, 1, 2]
    assert not {'drift', 'rdf'} & {*lines[2]['values'], *lines[2]['problems']}, 'one atom does not move'
    assert 'volume' not in lines[0]['values']
    assert 'volume' in lines[1]['values']
    for line in lines:
        assert (
            (line['values']['volume'] is None) == ('volume' in line['problems']) if 'volume' in line['values'] else True
        )
    for line in lines[:2]:
        assert np.isfinite(line['values']['drift'])
        assert len(line['values']['rdf']['g']) == 60


def test_mean_of_the_members(job, committee_files, ethanol) -> None:
    import properties
    from committee import Committee

    members = [Committee([file], 'float64') for file in committee_files]
    calculator = properties.CommitteeMean(Committee(committee_files, 'float64'))
    ethanol.calc = calculator
    alone = [member.predict([ethanol]) for member in members]
    assert ethanol.get_potential_energy() == pytest.approx(np.mean([one.energies[0, 0] for one in alone]), abs=1e-9)
    assert ethanol.get_forces() == pytest.approx(np.mean([one.forces[0] for one in alone], axis=0), abs=1e-9)


def test_bad_input_ends_with_one_sentence(job, committee_files) -> None:
    config = {'models': [str(committee_files[0])], 'volume': True}
    assert 'unknown keys: volume' in job.run_here('properties', config, [molecule('H2O')])['error']
    assert 'do not know Si' in job.run_here('properties', {'models': config['models']}, [bulk('Si')])['error']
