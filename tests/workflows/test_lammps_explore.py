"""Exploration with LAMMPS through the real engine: lmp-mace, with real committees of untrained MACE models."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from aiida_mlip_al.data import ModelData

pytestmark = pytest.mark.slow


@pytest.fixture
def lmp_mace(aiida_code_installed):
    """lmp-mace beside the Python that runs the tests, as a code on localhost."""
    return aiida_code_installed(label='lmp-mace', filepath_executable=str(Path(sys.executable).with_name('lmp-mace')))


@pytest.fixture
def make_committee(tmp_path):
    """Return a factory of committees as nodes, and of their calculators: ``make_committee(['Ga', 'As'], 2)``."""
    from helpers.tiny_mace import write_committee
    from mace.calculators import MACECalculator

    def make(elements, members=2, **settings):
        paths = write_committee(tmp_path / ''.join(elements), elements, members, **settings)
        nodes = {
            f'member_{index:02d}': ModelData.from_path(path, elements=sorted(elements)).store()
            for index, path in enumerate(paths)
        }
        return nodes, [MACECalculator(str(path), device='cpu', default_dtype='float64') for path in paths]

    return make


def gallium_arsenide():
    """Zincblende in a cell that is neither in LAMMPS' frame of reference nor right-handed, arsenic first."""
    atoms = bulk('GaAs', 'zincblende', a=5.65) * (2, 1, 2)
    atoms = atoms[[1, 0, 3, 2, 7, 6, 5, 4]]
    atoms.rotate(35, (1, 2, 3), rotate_cell=True)
    atoms.set_cell(atoms.cell[[1, 0, 2]])
    atoms.rattle(0.05, seed=1)
    return atoms


def ternary():
    """Chlorine, sodium and magnesium, in an order that is that of no list, far outside of their cell."""
    atoms = bulk('NaCl', 'rocksalt', a=5.2, cubic=True)
    atoms.symbols[[2, 5]] = 'Mg'
    atoms.positions += [30.0, -17.0, 4.0]
    atoms.rattle(0.05, seed=2)
    return atoms[[3, 6, 0, 5, 1, 2, 7, 4]]


def slab():
    """Two layers of gold and copper; the third direction is free and its vector is tilted."""
    atoms = fcc111('Au', (2, 2, 2), a=4.0, vacuum=4.0)
    atoms.symbols[[0, 5]] = 'Cu'
    atoms.cell[2] = [3.0, 1.0, 11.0]
    atoms.rattle(0.05, seed=3)
    return atoms


def water():
    """A molecule without a cell."""
    atoms = molecule('H2O')
    atoms.rotate(50, (1, 1, 0))
    return atoms


def run(code, atoms, committee, settings, **inputs):
    return run_get_node(
        WorkflowFactory('mlip_al.explore'),
        structures={'start': orm.StructureData(ase=atoms).store()},
        committee=committee,
        settings=orm.Dict({'walkers': 1, 'dtype': 'float64', 'timestep_fs': 1.0, **settings}),
        **{'lammps': {'code': code}, 'seed': 5, **inputs},
    )


def frames_of(trajectory):
    """Return the frames with their energies and forces."""
    for row, step in enumerate(trajectory.get_stepids()):
        atoms = Atoms(
            trajectory.symbols,
            trajectory.get_positions()[row],
            cell=trajectory.get_cells()[row],
            pbc=trajectory.pbc,
        )
        yield step, atoms, trajectory.get_array('energies')[row], trajectory.get_array('forces')[row]


CASES = {
    'triclinic': (gallium_arsenide, ['Ga', 'As'], {'ensemble': 'npt', 'pressure': 1.0, 'thermostat': 'nose-hoover'}),
    'ternary': (ternary, ['Cl', 'Na', 'Mg'], {'ensemble': 'nvt', 'thermostat': 'csvr', 'wrap': True}),
    'slab': (slab, ['Au', 'Cu'], {'ensemble': 'npt', 'pressure': 0.0, 'barostat_mask': [True, True, False]}),
    'molecule': (water, ['O', 'H'], {'ensemble': 'nve'}),
}


@pytest.mark.parametrize('case', CASES)
def test_frames_are_of_the_structure_and_their_numbers_of_the_models(lmp_mace, make_committee, case):
    make, elements, settings = CASES[case]
    start = make()
    committee, calculators = make_committee(elements)
    results, node = run(lmp_mace, start, committee, {'steps': 12, 'check_interval': 4, 'temperature': 400, **settings})
    assert node.exit_status == 0, node.exit_message
    trajectory, deviation = results['trajectories']['job_00_walker_00'], results['deviations']['job_00_walker_00']
    assert deviation.base.attributes.get('stop_reason') == 'finished'
    np.testing.assert_array_equal(deviation.get_array('step'), [4, 8, 12])
    np.testing.assert_allclose(trajectory.get_times(), [0.004, 0.008, 0.012])
    assert list(trajectory.symbols) == start.get_chemical_symbols()
    assert tuple(trajectory.pbc) == tuple(start.pbc)
    for row, (_, atoms, energy, forces) in enumerate(frames_of(trajectory)):
        members = [(calculator.get_potential_energy(atoms), calculator.get_forces(atoms)) for calculator in calculators]
        assert energy == pytest.approx(np.mean([member[0] for member in members]), abs=1e-6)
        np.testing.assert_allclose(forces, np.mean([member[1] for member in members], axis=0), atol=1e-6)
        spread = np.linalg.norm(np.std([member[1] for member in members], axis=0), axis=1)
        assert deviation.max_force_deviation[row] == pytest.approx(spread.max(), abs=1e-6)
        # The atoms are those of the structure, not far from where they were, in a cell that is turned as it was.
        moved = atoms.positions - start.positions
        if settings.get('wrap'):
            moved -= np.round(moved @ np.linalg.inv(atoms.cell)) @ atoms.cell
            scaled = atoms.get_scaled_positions(wrap=False)
            assert ((scaled > -1e-9) & (scaled < 1 + 1e-9)).all()
        assert np.abs(moved).max() < 0.5
        assert np.abs(atoms.cell.array - start.cell.array).max() < 0.3
    changed = np.abs(trajectory.get_cells()[-1] - start.cell.array).max()
    assert (changed > 1e-5) == (settings['ensemble'] == 'npt')
    thermo = results['thermo']['job_00']
    rows = np.isin(thermo.get_array('Step'), [4, 8, 12])
    np.testing.assert_allclose(thermo.get_array('Temp')[rows], deviation.get_array('temperature_K'))


def test_atoms_that_are_exchanged_keep_the_places_of_their_elements(lmp_mace, make_committee):
    start = bulk('Cu', cubic=True) * (2, 1, 1)
    start.symbols[[1, 4, 6]] = 'Au'
    start.rattle(0.05, seed=4)
    committee, (first, second) = make_committee(['Au', 'Cu'])
    swaps = [{'elements': ['Cu', 'Au'], 'every': 2, 'attempts': 20, 'temperature': 1e6}]
    results, node = run(lmp_mace, start, committee, {'steps': 12, 'check_interval': 4, 'swaps': swaps})
    assert node.exit_status == 0, node.exit_message
    trajectory = results['trajectories']['job_00_walker_00']
    assert list(trajectory.symbols) == start.get_chemical_symbols()
    jumps = 0
    for _, atoms, energy, forces in frames_of(trajectory):
        assert energy == pytest.approx(np.mean([c.get_potential_energy(atoms) for c in (first, second)]), abs=1e-6)
        np.testing.assert_allclose(forces, np.mean([c.get_forces(atoms) for c in (first, second)], axis=0), atol=1e-6)
        jumps += int((np.linalg.norm(atoms.positions - start.positions, axis=1) > 1.0).sum())
    assert jumps


@pytest.mark.parametrize(
    ('settings', 'reason'),
    [
        ({'upper': 1e-7}, 'upper_level'),
        ({'distance_limits': [{'pair': [0, 2], 'min': 2.0}]}, 'distance_limit'),
    ],
)
def test_walker_that_reaches_a_limit_ends_with_the_frame_that_did(lmp_mace, make_committee, settings, reason):
    committee, _ = make_committee(['H', 'O'])
    results, node = run(lmp_mace, water(), committee, {'steps': 40, 'check_interval': 4, **settings})
    assert node.exit_status == 0, node.exit_message
    deviation = results['deviations']['job_00_walker_00']
    assert deviation.base.attributes.get('stop_reason') == reason
    assert deviation.base.attributes.get('stopped_early') is True
    assert deviation.n_frames == results['trajectories']['job_00_walker_00'].numsteps == 1
    assert results['reports']['job_00']['ends'] == {reason: 1}


def test_mistake_in_the_script_is_told_in_lammps_words(lmp_mace, make_committee):
    committee, _ = make_committee(['H', 'O'])
    _, node = run(
        lmp_mace, water(), committee, {'steps': 8, 'check_interval': 4, 'before_run': 'fix wall all nonsense'}
    )
    assert node.exit_status == 401
    assert 'nonsense' in node.exit_message


# The program ends in the middle of a run, as if it had been killed, the first time that it gets there.
KILLED = """fix move all nve
if "${continued} == 0" then "run 14 upto" "quit 0"
"""


def test_interrupted_walker_goes_on_from_its_restart_file(lmp_mace, make_committee):
    committee, (first, second) = make_committee(['H', 'O'])
    settings = {'ensemble': 'nve', 'steps': 32, 'check_interval': 4, 'restart_interval': 6, 'temperature': 300}
    whole, _ = run(lmp_mace, water(), committee, settings)
    results, node = run(lmp_mace, water(), committee, {**settings, 'before_run': KILLED})
    assert node.exit_status == 0, node.exit_message
    (walker,) = [child for child in node.called if child.process_label == 'LammpsExploreWorkChain']
    parts = [child for child in walker.called if child.process_label == 'LammpsExploreCalculation']
    assert [part.exit_status for part in parts] == [400, 0]
    assert parts[1].inputs.files.restart.base.attributes.get('step') == 12
    deviation, expected = results['deviations']['job_00_walker_00'], whole['deviations']['job_00_walker_00']
    np.testing.assert_array_equal(deviation.get_array('step'), np.arange(4, 33, 4))
    # Without random forces the continuation is the same trajectory.
    for name in ('energy', 'temperature_K', 'max_force_deviation'):
        np.testing.assert_allclose(deviation.get_array(name), expected.get_array(name), rtol=1e-5)
    trajectory = results['trajectories']['job_00_walker_00']
    np.testing.assert_allclose(
        trajectory.get_positions(), whole['trajectories']['job_00_walker_00'].get_positions(), atol=1e-5
    )
    for _, atoms, energy, _ in frames_of(trajectory):
        assert energy == pytest.approx(np.mean([c.get_potential_energy(atoms) for c in (first, second)]), abs=1e-6)
    assert results['reports']['job_00']['n_parts'] == 2
    # From the frames back to both jobs.
    joined = trajectory.creator
    assert {
        link.node.creator.pk for link in joined.base.links.get_incoming().all() if 'trajectories' in link.link_label
    } == {part.pk for part in parts}


def test_native_lammps_gets_a_converted_model_and_its_deviations_afterwards(lmp_mace, python_code, make_committee):
    from aiida_mlip_al.lammps.settings import LammpsExploreSettings
    from aiida_mlip_al.workflows.explore_engines import conversion

    start = gallium_arsenide()
    committee, calculators = make_committee(['Ga', 'As'])
    settings = {'steps': 12, 'check_interval': 4, 'pair_style': 'mace', 'temperature': 300}
    options = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}}
    python = {'code': python_code, 'metadata': {'options': options}}
    native = {
        'convert': {**python, **conversion(LammpsExploreSettings(**settings, dtype='float64'))},
        'deviate': {**python, 'settings': orm.Dict({'descriptors': 'features', 'dtype': 'float64'})},
    }
    results, node = run(lmp_mace, start, committee, settings, **native)
    assert node.exit_status == 0, node.exit_message
    (walker,) = [child for child in node.called if child.process_label == 'LammpsExploreWorkChain']
    script = walker.inputs.lammps.script.get_content()
    assert 'pair_style      mace no_domain_decomposition' in script
    assert 'pair_coeff      * * model_00.model-lammps.pt As Ga' in script
    assert walker.inputs.lammps.files.converted.creator.process_type == 'aiida.calculations:core.shell'
    trajectory, deviation = results['trajectories']['job_00_walker_00'], results['deviations']['job_00_walker_00']
    np.testing.assert_array_equal(deviation.get_array('step'), [4, 8, 12])
    for row, (_, atoms, energy, forces) in enumerate(frames_of(trajectory)):
        members = [(calculator.get_potential_energy(atoms), calculator.get_forces(atoms)) for calculator in calculators]
        assert energy == pytest.approx(np.mean([member[0] for member in members]), abs=1e-6)
        np.testing.assert_allclose(forces, np.mean([member[1] for member in members], axis=0), atol=1e-6)
        spread = np.linalg.norm(np.std([member[1] for member in members], axis=0), axis=1)
        assert deviation.max_force_deviation[row] == pytest.approx(spread.max(), abs=1e-6)
    assert len(deviation.get_array('descriptors')) == 3


# Oxygen and a hydrogen are held at 1.3 Å; the bond is 0.97 Å long.
RESTRAINT = """colvar {
  name bond
  distance {
    group1 { atomNumbers 1 }
    group2 { atomNumbers 2 }
  }
}
harmonic {
  colvars bond
  centers 1.3
  forceConstant 20.0
}
"""


def test_bias_begins_with_its_iteration_and_is_in_nothing_that_is_recorded(lmp_mace, make_committee):
    committee, calculators = make_committee(['H', 'O'])
    settings = {
        'steps': 80,
        'check_interval': 40,
        'temperature': 10,
        'friction_per_fs': 0.1,
        'max_temperature_factor': 1e6,
        'bias': {'colvars': 'restraint.in', 'start_iteration': 2},
    }
    bias = orm.SinglefileData.from_string(RESTRAINT, filename='colvars.in')
    history = orm.Dict({'rows': [{}]}).store()
    lengths = {}
    for iteration, inputs in {1: {}, 2: {'history': history}}.items():
        results, node = run(lmp_mace, water(), committee, settings, bias=bias, **inputs)
        assert node.exit_status == 0, node.exit_message
        frames = list(frames_of(results['trajectories']['job_00_walker_00']))
        lengths[iteration] = frames[-1][1].get_distance(0, 1)
        for _, atoms, energy, forces in frames:
            assert energy == pytest.approx(np.mean([c.get_potential_energy(atoms) for c in calculators]), abs=1e-6)
            np.testing.assert_allclose(forces, np.mean([c.get_forces(atoms) for c in calculators], axis=0), atol=1e-6)
    assert lengths[2] - 0.1 > lengths[1]
    assert lengths[2] == pytest.approx(1.3, abs=0.1)
