"""Run the stand-in in the current folder."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import electrons, outputs
from .dynamics import Dynamics
from .faults import Fault, choose, describe
from .inputs import Array, Incar, Structure, VaspError, read_iconst, read_kpoints, read_poscar, read_potcar

KILLED = -signal.SIGKILL


@dataclass
class Job:
    """What the input files say.

    :param warm: whether orbitals are read from a WAVECAR.
    """

    folder: Path
    setting: outputs.Setting
    structure: Structure
    warm: bool

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Read the files of a folder.

        :raises VaspError: if one is missing or cannot be.
        """
        for name in ('INCAR', 'POSCAR', 'POTCAR'):
            if not (folder / name).is_file():
                raise VaspError(f'ERROR: there must be a file {name}')
        incar = Incar.parse((folder / 'INCAR').read_text())
        nsw = max(0, incar.integer('NSW', 0))
        ibrion = incar.integer('IBRION', 0) if nsw else -1
        if ibrion > 0:
            raise VaspError('The stand-in does single points (NSW = 0) and molecular dynamics (IBRION = 0) only.')
        potentials = read_potcar((folder / 'POTCAR').read_text())
        structure = read_poscar((folder / 'POSCAR').read_text(), potentials, incar.real('POTIM', 1.0))
        kpoints = folder / 'KPOINTS'
        mesh = read_kpoints(kpoints.read_text() if kpoints.is_file() else None, incar, structure.cell)
        wavecar = folder / 'WAVECAR'
        warm = incar.integer('ISTART', 1) > 0 and wavecar.is_file() and wavecar.stat().st_size > 0
        return cls(folder, outputs.Setting(incar, potentials, *mesh, nsw, ibrion), structure, warm)


class GroundState:
    """Energy (the one that the forces derive from), forces and stress of structures, by the environment's calculator."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        module, _, attribute = environ.get('VASP_STANDIN_CALCULATOR', 'ase.calculators.emt:EMT').partition(':')
        arguments = json.loads(environ.get('VASP_STANDIN_ARGUMENTS', '{}'))
        self.calculator: Any = getattr(importlib.import_module(module), attribute)(**arguments)

    def __call__(self, structure: Structure) -> tuple[float, Array, Array]:
        """Return eV, eV/Å (n, 3) and eV/Å³ (3, 3); the stress is zero where the calculator has none."""
        from ase import Atoms

        atoms = Atoms(
            structure.elements, structure.positions, cell=structure.cell, pbc=True, calculator=self.calculator
        )
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        has_stress = 'stress' in self.calculator.implemented_properties
        stress = atoms.get_stress(voigt=False) if has_stress else np.zeros((3, 3))
        return float(self.calculator.results.get('free_energy', energy)), forces, stress


def run(folder: Path, environ: Mapping[str, str]) -> int:
    """Do what VASP does in a folder.

    :param environ: see the package's docstring.
    :returns: the exit status, negative for the signal that is to end the process.
    """
    try:
        job = Job.read(folder)
        fault = choose(describe(folder, job.setting.incar, job.structure, job.warm), environ)
        if fault.name == 'crash':
            raise VaspError('forrtl: severe (174): SIGSEGV, segmentation fault occurred')
        while fault.name == 'hang':
            time.sleep(1)
        return simulate(job, fault, GroundState(environ))
    except VaspError as error:
        say(f'{error}\n')
        return 1


def simulate(job: Job, fault: Fault, ground_state: GroundState) -> int:
    """Go through the ionic steps and write the files; a single point is one step.

    :returns: as :func:`run`.
    """
    started = time.monotonic()
    folder, setting, structure = job.folder, job.setting, job.structure
    incar = setting.incar
    greet(setting, structure)
    rng = np.random.default_rng(incar.integer('RANDOM_SEED', int(structure.hash, 16)))
    dynamics = Dynamics(incar, structure, read_iconst(folder / 'ICONST'), rng) if setting.ibrion == 0 else None
    frames = max(1, setting.nsw)
    whole = fault.settings.get('frames', frames // 2) if fault.name == 'truncate' else frames
    with closing(outputs.Files(folder, setting, structure)) as files:
        for number in range(1, frames + 1):
            if fault.name == 'slow':
                time.sleep(fault.settings.get('seconds', 1.0))
            needed = electrons.steps_needed(incar, fault.difficulty(number, warm=job.warm or number > 1))
            state = electrons.converge(incar, needed, *ground_state(structure), rng)
            frame = outputs.Frame(number, structure, state, pressure=incar.real('PSTRESS', 0.0))
            if dynamics:
                frame.kinetic = dynamics.kick(number, state.forces)
                frame.temperature = dynamics.temperature(frame.kinetic)
            if fault.name == 'nan' and fault.concerns(number):
                state.forces = np.full_like(state.forces, np.nan)
            if number > whole:
                files.add(frame, last=False, fraction=fault.settings.get('fraction', 0.5))
                if not fault.settings.get('contcar', False):
                    (folder / 'CONTCAR').unlink(missing_ok=True)
                return KILLED
            files.add(frame, last=number == frames)
            say(outputs.oszicar_frame(frame, dynamics is not None))
            if not state.converged:
                say(' WARNING: the electronic self-consistency was not achieved in the given number of steps (NELM)\n')
            if fault.name == 'zbrent':
                raise VaspError(' ZBRENT: fatal error in bracketing')
            if dynamics:
                dynamics.drift(state.stress)
            (folder / 'CONTCAR').write_text(outputs.contcar(structure, dynamics is not None and dynamics.variable_cell))
        files.finish(structure, time.monotonic() - started)
    for name, tag in (('WAVECAR', 'LWAVE'), ('CHGCAR', 'LCHARG')):
        if incar.logical(tag, True):
            (folder / name).write_text(f'stand-in for a {name}\n')
    return 0


def greet(setting: outputs.Setting, structure: Structure) -> None:
    """Print what VASP prints before it begins."""
    say(f' running on    1 total cores\n vasp.{outputs.VERSION} stand-in for tests, no VASP code\n')
    say(f' POSCAR found :  {len(structure.groups)} types and {len(structure.elements):7d} ions\n')
    names = [name.split('_')[0] for name, _ in structure.groups]
    if names != [potential.element for potential in setting.potentials]:
        say(' WARNING: type information on POSCAR and POTCAR are incompatible\n')
        say(' POTCAR overwrites the type information in POSCAR\n')
    say(' entering main loop\n')


def say(text: str) -> None:
    """Print at once, so that it is there when the process is killed."""
    print(text, end='', flush=True)


if __name__ == '__main__':
    status = run(Path.cwd(), os.environ)
    if status < 0:
        os.kill(os.getpid(), -status)
    sys.exit(status)
