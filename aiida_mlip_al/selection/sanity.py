"""Physical filters: reasons why a frame must not be labelled, whatever its deviation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from aiida_mlip_al.sampling.checks import DEFAULT_ANGLE_RANGE, SKEWED_CELL, TOO_CLOSE, skewed_cell, too_close

NON_FINITE = 'non_finite'
FORCE_CAP = 'force_cap'
VOLUME_CHANGE = 'volume_change'


@dataclass(frozen=True)
class PhysicalLimits:
    """What a frame may look like; None switches a filter off.

    :param min_distance_fraction: smallest distance as a fraction of the sum of the covalent radii, own images included.
    :param max_force: largest norm of a force, eV/Å.
    :param volume_factor: the cell may grow or shrink by this factor against the start (three periodic directions only).
    :param angle_range: smallest and largest angle between periodic cell vectors, degrees.
    """

    min_distance_fraction: float | None = 0.5
    max_force: float | None = 50.0
    volume_factor: float | None = 2.0
    angle_range: tuple[float, float] | None = DEFAULT_ANGLE_RANGE

    def __post_init__(self) -> None:
        if self.min_distance_fraction is not None and not 0 <= self.min_distance_fraction < 1:
            msg = f"'min_distance_fraction' must be at least 0 and below 1, got {self.min_distance_fraction}"
            raise ValueError(msg)
        if self.max_force is not None and not self.max_force > 0:
            raise ValueError(f"'max_force' must be positive (eV/Å), got {self.max_force}")
        if self.volume_factor is not None and not self.volume_factor > 1:
            raise ValueError(f"'volume_factor' must be larger than 1, got {self.volume_factor}")
        if self.angle_range is not None and not 0 <= self.angle_range[0] < self.angle_range[1] <= 180:
            msg = f"'angle_range' must be two rising angles between 0 and 180 degrees, got {self.angle_range}"
            raise ValueError(msg)


def unphysical_reason(
    atoms: Atoms,
    limits: PhysicalLimits,
    *,
    forces: ArrayLike | None = None,
    start_cell: ArrayLike | None = None,
) -> str | None:
    """Why a frame is unphysical.

    :param atoms: the frame, n atoms.
    :param limits: the filters.
    :param forces: (n, 3), eV/Å, if known.
    :param start_cell: (3, 3) cell of the trajectory's start, Å; needed for the volume filter.
    :returns: 'non_finite', 'too_close', 'force_cap', 'volume_change' or 'skewed_cell'; None if nothing is wrong.
    """
    cell = atoms.cell.array
    force = np.zeros((len(atoms), 3)) if forces is None else np.asarray(forces, dtype=float)
    if not all(np.isfinite(array).all() for array in (atoms.positions, cell, force)):
        return NON_FINITE
    if limits.volume_factor is not None and start_cell is not None and atoms.pbc.all():
        ratio = abs(np.linalg.det(cell) / np.linalg.det(np.asarray(start_cell, dtype=float)))
        if not 1 / limits.volume_factor <= ratio <= limits.volume_factor:
            return VOLUME_CHANGE
    if limits.angle_range is not None and skewed_cell(cell, atoms.pbc, limits.angle_range):
        return SKEWED_CELL
    if limits.max_force is not None and np.any(np.linalg.norm(force, axis=1) > limits.max_force):
        return FORCE_CAP
    if limits.min_distance_fraction is not None and too_close(atoms, limits.min_distance_fraction):
        return TOO_CLOSE
    return None


def value_reasons(
    max_force_deviation: ArrayLike, max_force: ArrayLike | None, limits: PhysicalLimits
) -> list[str | None]:
    """Why frames are unphysical, as far as their recorded numbers tell.

    :param max_force_deviation: (N,), eV/Å.
    :param max_force: (N,) largest norm of a force in each frame, eV/Å; None if it was not recorded.
    :param limits: the filters; only ``max_force`` is used.
    :returns: for each frame 'non_finite', 'force_cap' or None.
    """
    deviation = np.asarray(max_force_deviation, dtype=float)
    force = np.zeros_like(deviation) if max_force is None else np.asarray(max_force, dtype=float)
    cap = np.inf if limits.max_force is None else limits.max_force
    finite = np.isfinite(deviation) & np.isfinite(force)
    return [
        NON_FINITE if not ok else FORCE_CAP if size > cap else None
        for ok, size in zip(finite.tolist(), force.tolist(), strict=True)
    ]
