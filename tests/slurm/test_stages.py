"""Training and exploration on a real SLURM, with a fault in the middle: what a job had done is not done again."""

from __future__ import annotations

import json
import os
import signal
import threading
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory, WorkflowFactory
from ase.build import molecule
from helpers.tiny_training import TINY, distorted_water

from aiida_mlip_al.data import ModelData

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600)]

LIMIT_S = 500
# Long enough to be stopped in the middle.
LONGER = {**TINY, 'gradient_steps': 60, 'lr': 0.001}
OPTIONS = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'max_wallclock_seconds': 600}


def run(process, **inputs):
    """Run a process; an interrupt ends it, and its jobs, if it takes too long."""
    alarm = threading.Timer(LIMIT_S, os.kill, (os.getpid(), signal.SIGINT))
    alarm.start()
    try:
        return run_get_node(process, **inputs)
    finally:
        alarm.cancel()


def jobs_of(node, label):
    jobs = (child for child in node.called_descendants if child.process_label == label)
    return sorted(jobs, key=lambda job: job.pk)


class Hanging:
    """Two jobs that hang as soon as they have something to lose: all their processes are stopped, until SLURM ends them.

    :param slurm: where they run.
    :param is_ready: says of a job's folder whether it has.
    """

    def __init__(self, slurm, is_ready):
        self.slurm, self.is_ready = slurm, is_ready
        self.jobs = []

    def both(self):
        """Stop those that are ready; return whether that is both."""
        for job in self.slurm.jobs():
            folder = Path(self.slurm.fields(job)['WorkDir'])
            if job not in self.jobs and self.is_ready(folder):
                inside = [process for process in psutil.process_iter(['cwd']) if process.info['cwd'] == str(folder)]
                for process in inside:
                    process.suspend()
                # It may have begun to write the file anew.
                if self.is_ready(folder):
                    self.jobs.append(job)
                else:
                    for process in inside:
                        process.resume()
        return len(self.jobs) == 2

    def end(self):
        """Let the first one come to its time limit, and cancel the other one."""
        first, second = sorted(self.jobs, key=int)
        self.slurm.reach_time_limit(first)
        self.slurm.ask('scancel', second)


@pytest.fixture
def dataset():
    """Twelve distorted water molecules with EMT labels."""
    return distorted_water()


@pytest.fixture
def water():
    """A water molecule by name."""
    return {'water': orm.StructureData(ase=molecule('H2O')).store()}


def epochs_of(job):
    """Return the epochs that a job validated."""
    folder = job.outputs.retrieved.base.repository
    (name,) = [name for name in folder.list_object_names('results') if name.endswith('_train.txt')]
    *lines, _ = folder.get_object_content(f'results/{name}').split('\n')
    rows = map(json.loads, lines)
    return {row['epoch'] for row in rows if row.get('mode') == 'eval' and row['epoch'] is not None}


def has_checkpoint(folder):
    """Whether a training has a complete checkpoint of its third epoch or a later one."""
    files = (folder / 'checkpoints').glob('*_epoch-*.pt')
    return any(int(file.stem.split('-')[-1]) >= 2 and zipfile.is_zipfile(file) for file in files)


def test_trainings_go_on_from_their_checkpoints(slurm, slurm_python, dataset, during, tell):
    """One at its time limit, one cancelled."""
    jobs = Hanging(slurm, has_checkpoint)
    with during(jobs.both, jobs.end):
        _, node = run(
            WorkflowFactory('mlip_al.committee_train'),
            datasets={'shard': dataset},
            mace={'train': {'code': slurm_python, 'parameters': orm.Dict(LONGER), 'metadata': {'options': OPTIONS}}},
            members=2,
            seed=1,
        )
    members = {
        link.link_label: link.node for link in node.base.links.get_outgoing().all() if 'member_' in link.link_label
    }
    lost = {}
    for member, fault in (('member_00', 'time limit of a training'), ('member_01', 'scancel of a training')):
        first, second = map(epochs_of, jobs_of(members[member], 'MaceTrainCalculation'))
        all_epochs = set(range(max(second) + 1))
        lost[member] = len(all_epochs - first - second)
        tell(fault, members[member], f'{len(all_epochs)} epochs', lost[member], len(first & second))
    assert node.exit_status == 0, node.exit_message
    assert lost == {'member_00': 0, 'member_01': 0}
    first, second = jobs_of(members['member_00'], 'MaceTrainCalculation')
    assert (slurm.state(first.get_job_id()), first.exit_status, second.exit_status) == ('TIMEOUT', 120, 0)
    assert second.inputs.parent_folder.pk == first.outputs.remote_folder.pk
    assert min(epochs_of(second)) > 0, 'it does not begin at the beginning'
    first, second = jobs_of(members['member_01'], 'MaceTrainCalculation')
    assert (slurm.state(first.get_job_id()), first.exit_status, second.exit_status) == ('CANCELLED', 400, 0)
    assert second.inputs.parent_folder.pk == first.outputs.remote_folder.pk


@pytest.fixture
def committee(tmp_path):
    """Two models of hydrogen and oxygen."""
    from helpers.tiny_mace import write_committee

    paths = write_committee(tmp_path, ['H', 'O'], 2)
    return {f'member_{i:02d}': ModelData.from_path(path, elements=['H', 'O']).store() for i, path in enumerate(paths)}


def explore(code, water, committee, options=OPTIONS, **settings):
    return run(
        WorkflowFactory('mlip_al.explore'),
        structures=water,
        committee=committee,
        settings=orm.Dict({'temperature': 100, 'check_interval': 5, **settings}),
        ase={'code': code, 'metadata': {'options': options}},
        seed=5,
    )


def has_frames(folder):
    """Whether a walker has recorded three frames."""
    file = folder / 'walker_00.jsonl'
    return file.exists() and file.read_text().count('\n') >= 3


def test_what_was_explored_is_kept_and_the_walkers_go_on(slurm, slurm_python, water, committee, during, tell):
    """One job at its time limit, one cancelled."""
    jobs, steps = Hanging(slurm, has_frames), 2000
    with during(jobs.both, jobs.end):
        results, node = explore(
            slurm_python, water, committee, walkers=2, walkers_per_job=1, steps=steps, timestep_fs=0.005
        )
    first, second, *others = jobs_of(node, 'ExploreCalculation')
    found = {name: list(deviation.get_array('step')) for name, deviation in results['deviations'].items()}
    before = sum(job.outputs.report['n_frames'] for job in (first, second))
    after = sum(len(set(recorded)) for recorded in found.values())
    repeated = sum(map(len, found.values())) - after
    lost = 2 * steps // 5 - after
    tell('time limit and scancel of explorations', node, f'{before} frames, then {after}', lost, repeated)
    assert node.exit_status == 0, node.exit_message
    assert list(found.values()) == [list(range(5, steps + 1, 5))] * 2
    assert (slurm.state(first.get_job_id()), first.exit_status) == ('TIMEOUT', 120)
    assert (slurm.state(second.get_job_id()), second.exit_status) == ('CANCELLED', 400)
    assert [job.exit_status for job in others] == [0, 0]
    assert {job.inputs.parent_folder.creator for job in others} == {first, second}
    for job in others:
        positions = job.outputs.trajectories.walker_00.get_positions()
        parent = job.inputs.parent_folder.creator.outputs.trajectories.walker_00.get_positions()
        assert np.array_equal(positions[: len(parent)], parent)


def test_seeding_md_goes_on(slurm, slurm_python, copper, during, tell):
    """Two chains of MD: one job at its time limit, one cancelled."""
    jobs, steps = Hanging(slurm, has_frames), 5000
    chain = orm.List([{'md': {'temperature': 300, 'steps': steps, 'every': 50}}])
    with during(jobs.both, jobs.end):
        results, node = run(
            WorkflowFactory('mlip_al.perturb_and_sample'),
            structures=copper(1),
            chains={'one': chain, 'two': orm.List(chain.get_list())},
            seed=5,
            ase={
                'code': slurm_python,
                'calculator': orm.Dict({'calculator': 'ase.calculators.emt:EMT'}),
                'metadata': {'options': OPTIONS},
            },
        )
    first, second, *others = jobs_of(node, 'MdCalculation')
    steps_of = [list(job.outputs.trajectories.walker_00.get_stepids()) for job in others]
    before = sum(job.outputs.report['n_frames'] for job in (first, second))
    after = sum(len(set(found)) for found in steps_of)
    lost, repeated = 2 * steps // 50 - after, sum(map(len, steps_of)) - after
    tell('time limit and scancel of seeding MD', node, f'{before} frames, then {after}', lost, repeated)
    assert node.exit_status == 0, node.exit_message
    assert len(results['frames']) == 200
    assert steps_of == [list(range(50, steps + 1, 50))] * 2
    assert [job.exit_status for job in (first, second, *others)] == [120, 400, 0, 0]
    assert {job.inputs.parent_folder.creator for job in others} == {first, second}


def test_too_little_memory_for_the_models_is_doubled(slurm, slurm_python, water, committee, dataset, tell):
    """A Python with torch and MACE takes about 500 MB."""
    options = {**OPTIONS, 'max_memory_kb': 350 * 1024}
    explored, exploration = explore(slurm_python, water, committee, options, walkers=1, steps=20)
    inputs = {'code': slurm_python, 'committee': committee, 'datasets': {'shard': dataset}}
    evaluated, evaluation = run(
        WorkflowFactory('mlip_al.evaluate.base'), evaluate={**inputs, 'metadata': {'options': options}}
    )
    frames = sum(deviation.n_frames for deviation in explored['deviations'].values())
    measured = sum(deviation.n_frames for deviation in evaluated['deviations'].values())
    tell('too little memory for an exploration', exploration, f'{frames} frames', 4 - frames, 0)
    tell('too little memory for an evaluation', evaluation, f'{measured} frames', 12 - measured, 0)
    for node, label in ((exploration, 'ExploreCalculation'), (evaluation, 'EvaluateCalculation')):
        first, second = jobs_of(node, label)
        assert (first.exit_status, second.exit_status, node.exit_status) == (110, 0, 0)
        assert [job.get_option('max_memory_kb') for job in (first, second)] == [350 * 1024, 700 * 1024]
    assert (frames, measured) == (4, 12)


def test_broken_model_file_is_an_exit_code(slurm, slurm_python, water, committee, dataset, tell):
    broken = {**committee, 'member_01': ModelData.from_bytes(b'no model', elements=['H', 'O']).store()}
    _, explored = explore(slurm_python, water, broken, steps=20)
    _, evaluated = run(
        CalculationFactory('mlip_al.evaluate'),
        code=slurm_python,
        committee=broken,
        datasets={'shard': dataset},
        metadata={'options': OPTIONS},
    )
    tell('broken model file in an exploration', explored, '0 frames', 0, 0)
    tell('broken model file in an evaluation', evaluated, '0 frames', 0, 0)
    assert explored.exit_status == 401
    assert evaluated.exit_status == 310
    for node in (explored, evaluated):
        assert 'model_01.model' in node.exit_message
    assert slurm.jobs() == []
