"""Molecular dynamics as VASP does it with IBRION = 0: leapfrog, thermostats by MDALGO and SMASS, a cell under pressure.

A run of NSW steps evaluates NSW frames and ends with the positions of the next one and the velocities that led there, so that a
run that continues from CONTCAR goes on as if there had been no break.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import units

from .inputs import Array, Incar, Structure, VaspError

ACCELERATION = units.fs**2
"""Å/fs² for 1 eV/Å on 1 u."""
NOSE_PERIOD = 40
"""Time steps of an oscillation of the Nosé-Hoover thermostat (VASP's SMASS = 0; taken for any SMASS >= 0)."""
BAROSTAT_TIME = 100.0
"""fs in which a pressure of 1 eV/Å³ would double a length; stands for PMASS and LANGEVIN_GAMMA_L."""
KILOBAR = 0.1 * units.GPa


class Dynamics:
    """The motion of ions and cell.

    :param structure: moved in place.
    :param constraints: as :func:`inputs.read_iconst` returns them.
    :raises VaspError: where VASP would stop, or for an ensemble that is not known.
    """

    def __init__(
        self, incar: Incar, structure: Structure, constraints: Sequence[tuple[int, ...]], rng: np.random.Generator
    ) -> None:
        if 'POTIM' not in incar:
            raise VaspError('Fatal error! IBRION=0, but no entry for POTIM on file INCAR. MUST be specified!!')
        self.incar, self.structure, self.rng = incar, structure, rng
        self.timestep = incar.real('POTIM', 0.0)
        self.masses = structure.masses[:, None]
        self.thermostat = self._thermostat()
        self.variable_cell = incar.integer('ISIF', 0) == 3
        if self.variable_cell and incar.integer('MDALGO', 0) != 3:
            raise VaspError('The stand-in varies the cell (ISIF = 3) with the Langevin thermostat (MDALGO = 3) only.')
        self.lattice = Lattice(structure.cell, incar.logicals('LATTICE_CONSTRAINTS', [True] * 3), constraints)
        self.friction = 0.0  # of Nosé and Hoover, 1/fs
        # Where nothing but the ions' own forces acts, their total momentum stays zero.
        drifts = self.thermostat in ('andersen', 'langevin') or not structure.movable.all()
        self.freedom = int(structure.movable.sum()) - (0 if drifts else 3)
        if structure.velocities is None:
            structure.velocities = self._draw(self.target_temperature(1))
            if not drifts:
                momentum = (self.masses * structure.velocities).sum(axis=0)
                structure.velocities -= momentum / self.masses.sum()
            structure.velocities *= self._scale_to(self.target_temperature(1), structure.velocities)
        structure.velocities = structure.velocities * structure.movable

    def _thermostat(self) -> str:
        algorithm, mass = self.incar.integer('MDALGO', 0), self.incar.real('SMASS', -3)
        if algorithm in (0, 2):
            return 'nose' if mass >= 0 else {-1: 'rescale', -3: 'none'}.get(round(mass), 'none')
        if algorithm in (1, 3):
            return {1: 'andersen', 3: 'langevin'}[algorithm]
        raise VaspError(f'The stand-in knows MDALGO = 0, 1, 2 and 3, not {algorithm}.')

    def target_temperature(self, frame: int) -> float:
        """Return the temperature in K that is aimed at in a frame, counted from 1 on: linear from TEBEG to TEEND."""
        begin = self.incar.real('TEBEG', 0.0)
        end = self.incar.real('TEEND', begin)
        return begin + (end - begin) * (frame - 1) / max(1, self.incar.integer('NSW', 1) - 1)

    def kinetic_energy(self, velocities: Array) -> float:
        """Return the kinetic energy in eV of velocities (n, 3) in Å/fs."""
        return 0.5 * float((self.masses * velocities**2).sum()) / ACCELERATION

    def temperature(self, kinetic_energy: float) -> float:
        """Return the temperature in K of the degrees of freedom that there are."""
        return 2 * kinetic_energy / (self.freedom * units.kB) if self.freedom else 0.0

    def kick(self, frame: int, forces: Array) -> float:
        """Accelerate by forces (n, 3) in eV/Å, let the thermostat act, and return the kinetic energy in eV of the frame."""
        before = self.structure.velocities
        assert before is not None
        after = before + forces / self.masses * ACCELERATION * self.timestep
        target = self.target_temperature(frame)
        if self.thermostat == 'langevin':
            frictions = self.incar.reals('LANGEVIN_GAMMA', [0.0] * len(self.structure.groups))
            counts = [count for _, count in self.structure.groups]
            kept = np.exp(-np.repeat(frictions, counts)[:, None] * 1e-3 * self.timestep)  # 1/ps
            after = before * kept + (after - before) + np.sqrt(1 - kept**2) * self._draw(target)
        elif self.thermostat == 'andersen':
            hit = self.rng.random(len(after)) < self.incar.real('ANDERSEN_PROB', 0.0)
            after = np.where(hit[:, None], self._draw(target), after)
        elif self.thermostat == 'nose':
            rate = (2 * np.pi / (NOSE_PERIOD * self.timestep)) ** 2
            self.friction += rate * self.timestep * (self.temperature(self.kinetic_energy(after)) / target - 1)
            after = after * np.exp(-self.friction * self.timestep)
        elif self.thermostat == 'rescale' and frame % self.incar.integer('NBLOCK', 1) == 0:
            after = after * self._scale_to(target, after)
        self.structure.velocities = after * self.structure.movable
        return (self.kinetic_energy(before) + self.kinetic_energy(self.structure.velocities)) / 2

    def drift(self, stress: Array) -> None:
        """Go to the next frame.

        :param stress: of the present one without the motion of the ions, (3, 3) in eV/Å³, ASE's sign.
        """
        structure = self.structure
        assert structure.velocities is not None
        cell = structure.cell
        structure.fractions = structure.fractions + structure.velocities * self.timestep @ np.linalg.inv(cell)
        if self.variable_cell:
            momenta = self.masses * structure.velocities / ACCELERATION
            pressure = momenta.T @ structure.velocities / abs(np.linalg.det(cell)) - stress
            excess = pressure - self.incar.real('PSTRESS', 0.0) * KILOBAR * np.eye(3)
            structure.cell = self.lattice.strained(cell, excess * self.timestep / BAROSTAT_TIME)

    def _draw(self, temperature: float) -> Array:
        """Return velocities (n, 3) in Å/fs from Maxwell and Boltzmann's distribution."""
        widths = np.sqrt(units.kB * temperature / self.masses * ACCELERATION)
        return widths * self.rng.normal(size=self.structure.fractions.shape) * self.structure.movable

    def _scale_to(self, temperature: float, velocities: Array) -> float:
        present = self.temperature(self.kinetic_energy(velocities))
        return float(np.sqrt(temperature / present)) if present > 0 else 1.0


class Lattice:
    """What a cell may do under pressure.

    :param cell: at the beginning, vectors in rows, Å.
    :param directions: LATTICE_CONSTRAINTS: False strikes the row and the column of a Cartesian direction out of the strain.
    :param constraints: lengths and angles that keep their values, as :func:`inputs.read_iconst` returns them.
    """

    def __init__(self, cell: Array, directions: Sequence[bool], constraints: Sequence[tuple[int, ...]]) -> None:
        from ase.geometry.cell import cell_to_cellpar, cellpar_to_cell

        self.directions = np.array(directions)
        # Lengths 0 to 2, then the angle across from each vector.
        self.held = [3 + (3 - sum(vectors)) if len(vectors) == 2 else vectors[0] for vectors in constraints]
        self.parameters = cell_to_cellpar(cell)
        self.orientation = np.linalg.solve(cellpar_to_cell(self.parameters), cell)

    def strained(self, cell: Array, strain: Array) -> Array:
        """Return the cell after a strain (3, 3), as far as it is free to follow."""
        from ase.geometry.cell import cell_to_cellpar, cellpar_to_cell

        cell = cell @ (np.eye(3) + strain * np.outer(self.directions, self.directions))
        if not self.held:
            return cell
        parameters = cell_to_cellpar(cell)
        parameters[self.held] = self.parameters[self.held]
        result: Array = cellpar_to_cell(parameters) @ self.orientation
        return result
