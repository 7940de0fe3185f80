"""Extended XYZ and JSON-lines files that a kill at any moment leaves readable."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ase import Atoms
from ase.io.extxyz import read_xyz, write_xyz

_T = TypeVar('_T', bound='_Appender')  # typing.Self needs Python 3.11


class _Appender:
    """A file that grows by one whole record a system call."""

    def __init__(self, path: str | Path) -> None:
        self._file = open(path, 'wb', buffering=0)  # noqa: SIM115

    def _append(self, text: str) -> None:
        rest = memoryview(text.encode())
        while rest:
            # On a disk that becomes full a part is written, and the next call fails.
            rest = rest[self._file.write(rest) :]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FrameWriter(_Appender):
    """Writes frames to an extended XYZ file, each on disk as soon as it is written.

    :param path: the file; an old one is replaced.
    """

    def write(self, atoms: Atoms) -> None:
        """Append one frame with its info, arrays and results; positions are never wrapped.

        :param atoms: the frame; constraints are not written.
        """
        text = io.StringIO()
        write_xyz(text, [atoms], write_info=True, write_results=True)
        self._append(text.getvalue())


class LineWriter(_Appender):
    """Writes JSON objects, one a line, each on disk as soon as it is written.

    :param path: the file; an old one is replaced.
    """

    def write(self, record: dict[str, Any]) -> None:
        """Append one object.

        :param record: anything JSON can hold; numbers must be finite.
        :raises ValueError: for NaN or infinity, which JSON does not know.
        """
        self._append(json.dumps(record, allow_nan=False) + '\n')


def read_frames(path: str | Path) -> list[Atoms]:
    """Read the complete frames of an extended XYZ file whose last frame may be cut off.

    :param path: the file.
    :returns: the complete frames, in order.
    :raises ValueError: if a frame other than the last is broken.
    """
    lines = Path(path).read_text(encoding='utf-8').splitlines(keepends=True)
    begin = 0
    while begin < len(lines):
        try:
            end = begin + 2 + int(lines[begin])
        except ValueError as error:
            if begin + 1 >= len(lines):
                break
            raise ValueError(f'{path}, line {begin + 1}: the number of atoms of a frame was expected.') from error
        if end > len(lines) or not lines[end - 1].endswith('\n'):
            break
        begin = end
    if begin == 0:
        return []
    return list(read_xyz(io.StringIO(''.join(lines[:begin])), index=slice(None)))


def read_structures(path: str | Path) -> list[Atoms]:
    """Read an extended XYZ file that must be complete.

    :param path: the file.
    :returns: all frames, in order; at least one.
    :raises ValueError: if the file is missing, incomplete or empty.
    """
    try:
        with open(path, encoding='utf-8') as file:
            frames = list(read_xyz(file, index=slice(None)))
    except FileNotFoundError as error:
        raise ValueError(f'{path} does not exist.') from error
    except Exception as error:
        raise ValueError(f'{path} is not a complete extended XYZ file: {error}') from error
    if not frames:
        raise ValueError(f'{path} holds no structure.')
    return frames


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Read the complete lines of a JSON-lines file whose last line may be cut off.

    :param path: the file.
    :returns: one dictionary a line.
    """
    text = Path(path).read_text(encoding='utf-8')
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith('\n')]
