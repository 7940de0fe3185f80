"""Frames that exist: how they are recognised and drawn."""

from __future__ import annotations

from ase import Atoms
from ase.build import bulk, molecule

from aiida_mlip_al.sampling.pool import draw_frames, geometry


def test_a_frame_is_recognised_by_elements_positions_and_cell() -> None:
    frame = molecule('H2O')
    same = frame.copy()
    same.positions += 1e-9
    same.info['temperature_K'] = 300
    assert geometry(same) == geometry(frame)
    moved, other = frame.copy(), frame.copy()
    moved.positions[0, 0] += 1e-5
    other.symbols[0] = 'S'
    strained = bulk('Cu')
    strained.set_cell(strained.cell * 1.001)
    assert len({geometry(atoms) for atoms in (frame, moved, other, bulk('Cu'), strained)}) == 5


def test_minus_zero_is_zero() -> None:
    assert geometry(Atoms('H', positions=[[-0.0, -1e-9, 0]])) == geometry(Atoms('H', positions=[[0, 0, 0]]))


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
