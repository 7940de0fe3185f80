"""EvaluateBaseWorkChain: what an evaluation that failed is worth another try for, and what it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import WorkflowFactory
from helpers.time_limit import terminated_when
from helpers.tiny_training import distorted_water

from aiida_mlip_al.data import ModelData


@pytest.fixture
def process(python_code: Any) -> Any:
    """A work chain with a limit of the memory that was set up but not run."""
    inputs = {
        'code': python_code,
        'committee': {'member_00': ModelData.from_bytes(b'a model', elements=['H', 'O'])},
        'datasets': {'shard': distorted_water()},
        'metadata': {'options': {'max_memory_kb': 1000, 'resources': {'num_machines': 1}}},
    }
    made = instantiate_process(get_manager().get_runner(), WorkflowFactory('mlip_al.evaluate.base'), evaluate=inputs)
    made.setup()
    return made


@pytest.fixture
def ended(process: Any, generate_calc_job_node: Callable[..., Any]) -> Callable[[int, str], Any]:
    """Return what the work chain makes of its next job: ``ended(exit_status, message)``."""

    def inspect(exit_status: int, message: str = 'said the job') -> Any:
        node = generate_calc_job_node('mlip_al.evaluate', {}, {})
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


def test_what_ended_well_is_the_end(process: Any, ended: Callable[..., Any]) -> None:
    assert ended(0) is None
    assert not process.should_run_process()
