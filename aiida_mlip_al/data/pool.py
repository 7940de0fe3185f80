"""Frames that exist, in data sets, trajectories and structures: how they are read, and how they become trajectories to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
from aiida.orm import Data, StructureData, TrajectoryData
from ase import Atoms

from aiida_mlip_al.sampling.checks import computable
from aiida_mlip_al.sampling.pool import Lookup

from .dataset import DatasetData
from .extxyz import temperature_of
from .frame import atoms_of

TEST = 'test'


def frames_of(node: Data) -> Iterator[Atoms]:
    """Yield the frames of a data set, a trajectory or a structure; as info the temperature (K) where it is known, and the split."""
    if isinstance(node, DatasetData):
        yield from node.iterate()
    elif isinstance(node, StructureData):
        yield atoms_of(node)
    elif isinstance(node, TrajectoryData):
        positions, cells, symbols, pbc = node.get_positions(), node.get_cells(), list(node.symbols), node.pbc
        split = {'split': TEST} if node.base.attributes.get('split', None) == TEST else {}
        known = 'target_temperatures' in node.get_arraynames()
        temperatures = node.get_array('target_temperatures') if known else np.full(len(positions), np.nan)
        for row, temperature in enumerate(temperatures):
            cell = None if cells is None else cells[row]
            frame = Atoms(symbols, positions=positions[row], cell=cell, pbc=pbc, info=split)
            if np.isfinite(temperature):
                frame.info['temperature_K'] = float(temperature)
            yield frame


def is_test(atoms: Atoms) -> bool:
    """Return whether a frame is there to test on, and must not be learned from."""
    return str(atoms.info.get('split')) == TEST


def frames_left(pool: Mapping[str, Data], known: Iterable[Data] = ()) -> tuple[dict[tuple[str, int], Atoms], int]:
    """Return the frames of a pool that may be learned from, by node and place in it, and how many frames there are in all.

    Left out are test frames and whatever is the same as one in any node, repeats, and what no potential can be evaluated on.

    :param known: nodes whose frames are left out, too.
    """
    frames = {(name, number): atoms for name in sorted(pool) for number, atoms in enumerate(frames_of(pool[name]))}
    seen: Lookup[bool] = Lookup()
    for atoms in chain((frame for node in known for frame in frames_of(node)), filter(is_test, frames.values())):
        seen.add(atoms, True)
    left = {}
    for place, atoms in frames.items():
        if computable(atoms) and not seen.get(atoms):
            seen.add(atoms, True)
            left[place] = atoms
    return left, len(frames)


def kind_of(atoms: Atoms) -> tuple[bytes, bytes, bool]:
    """Return what frames of one trajectory have in common: order of elements, periodicity, whether they are test frames."""
    return atoms.numbers.tobytes(), atoms.pbc.tobytes(), is_test(atoms)


def trajectories_of(frames: Iterable[tuple[int, Atoms]]) -> list[TrajectoryData]:
    """Return unstored trajectories of frames, one for each kind, in which the frames come.

    Those of test frames have the attribute ``split``. All have the attribute ``independent``: their frames need not follow on one
    another.

    :param frames: with their numbers, which become the steps.
    :raises ValueError: naming the first frame with a temperature that is none.
    """
    alike: dict[tuple[bytes, bytes, bool], list[tuple[int, Atoms]]] = {}
    for number, atoms in frames:
        alike.setdefault(kind_of(atoms), []).append((number, atoms))
    return [_trajectory(group) for group in alike.values()]


def _trajectory(frames: Sequence[tuple[int, Atoms]]) -> TrajectoryData:
    first = frames[0][1]
    node = TrajectoryData()
    node.set_trajectory(
        symbols=first.get_chemical_symbols(),
        positions=np.array([atoms.positions for _, atoms in frames]),
        stepids=np.array([number for number, _ in frames]),
        cells=np.array([atoms.cell.array for _, atoms in frames]),
        pbc=first.pbc.tolist(),
    )
    temperatures = np.array([temperature_of(atoms, f'Frame {number}') for number, atoms in frames], dtype=float)
    if np.isfinite(temperatures).any():
        node.set_array('target_temperatures', temperatures)
    node.base.attributes.set('independent', True)
    if is_test(first):
        node.base.attributes.set('split', TEST)
    return node
