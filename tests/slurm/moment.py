"""Wait for a moment of the only run of a profile, and kill processes then: python moment.py PROFILE STAGE LOG [PID]...

``label``: a job has labelled a structure since this began; ``train``, ``explore``: a job is there, and nothing has come of it;
``select``: the frames are being chosen.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from aiida import load_profile, orm

PROCESSES = {
    'label': 'LabelCalculation',
    'train': 'MaceTrainCalculation',
    'explore': 'ExploreCalculation',
    'select': 'select_frames',
}
LIMIT_S = 400


def is_there(stage: str) -> bool:
    """Whether a process of the stage is on its way, with a number from SLURM if it is a job."""
    filters: dict[str, Any] = {
        'attributes.process_label': PROCESSES[stage],
        'attributes.process_state': {'in': ['created', 'running', 'waiting']},
    }
    if stage != 'select':
        filters['attributes'] = {'has_key': 'job_id'}
    return bool(orm.QueryBuilder().append(orm.CalculationNode, filters=filters).count())


def lines(path: Path) -> int:
    """Return how many computations have come to their end."""
    return path.read_text().count('"done"') if path.exists() else 0


def main(profile: str, stage: str, log: str, *pids: str) -> None:
    """Wait, and kill."""
    load_profile(profile)
    before, deadline = lines(Path(log)), time.monotonic() + LIMIT_S
    while not is_there(stage) or (stage == 'label' and lines(Path(log)) == before):
        if time.monotonic() > deadline:
            sys.exit(f'the moment `{stage}` never came')
        time.sleep(0.02)
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)


if __name__ == '__main__':
    main(*sys.argv[1:])
