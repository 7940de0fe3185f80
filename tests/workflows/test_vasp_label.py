"""Labels by VASP through the real engine and aiida-vasp, with the stand-in as the executable."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_mlip_al.data import FrameData

pytestmark = pytest.mark.slow


def run(**inputs):
    return run_get_node(WorkflowFactory('mlip_al.label'), **inputs)


@pytest.fixture
def alloys():
    """Return a factory of distorted, strained cells with interleaved copper and nickel."""

    def make(count):
        structures = {}
        for index in range(count):
            atoms = bulk('Cu', cubic=True)
            atoms.symbols[[1, 3]] = 'Ni'
            atoms.set_cell(atoms.cell * (1.0 - 0.02 * index), scale_atoms=True)
            atoms.rattle(0.05, seed=index)
            structures[f'frame_{index:03d}'] = orm.StructureData(ase=atoms).store()
        return structures

    return make


def assert_is_emt(label, structure):
    """Compare with the calculator that the stand-in computes with."""
    atoms = structure.get_ase()
    atoms.calc = EMT()
    assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    # A third of the T S of SIGMA = 0.1 eV for each ion, with Methfessel and Paxton's first order.
    assert label.energy_extrapolated == pytest.approx(label.energy + 0.1 * len(atoms) / 3, abs=1e-6)
    np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-6)
    np.testing.assert_allclose(label.stress, atoms.get_stress(), atol=1e-6)


def test_interleaved_alloys(standin, alloys):
    """Free energy, forces in the structure's own order, stress in ASE's sign; what fails for good costs nobody else."""
    structures = alloys(3)
    atoms = bulk('Cu', cubic=True)
    atoms.positions[1] = atoms.positions[0] + [0.3, 0, 0]
    structures['squeezed'] = orm.StructureData(ase=atoms).store()
    results, node = run(
        structures=structures,
        vasp=standin.inputs(['Cu', 'Ni']),
        batch_size=1,
        max_concurrent=2,
        max_failed_fraction=0.5,
    )
    assert node.exit_status == 0, node.exit_message
    assert sorted(results['labels']) == ['frame_000', 'frame_001', 'frame_002']
    for name, label in results['labels'].items():
        assert_is_emt(label, structures[name])
        assert structures[name].pk in {ancestor.pk for ancestor in ancestors(label)}
    assert results['report']['reasons'] == {'too_close': 1}
    assert len(standin.calls()) == 3, 'a structure that is not worth computing is not computed'
    assert results['dataset'].n_frames == 3
    assert results['dataset'].base.attributes.get('theory') == 'VASP FAKE(ENCUT=300)'
    called = {'pk': {'in': [process.pk for process in node.called_descendants]}}
    query = orm.QueryBuilder().append(WorkflowFactory('vasp.v2.vasp'), filters=called)
    assert query.count() == 3, "those who query for aiida-vasp's work chain find them"


def ancestors(node):
    query = orm.QueryBuilder().append(orm.Node, filters={'pk': node.pk}, tag='node')
    return query.append(orm.Data, with_descendants='node').all(flat=True)


def test_unconverged_electrons(standin, alloys):
    """One is cured by what aiida-vasp's handlers change, which is recorded; one is never, and is no label."""
    structures = alloys(3)
    first, second = (fingerprint(structures[f'frame_{index:03d}']) for index in (0, 1))
    standin.faults(
        {'match': {'hash': first}, 'fault': 'unconverged', 'steps': 100},
        {'match': {'hash': second}, 'fault': 'never_converges'},
    )
    inputs = standin.inputs(['Cu', 'Ni'], max_iterations=2, retries=[{'algo': 'all', 'nelm': 70}])
    results, node = run(structures=structures, vasp=inputs, batch_size=1, max_concurrent=3, max_failed_fraction=0.4)
    assert node.exit_status == 0, node.exit_message
    assert sorted(results['labels']) == ['frame_000', 'frame_002']
    assert_is_emt(results['labels']['frame_000'], structures['frame_000'])
    assert results['report']['reasons'] == {'unconverged': 1}
    assert results['report']['changed']['frame_000']['nelm'] == [None, 150]
    assert 'frame_002' not in results['report']['changed']
    hopeless = [call for call in standin.calls() if call['hash'] == second]
    assert [call['incar'].get('ALGO', 'normal').lower() for call in hopeless][-1] == 'all', 'the retry came'
    hashes = {label.theory_hash for label in results['labels'].values()}
    assert len(hashes) == 1, 'more electronic steps are no other theory'


def fingerprint(structure):
    from fakes.vasp_standin.inputs import fingerprint as hash_of

    atoms = structure.get_ase()
    return hash_of(atoms.get_chemical_symbols(), atoms.cell.array, atoms.positions)


@pytest.mark.parametrize('fault', ['crash', 'nan'])
def test_failed_runs(standin, alloys, fault):
    """No file at all, and forces that aiida-vasp's parser trips over: one attempt more, then a failure with its reason."""
    structures = alloys(1)
    standin.faults({'match': {}, 'fault': fault})
    _, node = run(structures=structures, vasp=standin.inputs(['Cu', 'Ni']), batch_size=1)
    assert node.exit_status == 401
    assert '1 no_result' in node.exit_message
    assert len(standin.calls()) == 2


def test_crash_that_does_not_come_again(standin, alloys):
    structures = alloys(1)
    standin.faults({'match': {'nth_of_structure': 1}, 'fault': 'crash'})
    results, node = run(structures=structures, vasp=standin.inputs(['Cu', 'Ni']), batch_size=1)
    assert node.exit_status == 0, node.exit_message
    assert_is_emt(results['labels']['frame_000'], structures['frame_000'])


def test_batch(standin, alloys):
    """Five in one job: two are cured by runs of their own, one crashes for good, and the others are not run again."""
    structures = alloys(5)
    hashes = {name: fingerprint(structure) for name, structure in structures.items()}
    standin.faults(
        {'match': {'hash': hashes['frame_001']}, 'fault': 'unconverged', 'steps': 100},
        {'match': {'hash': hashes['frame_003']}, 'fault': 'crash'},
        {'match': {'hash': hashes['frame_004']}, 'fault': 'unconverged', 'steps': 100},
    )
    results, node = run(
        structures=structures,
        vasp=standin.inputs(['Cu', 'Ni']),
        batch_size=5,
        max_concurrent=1,
        max_failed_fraction=0.3,
    )
    assert node.exit_status == 0, node.exit_message
    assert sorted(results['labels']) == [f'frame_00{index}' for index in (0, 1, 2, 4)]
    for name, label in results['labels'].items():
        assert_is_emt(label, structures[name])
    assert results['report']['reasons'] == {'no_result': 1}
    assert results['dataset'].n_frames == 4
    assert len({label.theory_hash for label in results['labels'].values()}) == 1, (
        'alone or in a batch, it is one theory'
    )
    times = {name: [call['hash'] for call in standin.calls()].count(value) for name, value in hashes.items()}
    assert times['frame_000'] == times['frame_002'] == 1
    assert times['frame_001'] >= 2
    assert times['frame_004'] >= 2
    jobs = sorted(jobs_of(node), key=lambda job: job.pk)
    assert len(jobs) >= 4
    assert all(job.mtime <= later.ctime for job, later in pairwise(jobs)), 'one job is in flight, as was asked for'
    batches = [child for child in node.called_descendants if child.process_label == 'VaspBatchCalculation']
    assert len(batches) == 1
    names = batches[0].base.repository.list_object_names('000')
    assert 'POSCAR' in names
    assert 'POTCAR' not in names, 'its licence forbids that'


def jobs_of(node):
    return [child for child in node.called_descendants if isinstance(child, orm.CalcJobNode)]


def test_killed_batch_is_continued(standin, alloys):
    """What the time limit cut off is sent again; what was done before is not."""
    structures = alloys(3)
    second = fingerprint(structures['frame_001'])
    standin.faults({'match': {'hash': second, 'nth_of_structure': 1}, 'fault': 'slow', 'seconds': 40})
    inputs = standin.inputs(['Cu', 'Ni'])
    inputs['options']['append_text'] = ''
    inputs['options']['prepend_text'] = '(sleep 12; kill -9 $$) >/dev/null 2>&1 &'
    results, node = run(structures=structures, vasp=inputs, batch_size=3, max_concurrent=1)
    assert node.exit_status == 0, node.exit_message
    assert sorted(results['labels']) == sorted(structures)
    times = {name: [call['hash'] for call in standin.calls()].count(fingerprint(s)) for name, s in structures.items()}
    assert times == {'frame_000': 1, 'frame_001': 2, 'frame_002': 1}


def test_wavefunctions_of_the_frame_before(standin):
    """Within a trajectory each frame begins with the WAVECAR of the one before; a frame of another one does not."""
    structures = {}
    for index, parent in enumerate(['one', 'one', 'one', 'two']):
        atoms = bulk('Cu', cubic=True)
        atoms.rattle(0.03, seed=index)
        frame = FrameData.from_ase(atoms, 'train', kind='md', parent_uuid=parent, walker=0, index=index)
        structures[f'frame_{index}'] = frame.store()
    inputs = standin.inputs(['Cu'], batch_size=4, reuse_wavefunctions=True)
    results, node = run(structures=structures, vasp=inputs, batch_size=4)
    assert node.exit_status == 0, node.exit_message
    calls = sorted(standin.calls(), key=lambda call: call['nth_call'])
    assert [call['wavecar'] for call in calls] == [False, True, True, False]
    for name, label in results['labels'].items():
        assert_is_emt(label, structures[name])
    assert inputs['theory'].get_dict() == standin.inputs(['Cu'])['theory'].get_dict(), 'the same level of theory'
