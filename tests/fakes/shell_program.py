"""A program with an input of its own: ``python shell_program.py < INPUT`` leaves what it computed in result.extxyz.

The input has ``max_cycles N``, then lines ``cell x y z`` and ``atom SYMBOL x y z``. If the cycles do not suffice it says so
and ends with status 0 all the same, as CP2K does.
"""

from __future__ import annotations

import sys

from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import write

CYCLES_NEEDED = 10


def main() -> None:
    lines = [line.split() for line in sys.stdin if line.strip()]
    cell = [[float(word) for word in words[1:]] for words in lines if words[0] == 'cell']
    symbols = [words[1] for words in lines if words[0] == 'atom']
    positions = [[float(word) for word in words[2:]] for words in lines if words[0] == 'atom']
    cycles = next(int(words[1]) for words in lines if words[0] == 'max_cycles')
    print('converged.' if cycles >= CYCLES_NEEDED else f'convergence NOT achieved after {cycles} iterations: stopping')
    atoms = Atoms(symbols, positions, cell=cell, pbc=True)
    atoms.calc = EMT()
    atoms.get_forces()
    atoms.get_stress()
    write('result.extxyz', atoms, format='extxyz')


if __name__ == '__main__':
    main()
