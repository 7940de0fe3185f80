"""CommitteeTrainWorkChain and MaceTrainBaseWorkChain through the real engine, with real, tiny MACE."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ProcessHandlerReport, run_get_node
from aiida.plugins import CalculationFactory, WorkflowFactory
from ase import Atoms
from helpers.tiny_training import TINY, distorted_water

from aiida_mlip_al.data import DatasetData
from aiida_mlip_al.data.extxyz import labelled_atoms


@pytest.fixture
def dataset() -> DatasetData:
    """Twelve distorted water molecules with EMT labels."""
    return distorted_water()


def run(python_code, dataset, parameters=TINY, **inputs):
    return run_get_node(
        WorkflowFactory('mlip_al.committee_train'),
        datasets={'shard': dataset},
        mace={'train': {'code': python_code, 'parameters': orm.Dict(parameters)}},
        **{'members': 2, 'seed': 1, **inputs},
    )


@pytest.mark.slow
def test_committee_from_scratch_then_from_its_predecessor(python_code, dataset):
    results, node = run(python_code, dataset)
    assert node.exit_status == 0
    committee = results['committee']
    assert sorted(committee) == ['member_00', 'member_01']
    first, second = committee['member_00'], committee['member_01']
    assert first.elements == ['H', 'O']
    assert first.base.attributes.get('trained_on') == 9
    assert first.base.attributes.get('seed') != second.base.attributes.get('seed')
    assert first.base.attributes.get('sha256') != second.base.attributes.get('sha256')
    assert np.isfinite(list(first.errors.values())).all()
    assert len(results['metrics']['member_00'].get_array('epoch')) == 3
    assert set(results['reference_energies'].get_dict()) == {'H', 'O'}

    warm = {**TINY, 'warm_start': {'gradient_steps': 4, 'lr': 0.001}}
    results, node = run(
        python_code,
        dataset,
        warm,
        previous=committee,
        reference_energies=results['reference_energies'],
        members=1,
        min_members=1,
    )
    assert node.exit_status == 0
    job = next(child for child in node.called_descendants if child.process_label == 'MaceTrainCalculation')
    assert job.inputs.initial_model.pk == first.pk, 'a member starts from its own predecessor'
    losses = results['metrics']['member_00'].get_array('loss')
    assert losses[-1] <= first.errors.get('loss', np.inf)


@pytest.mark.slow
def test_exploding_training_is_tried_more_gently_and_a_committee_that_is_too_small_fails(python_code, dataset):
    """A learning rate that makes NaN: half of it with another seed, a few times, then the member is lost."""
    _, node = run(python_code, dataset, {**TINY, 'lr': 1e30, 'clip_grad': 1e30, 'ema': False}, members=1, min_members=1)
    assert node.exit_status == 401
    assert '0 of 1 members' in node.exit_message
    jobs = [child for child in node.called_descendants if child.process_label == 'MaceTrainCalculation']
    assert len(jobs) == 3
    assert {job.exit_status for job in jobs} <= {311, 312}
    jobs.sort(key=lambda job: job.pk)
    assert jobs[1].inputs.parameters['lr'] == 5e29
    assert len({job.inputs.seed.value for job in jobs}) == 3
    assert jobs[1].inputs.seed.creator.process_label == 'soften_training'


def generate_base(python_code, dataset):
    """Return a MaceTrainBaseWorkChain that was set up but not run."""
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager

    process = instantiate_process(
        get_manager().get_runner(),
        WorkflowFactory('mlip_al.mace_train.base'),
        train={
            'code': python_code,
            'parameters': orm.Dict(TINY),
            'seed': orm.Int(1),
            'datasets': {'shard': dataset},
            'reference_energies': orm.Dict({'H': -1.0, 'O': -1.0}),
        },
    )
    process.setup()
    return process


def finished_job(generate_calc_job_node, exit_status, **outputs):
    """Return a job that ended with an exit status, and its outputs."""
    from aiida.common.links import LinkType

    node = generate_calc_job_node('mlip_al.mace_train', {}, {})
    node.set_exit_status(exit_status)
    for name, output in outputs.items():
        output.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=name)
        output.store()
    return node


def test_interrupted_training_continues_from_its_checkpoint(
    python_code, dataset, generate_calc_job_node, aiida_localhost
):
    process = generate_base(python_code, dataset)
    metrics = orm.ArrayData()
    metrics.set_array('epoch', np.arange(2))
    folder = orm.RemoteData(remote_path='/somewhere', computer=aiida_localhost)
    job = finished_job(generate_calc_job_node, 400, metrics=metrics, remote_folder=folder)
    report = process.handle_interrupted(job)
    assert isinstance(report, ProcessHandlerReport)
    assert process.ctx.inputs.parent_folder.uuid == folder.uuid


def test_training_interrupted_before_its_first_checkpoint_starts_again(python_code, dataset, generate_calc_job_node):
    process = generate_base(python_code, dataset)
    report = process.handle_interrupted(finished_job(generate_calc_job_node, 400))
    assert isinstance(report, ProcessHandlerReport)
    assert 'parent_folder' not in process.ctx.inputs


@pytest.mark.parametrize('name', ['ERROR_OUT_OF_MEMORY', 'ERROR_SCHEDULER_OUT_OF_MEMORY'])
def test_training_out_of_memory_is_tried_once_with_smaller_batches(python_code, dataset, generate_calc_job_node, name):
    process = generate_base(python_code, dataset)
    process.ctx.inputs.metadata = AttributeDict({'options': {'max_memory_kb': 1000, 'resources': {'num_machines': 1}}})
    code = getattr(CalculationFactory('mlip_al.mace_train').exit_codes, name)
    size = process.ctx.inputs.parameters.get('batch_size', 5)
    report = process.handle_out_of_memory(finished_job(generate_calc_job_node, code.status))
    assert report.do_break
    assert report.exit_code.status == 0
    assert process.ctx.inputs.parameters['batch_size'] == max(1, size // 2)
    assert process.ctx.inputs.parameters.creator.process_label == 'halve_batches'
    assert process.ctx.inputs.metadata.options == {'max_memory_kb': 2000, 'resources': {'num_machines': 1}}
    report = process.handle_out_of_memory(finished_job(generate_calc_job_node, code.status))
    assert report.exit_code == process.exit_codes.ERROR_UNCURABLE


@pytest.mark.parametrize('name', ['ERROR_MISSING_ELEMENT', 'ERROR_BAD_KEYS', 'ERROR_BAD_ARGUMENTS'])
def test_what_running_again_does_not_cure_stops_at_once(python_code, dataset, generate_calc_job_node, name):
    process = generate_base(python_code, dataset)
    code = getattr(CalculationFactory('mlip_al.mace_train').exit_codes, name)
    report = process.handle_uncurable(finished_job(generate_calc_job_node, code.status))
    assert report.exit_code == process.exit_codes.ERROR_UNCURABLE


def test_too_large_min_members_is_refused(python_code, dataset):
    with pytest.raises(ValueError, match='must lie between 1 and'):
        run(python_code, dataset, members=2, min_members=3)


def test_isolated_atoms_energies_are_the_reference_energies(dataset):
    from aiida_mlip_al.calculations.functions import fit_reference_energies

    atom = labelled_atoms(Atoms('O'), -7.0, np.zeros((1, 3)), split='train')
    shard = DatasetData.from_ase([atom], 'EMT', 'emt').store()
    energies = fit_reference_energies(molecules=dataset, atoms=shard).get_dict()
    assert energies['O'] == -7.0
