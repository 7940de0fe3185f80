"""Text dumps of LAMMPS as arrays, whatever state a job left them in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FRAME = 'ITEM: TIMESTEP\n'
TEXT_COLUMNS = ('element', 'typelabel')


def _empty(*shape: int) -> Floats:
    return np.empty(shape)


@dataclass(frozen=True)
class Dump:
    """F frames of n atoms in the order of their ids; what is no finite number is NaN.

    steps (F,), strictly increasing; cells (F, 3, 3) in Å, one cell vector a row, lower triangular; origins (F, 3), the
    corner of the box, Å; periodic (3,), of the first frame; elements (F, n), which a Monte Carlo swap changes; columns, the
    other columns of the dump (F, n) by name, in the units of the dump.
    """

    steps: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    cells: Floats = field(default_factory=lambda: _empty(0, 3, 3))
    origins: Floats = field(default_factory=lambda: _empty(0, 3))
    periodic: tuple[bool, bool, bool] = (False, False, False)
    elements: NDArray[np.str_] = field(default_factory=lambda: np.empty((0, 0), dtype='<U2'))
    columns: dict[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.steps)

    def vectors(self, x: str, y: str, z: str) -> Floats:
        """Return three columns, for example xu, yu and zu, as (F, n, 3).

        :raises ValueError: if the dump lacks one of them.
        """
        if not len(self):
            return _empty(0, 0, 3)
        missing = [name for name in (x, y, z) if name not in self.columns]
        if missing:
            raise ValueError(f'The dump has no column {missing[0]}: add it to the columns of `dump custom`.')
        return np.stack([self.columns[name] for name in (x, y, z)], axis=-1)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(F,): whether all numbers of a frame are finite."""
        finite = np.isfinite(self.cells.sum(axis=(1, 2)) + self.origins.sum(axis=1))
        for values in self.columns.values():
            finite &= np.isfinite(values).all(axis=1)
        return finite


class _Frame(NamedTuple):
    step: int
    cell: Floats
    origin: Floats
    periodic: tuple[bool, bool, bool]
    columns: list[str]
    elements: NDArray[np.str_]
    values: Floats


def read_dump(text: str) -> Dump:
    """Read what LAMMPS's ``dump custom`` writes: https://docs.lammps.org/dump.html.

    The dump needs the columns id and element, and may have any others. Frames that are cut or garbled are left out. A step
    that comes again, as in a run that goes on from a restart, takes the place of that step and of those after it. The
    trajectory ends before the first frame with other atoms or columns than the ones before.

    :param text: any number of frames, the last of which may be incomplete.
    :raises ValueError: if there are no columns id and element, or the box is one of `triclinic/general`.
    """
    frames: list[_Frame] = []
    for part in text.split(FRAME)[1:]:
        frame = _read_frame(part)
        if frame is None:
            continue
        frame = _sorted(frame)
        if frames and not _matches(frame, frames[0]):
            break
        while frames and frames[-1].step >= frame.step:
            frames.pop()
        frames.append(frame)
    return _join(frames) if frames else Dump()


def _numeric(columns: list[str]) -> list[str]:
    return [name for name in columns if name not in TEXT_COLUMNS]


def _ids(frame: _Frame) -> Floats:
    return frame.values[:, _numeric(frame.columns).index('id')]


def _sorted(frame: _Frame) -> _Frame:
    order = np.argsort(_ids(frame))
    return frame._replace(elements=frame.elements[order], values=frame.values[order])


def _matches(frame: _Frame, first: _Frame) -> bool:
    return frame.columns == first.columns and np.array_equal(_ids(frame), _ids(first))


def _join(frames: list[_Frame]) -> Dump:
    values = np.stack([frame.values for frame in frames])
    values[~np.isfinite(values)] = np.nan
    by_column = np.ascontiguousarray(values.transpose(2, 0, 1))
    return Dump(
        steps=np.array([frame.step for frame in frames], dtype=np.int64),
        cells=np.stack([frame.cell for frame in frames]),
        origins=np.stack([frame.origin for frame in frames]),
        periodic=frames[0].periodic,
        elements=np.stack([frame.elements for frame in frames]),
        columns=dict(zip(_numeric(frames[0].columns), by_column, strict=True)),
    )


def _read_frame(part: str) -> _Frame | None:
    """Return a frame from what follows its first line, or None if it is not complete."""
    header, found, body = part.partition('ITEM: ATOMS ')
    names, newline, body = body.partition('\n')
    if not (found and newline):
        return None
    columns = names.split()
    if 'id' not in columns or 'element' not in columns:
        raise ValueError('The dump needs the columns id and element: add them to those of `dump custom`.')
    if 'BOX BOUNDS abc origin' in header:
        raise ValueError('The dump has a box of general vectors: dump without `triclinic/general`.')
    try:
        step, n_atoms, periodic, bounds = _read_header(header.split('\n'))
        values, elements = _read_atoms(body, n_atoms, columns)
    except (ValueError, IndexError, KeyError):
        return None
    cell, origin = _cell(bounds)
    return _Frame(step, cell, origin, periodic, columns, elements, values)


def _read_header(lines: list[str]) -> tuple[int, int, tuple[bool, bool, bool], Floats]:
    """Return step, number of atoms, periodicity, and the bounds (3, 2), or (3, 3) with the tilt factors."""
    items = {line.split(' ')[1]: number for number, line in enumerate(lines) if line.startswith('ITEM: ')}
    box = items['BOX']
    x, y, z = lines[box].split()[-3:]
    bounds = np.array([line.split() for line in lines[box + 1 : box + 4]], dtype=float)
    if bounds.shape not in {(3, 2), (3, 3)} or not set(x + y + z) <= set('pfsm'):
        raise ValueError
    periodic = (x[0] == 'p', y[0] == 'p', z[0] == 'p')
    return int(lines[0]), int(lines[items['NUMBER'] + 1]), periodic, bounds


def _read_atoms(body: str, n_atoms: int, columns: list[str]) -> tuple[Floats, NDArray[np.str_]]:
    """Return the numbers (n, numeric columns) and the elements (n,) of the first lines of a text."""
    n_words = n_atoms * len(columns)
    words = body.split(maxsplit=n_words)[:n_words]
    # A text without the last line break may be cut in the middle of a number.
    if body.count('\n') < n_atoms or len(words) != n_words:
        raise ValueError
    elements = np.array(words[columns.index('element') :: len(columns)])
    numbers = [words[number :: len(columns)] for number, name in enumerate(columns) if name not in TEXT_COLUMNS]
    values = [np.fromiter(map(float, column), dtype=float, count=n_atoms) for column in numbers]
    return np.stack(values, axis=-1), elements


def _cell(bounds: Floats) -> tuple[Floats, Floats]:
    """Return cell (3, 3) and origin (3,) from bounds (3, 2), or (3, 3) with the tilt factors xy, xz and yz.

    The bounds of a tilted box are those of the box around it: https://docs.lammps.org/Howto_triclinic.html.
    """
    xy, xz, yz = bounds[:, 2] if bounds.shape[1] == 3 else (0.0, 0.0, 0.0)
    low = bounds[:, 0] - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
    high = bounds[:, 1] - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
    a, b, c = high - low
    return np.array([[a, 0.0, 0.0], [xy, b, 0.0], [xz, yz, c]]), low
