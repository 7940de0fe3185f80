"""What is worth another part, and what that part gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from aiida.common.links import LinkType

from aiida_mlip_al.workflows.parts import MAX_RESTARTS, continued, fullest, should_go_on

Part = Callable[..., orm.CalcJobNode]
INPUTS = {'metadata': {'call_link_label': 'md_hot', 'options': {'max_memory_kb': 1000}}}


@pytest.fixture
def part(aiida_localhost: orm.Computer) -> Part:
    """Return a factory of jobs that have ended: ``part(exit_status, n_frames)``; without frames there is no report."""

    def make(exit_status: int, n_frames: int | None = None) -> orm.CalcJobNode:
        node = orm.CalcJobNode(computer=aiida_localhost).store()
        outputs: dict[str, Any] = {'remote_folder': orm.RemoteData(remote_path='/job', computer=aiida_localhost)}
        if n_frames is not None:
            outputs['report'] = orm.Dict({'n_frames': n_frames})
        for name, output in outputs.items():
            output.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=name)
            output.store()
        node.set_exit_status(exit_status)
        return node

    return make


@pytest.mark.parametrize('status', [120, 140, 400])
def test_an_interrupted_job_goes_on_while_it_adds_frames(part: Part, status: int) -> None:
    assert should_go_on([part(status, 3)])
    assert should_go_on([part(status, 3), part(status, 4)])
    assert not should_go_on([part(status, 3), part(status, 3)])
    assert not should_go_on([part(status, 0)])
    assert not should_go_on([part(status)])


@pytest.mark.parametrize('status', [0, 300, 310])
def test_what_ended_by_itself_does_not_go_on(part: Part, status: int) -> None:
    assert not should_go_on([part(status, 3)])


def test_too_little_memory_is_doubled_once(part: Part) -> None:
    first = part(110)
    assert should_go_on([first])
    metadata = continued(INPUTS, [first])['metadata']
    assert metadata == {'call_link_label': 'md_hot_part_01', 'options': {'max_memory_kb': 2000}}
    assert not should_go_on([first, part(110, 5)])
    limited = part(400, 5)
    assert should_go_on([first, limited])
    assert continued(INPUTS, [first, limited])['metadata']['options'] == {'max_memory_kb': 2000}


def test_the_number_of_parts_is_limited(part: Part) -> None:
    parts = [part(120, n_frames) for n_frames in range(1, MAX_RESTARTS + 2)]
    assert should_go_on(parts[:-1])
    assert not should_go_on(parts)


def test_the_next_part_begins_with_the_frames_that_there_are(part: Part) -> None:
    assert continued(INPUTS, []) == INPUTS
    assert 'parent_folder' not in continued(INPUTS, [part(110)])
    last = part(120, 2)
    assert continued(INPUTS, [part(120, 1), last]) == {
        'metadata': {'call_link_label': 'md_hot_part_02', 'options': {'max_memory_kb': 1000}},
        'parent_folder': last.outputs.remote_folder,
    }


def test_the_part_with_most_frames_counts_and_the_last_of_equals(part: Part) -> None:
    parts = [part(120, 2), part(120, 5), part(400)]
    assert fullest(parts) == parts[1]
    assert fullest([parts[0], parts[2], again := part(0, 2)]) == again
