"""Disagreement of a committee: member predictions in, deviations out.

The deviation of atom i is eps_i = sqrt(mean over members k of |F_i^k - mean_k F_i|^2): population mean, norm of the
3-vector, as in DeePMD-kit's ``model_devi`` and DP-GEN. A mean over x, y, z inside the root (aims-PAX) is smaller by
sqrt(3); thresholds copied between codes differ by that factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
PERCENTILE = 95.0
RELATIVE_LEVEL = 0.2  # eV/Å


@dataclass(frozen=True)
class FrameDeviation:
    """Force deviations over the atoms of each frame, (N,): largest, mean, smallest, 95th percentile, eV/Å, and relative.

    The relative one is the largest eps_i / (|mean F_i| + 0.2 eV/Å): the form of DeePMD-kit's ``model_devi --relative`` with
    the level of MACE's script of active learning.
    """

    max: Floats
    mean: Floats
    min: Floats
    percentile: Floats
    relative: Floats


def force_deviation(forces: ArrayLike) -> Floats:
    """Force deviation of every atom.

    :param forces: (K, n, 3), of K members, eV/Å.
    :returns: (n,), eV/Å; nan where a force is not finite.
    :raises ValueError: the shape is another, or there are fewer than two members.
    """
    members = np.asarray(forces, dtype=float)
    if members.ndim != 3 or members.shape[2] != 3:
        msg = f'forces must have the shape (members, atoms, 3), got {members.shape}'
        raise ValueError(msg)
    _require_committee(len(members))
    with np.errstate(invalid='ignore'):
        difference = members - members.mean(axis=0)
        return np.asarray(np.sqrt(np.sum(difference**2, axis=2).mean(axis=0)))


def frame_deviations(forces: ArrayLike, n_atoms: ArrayLike) -> FrameDeviation:
    """Force deviations of many frames whose atoms are stored one after the other.

    :param forces: (K, sum of n_atoms, 3), eV/Å.
    :param n_atoms: (N,) atoms of each frame, at least one.
    :returns: arrays (N,); nan for a frame with a force that is not finite.
    :raises ValueError: the atom counts do not add up to the number of forces.
    """
    per_atom = force_deviation(forces)
    counts = np.asarray(n_atoms, dtype=int)
    if np.any(counts < 1) or counts.sum() != len(per_atom):
        msg = (
            f'n_atoms must be positive and add up to the {len(per_atom)} atoms with forces, got a sum of {counts.sum()}'
        )
        raise ValueError(msg)
    if len(counts) == 0:
        return FrameDeviation(*(np.empty(0) for _ in range(5)))
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    with np.errstate(invalid='ignore'):
        size = np.linalg.norm(np.asarray(forces, dtype=float).mean(axis=0), axis=1)
        relative = per_atom / (size + RELATIVE_LEVEL)
    return FrameDeviation(
        max=np.maximum.reduceat(per_atom, first),
        mean=np.add.reduceat(per_atom, first) / counts,
        min=np.minimum.reduceat(per_atom, first),
        percentile=np.array([np.percentile(atoms, PERCENTILE) for atoms in np.split(per_atom, first[1:])]),
        relative=np.maximum.reduceat(relative, first),
    )


def energy_deviation_per_atom(energies: ArrayLike, n_atoms: ArrayLike) -> Floats:
    """Population standard deviation of the energy over the members, divided by the number of atoms.

    :param energies: (K, N), eV.
    :param n_atoms: (N,) atoms of each frame.
    :returns: (N,), eV/atom.
    :raises ValueError: the shape is another, or there are fewer than two members.
    """
    members = np.asarray(energies, dtype=float)
    if members.ndim != 2:
        msg = f'energies must have the shape (members, frames), got {members.shape}'
        raise ValueError(msg)
    _require_committee(len(members))
    with np.errstate(invalid='ignore'):
        return np.asarray(members.std(axis=0) / np.asarray(n_atoms, dtype=float))


def stress_deviation(stresses: ArrayLike) -> Floats:
    """Largest population standard deviation over the members of a component of the stress.

    :param stresses: (K, N, 6), eV/Å³.
    :returns: (N,), eV/Å³; nan for a frame that is not periodic in three directions.
    :raises ValueError: the shape is another, or there are fewer than two members.
    """
    members = np.asarray(stresses, dtype=float)
    if members.ndim != 3 or members.shape[2] != 6:
        msg = f'stresses must have the shape (members, frames, 6), got {members.shape}'
        raise ValueError(msg)
    _require_committee(len(members))
    with np.errstate(invalid='ignore'):
        return np.asarray(members.std(axis=0).max(axis=1))


def _require_committee(n_members: int) -> None:
    if n_members < 2:
        msg = f'a deviation needs at least two committee members, got {n_members}'
        raise ValueError(msg)
