"""Input and output of the tests of lmp-mace."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_masses, atomic_numbers
from ase.geometry import cellpar_to_cell

ELEMENTS = ('Cu', 'Au', 'O')
ENERGIES = {'Cu': -3000.25, 'Au': -5000.5, 'O': -400.125}
ROOT = Path(__file__).parents[2]


@dataclass
class Finished:
    """A run of lmp-mace that has ended."""

    folder: Path
    returncode: int
    output: str

    @property
    def status(self) -> dict[str, Any]:
        """The status file."""
        return json.loads((self.folder / 'lmp-mace.status.json').read_text())

    @property
    def thermo(self) -> np.ndarray:
        """All rows of numbers below headers that begin with Step, as (rows, columns)."""
        rows: list[list[float]] = []
        inside = False
        for line in (self.folder / 'log.lammps').read_text().splitlines():
            words = line.split()
            if words[:1] == ['Step']:
                inside = True
            elif line.startswith('Loop time'):
                inside = False
            elif inside and words and words[0].isdigit():
                rows.append([float(word) for word in words])
        return np.array(rows)


def environment(**changes: str) -> dict[str, str]:
    """The variables that lmp-mace runs with here."""
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), 'PYTHONWARNINGS': 'ignore', **changes}


def command(*arguments: str) -> list[str]:
    """The command line of lmp-mace."""
    return [sys.executable, '-m', 'aiida_mlip_al.lmp_mace', *arguments]


def calculator(model: Path) -> Any:
    """Return MACE's own ASE calculator, in float64."""
    from mace.calculators import MACECalculator

    return MACECalculator(model_paths=str(model), device='cpu', default_dtype='float64')


def last_frame(path: Path) -> tuple[int, np.ndarray]:
    """Return the step of the last frame of a dump and its rows, sorted by the first column, the id."""
    text = path.read_text().split('ITEM: TIMESTEP\n')[-1]
    rows = np.array([line.split() for line in text.split('ITEM: ATOMS')[1].splitlines()[1:]], dtype=float)
    return int(text.split()[0]), rows[np.argsort(rows[:, 0])]


def write_data(path: Path, atoms: Atoms, order: Sequence[str], ids: np.ndarray | None = None) -> None:
    """Write a data file; the cell is lower triangular already.

    :param order: elements in the order of the atom types.
    :param ids: id of each atom, 1 to n; in the order of the atoms if left out.
    """
    cell = atoms.cell.array
    assert np.allclose(cell, np.tril(cell))
    ids = np.arange(1, len(atoms) + 1) if ids is None else ids
    lines = ['a frame', '', f'{len(atoms)} atoms', f'{len(order)} atom types', '']
    lines += [f'0 {cell[k, k]:.16g} {axis}lo {axis}hi' for k, axis in enumerate('xyz')]
    lines += [f'{cell[1, 0]:.16g} {cell[2, 0]:.16g} {cell[2, 1]:.16g} xy xz yz', '', 'Masses', '']
    lines += [f'{number} {atomic_masses[atomic_numbers[symbol]]:.8g}' for number, symbol in enumerate(order, 1)]
    lines += ['', 'Atoms # atomic', '']
    for number, symbol, position in zip(ids, atoms.get_chemical_symbols(), atoms.positions, strict=True):
        lines.append(f'{number} {order.index(symbol) + 1} ' + ' '.join(f'{value:.16g}' for value in position))
    path.write_text('\n'.join(lines) + '\n')


def alloy(repeat: Sequence[int], seed: int = 0, *, triclinic: bool = True, displacement: float = 0.1) -> Atoms:
    """Cu, Au and O on the sites of a fcc crystal, displaced, in a lower triangular cell."""
    rng = np.random.default_rng(seed)
    atoms = bulk('Cu', 'fcc', a=3.9, cubic=True).repeat(repeat)
    if triclinic:
        lengths = atoms.cell.lengths()
        atoms.set_cell(cellpar_to_cell([*lengths, 84.0, 78.0, 81.0]), scale_atoms=True)
    atoms.symbols[:] = rng.choice(ELEMENTS, size=len(atoms), p=(0.5, 0.3, 0.2))
    atoms.symbols[: len(ELEMENTS)] = ELEMENTS
    atoms.positions += rng.normal(scale=displacement, size=atoms.positions.shape)
    return atoms
