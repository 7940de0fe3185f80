"""Frames of data sets, trajectories and structures, and trajectories of frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from aiida import orm
from ase import Atoms
from ase.build import bulk, molecule
from helpers.geometry import geometry

from aiida_mlip_al.data import DatasetData
from aiida_mlip_al.data.pool import frames_left, frames_of, is_test, trajectories_of

Make = Callable[..., Any]


def numbered(*frames: Atoms) -> list[tuple[int, Atoms]]:
    return list(enumerate(frames))


def test_frames_of_one_kind_are_one_trajectory() -> None:
    water, copper = molecule('H2O'), bulk('Cu')
    hot = water.copy()
    hot.positions += 0.123456789
    hot.info['temperature_K'] = 500.0
    turned = Atoms('HHO', positions=water.positions[[1, 2, 0]])
    assert trajectories_of([]) == []
    found = trajectories_of(numbered(water, copper, hot, turned))
    assert [list(node.symbols) for node in found] == [['O', 'H', 'H'], ['Cu'], ['H', 'H', 'O']]
    assert [node.get_stepids().tolist() for node in found] == [[0, 2], [1], [3]]
    assert [list(node.pbc) for node in found] == [[False] * 3, [True] * 3, [False] * 3]
    np.testing.assert_allclose(found[1].get_cells()[0], copper.cell.array)
    np.testing.assert_array_equal(found[0].get_positions()[1], hot.positions)
    np.testing.assert_array_equal(found[0].get_array('target_temperatures'), [np.nan, 500.0])
    assert 'target_temperatures' not in found[1].get_arraynames()
    assert all(node.base.attributes.get('independent') for node in found)


def test_test_frames_are_trajectories_of_their_own() -> None:
    frames = [molecule('H2O') for _ in range(4)]
    for row, split in ((0, 'train'), (1, 'test'), (3, 'test')):
        frames[row].info['split'] = split
    found = trajectories_of(numbered(*frames))
    assert [node.get_stepids().tolist() for node in found] == [[0, 2], [1, 3]]
    assert [[is_test(frame) for frame in frames_of(node)] for node in found] == [[False] * 2, [True] * 2]


def test_frames_come_back_from_trajectories_and_structures() -> None:
    water = molecule('H2O')
    water.info['temperature_K'] = 300.0
    (node,) = trajectories_of([(0, water)])
    (frame,) = frames_of(node)
    assert geometry(frame) == geometry(water)
    assert frame.info == {'temperature_K': 300.0}
    (frame,) = frames_of(orm.StructureData(ase=bulk('Cu')))
    assert geometry(frame) == geometry(bulk('Cu'))


def test_a_frame_is_the_same_before_and_after_it_was_labelled(make_labelled: Make) -> None:
    """Its positions have more digits than the file of labelled frames."""
    rng = np.random.default_rng(0)
    frames = [make_labelled(seed) for seed in range(50)]
    for frame in frames:
        frame.positions += rng.normal(size=(3, 3))
    dataset = DatasetData.from_ase(frames, 'xtb', 'hash')
    (trajectory,) = trajectories_of(enumerate(frames))
    assert len(frames_left({'pool': trajectory})[0]) == 50
    assert frames_left({'pool': trajectory}, [dataset]) == ({}, 50)
