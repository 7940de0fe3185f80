"""An ASE calculator that writes down what it computes, in which job, and with what; it can be slow, greedy or fill a disk."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT

SEEN = ('SLURM_JOB_ID', 'SLURM_CPUS_PER_TASK', 'SLURM_MEM_PER_NODE', 'CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS')


class Recorded(EMT):
    """EMT, with a line of the log before and after every structure.

    :param log: file in JSON lines, shared by all jobs.
    :param seconds: how long each structure takes in the first job of the log.
    :param seconds_later: the same in every later job.
    :param greedy: x of the first atom of the structure that takes 2 GB of memory, Å.
    :param filler: a file that fills its disk as soon as the structure begins that ``filled_at`` names, in the first job only.
    :param filled_at: x of its first atom, Å.
    """

    def __init__(
        self,
        log: str,
        seconds: float = 0.0,
        seconds_later: float = 0.0,
        greedy: float | None = None,
        filler: str | None = None,
        filled_at: float | None = None,
    ) -> None:
        super().__init__()
        self.log, self.greedy = log, greedy
        first = self._is_first()
        self.seconds = seconds if first else seconds_later
        self.filler, self.filled_at = filler, filled_at if first else None

    def calculate(
        self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes
    ) -> None:
        assert atoms is not None
        self._write('begun', atoms)
        if self.filled_at is not None and abs(atoms.positions[0, 0] - self.filled_at) < 1e-6:
            self._fill_disk()
        if self.greedy is not None and abs(atoms.positions[0, 0] - self.greedy) < 1e-6:
            taken = b'x' * 2_000_000_000
            time.sleep(20)
            del taken
        time.sleep(self.seconds)
        super().calculate(atoms, properties, system_changes)
        self._write('done', atoms)

    def _is_first(self) -> bool:
        if not os.path.exists(self.log):
            return True
        with open(self.log) as file:
            return json.loads(file.readline())['SLURM_JOB_ID'] == os.environ['SLURM_JOB_ID']

    def _fill_disk(self) -> None:
        """Leave not a byte, as when others write too."""
        with suppress(OSError), open(str(self.filler), 'wb', buffering=0) as file:
            while True:
                file.write(b'0' * 4096)

    def _write(self, event: str, atoms: Atoms) -> None:
        line = {'event': event, 'x': float(atoms.positions[0, 0]), **{name: os.environ.get(name) for name in SEEN}}
        with open(self.log, 'a') as file:
            file.write(json.dumps(line) + '\n')
