"""Relax structures, and their cells if asked for, with one ASE calculator.

In:  relax.json, structures.extxyz. Out: relaxed.extxyz, relax.jsonl, relax.status.json.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import calculator as calculators
import numpy as np
import status as runner
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from checks import too_close
from frames import FrameWriter, LineWriter, read_structures
from md import Guard
from stress import periodic_stress, span_projector
from walker import NonFiniteError

OPTIMIZERS: dict[str, Callable[..., Any]] = {'FIRE': FIRE, 'BFGS': BFGS, 'LBFGS': LBFGS}
_CELLS = ('none', 'full', 'isotropic')
_DEFAULTS = {
    'arguments': {},
    'fmax': 0.02,
    'max_steps': 500,
    'optimizer': 'FIRE',
    'cell': 'none',
    'pressure_GPa': 0.0,
    'periodic': None,
    'min_distance_fraction': 0.5,
}
_PERPENDICULAR = 1e-6


@dataclass
class Outcome:
    """What became of one structure: relaxed if there is no reason why not; the last frame wherever it is of use."""

    reason: str | None = None
    message: str = ''
    frame: Atoms | None = None
    n_steps: int = 0


class FreeCell(Guard):
    """Passes an ASE calculator's results on, with no stress but the one that may change the cell.

    That stress is P (σ + p) P, with the projector P on the span of the periodic cell vectors, or its mean over the span for a
    cell that keeps its shape. A cell that follows it moves in the span alone: a vacuum vector and all distances along it stay.

    :param calculator: the ASE calculator.
    :param atoms: the structure before its relaxation.
    :param axes: (3,) periodic cell vectors.
    :param cell: 'full', 'isotropic', or six booleans: the free strains xx yy zz yz xz xy.
    :param pressure_GPa: external pressure in GPa.
    :raises ValueError: if the structure's cell cannot change like that.
    """

    def __init__(
        self, calculator: Any, atoms: Atoms, axes: np.ndarray, cell: str | Sequence[bool], pressure_GPa: float
    ) -> None:
        super().__init__(calculator)
        self._axes, self._isotropic = axes, cell == 'isotropic'
        self._pressure = pressure_GPa * units.GPa
        self._projector = span_projector(atoms.cell.array, axes)
        self.mask = None if isinstance(cell, str) else np.array(cell, dtype=bool)
        if not axes.any():
            raise ValueError('the structure has no periodic direction: relax it with the cell "none".')
        if atoms.cell.rank < 3:
            raise ValueError('the cell has no volume: give it three vectors, through vacuum where it is not periodic.')
        if pressure_GPa and not axes.all():
            raise ValueError('a pressure has no meaning where the cell is partly vacuum: leave pressure_GPa out.')
        for vacuum in atoms.cell.array[~axes]:
            inside = self._projector @ vacuum
            if np.linalg.norm(inside) > _PERPENDICULAR * np.linalg.norm(vacuum):
                raise ValueError(
                    f'the vacuum vector {np.round(vacuum, 3).tolist()} is not perpendicular to the periodic vectors: '
                    f'replace it by its perpendicular part {np.round(vacuum - inside, 3).tolist()}.'
                )
        if self.mask is not None:
            free = voigt_6_to_full_3x3_stress(self.mask).any(axis=0)
            if not np.allclose(self._projector[free], np.eye(3)[free], atol=_PERPENDICULAR):
                raise ValueError('the cell frees a strain across vacuum: free strains within the periodic directions.')

    def get_stress(self, atoms: Atoms) -> np.ndarray:
        """Return the stress (6,) in eV/Å³ that the cell is to follow.

        :param atoms: the structure.
        :raises NonFiniteError: if it is not finite.
        :raises ValueError: if the calculator has none.
        """
        self.get_forces(atoms)
        bare = atoms.copy()
        bare.calc = self._calculator
        stress = periodic_stress(self._calculator, bare, self._axes)
        if stress is None:
            raise ValueError('the calculator has no stress for this structure: relax it with the cell "none".')
        if not np.isfinite(stress).all():
            raise NonFiniteError('the stress is not finite.')
        full = voigt_6_to_full_3x3_stress(stress) + self._pressure * self._projector
        if self._isotropic:
            full = np.trace(full) / self._axes.sum() * self._projector
        return np.asarray(full_3x3_to_voigt_6_stress(full))


def relax(config: runner.Config, status: dict[str, Any]) -> None:
    """Relax every structure of structures.extxyz; a bad one is recorded with its reason and the others go on.

    relaxed.extxyz has the relaxed structures and those at which `max_steps` ended, with energy, forces, and the info `index`
    (position in structures.extxyz), `fmax` (eV/Å, as reached), `n_steps` and `converged`. relax.jsonl has a line for each
    structure: `index`, `converged`, `reason` (null, max_steps, unconverged, non_finite, too_close, error), `message`,
    `n_steps`, `wall_s`.

    :param config: `calculator`, `arguments`, `fmax` (eV/Å; of a free cell also stress times volume per atom in eV),
        `max_steps`, `optimizer` (FIRE, BFGS, LBFGS), `cell` (none, full, isotropic, or six booleans for the strains xx yy zz
        yz xz xy), `pressure_GPa`, `periodic` (three booleans for each structure; null: its pbc), `min_distance_fraction` (of
        the result).
    :param status: receives `n_converged`, `n_failed`, `reasons` and the calculator's version.
    """
    settings = _settings(config)
    structures = read_structures('structures.extxyz')
    periodic = settings['periodic'] or [atoms.pbc for atoms in structures]
    if len(periodic) != len(structures):
        raise ValueError(f'periodic has {len(periodic)} entries for {len(structures)} structures.')
    calculator = calculators.build(config)
    status['versions'].update(calculators.package_version(config['calculator']))
    status.update(n_converged=0, n_failed=0, reasons={})
    reasons: Counter[str] = Counter()
    with FrameWriter('relaxed.extxyz') as relaxed, LineWriter('relax.jsonl') as report:
        for index, (atoms, axes) in enumerate(zip(structures, periodic, strict=True)):
            began = time.monotonic()
            calculator = calculator or calculators.build(config)
            outcome = _relax(atoms.copy(), np.array(axes, dtype=bool), calculator, settings)
            if outcome.frame is not None:
                outcome.frame.info['index'] = index
                relaxed.write(outcome.frame)
            if outcome.reason is None:
                status['n_converged'] += 1
            else:
                reasons[outcome.reason] += 1
                status.update(n_failed=reasons.total(), reasons=dict(reasons))
            if outcome.frame is None:
                calculator = None
            report.write(
                {
                    'index': index,
                    'converged': outcome.reason is None,
                    'reason': outcome.reason,
                    'message': outcome.message,
                    'n_steps': outcome.n_steps,
                    'wall_s': round(time.monotonic() - began, 4),
                }
            )


def _settings(config: runner.Config) -> dict[str, Any]:
    unknown = set(config) - set(_DEFAULTS) - {'calculator'}
    if unknown:
        raise ValueError(f'relax.json has unknown keys: {", ".join(sorted(unknown))}.')
    settings = {**_DEFAULTS, **config}
    if settings['optimizer'] not in OPTIMIZERS:
        raise ValueError(f'optimizer must be one of {", ".join(OPTIMIZERS)}, not {settings["optimizer"]!r}.')
    cell = settings['cell']
    if cell not in _CELLS and (isinstance(cell, str) or len(cell) != 6):
        raise ValueError(f'cell must be one of {", ".join(_CELLS)} or six booleans, not {cell!r}.')
    for name in ('fmax', 'max_steps'):
        if settings[name] <= 0:
            raise ValueError(f'{name} must be positive, not {settings[name]}.')
    return settings


def _relax(atoms: Atoms, axes: np.ndarray, calculator: Any, settings: dict[str, Any]) -> Outcome:
    vacuum = atoms.cell.array[~axes].copy()
    optimizer: Any = None
    try:
        if settings['cell'] == 'none':
            atoms.calc = Guard(calculator)
            target: Any = atoms
        else:
            atoms.calc = guard = FreeCell(calculator, atoms, axes, settings['cell'], settings['pressure_GPa'])
            target = FrechetCellFilter(atoms, mask=guard.mask)
        optimizer = OPTIMIZERS[settings['optimizer']](target, logfile=None)
        converged = bool(optimizer.run(fmax=settings['fmax'], steps=settings['max_steps']))
        fmax = float(np.linalg.norm(target.get_forces(), axis=1).max())
        frame = _frame(atoms, fmax, optimizer.nsteps, converged)
        # Bit by bit: the cell's exponential map leaves rounding errors.
        frame.cell[~axes] = vacuum
    except NonFiniteError as error:
        return Outcome('non_finite', str(error), n_steps=_steps(optimizer))
    except Exception as error:
        reason = 'unconverged' if calculators.mentions_convergence(error) else 'error'
        return Outcome(reason, runner.explain(error), n_steps=_steps(optimizer))
    complaint = too_close(frame, settings['min_distance_fraction'])
    if complaint:
        return Outcome('too_close', complaint, n_steps=optimizer.nsteps)
    if not converged:
        message = (
            f'after {optimizer.nsteps} steps the largest force is {fmax:.3g} eV/Å, above {settings["fmax"]:g} eV/Å.'
        )
        return Outcome('max_steps', message, frame, optimizer.nsteps)
    return Outcome(frame=frame, n_steps=optimizer.nsteps)


def _steps(optimizer: Any) -> int:
    return 0 if optimizer is None else int(optimizer.nsteps)


def _frame(atoms: Atoms, fmax: float, n_steps: int, converged: bool) -> Atoms:
    energy, forces = float(atoms.get_potential_energy()), atoms.get_forces(apply_constraint=False)
    if not np.isfinite(energy):
        raise NonFiniteError('the energy is not finite.')
    frame = atoms.copy()
    frame.set_constraint()
    frame.info = {'fmax': fmax, 'n_steps': n_steps, 'converged': converged}
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return frame


if __name__ == '__main__':
    runner.run(relax)
