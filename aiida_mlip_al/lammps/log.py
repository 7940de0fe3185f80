"""The log of LAMMPS: thermo output of all runs, and how they ended, whatever state a job left it in."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_VERSION = re.compile(r'LAMMPS \((.+)\)')
_ERROR = re.compile(r'ERROR(?: on proc \d+)?: (.+)')
_SOURCE = re.compile(r'\s*\(\S+\.(?:cpp|h):\d+\)$')
_HALT = re.compile(r'Fix halt condition for fix-id (\S+) met on step (\d+) with value (\S+)')
_LOOP = re.compile(r'Loop time of (\S+) on \d+ procs')
_WALL = re.compile(r'Total wall time: (\d+):(\d+):(\d+)')
_QUOTED = re.compile(r"'([^']+)'")
_NO_ROW_FOLLOWS = ('Per MPI rank memory', 'Loop time of')
_TIME_LIMIT = 'Wall time limit reached'


class Halt(NamedTuple):
    """Which `fix halt` ended a run, at which step, and at which value of what it watches."""

    fix: str
    step: int
    value: float


@dataclass(frozen=True)
class Log:
    """What a log says.

    thermo: the output of all runs and minimisations one after the other, (R,) by the name that LAMMPS gives a column, in
    LAMMPS' units; NaN where a run has no such column and where LAMMPS printed no finite number. errors: LAMMPS' sentences,
    without the place in its source. halted: the last `fix halt` that ended a run. timed_out: whether a `timer timeout` did.
    finished: whether LAMMPS came to the end of its script. wall_s: its whole time, or that of the runs alone if it did not
    come to an end.
    """

    version: str = ''
    thermo: dict[str, Floats] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    halted: Halt | None = None
    timed_out: bool = False
    finished: bool = False
    wall_s: float = 0.0

    @property
    def last_step(self) -> int | None:
        """The step of the last row of thermo output; None without any."""
        steps = self.thermo.get('Step', np.empty(0))
        return int(steps[-1]) if len(steps) else None


def read_log(text: str) -> Log:
    """Read a log of LAMMPS with `thermo_style` one, custom or yaml: https://docs.lammps.org/thermo_style.html.

    A run begins with the step that the one before ended with: the later row takes the place of the earlier.

    :param text: the whole log, or any part of it from its beginning.
    """
    # What stands behind the last line break may have been cut in the middle of a number; LAMMPS' last words may lack one.
    *lines, rest = text.split('\n')
    errors = [_SOURCE.sub('', match[1]) for match in map(_ERROR.match, [*lines, rest]) if match]
    halts = [match for match in map(_HALT.search, lines) if match]
    versions = [match for match in map(_VERSION.match, lines) if match]
    loops = [match for match in map(_LOOP.match, lines) if match]
    walls = [match for match in map(_WALL.match, lines) if match]
    hours, minutes, seconds = (int(value) for value in walls[-1].groups()) if walls else (0, 0, 0)
    return Log(
        version=versions[0][1] if versions else '',
        thermo=_join(_rows(lines)),
        errors=errors,
        halted=Halt(halts[-1][1], int(halts[-1][2]), float(halts[-1][3])) if halts else None,
        timed_out=any(_TIME_LIMIT in line for line in lines),
        finished=bool(walls),
        wall_s=3600.0 * hours + 60.0 * minutes + seconds if walls else sum((float(loop[1]) for loop in loops), 0.0),
    )


def _rows(lines: list[str]) -> Iterator[dict[str, float]]:
    """Yield the rows of thermo output; warnings and whatever else stands between them are passed over."""
    names: list[str] = []
    for line in lines:
        if line.startswith(_NO_ROW_FOLLOWS):
            names = []
        elif not names:
            names = _names(line)
        else:
            values = _values(line)
            if len(values) == len(names):
                yield dict(zip(names, values, strict=True))


def _names(line: str) -> list[str]:
    """Return the columns that a line announces; none if it does not."""
    names = _QUOTED.findall(line) if line.startswith('keywords: [') else line.split()
    return names if 'Step' in names else []


def _values(line: str) -> list[float]:
    """Return the numbers of a row, NaN for infinite ones; none if the line is no row."""
    words = line.removeprefix('  - [').replace(', ', ' ').removesuffix(' ]').split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        return []
    return [value if math.isfinite(value) else math.nan for value in values]


def _join(rows: Iterable[dict[str, float]]) -> dict[str, Floats]:
    kept: list[dict[str, float]] = []
    for row in rows:
        if kept and kept[-1]['Step'] == row['Step']:
            kept.pop()
        kept.append(row)
    names = dict.fromkeys(name for row in kept for name in row)
    return {name: np.array([row.get(name, math.nan) for row in kept]) for name in names}
