"""What VASP reads: INCAR, POSCAR, POTCAR and KPOINTS."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from math import ceil, pi
from pathlib import Path

import numpy as np
from ase import Atoms


class InputError(Exception):
    """The input files cannot be used; the message says why."""


class Incar(dict[str, str]):
    """Tags (upper case) and their values as written."""

    @classmethod
    def parse(cls, text: str) -> Incar:
        """Read lines of ``TAG = value``; comments begin with # or !, a semicolon separates, a backslash continues."""
        incar = cls()
        for line in re.sub(r'\\\s*\n', ' ', text).splitlines():
            for part in re.split('[#!]', line)[0].split(';'):
                tag, equals, value = part.partition('=')
                if equals:
                    incar[tag.strip().upper()] = value.strip()
        return incar

    def numbers(self, tag: str) -> list[float]:
        """Return the numbers of a tag, ``3*1.5`` written out; empty without the tag."""
        found: list[float] = []
        for word in self.get(tag, '').lower().replace('d', 'e').split():
            count, star, value = word.rpartition('*')
            found += [float(value)] * (int(count) if star else 1)
        return found

    def number(self, tag: str, default: float) -> float:
        """Return the first number of a tag."""
        return (self.numbers(tag) or [default])[0]

    def integer(self, tag: str, default: int) -> int:
        """Return the integer of a tag."""
        return int(self.number(tag, default))

    def logicals(self, tag: str, default: list[bool]) -> list[bool]:
        """Return the logicals of a tag, in any of Fortran's spellings."""
        return [word.strip('.').upper().startswith('T') for word in self.get(tag, '').split()] or default

    def logical(self, tag: str, default: bool) -> bool:
        """Return the first logical of a tag."""
        return self.logicals(tag, [default])[0]

    @property
    def steps(self) -> int:
        """The largest number of ionic steps, at least one."""
        return max(self.integer('NSW', 0), 1)

    @property
    def ibrion(self) -> int:
        """How ions move: VASP's default without movement is -1, with movement molecular dynamics."""
        return -1 if self.integer('NSW', 0) < 1 else self.integer('IBRION', 0)

    @property
    def isif(self) -> int:
        """What is computed and what may change; molecular dynamics does without a stress unless asked."""
        return self.integer('ISIF', 0 if self.ibrion == 0 else 2)

    @property
    def nelm(self) -> int:
        """The largest number of electronic steps."""
        return self.integer('NELM', 60)


@dataclass
class Potential:
    """The head of one data set of a POTCAR: masses in amu, energies in eV."""

    title: str
    element: str
    mass: float
    valence: float
    cutoff: float

    @classmethod
    def parse_all(cls, text: str) -> list[Potential]:
        """Read every data set of a POTCAR."""

        def field(name: str, block: str) -> str:
            found = re.search(rf'{name}\s*=\s*([^;\n]+)', block)
            if not found:
                raise InputError(f'a data set of the POTCAR has no {name}')
            return found[1].strip()

        return [
            cls(
                title=field('TITEL', block),
                element=field('VRHFIN', block).split(':')[0].strip(),
                mass=float(field('POMASS', block)),
                valence=float(field('ZVAL', block)),
                cutoff=float(field('ENMAX', block)),
            )
            for block in text.split('End of Dataset')[:-1]
        ]


@dataclass
class Poscar:
    """A structure as written: names and counts of its groups of atoms.

    :param cell: (3, 3) Å.
    :param positions: (n, 3) in units of the cell, not wrapped.
    :param free: (n, 3) whether an atom may move along a cell vector.
    :param velocities: (n, 3) Å/fs, or None if there are none.
    """

    comment: str
    names: list[str]
    counts: list[int]
    cell: np.ndarray
    positions: np.ndarray
    free: np.ndarray
    velocities: np.ndarray | None
    selective: bool

    @classmethod
    def parse(cls, text: str, timestep: float) -> Poscar:
        """Read the format of VASP 5 and later.

        :param timestep: POTIM in fs, the unit of time of velocities in units of the cell.
        """
        lines = text.splitlines()
        cell = np.array([line.split()[:3] for line in lines[2:5]], dtype=float)
        scale = np.array(lines[1].split()[:3], dtype=float)
        if scale[0] < 0:  # the volume
            scale = np.cbrt(-scale / abs(np.linalg.det(cell)))
        cell = cell * scale
        names, counts = lines[5].split(), [int(word) for word in lines[6].split()]
        if len(names) != len(counts):
            raise InputError('POSCAR: line 6 must name the elements of the counts in line 7')
        selective = lines[7].strip()[:1].upper() == 'S'
        first = 9 if selective else 8
        table = [line.split() for line in lines[first : first + sum(counts)]]
        positions = np.array([words[:3] for words in table], dtype=float)
        if lines[first - 1].strip()[:1].upper() in 'CK':
            positions = positions * scale @ np.linalg.inv(cell)
        free = np.array([[word.strip('.').upper()[:1] != 'F' for word in words[3:6]] for words in table])
        free = free if selective else np.ones_like(positions, dtype=bool)
        velocities = cls._velocities(lines[first + len(table) :], len(table), cell, timestep)
        return cls(lines[0], names, counts, cell, positions, free, velocities, selective)

    @staticmethod
    def _velocities(lines: list[str], count: int, cell: np.ndarray, timestep: float) -> np.ndarray | None:
        """Read what follows the positions: perhaps velocities of the lattice (left out), perhaps of the ions."""
        if lines and lines[0].strip().upper().startswith('L'):
            lines = lines[8:]
        table = [line.split()[:3] for line in lines[1 : 1 + count]]
        if len(table) < count or not all(len(words) == 3 for words in table):
            return None
        velocities = np.array(table, dtype=float)
        return velocities @ cell / timestep if lines[0].strip().upper().startswith('D') else velocities


@dataclass
class Kpoints:
    """Points (n, 3) in units of the reciprocal cell, and their weights (sum 1); divisions if they are a mesh."""

    points: np.ndarray
    weights: np.ndarray
    divisions: list[int] | None = None

    @classmethod
    def parse(cls, text: str, cell: np.ndarray) -> Kpoints:
        """Read a mesh around Gamma, a Monkhorst-Pack mesh, or a list."""
        lines = text.splitlines()
        count, style = int(lines[1].split()[0]), lines[2].strip()[:1].upper()
        if count == 0:
            if style not in 'GM':
                raise InputError('KPOINTS: line 3 must be Gamma or Monkhorst-Pack')
            shift = [float(word) for word in lines[4].split()[:3]] if len(lines) > 4 and lines[4].strip() else [0.0] * 3
            return cls.mesh([int(word) for word in lines[3].split()[:3]], shift, style == 'G')
        table = np.array([line.split()[:4] for line in lines[3 : 3 + count]], dtype=float)
        points = table[:, :3] @ cell.T if style in 'CK' else table[:, :3]
        return cls(points, table[:, 3] / table[:, 3].sum())

    @classmethod
    def spaced(cls, spacing: float, cell: np.ndarray) -> Kpoints:
        """Return the mesh around Gamma whose points are at most a spacing (1/Å, 2π included) apart: KSPACING."""
        lengths = 2 * pi * np.linalg.norm(np.linalg.inv(cell), axis=0)
        return cls.mesh([max(1, ceil(length / spacing)) for length in lengths], [0.0] * 3, True)

    @classmethod
    def mesh(cls, divisions: list[int], shift: list[float], gamma: bool) -> Kpoints:
        """Return a mesh, of k and -k only one."""
        sizes = np.array(divisions)
        indices = np.indices(divisions).reshape(3, -1).T
        points = (indices + shift - (0 if gamma else (sizes - 1) / 2)) / sizes
        points = np.round(points - np.ceil(points - 0.5), 10) + 0.0
        found = Counter(max(tuple(point), tuple(-point + 0.0)) for point in points)
        return cls(np.array(list(found)), np.array(list(found.values())) / len(points), divisions)


@dataclass
class Inputs:
    """The input files of a folder, checked against each other."""

    incar: Incar
    poscar: Poscar
    potentials: list[Potential]
    kpoints: Kpoints

    @classmethod
    def read(cls, folder: Path) -> Inputs:
        """Read the files.

        :raises InputError: if one is missing, or POSCAR and POTCAR are not of the same elements in the same order.
        """
        for name in ('INCAR', 'POSCAR', 'POTCAR'):
            if not (folder / name).exists():
                raise InputError(f'there is no {name}')
        incar = Incar.parse((folder / 'INCAR').read_text())
        poscar = Poscar.parse((folder / 'POSCAR').read_text(), incar.number('POTIM', 1.0))
        potentials = Potential.parse_all((folder / 'POTCAR').read_text())
        given = [re.split('[_/0-9]', name)[0] for name in poscar.names]
        elements = [potential.element for potential in potentials]
        if given != elements:
            raise InputError(f'POSCAR has {" ".join(given)}, POTCAR has {" ".join(elements)}')
        if (folder / 'KPOINTS').exists():
            kpoints = Kpoints.parse((folder / 'KPOINTS').read_text(), poscar.cell)
        else:
            kpoints = Kpoints.spaced(incar.number('KSPACING', 0.5), poscar.cell)
        return cls(incar, poscar, potentials, kpoints)

    @property
    def atoms(self) -> Atoms:
        """The structure, with the masses of the POTCAR."""
        groups = list(zip(self.potentials, self.poscar.counts, strict=True))
        return Atoms(
            [potential.element for potential, count in groups for _ in range(count)],
            masses=[potential.mass for potential, count in groups for _ in range(count)],
            cell=self.poscar.cell,
            scaled_positions=self.poscar.positions,
            pbc=True,
        )

    @property
    def cutoff(self) -> float:
        """The energy cutoff in eV."""
        return self.incar.number('ENCUT', max(potential.cutoff for potential in self.potentials))

    @property
    def electrons(self) -> float:
        """The number of valence electrons."""
        counted = sum(one.valence * count for one, count in zip(self.potentials, self.poscar.counts, strict=True))
        return self.incar.number('NELECT', counted)

    @property
    def bands(self) -> int:
        """The number of bands."""
        return self.incar.integer('NBANDS', ceil(self.electrons / 2) + max(sum(self.poscar.counts) // 2, 3))
