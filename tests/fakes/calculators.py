"""ASE calculators that misbehave on demand: structures carry the misbehaviour in info['trouble']."""

from __future__ import annotations

import itertools
import os
import signal
import time
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes


class Springs(Calculator):
    """Independent harmonic springs that pull every atom to where the first structure had it.

    :param stiffness: spring constant in eV/Å².
    :param spread: relative growth of the spring constant from atom to atom.
    :param log: file that gets a line each time a calculator is made.
    """

    implemented_properties = ['energy', 'forces', 'stress']

    def __init__(self, stiffness: float = 10.0, spread: float = 0.0, log: str | None = None) -> None:
        super().__init__()
        self.stiffness, self.spread = stiffness, spread
        self.home: np.ndarray | None = None
        if log:
            with open(log, 'a') as file:
                file.write(f'{os.getpid()}\n')

    def calculate(
        self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert atoms is not None
        if self.home is None or len(self.home) != len(atoms):
            self.home = atoms.positions.copy()
        moved = atoms.positions - self.home
        stiffness = self.stiffness * (1 + self.spread * np.arange(len(atoms))[:, None])
        self.results = {
            'energy': 0.5 * float((stiffness * moved**2).sum()),
            'forces': -stiffness * moved,
            'stress': np.zeros(6),
        }


class Troubled(Springs):
    """Springs, except for structures in trouble."""

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        super().calculate(atoms, *arguments)
        assert atoms is not None
        trouble = atoms.info.get('trouble')
        if trouble == 'raises':
            raise RuntimeError('the disk is full')
        if trouble == 'raises_unconverged':
            raise RuntimeError('SCF not converged in 10 cycles')
        if trouble == 'says_unconverged':
            self.results['converged'] = False
        if trouble == 'prints_unconverged':
            self.label = 'cp2k'
            with open('cp2k.out', 'a') as file:
                file.write(' *** WARNING SCF run NOT converged ***\n')
        if trouble == 'not_a_number':
            self.results['forces'][0, 0] = np.nan
        if trouble == 'huge':
            self.results['forces'][0] = [300.0, 400.0, 0.0]
        if trouble == 'sleeps':
            time.sleep(3600)
        if trouble == 'spins':  # compiled code that never comes back to Python
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM})
            time.sleep(3600)
        if trouble == 'dies':
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == 'slow':
            time.sleep(0.3)


class FreeEnergy(Springs):
    """Springs with an electronic entropy: the free energy is 1 eV below the energy."""

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        super().calculate(atoms, *arguments)
        self.results['free_energy'] = self.results['energy'] - 1.0


class Explosive(Springs):
    """Springs that break at a step: the forces become `force` eV/Å, or NaN, after `calls` calculations."""

    def __init__(self, calls: int, force: float | None) -> None:
        super().__init__()
        self.calls, self.force = calls, force

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        super().calculate(atoms, *arguments)
        self.calls -= 1
        if self.calls < 0:
            self.results['forces'][:] = np.nan if self.force is None else [self.force, 0.0, 0.0]


class Attraction(Springs):
    """Atoms are drawn to their common centre."""

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        super().calculate(atoms, *arguments)
        assert atoms is not None
        self.results['forces'] = -5.0 * (atoms.positions - atoms.positions.mean(axis=0))


class Crystal(Springs):
    """Springs on fractional coordinates, and an elastic energy of the cell vectors' lengths.

    The energy of the cell is V0 B/2 Σ_a (ln(L_a / L0_a))², so that at zero temperature a pressure shortens every axis.

    :param bulk: stiffness B in eV/Å³.
    """

    def __init__(self, bulk: float = 0.3) -> None:
        super().__init__()
        self.bulk = bulk
        self.fractions: np.ndarray | None = None
        self.lengths: np.ndarray | None = None

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        Calculator.calculate(self, atoms)
        assert atoms is not None
        cell = atoms.cell.array
        if self.fractions is None:
            self.fractions = atoms.get_scaled_positions(wrap=False)
            self.lengths = np.linalg.norm(cell, axis=1)
            self.volume = atoms.get_volume()
        moved = atoms.positions - self.fractions @ cell
        moved -= moved.mean(axis=0)
        axes = cell / np.linalg.norm(cell, axis=1)[:, None]
        strain = np.log(np.linalg.norm(cell, axis=1) / self.lengths)
        forces = -self.stiffness * moved
        # an affine strain scales the displacements too: dE/d(strain) = k Σ u u, plus the cell's own tension
        tension = self.volume * self.bulk * np.einsum('a,ai,aj->ij', strain, axes, axes)
        virial = self.stiffness * moved.T @ moved + tension
        stress = virial / atoms.get_volume()
        elastic = 0.5 * self.volume * self.bulk * float((strain**2).sum())
        self.results = {
            'energy': 0.5 * self.stiffness * float((moved**2).sum()) + elastic,
            'forces': forces,
            'stress': stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }


class KillsItsJobOnce(Springs):
    """Springs that kill the whole job, once, when they have computed some structures: as a time limit or a lost node does.

    :param marker: a file that is made at the kill. Where its folder does not exist, every job is killed.
    :param after: number of structures before the kill.
    """

    def __init__(self, marker: str, after: int) -> None:
        super().__init__()
        self.marker, self.after, self.count = Path(marker), after, 0

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        if self.count >= self.after and not self.marker.exists():
            if self.marker.parent.exists():
                self.marker.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        self.count += 1
        super().calculate(atoms, *arguments)


class KillsItsJobAt(Springs):
    """Springs that kill the whole job whenever they meet one structure.

    :param x: of the first atom of that structure, Å.
    """

    def __init__(self, x: float) -> None:
        super().__init__()
        self.x = x

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        assert atoms is not None
        if abs(atoms.positions[0, 0] - self.x) < 1e-6:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        super().calculate(atoms, *arguments)


class HoldsOne(Springs):
    """Springs that hold one structure until there are enough files of a kind; every structure leaves `begun_N` and `done_N`.

    :param folder: of those files, shared by all jobs.
    :param number: which structure is held, in the order in which they begin, from 0.
    :param pattern: of the files that it waits for, two minutes at most.
    :param count: how many.
    """

    def __init__(self, folder: str, number: int, pattern: str, count: int) -> None:
        super().__init__()
        self.folder, self.number, self.pattern, self.count = Path(folder), number, pattern, count

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        number = self._begin()
        deadline = time.monotonic() + 120
        while number == self.number and len(glob(self.pattern)) < self.count:
            if time.monotonic() > deadline:
                raise TimeoutError('what it waits for did not come')
            time.sleep(0.1)
        super().calculate(atoms, *arguments)
        (self.folder / f'done_{number}').touch()

    def _begin(self) -> int:
        for number in itertools.count():
            with suppress(FileExistsError):
                (self.folder / f'begun_{number}').touch(exist_ok=False)
                break
        return number
