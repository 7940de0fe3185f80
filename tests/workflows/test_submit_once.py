"""SubmitOnce: a step that runs again after its daemon was killed."""

from __future__ import annotations

import plumpy
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import ProcessState, WorkChain
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import WorkflowFactory
from aiida.plugins.entry_point import get_entry_point_names

from aiida_mlip_al.workflows.submit_once import SubmitOnce


class Sender:
    """Stores a child for each submission, as the engine does before anything else."""

    def __init__(self):
        self.node = orm.WorkChainNode().store()

    def submit(self, process, inputs=None, **kwargs):
        child = orm.CalcJobNode()
        child.base.links.add_incoming(self.node, LinkType.CALL_CALC, (inputs or kwargs)['metadata']['call_link_label'])
        child.set_process_state(ProcessState.CREATED)
        return child.store()


class Chain(SubmitOnce, Sender):
    """A work chain as far as submissions go."""


@pytest.fixture
def chain():
    return Chain()


def test_a_child_that_will_run_is_taken_again(chain):
    child = chain.submit(object, {'metadata': {'call_link_label': 'batch_000'}})
    child.set_checkpoint('saved')
    assert chain.submit(object, metadata={'call_link_label': 'batch_000'}).pk == child.pk
    assert chain.submit(object, metadata={'call_link_label': 'batch_001'}).pk != child.pk


def test_a_child_that_has_ended_is_taken_again(chain):
    child = chain.submit(object, metadata={'call_link_label': 'batch_000'})
    child.set_process_state(ProcessState.FINISHED)
    assert chain.submit(object, metadata={'call_link_label': 'batch_000'}).pk == child.pk


def test_a_child_that_can_never_start_is_replaced(chain):
    child = chain.submit(object, metadata={'call_link_label': 'batch_000'})
    second = chain.submit(object, metadata={'call_link_label': 'batch_000'})
    assert second.pk != child.pk
    assert child.is_killed
    assert child.is_sealed
    second.set_checkpoint('saved')
    assert chain.submit(object, metadata={'call_link_label': 'batch_000'}).pk == second.pk


def test_every_work_chain_of_ours_submits_once():
    ours = [name for name in get_entry_point_names('aiida.workflows') if name.startswith('mlip_al.')]
    assert len(ours) >= 7
    for name in ours:
        process = WorkflowFactory(name)
        assert issubclass(process, SubmitOnce)
        assert process.mro().index(SubmitOnce) < process.mro().index(WorkChain)


class Once(SubmitOnce, WorkChain):
    """A work chain of one step."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outline(cls.step)

    def step(self):
        pass


def test_function_that_was_being_called_is_given_up_when_its_caller_goes_on():
    runner = get_manager().get_runner()
    process = instantiate_process(runner, Once)
    saved = plumpy.Bundle(process)
    ended, cut_off = orm.CalcFunctionNode(), orm.CalcFunctionNode()
    for child, state in ((ended, ProcessState.FINISHED), (cut_off, ProcessState.CREATED)):
        child.base.links.add_incoming(process.node, LinkType.CALL_CALC, state.value)
        child.set_process_state(state)
        child.store()
    saved.unbundle(plumpy.LoadSaveContext(runner=runner))
    assert ended.is_finished
    assert not ended.is_sealed
    assert cut_off.is_killed
    assert cut_off.is_sealed
