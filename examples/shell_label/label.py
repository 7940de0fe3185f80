"""A labelling program of one's own: ``python label.py STRUCTURES LABELS``, both extended XYZ.

It stands for any executable: it knows nothing of AiiDA, and has units of its own. Each label is written as it comes, so a job
that is killed keeps what it had; a structure that does not converge is left out.
"""

import sys

from ase.io import iread, write
from ase.units import Bohr, Hartree
from tblite.interface import Calculator


def main(source: str, target: str) -> None:
    for atoms in iread(source, index=':', format='extxyz'):
        calculator = Calculator('GFN2-xTB', atoms.numbers, atoms.positions / Bohr)
        calculator.set('verbosity', 0)
        try:
            result = calculator.singlepoint()
        except RuntimeError as error:
            print(f'{atoms.info["name"]}: {error}', file=sys.stderr)
            continue
        atoms.info['REF_energy'] = float(result.get('energy')) * Hartree
        atoms.arrays['REF_forces'] = -result.get('gradient') * Hartree / Bohr
        write(target, atoms, format='extxyz', append=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
