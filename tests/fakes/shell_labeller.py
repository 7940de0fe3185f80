"""A labelling program that misbehaves on demand: ``python shell_labeller.py INPUT OUTPUT [TROUBLE=INDEX ...] [once=FILE]``.

It labels the structures of an extended XYZ file with EMT, one after the other. TROUBLE happens at structure INDEX; with
``once`` only until that file exists. ``crash_at_x=X`` crashes at the structures whose first atom is there.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import iread, write


def main(source: str, target: str, *arguments: str) -> None:
    bad = [float(argument[11:]) for argument in arguments if argument.startswith('crash_at_x=')]
    troubles = dict(argument.split('=', 1) for argument in arguments if not argument.startswith('crash_at_x='))
    marker = Path(troubles.pop('once', os.devnull))
    if marker.is_file():
        troubles = {}
    for number, atoms in enumerate(iread(source, index=':', format='extxyz')):
        here = {trouble for trouble, index in troubles.items() if int(index) == number}
        if here and str(marker) != os.devnull:
            marker.touch()
        if 'missing' in here:
            continue
        if 'crash' in here or any(abs(atoms.positions[0, 0] - x) < 1e-6 for x in bad):
            raise SystemExit(f'cannot label structure {number}')
        if 'killed' in here:
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        if 'unconverged' in here:
            print(' *** WARNING in qs_scf.F:542 :: SCF run NOT converged ***')
        atoms.calc = EMT()
        forces = atoms.get_forces()
        if 'nan' in here:
            forces[0, 1] = np.nan
        if 'pulled' in here:
            forces[0, 0] += 80.0
        # Numbers only: of which structure they are is told by the atoms.
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info.update(REF_energy=atoms.get_potential_energy(), REF_stress=atoms.get_stress())
        frame.arrays['REF_forces'] = forces
        if 'says' in here:
            frame.info['converged'] = False
        write(target, frame, format='extxyz', append=True)
    print('all done', file=sys.stderr)


if __name__ == '__main__':
    main(*sys.argv[1:])
