"""A text file with one line for each checked step, as model_devi.out and the records are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class StepFile:
    """The file, flushed after every line, each step once.

    LAMMPS may ask for forces several times in a step (Monte Carlo moves, line searches, a `run` after a `run`): the last
    answer counts, so that a line is written when the next step begins or at `flush`. A run that begins after step 0
    continues a file that is there: lines of later steps are of a run that was cut off, and are replaced.

    :param path: where to.
    :param header: first lines of a new file; empty or ending in a line break.
    :param step_of: gives the step of a line of the file, or None for a line of the header.
    """

    def __init__(self, path: Path, header: str, step_of: Callable[[str], int | None]) -> None:
        self._path, self._header, self._step_of = path, header, step_of
        self._waiting: tuple[int, str] | None = None
        self._last_step: int | None = None
        self._opened = False

    def begin(self, step: int) -> None:
        """Say that forces of a step are asked for: a line that waits for another step is final."""
        if self._waiting is not None and self._waiting[0] != step:
            self.flush()

    def add(self, step: int, line: str) -> None:
        """Give the line of a step, without line break; a second one of the same step replaces it."""
        self.begin(step)
        self._waiting = step, line

    def flush(self) -> None:
        """Write the line that waits, if any."""
        if self._waiting is None:
            return
        step, line = self._waiting
        self._waiting = None
        if not self._opened:
            self._open(step)
        if step == self._last_step:
            return
        with self._path.open('a', encoding='ascii') as file:
            file.write(line + '\n')
        self._last_step = step

    def _open(self, step: int) -> None:
        self._opened = True
        kept = self._header
        if step > 0 and self._path.is_file():
            kept = ''
            for line in self._path.read_text(encoding='ascii').splitlines(keepends=True):
                at = self._step_of(line) if line.endswith('\n') else step + 1
                if at is None or at <= step:
                    kept += line
                    self._last_step = at
        self._path.write_text(kept, encoding='ascii')
