"""Frames that exist: how they are recognised and drawn."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aiida_mlip_al.sampling.pool import Lookup, draw_frames


def test_a_frame_is_recognised_by_elements_periodicity_positions_and_cell() -> None:
    frame = molecule('H2O')
    moved, other, in_a_box, periodic = (frame.copy() for _ in range(4))
    moved.positions[0, 0] += 1e-3
    other.symbols[0] = 'S'
    in_a_box.cell = periodic.cell = [9, 9, 9]
    periodic.pbc = True
    strained = bulk('Cu')
    strained.set_cell(strained.cell * 1.001)
    different = [frame, moved, other, in_a_box, periodic, bulk('Cu'), strained]
    known: Lookup[int] = Lookup()
    for number, atoms in enumerate(different):
        assert known.get(atoms) is None
        known.add(atoms, number)
    assert [known.get(atoms.copy()) for atoms in different] == list(range(len(different)))


@pytest.mark.parametrize('n_atoms', [3, 200])
def test_a_copy_of_little_precision_is_the_same_frame(n_atoms: int) -> None:
    rng = np.random.default_rng(1)
    known: Lookup[int] = Lookup()
    frames = [Atoms(f'Cu{n_atoms}', positions=rng.uniform(-20, 20, (n_atoms, 3))) for _ in range(100)]
    for number, frame in enumerate(frames):
        known.add(frame, number)
    for number, frame in enumerate(frames):
        exact = frame.positions.copy()
        for positions in (
            exact.astype(np.float32),
            exact.round(4),
            exact + 0.99e-4,
            exact + rng.normal(0, 1e-5, exact.shape),
        ):
            frame.positions = positions
            assert known.get(frame) == number
        frame.positions = exact
        frame.positions[1, 2] += 1.01e-4
        assert known.get(frame) is None


def test_of_several_the_nearest_is_found() -> None:
    known: Lookup[str] = Lookup()
    for x, name in ((0.0, 'first'), (0.00008, 'second'), (0.00008, 'third')):
        known.add(Atoms('H', positions=[[x, 0, 0]]), name)
    assert known.get(Atoms('H', positions=[[-0.0, 0, 0]])) == 'first'
    assert known.get(Atoms('H', positions=[[0.00007, 0, 0]])) == 'second'


def test_all_frames_are_drawn_where_there_are_no_more() -> None:
    assert draw_frames('abc', 3, 0, 0) == ['a', 'b', 'c']
    assert draw_frames('abc', 5, 0, 0) == ['a', 'b', 'c']
    assert draw_frames('', 5, 0, 0) == []


def test_of_more_frames_each_iteration_draws_others() -> None:
    first = draw_frames(range(100), 10, 3, 0)
    assert first == sorted(set(first)) == draw_frames(range(100), 10, 3, 0)
    assert len(first) == 10
    assert first != draw_frames(range(100), 10, 3, 1)
    assert first != draw_frames(range(100), 10, 4, 0)
