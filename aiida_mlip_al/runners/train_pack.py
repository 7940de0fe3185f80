"""Train several models side by side: `train.py` in a folder for each, all at once.

In: train_pack.json, and train.json in each folder. Out: what train.py writes and train.out in each folder, train_pack.status.json.
"""

from __future__ import annotations

from typing import Any

import status as runner
from side_by_side import Program, run_all


def train_pack(config: runner.Config, status: dict[str, Any]) -> None:
    """Run every training of train_pack.json to its end, whatever becomes of the others.

    :param config: `folders` (names), `device` (of torch).
    :param status: receives `members`, the exit status of each training by folder.
    """
    folders = config['folders']
    ended: list[int | None] = []
    try:
        run_all([Program(folder, 'train.py', 'train.json') for folder in folders], config['device'], ended)
    finally:
        status['members'] = dict(zip(folders, ended, strict=False))


if __name__ == '__main__':
    runner.run(train_pack)
