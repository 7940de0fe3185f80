"""Labels from a real SLURM, with a fault in the middle: no label is lost, and none is computed twice."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter

import numpy as np
import pytest
from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from aiida.schedulers.plugins.slurm import SlurmScheduler
from ase.build import bulk
from ase.calculators.emt import EMT
from helpers.sent_twice import send_twice

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600)]


LIMIT_S = 500


def run(**inputs):
    """Run the work chain; the engine swallows what a test's timeout raises, but an interrupt ends run and jobs."""
    alarm = threading.Timer(LIMIT_S, os.kill, (os.getpid(), signal.SIGINT))
    alarm.start()
    try:
        return run_get_node(WorkflowFactory('mlip_al.label'), **inputs)
    finally:
        alarm.cancel()


def wait_until(condition, limit_s=240):
    """Wait, and fail if it takes too long."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def jobs_of(node):
    jobs = (child for child in node.called if child.process_label == 'LabelCalculation')
    return sorted(jobs, key=lambda job: job.pk)


def x_of(structure):
    return float(structure.get_ase().positions[0, 0])


@pytest.fixture
def count(tell, log):
    """Return a function that counts labels and adds a line to the table of faults: ``count(fault, structures, results, node)``.

    Lost: a structure that has no label although it was computed, or that was neither begun nor refused. Repeated: a
    computation after that which gave the label.
    """

    def count_and_tell(fault, structures, results, node):
        labels = results.get('labels', {})
        names = {x_of(structure): name for name, structure in structures.items()}
        begun, done = (Counter(names[line['x']] for line in log.lines(event)) for event in ('begun', 'done'))
        refused, labelled_by = set(), {}
        for job in jobs_of(node):
            report = job.outputs.report if 'report' in job.outputs else {'rejected': []}
            refused |= {item['structure'] for item in report['rejected']}
            for name in job.outputs.labels if 'labels' in job.outputs else []:
                labelled_by.setdefault(name, int(job.get_job_id()))
        lost = set(structures) - set(labels) - refused - (set(begun) - set(done))
        once = {(names[line['x']], int(line['SLURM_JOB_ID'])) for line in log.lines('done')}
        repeated = sum(job > labelled_by.get(name, job) for name, job in once) + done.total() - len(once)
        tell(fault, node, f'{len(labels)} of {len(structures)} labels', len(lost), repeated)
        return len(lost), repeated

    return count_and_tell


def assert_labels(structures, results, names, log):
    """The structures of these names, and no others, have EMT's labels, and each was computed once."""
    assert_right(structures, results, names)
    np.testing.assert_allclose(log.computed(), sorted(x_of(structures[name]) for name in names), atol=1e-6)


def assert_right(structures, results, names):
    """The structures of these names, and no others, have EMT's labels."""
    assert sorted(results['labels']) == sorted(names)
    for name, label in results['labels'].items():
        atoms = structures[name].get_ase()
        atoms.calc = EMT()
        assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-6)
    assert results['dataset'].n_frames == results['report']['n_labelled'] == len(names)


def assert_complete(structures, results, node, log):
    """Every structure was computed and has its label once."""
    assert node.exit_status == 0, node.exit_message
    assert_labels(structures, results, structures, log)
    given = [name for job in jobs_of(node) if 'labels' in job.outputs for name in job.outputs.labels]
    assert sorted(given) == sorted(structures), 'every structure is in the labels of one job'


def test_job_gets_what_its_resources_ask_for(slurm, recorded, copper, log):
    structures = copper(4)
    resources = {'gpus': 1, 'num_cores_per_mpiproc': 2, 'max_memory_kb': 600 * 1024, 'queue_name': 'lab'}
    # So that the two jobs meet.
    inputs = recorded(resources, seconds=4.0, seconds_later=4.0)
    results, node = run(structures=structures, ase=inputs, batch_size=2, max_concurrent=2)
    assert_complete(structures, results, node, log)
    seen = {line.pop('SLURM_JOB_ID'): line for line in log.lines()}
    assert sorted(seen) == sorted(job.get_job_id() for job in jobs_of(node))
    assert {line['SLURM_CPUS_PER_TASK'] for line in seen.values()} == {'2'}
    assert {line['OMP_NUM_THREADS'] for line in seen.values()} == {'2'}
    assert {line['SLURM_MEM_PER_NODE'] for line in seen.values()} == {'600'}
    assert sorted(line['CUDA_VISIBLE_DEVICES'] for line in seen.values()) == ['0', '1'], 'each job its own GPU'
    assert [slurm.state(job) for job in seen] == ['COMPLETED', 'COMPLETED']


def test_batch_goes_on_after_the_time_limit(slurm, recorded, copper, log, during, count):
    structures = copper(9)
    inputs = recorded(seconds=5.0)
    # SLURM looks at the time limits every 30 s.
    with during(lambda: bool(log.lines('done')), lambda: slurm.reach_time_limit(*log.jobs())):
        results, node = run(structures=structures, ase=inputs, batch_size=9)
    assert count('time limit of a job with labels', structures, results, node) == (0, 0)
    assert_complete(structures, results, node, log)
    first, second = jobs_of(node)
    assert slurm.state(first.get_job_id()) == 'TIMEOUT'
    assert (first.exit_status, second.exit_status) == (120, 0)
    assert 1 <= len(first.outputs.labels) <= 8
    assert len(log.lines('begun')) == 10, 'one structure was cut off, and began once more'


def test_batch_goes_on_after_a_cancelled_job(slurm, recorded, copper, log, during, count):
    structures = copper(6)
    inputs = recorded(seconds=2.0)
    with during(lambda: len(log.lines('done')) == 2, lambda: slurm.ask('scancel', *log.jobs())):
        results, node = run(structures=structures, ase=inputs, batch_size=6)
    assert count('scancel of a job with labels', structures, results, node) == (0, 0)
    assert_complete(structures, results, node, log)
    first, second = jobs_of(node)
    assert slurm.state(first.get_job_id()) == 'CANCELLED'
    assert (first.exit_status, second.exit_status) == (400, 0)
    assert len(first.outputs.labels) == 2
    assert len(second.outputs.labels) == 4


def test_job_cancelled_before_it_began_is_sent_again(slurm, recorded, copper, log, during, count):
    """The job waits for GPUs that another one has: the scheduler's parser sees nothing wrong, and no file came back."""
    blocker = slurm.ask('sbatch', '--parsable', '--gres=gpu:2', '--output=/dev/null', '--wrap', 'sleep 300')

    def waiting():
        return [job for job in slurm.jobs() if job != blocker and slurm.state(job) == 'PENDING']

    structures = copper(2)
    with during(lambda: bool(waiting()), lambda: slurm.ask('scancel', blocker, *waiting())):
        results, node = run(structures=structures, ase=recorded({'gpus': 1}), batch_size=2)
    assert count('scancel of a waiting job', structures, results, node) == (0, 0)
    assert_complete(structures, results, node, log)
    first, second = jobs_of(node)
    assert slurm.state(first.get_job_id()) == 'CANCELLED'
    assert (first.exit_status, second.exit_status) == (300, 0)
    assert 'labels' not in first.outputs


def test_job_that_was_sent_twice_computes_once(slurm, recorded, copper, log, count, monkeypatch):
    """A daemon that is killed between sbatch and the note of the job's number sends it again when it goes on."""
    sent = send_twice(SlurmScheduler, monkeypatch)
    structures = copper(3)
    results, node = run(structures=structures, ase=recorded(seconds=1.0, seconds_later=1.0), batch_size=3)
    assert count('job with labels sent twice', structures, results, node) == (0, 0)
    assert_complete(structures, results, node, log)
    assert len(log.jobs()) == 1
    assert [slurm.state(job) for job in sent] == ['COMPLETED', 'COMPLETED']


def test_batch_goes_on_after_its_node_was_lost(slurm, recorded, copper, log, during, count):
    """AiiDA asks SLURM not to start jobs of a lost node again (`--no-requeue`), and learns from the accounting what happened."""

    def crash():
        slurm.crash_node()
        wait_until(lambda: not slurm.jobs())
        slurm.start_node()

    structures = copper(6)
    inputs = recorded(seconds=2.0)
    with during(lambda: len(log.lines('done')) == 2, crash):
        results, node = run(structures=structures, ase=inputs, batch_size=6)
    assert count('node lost under a job with labels', structures, results, node) == (0, 0)
    assert_complete(structures, results, node, log)
    first, second = jobs_of(node)
    assert slurm.state(first.get_job_id()) == 'NODE_FAIL'
    assert (first.exit_status, second.exit_status) == (140 if slurm.accounts else 400, 0)
    assert len(first.outputs.labels) == 2


def test_nothing_is_lost_while_the_controller_is_away(slurm, recorded, copper, log, during, count, retries):
    def go_away():
        slurm.end('slurmctld')
        began = time.monotonic()
        wait_until(lambda: retries.count > 0 and time.monotonic() - began > 15)
        slurm.start_controller()

    structures = copper(5)
    inputs = recorded(seconds=2.0)
    with during(lambda: len(log.lines('done')) == 2, go_away):
        results, node = run(structures=structures, ase=inputs, batch_size=5)
    assert count('slurmctld away for 15 s', structures, results, node) == (0, 0)
    assert_complete(structures, results, node, log)
    (job,) = jobs_of(node)
    assert job.exit_status == 0


def test_batch_goes_on_when_a_full_disk_has_space_again(
    slurm, slurm_computer, recorded, copper, log, during, count, retries, tmp_path
):
    """The disk is full from the third structure on until the job has ended and somebody deletes something.

    Of this structure the label is computed, and cannot be written; no other one is begun.
    """
    disk = tmp_path / 'disk'
    disk.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip('a small disk cannot be mounted here')
    filler = disk / 'filler'
    try:
        slurm_computer.set_workdir(str(disk))
        structures = copper(5, repeat=3)
        inputs = recorded(filler=str(filler), filled_at=x_of(structures['frame_002']))
        with during(lambda: filler.exists() and not slurm.jobs(), filler.unlink):
            results, node = run(structures=structures, ase=inputs, batch_size=5)
    finally:
        subprocess.run(['umount', '--lazy', disk], check=True)
    assert count("full disk in the job's folder", structures, results, node) == (0, 0)
    assert node.exit_status == 0, node.exit_message
    assert_right(structures, results, structures)
    first, second = jobs_of(node)
    assert (first.exit_status, second.exit_status) == (400, 0)
    assert sorted(first.outputs.labels) == ['frame_000', 'frame_001']
    assert len(log.lines('begun')) == 6, 'only the structure whose label could not be written was computed again'


def test_corrupted_structures_are_refused_and_the_others_labelled(slurm, recorded, copper, log, count):
    atoms = bulk('Cu', cubic=True)
    atoms.positions[1, 0] = np.nan
    with pytest.raises(ValidationError, match='nan'):
        orm.StructureData(ase=atoms).store()
    atoms.positions[1] = atoms.positions[0]
    structures = {**copper(3), 'one_place': orm.StructureData(ase=atoms).store()}
    results, node = run(structures=structures, ase=recorded(), batch_size=4)
    assert count('structure with two atoms at one place', structures, results, node) == (0, 0)
    assert node.exit_status == 0
    assert_labels(structures, results, ['frame_000', 'frame_001', 'frame_002'], log)
    (rejected,) = results['report']['rejected']
    assert (rejected['structure'], rejected['reason']) == ('one_place', 'too_close')


def memory_of(log):
    """The memory (MB) of the jobs, in their order."""
    return list({line['SLURM_JOB_ID']: int(line['SLURM_MEM_PER_NODE']) for line in log.lines('begun')}.values())


def test_memory_that_is_not_enough_is_doubled_once(slurm, recorded, copper, log, count):
    structures = copper(3)
    inputs = recorded({'max_memory_kb': 1300 * 1024}, greedy=x_of(structures['frame_001']))
    results, node = run(structures=structures, ase=inputs, batch_size=3)
    assert count('too little memory for one structure', structures, results, node) == (0, 0)
    assert_complete(structures, results, node, log)
    assert [job.exit_status for job in jobs_of(node)] == [110, 0]
    assert memory_of(log) == [1300, 2600]


def test_memory_that_is_not_enough_ends_with_its_reason(slurm, recorded, copper, log, count):
    """It costs its own structure, and no other one."""
    structures = copper(4)
    inputs = recorded({'max_memory_kb': 700 * 1024}, greedy=x_of(structures['frame_001']))
    results, node = run(structures=structures, ase=inputs, batch_size=4, max_failed_fraction=0.2)
    assert count('more memory than twice what was asked for', structures, results, node) == (0, 0)
    assert node.exit_status == 401
    assert '1 of 4 structures got no label (1 out_of_memory)' in node.exit_message
    assert_labels(structures, results, ['frame_000', 'frame_002', 'frame_003'], log)
    assert [job.exit_status for job in jobs_of(node)] == [110, 110, 0]
    assert memory_of(log) == [700, 1400, 1400]
    assert slurm.jobs() == []
