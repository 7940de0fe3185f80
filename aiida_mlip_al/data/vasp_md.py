"""Molecular dynamics in VASP's words: INCAR tags and ICONST of a stretch of steps, and where the next one goes on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import Positive, StepParameters
from aiida_mlip_al.sampling.vacuum import vacuum_axes

from .vasprun import Frame

Array = NDArray[np.float64]
Ramp = Positive | tuple[Positive, Positive]

ACCELERATION = units.fs**2
"""Å/fs² for 1 eV/Å on 1 u."""
LARGEST_STEP = 1.0
"""Å; a CONTCAR farther than this from the last frame does not continue it."""
LARGEST_SEED = 900_000_000
"""The first number of RANDOM_SEED is at most so large."""


class VaspDynamics(StepParameters):
    """One trajectory.

    The thermostat is Langevin's (MDALGO = 3): it has no memory that a restart would lose, it brings every mode of a small or
    stiff cell to the temperature, and VASP's barostat needs it.
    """

    ensemble: Literal['nve', 'nvt', 'npt'] = 'nvt'
    thermostat: Literal['langevin'] = 'langevin'
    temperature_K: Ramp = Field(description='K; [start, end]: the same until the equilibration is over, then linear')
    pressure_GPa: float | None = Field(default=None, description='GPa, with ensemble npt')
    timestep_fs: Positive = Field(default=1.0, description='time step, fs')
    steps: int = Field(ge=1, description='MD steps after the equilibration')
    equilibration: int = Field(default=0, ge=0, description='steps before the first recorded one')
    stride: int = Field(default=1, ge=1, description='steps between recorded frames')
    friction_per_fs: Positive = Field(default=0.01, description='Langevin friction of the atoms, 1/fs')
    taup_fs: Positive = Field(default=1000.0, description='damping time of the cell, fs')
    barostat_mask: tuple[bool, bool, bool] | None = Field(
        default=None, description='cell vectors that may change; those through vacuum never do'
    )
    max_force: Positive = Field(
        default=100.0, description='the trajectory counts up to the first force above this, eV/Å'
    )
    seed: int = Field(default=0, ge=0, description='of velocities and thermostat')

    @model_validator(mode='after')
    def _check(self) -> VaspDynamics:
        if (self.pressure_GPa is None) == (self.ensemble == 'npt'):
            raise ValueError("'pressure_GPa' goes with ensemble 'npt' and only with it")
        return self

    @property
    def last_step(self) -> int:
        """The last step of the trajectory; the start is step 0."""
        return self.equilibration + self.steps

    @property
    def recorded(self) -> range:
        """Steps whose frames are kept."""
        return range(self.equilibration + self.stride, self.last_step + 1, self.stride)

    def stretch_end(self, first_step: int) -> int:
        """Return the last step of the job that begins with a step: VASP's ramps are linear from its first to its last."""
        heats_later = isinstance(self.temperature_K, tuple) and first_step < self.equilibration
        return self.equilibration if heats_later else self.last_step

    def temperature(self, step: int) -> float:
        """Return the temperature aimed at in a step, K."""
        if not isinstance(self.temperature_K, tuple):
            return self.temperature_K
        begin, end = self.temperature_K
        return begin + (end - begin) * max(0.0, (step - self.equilibration) / self.steps)


def md_incar(dynamics: VaspDynamics, atoms: Atoms, first_step: int, job: int) -> dict[str, Any]:
    """Return the INCAR tags of a job, without those of the level of theory.

    :param atoms: grouped by element; its cell decides what the barostat leaves alone.
    :param first_step: of the job, in the whole trajectory.
    :param job: its number; each has other random numbers.
    :raises ValueError: if the barostat has no cell vector to change.
    """
    last_step = dynamics.stretch_end(first_step)
    tags: dict[str, Any] = {
        'ibrion': 0,
        'nsw': last_step - first_step + 1,
        'potim': dynamics.timestep_fs,
        'isif': 3 if dynamics.ensemble == 'npt' else 2,
        'isym': 0,
        'tebeg': dynamics.temperature(first_step),
        'teend': dynamics.temperature(last_step),
        'random_seed': [(dynamics.seed + job) % LARGEST_SEED, 0, 0],
        'lwave': False,
        'lcharg': False,
    }
    if dynamics.ensemble == 'nve':
        return {**tags, 'mdalgo': 0, 'smass': -3}
    n_groups = len(dict.fromkeys(atoms.get_chemical_symbols()))
    tags |= {'mdalgo': 3, 'langevin_gamma': [dynamics.friction_per_fs * 1000] * n_groups}
    if dynamics.ensemble == 'npt':
        assert dynamics.pressure_GPa is not None
        tags |= {'pstress': dynamics.pressure_GPa * 10, 'langevin_gamma_l': 1000 / dynamics.taup_fs}
        free = free_directions(atoms, held_vectors(dynamics, atoms))
        if free is not None and not all(free):
            tags['lattice_constraints'] = ' '.join('.TRUE.' if direction else '.FALSE.' for direction in free)
    return tags


def held_vectors(dynamics: VaspDynamics, atoms: Atoms) -> NDArray[np.bool_]:
    """Return which cell vectors (3,) the barostat leaves alone: without periodicity, through vacuum, or masked.

    :raises ValueError: if these are all.
    """
    held = ~np.asarray(atoms.pbc) | vacuum_axes(atoms)
    if dynamics.barostat_mask is not None:
        held |= ~np.array(dynamics.barostat_mask)
    if held.all():
        raise ValueError(
            "The ensemble npt has no cell vector to change: use 'nvt', or change the structure's pbc or barostat_mask."
        )
    return held


def free_directions(atoms: Atoms, held: NDArray[np.bool_]) -> list[bool] | None:
    """Return the Cartesian directions (LATTICE_CONSTRAINTS) whose strain leaves the held vectors alone, or None.

    There are such if the held vectors span as many Cartesian axes, and no other vector leads along these.
    """
    along = np.abs(atoms.cell.array) > 1e-8
    directions = along[held].any(axis=0)
    if directions.sum() != held.sum() or along[~held][:, directions].any():
        return None
    return [not bool(direction) for direction in directions]


def iconst(dynamics: VaspDynamics, atoms: Atoms) -> str:
    """Return an ICONST that keeps lengths and angles of the held cell vectors where no Cartesian directions can, or nothing."""
    if dynamics.ensemble != 'npt':
        return ''
    held = held_vectors(dynamics, atoms)
    if free_directions(atoms, held) is not None:
        return ''
    lengths = [f'LR {i + 1} 0\n' for i in range(3) if held[i]]
    angles = [f'LA {i + 1} {j + 1} 0\n' for i, j in combinations(range(3), 2) if held[i] or held[j]]
    return ''.join(lengths + angles)


class State(NamedTuple):
    """Where dynamics goes on: cell (3, 3) and positions (n, 3) in Å, velocities (n, 3) in Å/fs."""

    cell: Array
    positions: Array
    velocities: Array


def unwrapped(start: Array, frames: Sequence[Frame]) -> list[Array]:
    """Return the positions (n, 3) of consecutive frames, followed from step to step by the shortest way.

    The way is taken in fractional coordinates, so that a breathing cell moves no atom.

    :param start: positions before the first frame, in the images that are kept (n, 3), Å.
    """
    followed = []
    before = None
    for frame in frames:
        if not np.isfinite(frame.positions).all():
            followed.append(frame.positions)
            continue
        fractions = frame.positions @ np.linalg.inv(frame.cell)
        before = start @ np.linalg.inv(frame.cell) if before is None else before
        before = fractions - np.round(fractions - before)
        followed.append(before @ frame.cell)
    return followed


def read_contcar(text: str, n_atoms: int) -> State | None:
    """Return what a CONTCAR holds, or None if it is cut off, not finite or without velocities.

    :param n_atoms: that it must have.
    """
    lines = text[: text.rfind('\n') + 1].splitlines()
    try:
        scale = float(lines[1])
        cell = np.array([line.split()[:3] for line in lines[2:5]], dtype=float)
        cell *= scale if scale > 0 else np.cbrt(-scale / abs(np.linalg.det(cell)))
        at = 6 if lines[5].split()[0].isdigit() else 7
        if sum(map(int, lines[at - 1].split())) != n_atoms:
            return None
        at += lines[at].strip()[:1] in ('S', 's')
        if lines[at].strip()[:1] not in ('D', 'd'):
            return None
        fractions = np.array([line.split()[:3] for line in lines[at + 1 : at + 1 + n_atoms]], dtype=float)
        at += 1 + n_atoms
        if lines[at].strip()[:1] in ('L', 'l'):
            at += 8
        if lines[at].strip()[:1] in ('D', 'd'):
            return None
        velocities = np.array([line.split() for line in lines[at + 1 : at + 1 + n_atoms]], dtype=float)
    except (IndexError, ValueError):
        return None
    if fractions.shape != (n_atoms, 3) or velocities.shape != (n_atoms, 3) or not velocities.any():
        return None
    state = State(cell, fractions @ cell, velocities)
    return state if all(np.isfinite(values).all() for values in state) else None


def continue_from(
    frames: Sequence[Frame],
    positions: Sequence[Array],
    masses: Array,
    timestep: float,
    contcar: State | None = None,
    velocities: Array | None = None,
) -> tuple[int, State] | None:
    """Return after how many frames dynamics can go on, and from where; None if it cannot.

    VASP's CONTCAR is one step ahead of the last frame. Without it Verlet's step, x(t+Δt) = 2 x(t) - x(t-Δt) + F/m Δt², leads
    there; velocities are those of the half step before, which VASP and a CONTCAR have.

    :param positions: of the frames, unwrapped (n, 3), Å.
    :param masses: (n,), u.
    :param timestep: fs.
    :param velocities: with which the first frame began (n, 3), Å/fs.
    """
    count = len(frames)
    while count and not frames[count - 1].finite:
        count -= 1
    if not count:
        return None
    last, at = frames[count - 1], positions[count - 1]
    if contcar is not None and count == len(frames):
        ahead = (contcar.positions - at) @ np.linalg.inv(contcar.cell)
        ahead = (ahead - np.round(ahead)) @ contcar.cell
        if 1e-7 < np.abs(ahead).max() < LARGEST_STEP:
            return count, contcar._replace(positions=at + ahead)
    if count > 1 and frames[count - 2].finite:
        inverse = [np.linalg.inv(frame.cell) for frame in (frames[count - 2], last)]
        velocities = (at @ inverse[1] - positions[count - 2] @ inverse[0]) @ last.cell / timestep
    elif count > 1 or velocities is None:
        return None
    faster = velocities + last.forces / masses[:, None] * ACCELERATION * timestep
    return count, State(last.cell, at + faster * timestep, faster)
