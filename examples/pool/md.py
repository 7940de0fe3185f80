"""Write a pool: MD of ethanol with GFN2-xTB at three temperatures, as anybody has of some system; `python md.py FILE`."""

import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from tblite.ase import TBLite

FRAMES, EVERY = 80, 50
frames = []
for temperature in (300, 500, 700):
    atoms = read(Path(__file__).parents[1] / 'ethanol' / 'ethanol.xyz')
    atoms.calc = TBLite(method='GFN2-xTB', verbosity=0)
    rng = np.random.default_rng(temperature)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng)
    for _ in dynamics.irun(FRAMES * EVERY):
        if dynamics.nsteps and dynamics.nsteps % EVERY == 0:
            frame = atoms.copy()
            frame.info = {'REF_energy': atoms.get_potential_energy(), 'temperature_K': temperature}
            frame.arrays['REF_forces'] = atoms.get_forces()
            del frame.arrays['momenta']
            frames.append(frame)
write(sys.argv[1], frames)
