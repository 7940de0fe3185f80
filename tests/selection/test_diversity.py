"""Scaling, farthest points and duplicates."""

import numpy as np
import pytest

from aiida_mlip_al.selection import deduplicate, farthest_point_order, standardise
from aiida_mlip_al.selection.diversity import strata, stratified_order


def test_scaling_makes_features_comparable_and_counts_in_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(200, 3))
    new, old = standardise(plain * [1, 1e3, 1e-3] + [5, 0, 1], plain[:50] * [1, 1e3, 1e-3] + [5, 0, 1])
    both = np.concatenate([new, old])
    np.testing.assert_allclose(both.std(axis=0), 1 / np.sqrt(3))
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(new[:50], old, atol=1e-12)


def test_constant_feature_with_rounding_noise_counts_nothing() -> None:
    noise = 100 + 1e-5 * np.random.default_rng(0).normal(size=30)
    new, _ = standardise(np.column_stack([np.arange(30.0), noise]))
    np.testing.assert_array_equal(new[:, 1], 0)
    assert np.ptp(new[:, 0]) > 1


def test_farthest_points_on_a_line() -> None:
    line = np.array([[0.0], [1.0], [2.0], [5.0], [10.0]])
    order, distances = farthest_point_order(line, start=0)
    assert order.tolist() == [0, 4, 3, 2, 1]
    np.testing.assert_array_equal(distances, [np.inf, 10, 5, 2, 1])


def test_farthest_points_start_away_from_the_training_set() -> None:
    line = np.array([[0.0], [1.0], [2.0], [5.0], [10.0]])
    order, distances = farthest_point_order(line, [[9.0], [12.0]], count=3, start=4)
    assert order.tolist() == [0, 3, 2]
    np.testing.assert_array_equal(distances, [9, 4, 2])


def test_ties_go_to_the_lower_index_even_with_rounding() -> None:
    square = np.array([[1.0, 0], [0, 1.0], [-1.0, 0], [0, -1.0 - 1e-13]])
    assert farthest_point_order(square, [[0.0, 0.0]])[0].tolist() == [0, 1, 2, 3]


def test_identical_points_are_all_taken_once() -> None:
    order, distances = farthest_point_order(np.zeros((4, 2)), np.zeros((1, 2)))
    assert order.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(distances, 0)


def test_order_is_a_prefix_of_the_longer_one_and_distances_fall() -> None:
    points = np.random.default_rng(0).normal(size=(60, 4))
    order, distances = farthest_point_order(points, points[:5] + 0.1)
    assert sorted(order) == list(range(60))
    assert np.all(np.diff(distances) <= 1e-9)
    assert farthest_point_order(points, points[:5] + 0.1, 7)[0].tolist() == order[:7].tolist()


def test_largest_cluster_weighs_many_frames_more_than_one_that_lies_by_itself() -> None:
    line, existing = np.array([[150.0], [-30.0], [-29.0], [-28.0], [-27.0]]), [[0.0], [100.0]]
    assert farthest_point_order(line, existing)[0].tolist() == [0, 1, 4, 2, 3]
    order, distances = farthest_point_order(line, existing, largest_cluster=True)
    assert order.tolist() == [1, 0, 4, 2, 3]
    np.testing.assert_array_equal(distances, [30, 50, 3, 1, 1])


def test_frames_of_a_full_group_do_not_make_a_cluster_large() -> None:
    line, existing = np.array([[131.0], [70.0], [75.0], [95.0], [10.0], [12.0]]), [[0.0], [100.0]]
    groups = [1, 1, 1, 0, 0, 0]
    order, _ = farthest_point_order(line, existing, 2, largest_cluster=True, groups=groups, per_group=[1])
    assert order.tolist() == [0, 5]


def test_largest_cluster_takes_each_frame_once_whatever_there_is() -> None:
    points = np.random.default_rng(1).normal(size=(40, 3))
    points[10:20] = points[0]
    for existing in (None, points[:1], points[::4]):
        order, _ = farthest_point_order(points, existing, largest_cluster=True)
        assert sorted(order) == list(range(40))


def test_full_group_neither_gives_nor_repels() -> None:
    line = np.array([[0.0], [1.0], [9.0], [5.0], [6.0]])
    order, distances = farthest_point_order(line, count=4, groups=[0, 0, 0, 1, 1], per_group=1)
    assert order.tolist() == [0, 4]
    np.testing.assert_array_equal(distances, [np.inf, 6])


def test_large_training_set_is_searched_completely() -> None:
    existing = np.arange(3000.0)[:, None]
    order, distances = farthest_point_order(np.array([[2500.25], [1500.5], [10.0]]), existing)
    assert order.tolist() == [1, 0, 2]
    np.testing.assert_allclose(distances, [0.5, 0.25, 0])


def test_empty_input() -> None:
    order, distances = farthest_point_order(np.empty((0, 3)), np.zeros((2, 3)))
    assert len(order) == len(distances) == 0
    assert len(deduplicate(np.empty((0, 3)))) == 0
    assert standardise(np.empty((0, 3)))[0].shape == (0, 3)


def test_duplicates_of_training_set_and_of_each_other() -> None:
    points = [[0.0], [1.0], [1.005], [1.012], [5.0], [5.0]]
    assert deduplicate(points, [[0.009]], 0.01).tolist() == [True, False, True, False, False, True]
    assert deduplicate(points, None, 0.01).tolist() == [False, False, True, False, False, True]
    assert deduplicate(points, None, 0.0).tolist() == [False, False, False, False, False, True]
    assert not deduplicate(points, points, -1).any()


def test_a_duplicate_does_not_mark_further_duplicates() -> None:
    chain = [[0.0], [0.8], [1.6]]
    assert deduplicate(chain, None, 1.0).tolist() == [False, True, False]


def test_features_must_agree() -> None:
    with pytest.raises(ValueError, match=r'must have 2 features .* same model'):
        deduplicate(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r'shape \(frames, features\)'):
        farthest_point_order(np.zeros(3))


def test_farthest_points_within_two_kinds_of_quota() -> None:
    points = np.array([[0.0], [1.0], [10.0], [11.0], [30.0]])
    groups = np.array([[0, 0], [1, 0], [2, 1], [3, 1], [3, 2]])
    assert farthest_point_order(points, groups=groups, per_group=[None, 1])[0].tolist() == [0, 4, 3]
    assert farthest_point_order(points, groups=groups, per_group=[1, None])[0].tolist() == [0, 4, 2, 1]


def test_strata_are_distinct_values_or_bins_from_the_top() -> None:
    assert strata([300, 600, 300, np.nan, 900]).tolist() == [2, 1, 2, 10, 0]
    assert strata(np.arange(20.0), 4).tolist() == [3] * 5 + [2] * 5 + [1] * 5 + [0] * 5
    skewed = strata([*np.linspace(0, 1, 90), 10.0], 10)
    assert (skewed[-1], set(skewed[:-1])) == (0, {9})


def test_every_stratum_gives_one_frame_in_turn() -> None:
    groups = np.array([0] * 50 + [1] * 2 + [2] * 5)
    order = stratified_order(groups, np.random.default_rng(1))
    assert sorted(order) == list(range(57))
    assert groups[order].tolist() == [0, 1, 2, 0, 1, 2, 0, 2, 0, 2, 0, 2] + [0] * 45
    firsts = {int(stratified_order(groups, np.random.default_rng(seed))[0]) for seed in range(20)}
    assert len(firsts) > 10, 'the choice within a stratum is random'
