"""Shares of the labels."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_mlip_al.selection.quota import Quotas, fair_share


def test_a_frame_is_free_as_long_as_all_its_groups_are() -> None:
    groups = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1]])
    quotas = Quotas(groups, [2, 1])
    assert quotas.take_in_order(np.array([4, 3, 0, 1, 2]), 5).tolist() == [4, 0]
    quotas = Quotas(groups, [1, None])
    assert quotas.take_in_order(np.arange(5), 2).tolist() == [0, 2]
    assert quotas.free.tolist() == [False, False, False, False, True]


@pytest.mark.parametrize(
    ('sizes', 'budget', 'share'),
    [((10, 10), 10, 5), ((2, 20), 10, 8), ((1, 1, 20), 3, 1), ((3, 4), 100, 4), ((5,), 0, 1), ((10, 10), 5, 3)],
)
def test_fair_share_uses_the_budget_up(sizes: tuple[int, ...], budget: int, share: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    assert fair_share(groups, budget) == share
    assert len(Quotas(groups, share).take_in_order(np.arange(len(groups)), budget)) == min(budget, len(groups))


def test_fair_share_of_nothing() -> None:
    assert fair_share([], 5) == 1
