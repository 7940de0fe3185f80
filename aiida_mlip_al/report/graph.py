"""Reading a run's provenance graph: its stages, jobs and costs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from aiida import orm
from aiida.common.links import LinkType

CALL = (LinkType.CALL_WORK, LinkType.CALL_CALC)
# Call link labels of ActiveLearningWorkChain, and the stage that the report counts them under.
STAGE_OF_LABEL = {'seeding': 'seed', 'test': 'seed', 'label_seeding': 'label', 'label_test': 'label'}
STAGE_OF_FUNCTION = {'select_frames': 'select', 'assess_labels': 'select', 'record_iteration': 'select'}


@dataclass(frozen=True)
class Child:
    """A process that the run called directly: which stage of which iteration (0: before the first, -1: the end)."""

    node: orm.ProcessNode
    label: str
    stage: str
    iteration: int


def children(run: orm.WorkChainNode) -> Iterator[Child]:
    """Yield what a run called, in order."""
    current = 0
    links = [link for kind in CALL for link in run.base.links.get_outgoing(link_type=kind).all()]
    for link in sorted(links, key=lambda link: link.node.pk):
        label = link.link_label
        found = re.fullmatch(r'iteration_(\d+)_(\w+)', label)
        if found:
            current = int(found[1])
            yield Child(link.node, label, found[2], current)
        elif label.startswith('final_'):
            current = -1
            yield Child(link.node, label, 'final', -1)
        elif label in STAGE_OF_LABEL:
            yield Child(link.node, label, STAGE_OF_LABEL[label], 0)
        else:
            yield Child(link.node, label, STAGE_OF_FUNCTION.get(link.node.process_label, 'select'), current)


def wall_seconds(node: orm.ProcessNode) -> float:
    """Return how long a process took, or has taken so far."""
    end = node.mtime if node.is_terminated else datetime.now(timezone.utc)
    return max(0.0, (end - node.ctime).total_seconds())


def jobs(node: orm.ProcessNode) -> list[orm.CalcJobNode]:
    """Return the CalcJobs below a process, or the process itself if it is one."""
    if isinstance(node, orm.CalcJobNode):
        return [node]
    return [child for child in node.called_descendants if isinstance(child, orm.CalcJobNode)]


def core_seconds(node: orm.ProcessNode) -> float:
    """Return the core-seconds that the jobs below a process report."""
    total = 0.0
    for job in jobs(node):
        for name in ('report', 'errors'):
            if name in job.outputs:
                total += float(job.outputs[name].get_dict().get('core_s') or 0.0)
    return total


def failure_of(node: orm.ProcessNode) -> str | None:
    """Return why a process failed, or None if it did not."""
    if node.is_finished_ok or not node.is_terminated:
        return None
    if node.is_excepted:
        return (node.exception or 'an exception').strip()
    return node.exit_message or f'{node.process_state.value if node.process_state else "unknown state"}'
