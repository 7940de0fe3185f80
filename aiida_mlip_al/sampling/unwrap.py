"""Unwrap trajectories: undo the jumps of atoms that a program moved back into the cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aiida_mlip_al.sampling.base import Matrix
from aiida_mlip_al.sampling.cells import periodic_axes

#: Part of a cell vector; an atom that moved farther between two frames may as well have moved the other way round.
AMBIGUOUS_MOVE = 0.4


def unwrap(reference: Atoms, frames: Sequence[Atoms], where: str = 'the trajectory') -> list[Atoms]:
    """Follow every atom from the reference through a trajectory, by the shortest way from each frame to the next.

    The way is taken in fractional coordinates, each frame's with its own cell, so that a breathing or sheared cell
    moves no atom. The common drift of all atoms is taken out before choosing the image; it is their circular mean,
    which no wrapping changes (the plain mean is off by 1/n for each of n atoms that was wrapped). Atoms get whole cell
    vectors added and nothing else: a trajectory that was never wrapped comes back to the bit, unless all atoms together
    moved by more than half a cell in a step, which then is undone for all of them alike.

    :param reference: structure of n atoms from which the first frame is reached; its atoms keep their images.
    :param frames: in the order of time, atoms in the order of the reference.
    :param where: begin of an error message.
    :returns: copies of the frames, in which the atoms are connected as in the reference.
    :raises ValueError: a frame has other atoms or boundaries than the reference, or an atom moved so far in one step
        that its image is not certain.
    """
    axes = _periodic_axes(reference, where)
    images = np.zeros((len(reference), 3), dtype=int)
    before = reference.get_scaled_positions(wrap=False)
    unwrapped = []
    for number, frame in enumerate(frames):
        here = f'{where}: frame {number}'
        _check_same_system(reference, frame, here)
        _periodic_axes(frame, here)
        after = frame.get_scaled_positions(wrap=False)
        moves = np.where(axes, after - before, 0.0)
        moves -= _circular_mean(moves)
        jumps = np.round(moves)
        _check_certain(np.abs(moves - jumps), frame, here)
        images -= jumps.astype(int)
        before = after
        copy = frame.copy()
        copy.positions += images @ frame.cell.array
        unwrapped.append(copy)
    return unwrapped


def _periodic_axes(atoms: Atoms, where: str) -> NDArray[np.bool_]:
    """(3,) mask; a vacuum does not keep a program from wrapping across it."""
    return periodic_axes(atoms, tuple(atoms.pbc.tolist()), where)


def _circular_mean(moves: Matrix) -> Matrix:
    """(3,) mean of the (n, 3) fractional moves, up to whole cells: the direction of the mean of exp(2 pi i move)."""
    if len(moves) == 0:
        return np.zeros(3)
    return np.asarray(np.angle(np.exp(2j * np.pi * moves).mean(axis=0)) / (2 * np.pi))


def _check_same_system(reference: Atoms, frame: Atoms, where: str) -> None:
    if not np.array_equal(frame.numbers, reference.numbers):
        msg = (
            f'{where} does not have the atoms of the reference in the same order ({frame.get_chemical_formula()}, the '
            f'reference {reference.get_chemical_formula()}); give the structure that it derives from, and keep the '
            'order of the atoms'
        )
        raise ValueError(msg)
    if not np.array_equal(frame.pbc, reference.pbc):
        msg = (
            f'{where} has periodic boundaries {frame.pbc.tolist()}, the reference {reference.pbc.tolist()}; '
            'give both the same pbc'
        )
        raise ValueError(msg)


def _check_certain(moves: Matrix, frame: Atoms, where: str) -> None:
    if np.all(moves <= AMBIGUOUS_MOVE):
        return
    farthest = moves.max(axis=1)
    atom = int(farthest.argmax())
    msg = (
        f'{where}: atom {atom} ({frame.symbols[atom]}) moved by {farthest[atom]:.2f} of a cell vector since the frame '
        'before, too close to half a cell to know in which direction; record frames more often, or use a larger '
        'supercell'
    )
    raise ValueError(msg)
