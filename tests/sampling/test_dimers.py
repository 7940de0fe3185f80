"""Dimers of every pair of elements at the distances asked for."""

from itertools import groupby

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii

from aiida_mlip_al.sampling import Seeder
from aiida_mlip_al.sampling.dimers import DimersParameters, dimers

sample = Seeder('dimers', DimersParameters, dimers, appends=True)


def test_every_pair_at_every_distance() -> None:
    result = sample([molecule('H2O'), molecule('CO')])
    pairs = [key for key, _ in groupby(result.frames, key=lambda frame: tuple(frame.numbers.tolist()))]
    assert pairs == [(1, 1), (1, 6), (1, 8), (6, 6), (6, 8), (8, 8)]
    assert len(result.frames) == 6 * 21
    for start, pair in zip(range(0, 126, 21), pairs, strict=True):
        expected = np.linspace(0.7, 2.5, 21) * sum(covalent_radii[number] for number in pair)
        distances = [frame.get_distance(0, 1) for frame in result.frames[start : start + 21]]
        np.testing.assert_allclose(distances, expected, rtol=1e-12)
    assert [record['copy'] for record in result.records[:22]] == [*range(21), 0]
    # The second structure brings the carbon.
    assert [record['source'] for record in result.records[::21]] == [0, 1, 0, 1, 1, 0]


def test_hydrogen_in_numbers() -> None:
    frames = sample([Atoms('H')], {'n_points': 3, 'distance_range': [1, 2], 'box': 12}).frames
    # Twice the covalent radius of 0.31 Å.
    np.testing.assert_allclose([frame.get_distance(0, 1) for frame in frames], [0.62, 0.93, 1.24])
    for frame in frames:
        assert not frame.pbc.any()
        np.testing.assert_array_equal(frame.cell.array, 12 * np.eye(3))
        np.testing.assert_allclose(frame.positions.mean(axis=0), [6, 6, 6])


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(ValueError, match=r"dimers: Cs2 of 12.2 Å does not fit into the box; raise 'box' \(12.0 Å\)"):
        sample([bulk('Cs')], {'box': 12})
    with pytest.raises(ValueError, match=r"dimers: 'distance_range' must go from short to long, got \[2.0, 1.0\]"):
        sample([bulk('Cs')], {'distance_range': [2, 1]})
    with pytest.raises(ValueError, match="'n_points' should be greater than or equal to 2"):
        sample([bulk('Cs')], {'n_points': 1})
