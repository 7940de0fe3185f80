"""SubmitOnce: a work chain that was killed in the middle of a step does not send its jobs a second time."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import Process, ProcessState

from aiida_mlip_al.calculations.caching import caching_of


class SubmitOnce:
    """Mix-in for work chains whose children have call link labels that are theirs alone.

    AiiDA saves a checkpoint after each step of an outline. If the daemon is killed between a submission and the end of its
    step, the step runs again: here it finds the children that it has sent, and goes on with them.
    """

    node: orm.WorkChainNode

    def submit(self, process: type[Process], inputs: dict[str, Any] | None = None, **kwargs: Any) -> orm.ProcessNode:
        """Submit a process, or return the child that was submitted under the same call link label."""
        metadata = (inputs or kwargs)['metadata']
        for child in called(self.node, metadata['call_link_label']):
            if child.is_finished or child.checkpoint is not None:
                return child
            if not child.is_terminated:
                abandon(child)
        with caching_of(self.node):
            return super().submit(process, inputs, **kwargs)  # type: ignore[misc, no-any-return]

    def load_instance_state(self, saved_state: Any, load_context: Any) -> None:
        """Go on from a checkpoint: a function that was being called when the daemon was killed is called again."""
        super().load_instance_state(saved_state, load_context)  # type: ignore[misc]
        for child in self.node.called:
            if isinstance(child, (orm.CalcFunctionNode, orm.WorkFunctionNode)) and not child.is_terminated:
                abandon(child)


def called(caller: orm.ProcessNode, label: str) -> list[orm.ProcessNode]:
    """Return the children of a process under a call link label."""
    links = caller.base.links.get_outgoing(link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK), link_label_filter=label)
    return links.all_nodes()  # type: ignore[no-any-return]


def abandon(child: orm.ProcessNode) -> None:
    """Mark a child as killed: it was stored without a checkpoint, so it never goes on; what is not sealed cannot be archived."""
    child.set_process_state(ProcessState.KILLED)
    child.set_process_status('The daemon was killed before this process began; it was submitted again.')
    child.seal()
