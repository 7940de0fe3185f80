"""VASP's input files: INCAR, POSCAR, POTCAR, KPOINTS, ICONST."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class VaspError(Exception):
    """VASP prints this and stops; or the stand-in does, at what it does not know."""


class Incar(dict[str, str]):
    """Tags in capitals and their values as written."""

    @classmethod
    def parse(cls, text: str) -> Incar:
        """Read ``TAG = value`` lines; ``;`` separates tags on a line, ``#`` and ``!`` begin comments."""
        lines = (re.split('[#!]', line)[0] for line in text.replace('\\\n', ' ').splitlines())
        pairs = (entry.split('=', 1) for line in lines for entry in line.split(';') if '=' in entry)
        return cls((tag.strip().upper(), value.strip()) for tag, value in pairs)

    def integer(self, tag: str, default: int) -> int:
        return int(self[tag].split()[0]) if tag in self else default

    def real(self, tag: str, default: float) -> float:
        return self.reals(tag, [default])[0]

    def reals(self, tag: str, default: Sequence[float]) -> list[float]:
        """Return the numbers of a tag; ``3*10.0`` stands for three of them."""
        if tag not in self:
            return list(default)
        values: list[float] = []
        for word in self[tag].split():
            count, _, number = word.rpartition('*')
            values += [float(number.upper().replace('D', 'E'))] * int(count or 1)
        return values

    def logicals(self, tag: str, default: Sequence[bool]) -> list[bool]:
        """Return Fortran logicals: what counts is the first letter after an optional dot."""
        return [word.lstrip('.')[0] in 'tT' for word in self[tag].split()] if tag in self else list(default)

    def logical(self, tag: str, default: bool) -> bool:
        return self.logicals(tag, [default])[0]


@dataclass(frozen=True)
class Potential:
    """What the PSCTR block of one POTCAR says: title, element, mass in u, number of valence electrons."""

    title: str
    element: str
    mass: float
    valence: float


def read_potcar(text: str) -> list[Potential]:
    """Read the concatenated POTCARs in their order."""
    titles = re.findall(r'^\s*TITEL\s*=\s*(.+?)\s*$', text, re.MULTILINE)
    elements = re.findall(r'VRHFIN\s*=\s*([A-Z][a-z]?)', text)
    masses, valences = (re.findall(tag + r'\s*=\s*([\d.]+)', text) for tag in ('POMASS', 'ZVAL'))
    if not len(titles) == len(elements) == len(masses) == len(valences) > 0:
        raise VaspError('ERROR: the POTCAR does not hold a complete potential')
    found = zip(titles, elements, masses, valences, strict=True)
    return [Potential(title, element, float(mass), float(valence)) for title, element, mass, valence in found]


@dataclass
class Structure:
    """A POSCAR.

    :param groups: names and numbers of ions of the blocks of the POSCAR, repeated where the species are interleaved.
    :param elements: element of each ion, as the POTCAR says.
    :param masses: of each ion in u, (n,).
    :param cell: lattice vectors in rows, Å.
    :param fractions: fractional coordinates (n, 3).
    :param velocities: (n, 3), Å/fs; None if the file has none.
    :param movable: (n, 3), False where selective dynamics holds a coordinate.
    """

    comment: str
    groups: list[tuple[str, int]]
    elements: list[str]
    masses: Array
    cell: Array
    fractions: Array
    velocities: Array | None
    movable: NDArray[np.bool_]

    @property
    def positions(self) -> Array:
        """Cartesian positions (n, 3) in Å."""
        return self.fractions @ self.cell

    @property
    def hash(self) -> str:
        """:func:`fingerprint` of the structure."""
        return fingerprint(self.elements, self.cell, self.positions)


def read_poscar(text: str, potentials: Sequence[Potential], timestep: float) -> Structure:
    """Read a POSCAR or CONTCAR with the elements that the POTCARs say.

    :param timestep: POTIM in fs, for velocities in direct coordinates, which are per time step.
    """
    lines = text.splitlines()
    comment, scales = lines[0].strip(), np.array(lines[1].split()[:3], dtype=float)
    cell = np.array([line.split()[:3] for line in lines[2:5]], dtype=float)
    scale = scales if scales[0] > 0 else np.cbrt(-scales / abs(np.linalg.det(cell)))
    cell = cell * scale
    at = 5
    names = [potential.element for potential in potentials]
    if not lines[at].split()[0].isdigit():
        names = [word.split('/')[0] for word in lines[at].split()]
        at += 1
    counts = [int(word) for word in itertools.takewhile(str.isdigit, lines[at].split())]
    if not len(counts) == len(names) == len(potentials):
        raise VaspError('ERROR: number of potentials on File POTCAR incompatible with number of species')
    kinds = [potential for potential, count in zip(potentials, counts, strict=True) for _ in range(count)]
    elements, masses = [kind.element for kind in kinds], np.array([kind.mass for kind in kinds])
    at += 1
    selective = lines[at].strip()[:1] in ('S', 's')
    at += selective
    cartesian = lines[at].strip()[:1] in tuple('CcKk')
    at += 1
    rows = [line.split() for line in lines[at : at + len(elements)]]
    at += len(elements)
    coordinates = np.array([row[:3] for row in rows], dtype=float)
    fractions = np.linalg.solve(cell.T, (coordinates * scale).T).T if cartesian else coordinates
    movable = np.ones_like(fractions, dtype=bool)
    if selective:
        movable = np.array([[word.lstrip('.')[0] in 'tT' for word in row[3:6]] for row in rows])
    velocities = _read_velocities(lines[at:], len(elements))
    if velocities is not None and lines[at].strip()[:1] in ('D', 'd'):
        velocities = velocities @ cell / timestep
    groups = list(zip(names, counts, strict=True))
    return Structure(comment, groups, elements, masses, cell, fractions, velocities, movable)


def _read_velocities(lines: list[str], count: int) -> Array | None:
    """Return the block of velocities that may follow the positions, or None where it is missing or all zero."""
    if lines and lines[0].strip()[:1] in ('L', 'l'):  # lattice velocities, the initial state, two times three vectors
        lines = lines[8:]
    block = [line.split()[:3] for line in lines[1 : count + 1]]
    if len(block) < count or any(len(row) < 3 for row in block):
        return None
    velocities = np.array(block, dtype=float)
    return velocities if velocities.any() else None


def fingerprint(elements: Iterable[str], cell: ArrayLike, positions: ArrayLike) -> str:
    """Return a hash of a structure that does not depend on the order of its ions nor on a POSCAR's digits.

    :param cell: lattice vectors in rows, Å.
    :param positions: Cartesian and not wrapped, Å.
    """

    def digits(array: ArrayLike) -> list[list[int]]:
        # To 1e-4 Å; the odd offset keeps round numbers away from where the rounding changes.
        return np.floor((np.asarray(array) + math.pi * 1e-5) * 1e4).astype(int).tolist()  # type: ignore[no-any-return]

    ions = sorted((element, *position) for element, position in zip(elements, digits(positions), strict=True))
    return hashlib.sha256(repr((digits(cell), ions)).encode()).hexdigest()[:16]


def read_kpoints(text: str | None, incar: Incar, cell: Array) -> tuple[Array, Array]:
    """Return fractional k-points (k, 3) and weights (k,) that sum to one: a mesh (halved by time reversal) or a list.

    :param text: the KPOINTS file; None if there is none: KSPACING then gives a Γ-centred mesh.
    """
    reciprocal = 2 * np.pi * np.linalg.inv(cell).T
    if text is None:
        spacing = incar.real('KSPACING', 0.5)
        divisions = np.maximum(1, np.ceil(np.linalg.norm(reciprocal, axis=1) / spacing)).astype(int)
        return _mesh(divisions.tolist(), np.zeros(3))
    lines = text.splitlines()
    count, mode = int(lines[1].split()[0]), lines[2].strip()[:1].lower()
    if count == 0 and mode in tuple('gm'):
        divisions = [int(word) for word in lines[3].split()[:3]]
        shift = np.array(lines[4].split()[:3], dtype=float) if len(lines) > 4 and lines[4].strip() else np.zeros(3)
        if mode == 'm':
            shift = shift + [0.5 * (number % 2 == 0) for number in divisions]
        return _mesh(divisions, shift)
    if count > 0 and mode != 'l':
        rows = np.array([line.split()[:4] for line in lines[3 : 3 + count]], dtype=float)
        points = rows[:, :3] @ np.linalg.inv(reciprocal) * 2 * np.pi if mode in tuple('ck') else rows[:, :3]
        return points, rows[:, 3] / rows[:, 3].sum()
    raise VaspError('The stand-in reads KPOINTS with a Gamma or Monkhorst-Pack mesh or with a list of points.')


def _mesh(divisions: Sequence[int], shift: Array) -> tuple[Array, Array]:
    weights: dict[tuple[float, ...], int] = {}
    for index in itertools.product(*(range(number) for number in divisions)):
        point = (np.array(index) + shift) / divisions
        key, reversed_key = (tuple((np.round(sign * point, 8) % 1).tolist()) for sign in (1, -1))
        key = reversed_key if reversed_key in weights else key
        weights[key] = weights.get(key, 0) + 1
    return np.array(list(weights)), np.array(list(weights.values())) / math.prod(divisions)


def read_iconst(path: Path) -> list[tuple[int, ...]]:
    """Return the constraints of an ICONST on the cell: ``(i,)`` holds the length of vector i, ``(i, j)`` an angle, from 0 on.

    :param path: a file with lines ``LR i 0`` and ``LA i j 0``; it need not exist.
    """
    if not path.is_file():
        return []
    constraints = []
    for line in path.read_text().splitlines():
        flag, *numbers = line.split() or ['']
        if flag == '':
            continue
        if flag not in ('LR', 'LA') or numbers[-1] != '0' or len(numbers) != {'LR': 2, 'LA': 3}[flag]:
            raise VaspError(f'The stand-in knows `LR i 0` and `LA i j 0` in ICONST, not `{line.strip()}`.')
        constraints.append(tuple(sorted(int(number) - 1 for number in numbers[:-1])))
    return constraints
