"""Shares of the labels."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_mlip_al.selection.quota import Most, Quotas


def test_a_frame_is_free_as_long_as_all_its_groups_are() -> None:
    groups = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1]])
    quotas = Quotas(groups, [2, 1])
    assert quotas.take_in_order(np.array([4, 3, 0, 1, 2]), 5).tolist() == [4, 0]
    quotas = Quotas(groups, [1, None])
    assert quotas.take_in_order(np.arange(5), 2).tolist() == [0, 2]
    assert quotas.free.tolist() == [False, False, False, False, True]


def taken(groups: np.ndarray, most: Most | list[Most], count: int) -> np.ndarray:
    """The groups of the frames that are taken in the order of their numbers."""
    return groups[Quotas(groups, most).take_in_order(np.arange(len(groups)), count)]


@pytest.mark.parametrize(
    ('sizes', 'budget', 'shares'),
    [
        ((10, 10), 10, (5, 5)),
        ((2, 20), 10, (2, 8)),
        ((1, 1, 20), 3, (1, 1, 1)),
        ((3, 4), 100, (3, 4)),
        ((5,), 0, (0,)),
        ((10, 10), 5, (3, 2)),
        ((5,) * 10, 11, (2, *(1,) * 9)),
        ((5,) * 10, 19, (*(2,) * 9, 1)),
    ],
)
def test_fair_groups_use_the_budget_up(sizes: tuple[int, ...], budget: int, shares: tuple[int, ...]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    found = taken(groups, 'fair', budget)
    assert tuple(np.bincount(found, minlength=len(sizes))) == shares


def test_what_is_left_over_goes_to_the_group_of_the_best_frame() -> None:
    assert taken(np.array([0, 1, 2, 2, 1, 0]), 'fair', 4).tolist() == [0, 1, 2, 2]


def test_fair_systems_divide_their_shares_among_their_walkers() -> None:
    system = np.repeat([1, 1, 1, 0], 10)
    walker = np.repeat([0, 1, 2, 3], 10)
    found = taken(np.transpose([system, walker]), ['fair', 'fair'], 12)
    assert np.bincount(found[:, 0]).tolist() == [6, 6]
    assert np.bincount(found[:, 1]).tolist() == [2, 2, 2, 6]


def test_a_number_limits_fair_groups_too() -> None:
    system = np.repeat([0, 1], 10)
    walker = np.repeat([0, 1, 2, 3], 5)
    found = taken(np.transpose([system, walker]), ['fair', 2], 20)
    assert np.bincount(found[:, 1]).tolist() == [2, 2, 2, 2]
    assert np.bincount(taken(system, 3, 20)).tolist() == [3, 3]
