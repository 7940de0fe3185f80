"""Random clusters hang together, keep their distances and have the composition of their source."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from aiida_mlip_al.sampling import RejectionLimitError, Seeder
from aiida_mlip_al.sampling.random_clusters import RandomClustersParameters, random_clusters

sample = Seeder('random_clusters', RandomClustersParameters, random_clusters, appends=True)


def ratios(atoms: Atoms) -> np.ndarray:
    """(n, n) distances over covalent radii sums; infinite on the diagonal."""
    radii = covalent_radii[atoms.numbers]
    found = atoms.get_all_distances() / (radii[:, None] + radii)
    np.fill_diagonal(found, np.inf)
    return found


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), low=st.floats(0.5, 1.2), spread=st.floats(0.1, 1))
def test_clusters_are_connected_and_apart(seed: int, low: float, spread: float) -> None:
    parameters = {'copies': 5, 'distance_range': [low, low + spread], 'box': 25}
    for frame in sample([bulk('NaCl', 'rocksalt', a=5.64)], parameters, seed).frames:
        found = ratios(frame)
        assert found.min() >= low - 1e-9
        n_parts, _ = connected_components(found <= low + spread + 1e-9)
        assert n_parts == 1
        assert np.all((frame.positions > 0) & (frame.positions < 25))
        np.testing.assert_allclose((frame.positions.min(axis=0) + frame.positions.max(axis=0)) / 2, 12.5)
        np.testing.assert_array_equal(frame.cell.array, 25 * np.eye(3))
        assert not frame.pbc.any()


def test_sizes_and_composition_are_drawn_from_the_whole_range() -> None:
    result = sample([molecule('H2O')], {'copies': 400}, seed=1)
    sizes = np.bincount([len(frame) for frame in result.frames], minlength=11)
    assert sizes[:3].sum() == 0
    assert len(sizes) == 11
    # 50 expected of each size, 6.6 the standard deviation.
    assert np.all(np.abs(sizes[3:] - 50) < 25)
    oxygen = np.concatenate([frame.numbers for frame in result.frames]) == 8
    assert oxygen.mean() == pytest.approx(1 / 3, abs=0.04)


def test_directions_are_uniform() -> None:
    frames = sample([Atoms('H')], {'copies': 600, 'n_atoms': [2, 2]}, seed=2).frames
    directions = np.array([frame.positions[1] - frame.positions[0] for frame in frames])
    distances = np.linalg.norm(directions, axis=1) / 0.62
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(directions.T @ directions / 600, np.eye(3) / 3, atol=0.05)
    np.testing.assert_allclose(directions.mean(axis=0), 0, atol=0.08)
    # On a sphere every component is uniform between -1 and 1.
    assert np.mean(np.abs(directions) > 0.9) == pytest.approx(0.1, abs=0.02)
    assert 0.8 <= distances.min() < 0.81
    assert 1.49 < distances.max() <= 1.5
    assert distances.mean() == pytest.approx(1.15, abs=0.03)


def test_more_copies_keep_the_first_and_sources_differ() -> None:
    few = sample([Atoms('H'), Atoms('H')], {'copies': 3}, seed=4)
    many = sample([Atoms('H'), Atoms('H')], seed=4)
    assert len(many.frames) == 40
    assert many.frames[:3] + many.frames[20:23] == few.frames
    assert few.frames[:3] != few.frames[3:]
    assert sample([Atoms('H')], {'copies': 3}, seed=5).frames != few.frames[:3]


def test_clusters_without_room_are_an_error() -> None:
    # 10 atoms cannot be grown in one bond length.
    with pytest.raises(RejectionLimitError, match=r'structure 0, copy 0: no attempt out of 6 .*outside_box: 6'):
        sample([Atoms('C')], {'n_atoms': [10, 10], 'box': 1.5, 'max_attempts': 6})
    # At most 12 spheres touch a sphere.
    crowded = {'n_atoms': [25, 25], 'distance_range': [1.0, 1.0000001], 'max_attempts': 5, 'box': 50}
    result = sample([Atoms('C')], crowded | {'n_atoms': [4, 4], 'copies': 5})
    assert all(ratios(frame).min() >= 1 - 1e-9 for frame in result.frames)


def test_rejections_are_counted() -> None:
    result = sample([Atoms('C')], {'n_atoms': [8, 8], 'box': 5, 'copies': 10}, seed=1)
    assert result.rejected == {'outside_box': sum(record['attempt'] for record in result.records)}
    assert result.rejected['outside_box'] > 0


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'n_atoms': [5, 3]}, r"'n_atoms' must go from few to many, got \[5, 3\]"),
        ({'n_atoms': [1, 3]}, "'n_atoms' should be greater than or equal to 2"),
        ({'distance_range': [1.2, 1.2]}, "'distance_range' must go from short to long"),
        ({'distance_range': [0, 1]}, "'distance_range' should be greater than 0"),
        ({'box': 0}, "'box' should be greater than 0"),
    ],
)
def test_what_cannot_be_done_is_said(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match='random_clusters: ' + message):
        sample([Atoms('H')], parameters)
