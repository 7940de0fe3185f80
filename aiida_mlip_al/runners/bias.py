"""A bias by PLUMED on one walker: the model's forces and the bias drive it, the model's alone are written."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms, units
from ase.geometry import complete_cell
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from walker import NonFiniteError

_INSTALL = "install it in this code's Python, together with PLUMED itself (conda-forge: plumed and py-plumed)"
_ENERGY = units.mol / units.kJ  # eV in kJ/mol, PLUMED's unit
_FAR = 1e4  # Å, the repeat along a direction that is not periodic beside others that are
_ONE_AT_A_TIME = threading.Lock()


class Bias(Protocol):
    """What drives a walker beside its model."""

    def drive(
        self, step: int, atoms: Atoms, energy: float, forces: np.ndarray, virial: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the energy of the bias alone (eV), and forces and virial of model and bias, as :meth:`Plumed.drive` does."""

    def close(self) -> None:
        """Finish."""


class Plumed:
    """One PLUMED instance, which writes its files with `.<name>` in their names, as in COLVAR.walker_00.

    All calls of all instances take turns, so that walkers in threads may each have one.

    :param file: input file of PLUMED; atoms count from 1 there, and units are PLUMED's own unless it says UNITS.
    :param name: the walker's name.
    :param masses: (n,) in u.
    :param timestep_fs: time step in fs.
    :param temperature_K: temperature in K that PLUMED is told.
    :param restart: append to the files of an earlier run and take its hills up.
    :param flush_every: steps after which what was written is on disk.
    :raises ValueError: if PLUMED cannot be loaded or refuses its input.
    """

    def __init__(
        self,
        file: str,
        name: str,
        masses: np.ndarray,
        timestep_fs: float,
        temperature_K: float,
        restart: bool = False,
        flush_every: int = 1000,
    ) -> None:
        try:
            text = Path(file).read_text(encoding='utf-8')
        except OSError as error:
            raise ValueError(f'the input of PLUMED, {file}, cannot be read: {error.strerror}.') from error
        self._masses = np.array(masses, dtype=float)
        self._plumed = _load()
        # A file, and before init: PLUMED 2.10 does not convert the unit of ENERGY in an input that it reads later.
        own_input = Path(f'plumed.{name}.dat')
        own_input.write_text(f'_SET_SUFFIX .{name}\n{text}\nFLUSH STRIDE={flush_every}\n', encoding='utf-8')
        commands: tuple[tuple[str, Any], ...] = (
            ('setMDEnergyUnits', _ENERGY),
            ('setMDLengthUnits', 0.1),
            ('setMDTimeUnits', 0.001),
            ('setMDMassUnits', 1.0),
            ('setNatoms', len(self._masses)),
            ('setMDEngine', 'ASE'),
            ('setLogFile', f'plumed.{name}.log'),
            ('setTimestep', float(timestep_fs)),
            ('setKbT', float(temperature_K * units.kB)),
            ('setRestart', int(restart)),
            ('setPlumedDat', str(own_input)),
            ('init', None),
        )
        try:
            self._run(commands)
        except Exception as error:
            raise ValueError(f'PLUMED refuses {file}: {_sentence(error)}') from error

    def drive(
        self, step: int, atoms: Atoms, energy: float, forces: np.ndarray, virial: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Do PLUMED's work of one step.

        :param step: number of the step.
        :param atoms: the structure.
        :param energy: of the model in eV.
        :param forces: of the model, (n, 3) in eV/Å.
        :param virial: of the model, (3, 3): the derivative of the energy by the strain, in eV.
        :returns: energy of the bias alone; forces and virial of model and bias.
        :raises RuntimeError: if PLUMED fails.
        """
        # PLUMED keeps the addresses of these arrays until the step is done.
        positions = np.array(atoms.positions, dtype=float, order='C')
        forces, virial = np.array(forces, dtype=float, order='C'), np.array(virial, dtype=float, order='C')
        model_energy, bias, box = np.array([energy], dtype=float), np.zeros(1), _box(atoms)
        commands: list[tuple[str, Any]] = [('setStep', step), ('setMasses', self._masses), ('setPositions', positions)]
        if box is not None:
            commands.append(('setBox', box))
        commands += [('setEnergy', model_energy), ('setForces', forces), ('setVirial', virial)]
        commands += [('calc', None), ('getBias', bias)]
        try:
            self._run(commands)
        except Exception as error:
            raise RuntimeError(f'PLUMED failed at step {step}: {_sentence(error)}') from error
        return float(bias[0]), forces, virial

    def close(self) -> None:
        """Finish PLUMED's files."""
        with _ONE_AT_A_TIME:
            self._plumed.finalize()

    def _run(self, commands: Sequence[tuple[str, Any]]) -> None:
        with _ONE_AT_A_TIME:
            for command in commands:
                self._plumed.cmd(*command)


class Biased:
    """The calculator of a walker: a model and a bias. PLUMED is asked once for each new structure.

    :param model: calculator of the plain energy.
    :param bias: the bias.
    :param stress: whether the model gives stresses.
    """

    def __init__(self, model: Any, bias: Bias, stress: bool) -> None:
        self.model, self.step = model, 0
        self._bias, self._stress = bias, stress
        self._state: np.ndarray | None = None
        self._energy = 0.0

    def get_potential_energy(self, atoms: Atoms, force_consistent: bool = False) -> float:
        """Return the energy of model and bias in eV.

        :param atoms: the structure.
        :param force_consistent: makes no difference.
        """
        return float(self.model.get_potential_energy(atoms)) + self.bias_energy(atoms)

    def get_forces(self, atoms: Atoms) -> np.ndarray:
        """Return the forces of model and bias, (n, 3) in eV/Å.

        :param atoms: the structure.
        :raises NonFiniteError: if a position, a force or the bias is not finite.
        """
        self._update(atoms)
        return self._forces.copy()

    def get_stress(self, atoms: Atoms) -> np.ndarray:
        """Return the stress of model and bias, (6,) in eV/Å³.

        :param atoms: the structure.
        """
        self._update(atoms)
        return full_3x3_to_voigt_6_stress(self._virial / atoms.get_volume())

    def bias_energy(self, atoms: Atoms) -> float:
        """Return the energy of the bias alone in eV.

        :param atoms: the structure.
        """
        self._update(atoms)
        return self._energy

    def close(self) -> None:
        """Finish the bias' files."""
        self._bias.close()

    def _update(self, atoms: Atoms) -> None:
        state = np.concatenate([atoms.positions, atoms.cell.array])
        if self._state is not None and np.array_equal(state, self._state):
            return
        forces, virial = self.model.get_forces(atoms), np.zeros((3, 3))
        if self._stress:
            virial = voigt_6_to_full_3x3_stress(self.model.get_stress(atoms)) * atoms.get_volume()
        energy = float(self.model.get_potential_energy(atoms))
        self._energy, self._forces, self._virial = self._bias.drive(self.step, atoms, energy, forces, virial)
        if not (np.isfinite(self._energy) and np.isfinite(self._forces).all()):
            raise NonFiniteError('the energy or a force of the bias is not finite.')
        self._state = state


def _load() -> Any:
    try:
        import plumed
    except ImportError as error:
        raise ValueError(f"a bias needs PLUMED's Python module `plumed`: {_INSTALL}.") from error
    try:
        return plumed.Plumed()
    except Exception as error:
        raise ValueError(
            f"PLUMED's library is not found: {_INSTALL}, or set PLUMED_KERNEL to its libplumedKernel.so."
        ) from error


def _box(atoms: Atoms) -> np.ndarray | None:
    """Return the repeats as rows (3, 3) in Å, None without any; PLUMED knows no open direction beside periodic ones."""
    if not atoms.pbc.any():
        return None
    open_directions = ~atoms.pbc
    box = np.where(open_directions[:, None], 0.0, atoms.cell.array)
    box = np.array(complete_cell(box), dtype=float, order='C')
    box[open_directions] *= _FAR
    return box


def _sentence(error: BaseException) -> str:
    """Return what PLUMED says and why, without the places in its code."""
    lines = [line.strip() for line in str(error).splitlines()]
    place = ('+++', '(')  # '+++ at FILE:LINE', '(FILE:LINE) FUNCTION'
    text = ' '.join(line for line in lines if line and not line.startswith(place)) or type(error).__name__
    return text if error.__cause__ is None else f'{text}: {_sentence(error.__cause__)}'
