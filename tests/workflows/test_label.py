"""LabelWorkChain through the real engine."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from aiida.schedulers.plugins.direct import DirectScheduler
from helpers.sent_twice import send_twice

from aiida_mlip_al.workflows.label import late_jobs


def run(**inputs):
    return run_get_node(WorkflowFactory('mlip_al.label'), **inputs)


def jobs_of(node):
    jobs = [child for child in node.called if child.process_label == 'LabelCalculation']
    return sorted(jobs, key=lambda job: job.pk)


def x_of(structure):
    return float(structure.get_ase().positions[0, 0])


def test_batches_become_one_shard_and_one_label_each(python_code, emt, copper):
    structures = copper(5)
    results, node = run(structures=structures, ase={'code': python_code, 'calculator': emt}, batch_size=2)
    assert node.exit_status == 0
    assert set(results['labels']) == set(structures)
    assert results['dataset'].n_frames == 5
    assert results['report']['n_labelled'] == 5
    assert results['report']['n_rejected'] == 0
    # Frames stand in the order of their names, whatever batch they came from, and lead back to their labels.
    names = [frame.info['name'] for frame in results['dataset'].iterate()]
    assert names == sorted(structures)
    for frame in results['dataset'].iterate():
        label = results['labels'][frame.info['name']]
        np.testing.assert_allclose(frame.arrays['REF_forces'], label.forces, atol=1e-8)
        np.testing.assert_allclose(frame.positions, structures[frame.info['name']].get_ase().positions, atol=1e-8)
    assert len(jobs_of(node)) == 3


def test_a_job_that_was_sent_twice_labels_once(python_code, copper, fake_calculator, monkeypatch, tmp_path):
    """As after `kill -9` of the daemon between the submission of a job and the note of its number."""
    sent = send_twice(DirectScheduler, monkeypatch)
    made = tmp_path / 'calculators'
    springs = fake_calculator('Springs', log=str(made))
    results, node = run(structures=copper(3), ase={'code': python_code, **springs})
    assert len(sent) == 2
    assert node.exit_status == 0
    assert results['report']['n_labelled'] == 3
    assert len(made.read_text().splitlines()) == 1


def test_rejections_are_counted_and_tolerated_up_to_a_fraction(python_code, emt, copper):
    inputs = {'structures': copper(4, squeezed=(2,)), 'ase': {'code': python_code, 'calculator': emt}}
    results, node = run(**inputs, max_failed_fraction=0.25)
    assert node.exit_status == 0
    assert set(results['labels']) == {'frame_000', 'frame_001', 'frame_003'}
    assert results['report']['reasons'] == {'too_close': 1}
    assert results['report']['rejected'][0]['structure'] == 'frame_002'

    _, node = run(**inputs, max_failed_fraction=0.2)
    assert node.exit_status == 401
    assert '1 of 4 structures got no label (1 too_close)' in node.exit_message
    assert '; of the first: Cu0 and Cu1 are 0.300 Å apart' in node.exit_message
    assert node.outputs.dataset.n_frames == 3, 'what was labelled is kept'


def test_all_rejected_is_a_failure_without_a_dataset(python_code, emt, copper):
    _, node = run(
        structures=copper(1, squeezed=(0,)), ase={'code': python_code, 'calculator': emt}, max_failed_fraction=0.5
    )
    assert node.exit_status == 401
    assert 'dataset' not in node.outputs


def test_job_killed_in_the_middle_is_continued_with_the_rest(python_code, fake_calculator, copper, tmp_path):
    marker = tmp_path / 'killed'
    structures = copper(5)
    inputs = fake_calculator('KillsItsJobOnce', marker=str(marker), after=2)
    results, node = run(structures=structures, ase={'code': python_code, **inputs})
    assert node.exit_status == 0
    assert set(results['labels']) == set(structures)
    jobs = jobs_of(node)
    assert [job.exit_status for job in jobs] == [400, 0]
    first, second = (set(job.outputs.labels) for job in jobs)
    assert len(first) == 2
    assert first | second == set(structures)
    assert not first & second, 'no structure is labelled twice'


def test_structures_whose_jobs_are_always_killed_are_given_up(python_code, fake_calculator, copper, tmp_path):
    inputs = fake_calculator('KillsItsJobOnce', marker=str(tmp_path / 'missing' / 'never'), after=0)
    _, node = run(structures=copper(3), ase={'code': python_code, **inputs}, max_attempts=2)
    assert node.exit_status == 401
    assert '3 not_reached' in node.exit_message
    assert [len(job.inputs.structures) for job in jobs_of(node)] == [3, 3, 2], 'without the first, once more'


@pytest.mark.slow
def test_structure_that_always_kills_its_job_costs_the_others_nothing(python_code, fake_calculator, copper):
    structures = copper(4)
    inputs = fake_calculator('KillsItsJobAt', x=x_of(structures['frame_001']))
    results, node = run(structures=structures, ase={'code': python_code, **inputs}, max_attempts=2)
    assert node.exit_status == 0
    assert set(results['labels']) == {'frame_000', 'frame_002', 'frame_003'}
    assert results['dataset'].n_frames == 3
    sent = [sorted(job.inputs.structures) for job in jobs_of(node)]
    first, rest = ['frame_000', 'frame_001'], ['frame_002', 'frame_003']
    assert sent == [first + rest, [first[1], *rest], [first[1], *rest], rest]


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'structures': {}}, 'no structure'),
        ({'ase': None}, 'Give one engine to label with'),
        ({'batch_size': 0}, 'must be at least 1'),
        ({'min_label_fraction': 0.0}, 'must lie above 0'),
    ],
)
def test_bad_inputs_are_refused(python_code, emt, copper, change, sentence):
    inputs = {'structures': copper(1), 'ase': {'code': python_code, 'calculator': emt}, **change}
    with pytest.raises(ValueError, match=sentence):
        run(**{name: value for name, value in inputs.items() if value is not None})


def test_calculator_that_cannot_be_imported_is_not_tried_again(python_code, copper):
    from aiida import orm

    missing = orm.Dict({'calculator': 'no.such.package:Calculator'})
    _, node = run(structures=copper(1), ase={'code': python_code, 'calculator': missing})
    assert node.exit_status == 401
    jobs = jobs_of(node)
    assert [job.exit_status for job in jobs] == [310]
    assert 'no.such.package' in jobs[0].exit_message
    assert 'no.such.package' in node.exit_message


@pytest.mark.slow
def test_a_place_that_becomes_free_is_taken_at_once(python_code, fake_calculator, copper, tmp_path):
    """Two jobs in flight: one ends only when all others have passed it one after another."""
    structures = copper(4)
    inputs = fake_calculator('HoldsOne', folder=str(tmp_path), number=0, pattern=f'{tmp_path}/done_*', count=3)
    results, node = run(structures=structures, ase={'code': python_code, **inputs}, batch_size=1, max_concurrent=2)
    assert node.exit_status == 0
    assert sorted(results['labels']) == sorted(structures)
    _held, *others = sorted(jobs_of(node), key=lambda job: job.outputs.report['wall_s'], reverse=True)
    assert len(others) == 3
    for earlier, later in pairwise(sorted(others, key=lambda job: job.pk)):
        assert later.ctime > earlier.outputs.report.ctime, 'and never more than two were in flight'


@pytest.mark.slow
def test_labels_that_are_late_are_left_to_another_one(python_code, fake_calculator, copper, tmp_path):
    structures = copper(4)
    inputs = fake_calculator('HoldsOne', folder=str(tmp_path), number=1, pattern=f'{tmp_path}/go_on', count=1)
    label = {'ase': {'code': python_code, **inputs}, 'batch_size': 1, 'max_concurrent': 4}
    results, node = run(structures=structures, min_label_fraction=0.7, max_failed_fraction=0.0, **label)
    assert node.exit_status == 0, 'a late label is no failure'
    (late,) = (job for job in jobs_of(node) if not job.is_terminated)
    (name,) = late.inputs.structures
    assert set(results['labels']) == set(structures) - {name}
    assert results['dataset'].n_frames == 3
    assert late_jobs(node.pk) == {late.pk: [name]}

    (tmp_path / 'go_on').touch()
    later, waiting = run(structures={name: structures[name]}, earlier=node.pk, **label)
    assert waiting.exit_status == 0
    assert waiting.called == [], 'it was not computed again'
    assert later['labels'][name].uuid == late.outputs.labels[name].uuid
    assert later['dataset'].uuid == late.outputs.dataset.uuid


def test_every_label_is_waited_for_unless_the_user_says_otherwise(python_code, fake_calculator, copper, tmp_path):
    structures = copper(3)
    inputs = fake_calculator('HoldsOne', folder=str(tmp_path), number=1, pattern=f'{tmp_path}/done_*', count=2)
    results, node = run(structures=structures, ase={'code': python_code, **inputs}, batch_size=1, max_concurrent=3)
    assert set(results['labels']) == set(structures)
    assert late_jobs(node.pk) == {}
