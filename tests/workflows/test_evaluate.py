"""Work chains of evaluations: what one that failed is worth another try for, and what it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import WorkflowFactory
from helpers.time_limit import terminated_when
from helpers.tiny_training import distorted_water

from aiida_mlip_al.data import DeviationData, ModelData
from aiida_mlip_al.data.pool import trajectories_of


@pytest.fixture(params=['evaluate', 'deviate'])
def process(request: pytest.FixtureRequest, python_code: Any) -> Any:
    """A work chain with a limit of the memory that was set up but not run."""
    (trajectory,) = trajectories_of(enumerate(distorted_water().iterate()))
    frames = {'evaluate': {'datasets': {'shard': distorted_water()}}, 'deviate': {'trajectories': {'pool': trajectory}}}
    inputs = {
        'code': python_code,
        'committee': {f'member_{i:02d}': ModelData.from_bytes(b'%d' % i, elements=['H', 'O']) for i in range(2)},
        **frames[request.param],
        'metadata': {'options': {'max_memory_kb': 1000, 'resources': {'num_machines': 1}}},
    }
    chain = WorkflowFactory(f'mlip_al.{request.param}.base')
    made = instantiate_process(get_manager().get_runner(), chain, **{request.param: inputs})
    made.setup()
    return made


@pytest.fixture
def ended(process: Any, generate_calc_job_node: Callable[..., Any]) -> Callable[[int, str], Any]:
    """Return what the work chain makes of its next job: ``ended(exit_status, message, **outputs)``."""

    def inspect(exit_status: int, message: str = 'said the job', **outputs: orm.Data) -> Any:
        node = generate_calc_job_node(f'mlip_al.{process.namespace}', {}, {})
        for name, data in outputs.items():
            data.base.links.add_incoming(node, LinkType.CREATE, name)
            data.store()
        node.set_exit_status(exit_status)
        node.set_exit_message(message)
        node.set_process_state('finished')
        process.ctx.setdefault('children', []).append(node)
        process.ctx.iteration += 1
        return process.inspect_process()

    return inspect


@pytest.mark.slow
def test_an_evaluation_that_a_time_limit_ended_is_sent_again(tmp_path: Path, python_code: Any) -> None:
    from helpers.tiny_mace import write_committee

    paths = write_committee(tmp_path, ['H', 'O'], 2)
    committee = {f'member_{i:02d}': ModelData.from_path(path, elements=['H', 'O']) for i, path in enumerate(paths)}
    inputs = {'code': python_code, 'committee': committee, 'datasets': {'shard': distorted_water()}}
    with terminated_when('evaluate', lambda folder: True) as stopped:
        results, node = run_get_node(WorkflowFactory('mlip_al.evaluate.base'), evaluate=inputs)
    assert len(stopped) == 1
    assert node.exit_status == 0, node.exit_message
    first, second = sorted(node.called, key=lambda job: job.pk)
    assert (first.exit_status, second.exit_status) == (400, 0)
    assert results['errors']['train']['n_frames'] == 9
    assert results['errors'].creator == second
    assert results['deviations']['train'].n_frames == 9


def test_an_interrupted_evaluation_is_sent_again_a_few_times(process: Any, ended: Callable[..., Any]) -> None:
    for status in (120, 140):
        assert ended(status).status == 0
        assert process.should_run_process()
    last = ended(400, 'cancelled')
    assert last.status == 321
    assert last.message.endswith('> cancelled')


def test_too_little_memory_is_doubled_once_and_the_batches_halved(process: Any, ended: Callable[..., Any]) -> None:
    assert ended(110).status == 0
    assert process.ctx.inputs.settings['batch_size'] == 8
    assert process.ctx.inputs.settings.creator.process_label == 'halve_batch_size'
    assert process.ctx.inputs.metadata.options['max_memory_kb'] == 2000
    assert ended(110, 'The job ran out of memory.').message.endswith('> The job ran out of memory.')
    assert process.ctx.inputs.metadata.options['max_memory_kb'] == 2000


@pytest.mark.parametrize('status', [310, 311])
def test_what_would_fail_again_stops_with_its_reason(ended: Callable[..., Any], status: int) -> None:
    stopped = ended(status, 'A model is broken.')
    assert stopped.status == 321
    assert stopped.message.startswith('The committee could not be evaluated: <')
    assert stopped.message.endswith('> A model is broken.')


@pytest.mark.parametrize('process', ['deviate'], indirect=True)
def test_what_was_evaluated_is_kept_when_the_rest_cannot_be(process: Any, ended: Callable[..., Any]) -> None:
    def some(count: int) -> dict[str, orm.Data]:
        deviation = DeviationData.from_arrays({name: np.ones(count) for name in DeviationData.REQUIRED})
        return {'report': orm.Dict({'n_frames': count}), 'deviations__pool': deviation}

    for count in (2, 7):
        assert ended(400, **some(count)).status == 0
    assert ended(400, **some(3)).status == 321
    assert process.outputs['report']['n_frames'] == process.outputs['deviations']['pool'].n_frames == 7


def test_what_ended_well_is_the_end(process: Any, ended: Callable[..., Any]) -> None:
    assert ended(0) is None
    assert not process.should_run_process()
