"""Molecular dynamics by VASP through the real engine, with the stand-in as the executable."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from fakes.vasp_standin.inputs import Incar

from aiida_mlip_al.calculations.functions import frame_of
from aiida_mlip_al.calculations.vasp_md import make_trajectory
from aiida_mlip_al.data.vasp_result import theory_of
from aiida_mlip_al.workflows.vasp_theory import vasp_level

pytestmark = pytest.mark.slow

NVT = {'ensemble': 'nvt', 'temperature_K': 600.0, 'timestep_fs': 2.0, 'steps': 12, 'seed': 5}
NVE = {**NVT, 'ensemble': 'nve'}
HOT = {
    'md': {'vasp': 'cheap', 'temperature': [300, 900], 'steps': 8, 'every': 4, 'timestep_fs': 2.0, 'equilibration': 2}
}


@pytest.fixture
def alloy():
    """Copper with nickel between, distorted; grouping it by element is not undone by doing it again."""
    atoms = bulk('Cu', cubic=True)
    atoms.symbols[1] = 'Ni'
    atoms.rattle(0.05, seed=0)
    return orm.StructureData(ase=atoms).store()


@pytest.fixture
def run_md(standin):
    def run(structure, dynamics, **inputs):
        elements = structure.get_symbols_set()
        theory = orm.Dict(vasp_level(standin.labels(sorted(elements)), elements))
        return run_get_node(
            WorkflowFactory('mlip_al.vasp_md'),
            code=standin.code,
            theory=theory,
            structure=structure,
            dynamics=orm.Dict(dynamics),
            options=standin.options,
            **inputs,
        )

    return run


def assert_is_emt(trajectory):
    """Every frame has the numbers of the calculator that the stand-in computes with, for its own atoms."""
    for row in range(trajectory.numsteps):
        atoms = frame_of(trajectory, row)
        atoms.pbc = True
        atoms.calc = EMT()
        assert trajectory.get_array('energies')[row] == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
        np.testing.assert_allclose(trajectory.get_array('forces')[row], atoms.get_forces(), atol=1e-5)
        np.testing.assert_allclose(trajectory.get_array('stress')[row], atoms.get_stress(), atol=1e-6)


def jobs_of(node):
    return sorted((job for job in node.called if isinstance(job, orm.CalcJobNode)), key=lambda job: job.pk)


def test_interleaved_alloy(standin, run_md, alloy):
    results, node = run_md(alloy, {**NVT, 'equilibration': 3, 'stride': 4})
    assert node.exit_status == 0, node.exit_message
    trajectory, report = results['trajectory'], results['report'].get_dict()
    assert list(trajectory.symbols) == ['Cu', 'Ni', 'Cu', 'Cu']
    assert trajectory.get_stepids().tolist() == [7, 11, 15]
    np.testing.assert_allclose(trajectory.get_times(), [0.014, 0.022, 0.030])
    assert_is_emt(trajectory)
    moved = np.abs(trajectory.get_positions() - alloy.get_ase().positions)
    assert 0.01 < moved.max() < 1.0, 'unwrapped'
    assert (report['n_frames'], report['n_steps'], report['n_jobs'], report['finished']) == (3, 16, 1, True)
    (call,) = standin.calls()
    assert call['incar']['MDALGO'] == '3'
    assert call['incar']['LANGEVIN_GAMMA'].split() == ['10.0', '10.0']
    assert call['incar']['RANDOM_SEED'].split() == ['6', '0', '0']
    assert call['incar']['ENCUT'] == '300'
    assert all(output.creator is not None for output in results.values())
    (job,) = jobs_of(node)
    assert all(made.creator is not None for made in (job.inputs.structure, job.inputs.kpoints))


@pytest.mark.parametrize('contcar', [False, True])
def test_killed_run_goes_on(standin, run_md, alloy, contcar):
    """Of two runs that are killed within a frame none is lost, and without a thermostat nobody can tell that there was a break."""
    whole, _ = run_md(alloy, NVE)
    standin.faults(
        {'match': {'nth_call': 2}, 'fault': 'truncate', 'frames': 5, 'contcar': contcar},
        {'match': {'nth_call': 3}, 'fault': 'truncate', 'frames': 1, 'contcar': contcar},
    )
    results, node = run_md(alloy, NVE)
    assert node.exit_status == 0, node.exit_message
    calls = standin.calls()[1:]
    assert [call['incar']['NSW'] for call in calls] == ['13', '8', '7']
    assert [call['velocities'] for call in calls] == [False, True, True]
    assert [job.exit_status for job in jobs_of(node)] == [400, 400, 0]
    trajectory, expected = results['trajectory'], whole['trajectory']
    assert trajectory.get_stepids().tolist() == list(range(1, 13))
    assert_is_emt(trajectory)
    assert len({call['incar']['RANDOM_SEED'] for call in calls}) == 3
    # The first run's velocities are drawn with the same seed.
    np.testing.assert_allclose(trajectory.get_positions(), expected.get_positions(), atol=1e-4)
    np.testing.assert_allclose(trajectory.get_array('energies'), expected.get_array('energies'), atol=1e-3)


def test_run_that_does_not_get_on(standin, run_md, alloy):
    """Killed after six frames, then twice before any: given up, and the six frames are there."""
    standin.faults(
        {'match': {'nth_call': 1}, 'fault': 'truncate', 'frames': 6},
        {'match': {}, 'fault': 'crash'},
    )
    results, node = run_md(alloy, NVT, max_restarts=9)
    assert node.exit_status == 400
    assert 'no frame' in node.exit_message
    assert results['trajectory'].get_stepids().tolist() == [1, 2, 3, 4, 5]
    assert results['report']['finished'] is False
    assert len(standin.calls()) == 3


def test_nothing_at_all(standin, run_md, alloy):
    standin.faults({'match': {}, 'fault': 'crash'})
    _, node = run_md(alloy, NVT)
    assert node.exit_status == 320
    assert 'segmentation fault' in node.exit_message


def test_number_of_restarts(standin, run_md, alloy):
    standin.faults({'match': {}, 'fault': 'truncate', 'frames': 2})
    results, node = run_md(alloy, NVT, max_restarts=2)
    assert node.exit_status == 400
    assert len(standin.calls()) == 3
    assert results['trajectory'].get_stepids().tolist() == [1, 2, 3, 4, 5]


def test_unconverged_and_broken_frames_are_dropped(standin, run_md, alloy):
    standin.faults({'match': {'incar': {'TEBEG': '600.0'}}, 'fault': 'never_converges', 'frames': [3, 7]})
    results, node = run_md(alloy, NVT)
    assert node.exit_status == 0, node.exit_message
    assert results['trajectory'].get_stepids().tolist() == [1, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    assert results['report']['n_unconverged'] == 2
    assert_is_emt(results['trajectory'])
    standin.faults({'match': {}, 'fault': 'nan', 'frames': [3]})
    results, node = run_md(alloy, {**NVT, 'steps': 4})
    assert node.exit_status == 0, node.exit_message
    assert results['trajectory'].get_stepids().tolist() == [1, 3, 4]
    assert results['report']['n_nonfinite'] == 1


def test_ramp_over_a_break(standin, run_md, alloy):
    """The equilibration is a job of its own; after a break the ramp goes on at the temperature it had."""
    standin.faults({'match': {'nth_call': 2}, 'fault': 'truncate', 'frames': 5})
    results, node = run_md(alloy, {**NVT, 'temperature_K': [300.0, 900.0], 'equilibration': 3, 'steps': 12})
    assert node.exit_status == 0, node.exit_message
    ramps = [tuple(float(call['incar'][tag]) for tag in ('TEBEG', 'TEEND', 'NSW')) for call in standin.calls()]
    assert ramps == [(300, 300, 4), (350, 900, 12), (600, 900, 7)]
    assert results['trajectory'].get_stepids().tolist() == list(range(4, 16))


def test_layer_under_pressure(standin, run_md):
    """In the plane the cell breathes, across the vacuum it does not."""
    layer = fcc111('Cu', (2, 2, 2), vacuum=7.0, orthogonal=True)
    layer.pbc = (True, True, False)
    structure = orm.StructureData(ase=layer).store()
    npt = {**NVT, 'ensemble': 'npt', 'pressure_GPa': 0.0, 'taup_fs': 100.0, 'steps': 6}
    results, node = run_md(structure, npt)
    assert node.exit_status == 0, node.exit_message
    cells = results['trajectory'].get_cells()
    assert list(results['trajectory'].pbc) == [True, True, False]
    assert np.ptp(cells[:, 0, 0]) > 1e-4
    assert np.ptp(cells[:, 1, 1]) > 1e-4
    assert np.array_equal(cells[:, 2], np.repeat(cells[:1, 2], 6, axis=0))
    np.testing.assert_allclose(cells[0, 2], layer.cell[2], atol=1e-8)
    assert standin.calls()[0]['incar']['ISIF'] == '3'
    assert Incar(standin.calls()[0]['incar']).logicals('LATTICE_CONSTRAINTS', []) == [True, True, False]


def seeds(standin, structures, chain, **inputs):
    elements = {symbol for structure in structures.values() for symbol in structure.get_symbols_set()}
    level = {
        'code': standin.code,
        'theory': orm.Dict(vasp_level(standin.labels(sorted(elements)), elements)),
        'options': orm.Dict(standin.options),
    }
    return run_get_node(
        WorkflowFactory('mlip_al.perturb_and_sample'),
        structures=structures,
        chains={'hot': orm.List(chain)},
        seed=1,
        **{'vasp': {'cheap': level}, **inputs},
    )


def test_step_of_a_chain(standin, alloy):
    """Two walkers of one structure; the frames go on to the next step."""
    chain = [HOT, {'lattice_perturbation': {'copies': 2}}]
    results, node = seeds(standin, {'alloy': alloy}, chain)
    assert node.exit_status == 0, node.exit_message
    assert len(results['frames']) == 8
    assert len(standin.calls()) == 2
    walkers = [child for child in node.called if child.process_label == 'VaspMdWorkChain']
    assert [walker.inputs.dynamics['temperature_K'] for walker in walkers] == [300, 900]
    frames = list(results['frames'].values())
    assert {tuple(frame.get_ase().get_chemical_symbols()) for frame in frames} == {('Cu', 'Ni', 'Cu', 'Cu')}


def test_walker_that_fails_costs_only_itself(standin, alloy):
    standin.faults({'match': {'incar': {'TEBEG': '900.0'}}, 'fault': 'crash'})
    results, node = seeds(standin, {'alloy': alloy}, [HOT])
    assert node.exit_status == 0, node.exit_message
    assert len(results['frames']) == 2
    assert {frame.origin['temperature_K'] for frame in results['frames'].values()} == {300.0}
    assert {frame.origin['kind'] for frame in results['frames'].values()} == {'md'}
    assert [frame.origin['index'] for frame in results['frames'].values()] == [0, 1]


def reuse(standin, alloy, *steps, changes=None, code=None, **limits):
    """Seed and label with the MD at the level of the labels, or one that differs from it."""
    chain = [{'md': {**HOT['md'], 'reuse_labels': True}}, *steps]
    labels = standin.inputs(['Cu', 'Ni'], **limits)
    level = {
        'code': code or labels['code'],
        'theory': orm.Dict(vasp_level(standin.labels(['Cu', 'Ni'], **(changes or {})), ['Cu', 'Ni'])),
        'options': orm.Dict(standin.options),
    }
    inputs = {'vasp': labels, 'batch_size': 10, 'max_failed_fraction': 0.7}
    return seeds(
        standin, {'alloy': alloy}, chain, vasp={'cheap': level}, label=inputs, split={'validation_fraction': 0.5}
    )


def test_what_the_md_computed_is_the_label(standin, alloy):
    """Frames that are kept have their labels from the MD, and only those that are changed are sent to VASP."""
    results, node = reuse(standin, alloy, {'keep': {}}, {'lattice_perturbation': {'copies': 1}})
    assert node.exit_status == 0, node.exit_message
    frames, labels = results['frames'], results['labels']
    assert sorted(frames) == sorted(labels)
    kept = sorted(name for name in labels if 'kept' in name)
    assert len(kept) == 4
    assert len(labels) == 8
    single_points = [call for call in standin.calls() if call['incar']['NSW'] == '0']
    assert len(single_points) == 4
    assert len(standin.calls()) == 6, 'and two walkers'
    for name, label in labels.items():
        atoms = frames[name].get_ase()
        atoms.calc = EMT()
        assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        assert label.energy_extrapolated == pytest.approx(label.energy + 0.4 / 3, abs=1e-6)
        np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-6)
        np.testing.assert_allclose(label.stress, atoms.get_stress(), atol=1e-6)
        assert label.split == frames[name].split
        made_of = {link.node.pk for link in label.creator.base.links.get_incoming().all()}
        assert frames[name].pk in made_of
        assert (label.creator.process_label == 'read_vasp_md') is (name in kept)
    jobs = orm.QueryBuilder().append(orm.Node, filters={'pk': labels[kept[0]].pk}, tag='label')
    jobs.append(orm.CalcJobNode, with_descendants='label')
    assert {job.process_label for job in jobs.all(flat=True)} == {'VaspMdCalculation'}
    assert len({label.theory_hash for label in labels.values()}) == 1
    assert {label.split for label in labels.values()} == {'train', 'validation'}
    assert results['dataset'].n_frames == 8
    assert {frame.info['name'] for frame in results['dataset'].iterate()} == set(labels)
    assert (results['report']['n_labelled'], results['report']['n_rejected']) == (8, 0)
    assert all(output.creator is not None for output in [*labels.values(), results['dataset'], results['report']])


@pytest.fixture
def computed(standin):
    """Return a function: frames as if VASP had computed them, with a force of each, eV/Å, at a level of theory."""

    def make(frames, forces, level):
        atoms = orm.StructureData(ase=frames[0])
        n_frames, n_atoms = len(frames), len(frames[0])
        trajectory = make_trajectory(
            atoms,
            np.arange(n_frames),
            times=np.arange(n_frames) * 0.002,
            positions=np.array([frame.positions for frame in frames]),
            cells=np.array([frame.cell.array for frame in frames]),
            energies=np.arange(n_frames) - 10.0,
            energies_extrapolated=np.full(n_frames, np.nan),
            forces=np.array([np.eye(n_atoms, 3) * force for force in forces]),
            stress=np.full((n_frames, 6), np.nan),
            converged=np.full(n_frames, True),
        )
        attributes = {'theory_hash': theory_of(level, '6.4.3').fingerprint, 'version': '6.4.3'}
        trajectory.base.attributes.set_many(attributes)
        return trajectory.store()

    return make


def test_labels_of_the_md_are_judged_as_others(standin, alloy, computed):
    """Atoms too close, a force beyond the limit and numbers that are not finite give no label, and no run of VASP either."""
    frames = [alloy.get_ase() for _ in range(4)]
    for index, frame in enumerate(frames):
        frame.rattle(0.01, seed=index)
    frames[1].positions[1] = frames[1].positions[0] + [0.3, 0, 0]
    inputs = standin.inputs(['Cu', 'Ni'])
    trajectory = computed(frames, [1.0, 1.0, 51.0, np.nan], inputs['theory'].get_dict())
    structures = {f'frame_{index}': orm.StructureData(ase=frame).store() for index, frame in enumerate(frames)}
    results, node = run_get_node(
        WorkflowFactory('mlip_al.label'),
        structures=structures,
        vasp=inputs,
        computed={'hot': trajectory},
        max_failed_fraction=0.8,
    )
    assert node.exit_status == 0, node.exit_message
    assert results['report']['reasons'] == {'too_close': 1, 'force_cap': 1, 'non_finite': 1}
    assert sorted(results['labels']) == ['frame_0']
    label = results['labels']['frame_0']
    assert (label.energy, label.stress, label.energy_extrapolated) == (-10.0, None, None)
    # VASP groups the atoms, and in the trajectory they stand in their own order.
    np.testing.assert_array_equal(label.forces, np.eye(4, 3))
    assert results['dataset'].n_frames == 1
    assert standin.calls() == []


def test_labels_of_another_theory_are_refused(standin, alloy, aiida_code_installed):
    """In one sentence, and before anything is submitted."""
    with pytest.raises(ValueError, match=r'chain `hot`, step `md`: .* level of theory of the labels, .* another ENCUT'):
        reuse(standin, alloy, changes={'incar': {**standin.labels([]).incar, 'encut': 250}})
    with pytest.raises(ValueError, match='another `kpoint_spacing`'):
        reuse(standin, alloy, changes={'kpoint_spacing': 0.3})
    other = aiida_code_installed(
        label='other', default_calc_job_plugin='vasp.vasp', filepath_executable=str(standin.code.filepath_executable)
    )
    with pytest.raises(ValueError, match='needs the code of the labels, `vasp@localhost`'):
        reuse(standin, alloy, code=other)
    chain = [{'md': {**HOT['md'], 'reuse_labels': True}}]
    emt = {'ase': {'code': standin.code, 'calculator': orm.Dict({'calculator': 'ase.calculators.emt:EMT'})}}
    with pytest.raises(ValueError, match='`reuse_labels` needs labels by VASP'):
        seeds(standin, {'alloy': alloy}, chain, label=emt)
    assert standin.calls() == []


def test_trajectories_of_another_theory_give_no_labels(standin, alloy, computed):
    inputs = standin.inputs(['Cu', 'Ni'])
    other = {**inputs['theory'].get_dict(), 'kpoint_spacing': 0.3}
    with pytest.raises(ValueError, match='`hot` in `computed` is not of the level of theory of the labels'):
        run_get_node(
            WorkflowFactory('mlip_al.label'),
            structures={'alloy': alloy},
            vasp=inputs,
            computed={'hot': computed([alloy.get_ase()], [1.0], other)},
        )


def test_unknown_level_is_one_sentence(standin, alloy):
    with pytest.raises(ValueError, match=r'no level of theory of VASP named `cheap` \(there is none\)'):
        seeds(standin, {'alloy': alloy}, [HOT], vasp={})
    with pytest.raises(ValueError, match=r'has no `code`: give `vasp.cheap.code`'):
        seeds(standin, {'alloy': alloy}, [HOT], vasp={'cheap': {'theory': orm.Dict({})}})


def test_what_vasp_cannot_run(run_md, alloy):
    layer = fcc111('Cu', (1, 1, 2), vacuum=7.0)
    npt = {**NVT, 'ensemble': 'npt', 'pressure_GPa': 0.0, 'barostat_mask': [False, False, True]}
    _, node = run_md(orm.StructureData(ase=layer), npt)
    assert node.exit_status == 310
    assert 'no cell vector to change' in node.exit_message
    with pytest.raises(ValueError, match='steps'):
        run_md(alloy, {**NVT, 'steps': 0})


def test_potcars_are_those_of_the_theory(standin, alloy):
    """Neither another file of the same name, nor none."""
    level = vasp_level(standin.labels(['Cu', 'Ni']), ['Cu', 'Ni'])
    inputs = {'code': standin.code, 'structure': alloy, 'dynamics': orm.Dict(NVT)}
    for changed, message in (
        ({'potcars': {**level['potcars'], 'Ni': {'symbol': 'Ni', 'sha512': 'other'}}}, 'no longer that of the theory'),
        ({'potential_family': 'PBE.64'}, 'no POTCAR family `PBE.64`'),
    ):
        _, node = run_get_node(WorkflowFactory('mlip_al.vasp_md'), theory=orm.Dict({**level, **changed}), **inputs)
        assert node.exit_status == 310
        assert message in node.exit_message
