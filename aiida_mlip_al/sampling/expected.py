"""What a chain of seeding steps will make and cost, before it is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiida_mlip_al.sampling.md import MdStep
from aiida_mlip_al.sampling.steps import JOB_STEPS, SEEDERS, parse_steps


def chain_frames(chain: Sequence[dict[str, Any]], n_structures: int) -> tuple[int, int, int]:
    """Return about how many frames a chain of seeding steps makes, its MD steps, and its jobs."""
    frames, kept, md_steps, jobs = n_structures, 0, 0, 0
    for name, parameters in parse_steps(chain):
        walkers = parameters.walkers(frames) if isinstance(parameters, MdStep) else 1
        if isinstance(parameters, MdStep):
            md_steps += walkers * (parameters.equilibration + parameters.steps)
        # VASP runs each walker as a job of its own.
        by_vasp = isinstance(parameters, MdStep) and parameters.vasp is not None
        jobs += walkers if by_vasp else name in JOB_STEPS
        kept += frames if name == 'keep' else 0
        made = parameters.expected_frames(frames)
        frames = frames + made if name in SEEDERS and SEEDERS[name].appends else made
    return frames + kept, md_steps, jobs
