"""Labelled frames to replay active learning on: what is seeded, what an exploration would find, and what is tested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.constraints import FixCom
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from scipy.spatial.transform import Rotation

from aiida_mlip_al.sampling.rattle import RattleParameters, rattle

EQUILIBRATION_FS = 300
FRICTION_PER_FS = 0.02
LARGEST_CHANGE = 1e-5  # eV and eV/Å, of a label under a rotation


@dataclass(frozen=True)
class System:
    """What is labelled and how, and the MD that makes the frames.

    :param name: of the system.
    :param method: of tblite.
    :param pool: temperatures of the explored frames, K.
    :param tests: temperatures of the test frames, K.
    :param walkers: trajectories at each temperature of the pool.
    :param frames: explored frames of a trajectory.
    :param test_frames: frames of a test set.
    :param timestep_fs: of the MD.
    :param every: steps between two frames.
    :param stdev: of the seeds' displacements, Å.
    :param one_test: the bar counts for all test frames as one set, and not for those of each temperature too.
    """

    name: str
    method: str
    pool: tuple[int, ...]
    tests: tuple[int, ...]
    walkers: int
    frames: int
    test_frames: int
    timestep_fs: float
    every: int
    stdev: float = 0.05
    one_test: bool = False

    def start(self) -> Atoms:
        """Return the structure that all begins with."""
        return molecule('CH3CH2OH') if self.name == 'ethanol' else bulk('NaCl', 'rocksalt', a=5.6, cubic=True)

    def trajectories(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield name, temperature (K), random seed and number of frames of every trajectory."""
        for temperature in self.pool:
            for walker in range(self.walkers):
                yield f'pool_{temperature}_{walker}', temperature, temperature + walker, self.frames
        for temperature in self.tests:
            yield f'test_{temperature}', temperature, 10_000 + temperature, self.test_frames


def make_trajectory(system: System, file: Path, temperature: int, seed: int, n_frames: int) -> None:
    """Write labelled frames of MD with the reference itself.

    Each frame of a crystal is turned at random, cell and all, so that no axis is special.

    :param system: what.
    :param file: to write; what is there already is kept.
    :param temperature: K.
    :param seed: of velocities, thermostat and rotations.
    :param n_frames: how many.
    :raises RuntimeError: the reference gives a turned crystal another label.
    """
    if file.exists():
        return
    rng = np.random.default_rng(seed)
    atoms = system.start()
    atoms.calc = calculator(system)
    # ASE's own way to hold the centre of mass (fixcm) heats small systems.
    atoms.set_constraint(FixCom())
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        system.timestep_fs * units.fs,
        temperature_K=temperature,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(round(EQUILIBRATION_FS / system.timestep_fs))
    frames = []
    for number in range(n_frames):
        dynamics.run(system.every)
        frame = labelled(atoms)
        frame.info.update(temperature_K=temperature, time_fs=dynamics.nsteps * system.timestep_fs)
        if frame.pbc.any():
            frame = turned(frame, rng)
            if number == 0:
                check_label(system, frame)
        frames.append(frame)
    save(file, frames)


def make_seeds(system: System, file: Path, seed: int, n_frames: int) -> None:
    """Write labelled frames around the start, displaced by the package's own seeder.

    :param system: what.
    :param file: to write; what is there already is kept.
    :param seed: of the displacements.
    :param n_frames: how many.
    """
    if file.exists():
        return
    frames = []
    for atoms in rattle([system.start()], RattleParameters(copies=n_frames, stdev=system.stdev), seed).frames:
        atoms.calc = calculator(system)
        frames.append(labelled(atoms))
    save(file, frames)


def load(file: Path) -> list[Atoms]:
    """Return the frames of a file."""
    return list(read(file, ':'))


def save(file: Path, frames: list[Atoms]) -> None:
    """Write frames to a file that is whole or not there."""
    draft = file.with_suffix('.tmp')
    write(draft, frames, format='extxyz')
    draft.replace(file)


def calculator(system: System) -> Calculator:
    """Return the reference."""
    from tblite.ase import TBLite

    return TBLite(method=system.method, verbosity=0)


def labelled(atoms: Atoms) -> Atoms:
    """Return a bare copy with the energy and the forces that its calculator gives."""
    frame = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.info['REF_energy'] = float(atoms.get_potential_energy())
    frame.arrays['REF_forces'] = atoms.get_forces(apply_constraint=False)
    return frame


def turned(frame: Atoms, rng: np.random.Generator) -> Atoms:
    """Return a frame after a random rotation of cell, positions and forces."""
    rotation = Rotation.random(random_state=rng).as_matrix().T
    copy = Atoms(frame.symbols, frame.positions @ rotation, cell=frame.cell.array @ rotation, pbc=frame.pbc)
    copy.info.update(frame.info)
    copy.arrays['REF_forces'] = frame.arrays['REF_forces'] @ rotation
    return copy


def check_label(system: System, frame: Atoms) -> None:
    """Refuse a reference that depends on the axes."""
    again = frame.copy()
    again.calc = calculator(system)
    label = labelled(again)
    change = max(
        abs(label.info['REF_energy'] - frame.info['REF_energy']),
        np.abs(label.arrays['REF_forces'] - frame.arrays['REF_forces']).max(),
    )
    if change > LARGEST_CHANGE:
        raise RuntimeError(f'{system.method} gives a turned {system.name} a label that differs by {change:.1e} eV(/Å).')
