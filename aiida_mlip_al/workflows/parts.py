"""Parts: a job of MD that a time limit, a lost node or somebody ended goes on in another one; so does one without memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida import orm

from aiida_mlip_al.calculations.base import INTERRUPTED, OUT_OF_MEMORY, with_memory

# Each goes on from the frames that the ones before have added.
MAX_RESTARTS = 10


def part_label(label: str, n_before: int) -> str:
    """Return the label of a job's continuation after so many parts."""
    return f'{label}_part_{n_before:02d}' if n_before else label


def n_frames_of(node: orm.ProcessNode) -> int:
    """Return how many frames a process has, with those of the parts before it."""
    return int(node.outputs.report.get('n_frames', 0)) if 'report' in node.outputs else 0


def fullest(parts: Sequence[orm.ProcessNode]) -> orm.ProcessNode:
    """Return the part with the most frames, the last one of several."""
    return max(reversed(parts), key=n_frames_of)


def should_go_on(parts: Sequence[orm.ProcessNode]) -> bool:
    """Return whether another part is worth it: if the interrupted one added frames; with more memory, once, if that ran out.

    A work chain, which has no folder of its own, continues its jobs itself.

    :param parts: that have ended, in order.
    """
    *before, last = parts
    if len(before) >= MAX_RESTARTS or 'remote_folder' not in last.outputs:
        return False
    if last.exit_status == OUT_OF_MEMORY:
        return memory_times(before) == 1
    return last.exit_status in INTERRUPTED and n_frames_of(last) > max(map(n_frames_of, before), default=0)


def memory_times(parts: Sequence[orm.ProcessNode]) -> int:
    """Return how many times the memory that was asked for the part after these gets."""
    return 2 if any(part.exit_status == OUT_OF_MEMORY for part in parts) else 1


def continued(inputs: Mapping[str, Any], parts: Sequence[orm.ProcessNode]) -> dict[str, Any]:
    """Return the inputs of the next part.

    :param inputs: of the first one, whose `metadata` have the `call_link_label`.
    :param parts: that have ended.
    """
    if not parts:
        return dict(inputs)
    metadata = {
        **inputs['metadata'],
        'options': with_memory(inputs['metadata'].get('options', {}), memory_times(parts)),
        'call_link_label': part_label(inputs['metadata']['call_link_label'], len(parts)),
    }
    frames = {'parent_folder': parts[-1].outputs.remote_folder} if n_frames_of(parts[-1]) else {}
    return {**inputs, **frames, 'metadata': metadata}
