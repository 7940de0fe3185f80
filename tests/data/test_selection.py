"""SelectionData: the fate of every explored frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import QueryBuilder, load_node

from aiida_mlip_al.data import SelectionData
from aiida_mlip_al.selection.verdict import Verdict, encode

VERDICTS = [Verdict.ACCURATE, Verdict.SELECTED, Verdict.AUDIT, Verdict.FAILED, Verdict.SELECTED]


def selection(**changes: Any) -> SelectionData:
    arrays: dict[str, Any] = {
        'trajectory': np.array([0, 0, 1, 1, 1]),
        'frame': np.array([0, 1, 0, 1, 2]),
        'verdict': encode(VERDICTS),
        'rank': np.array([-1, 2, 1, -1, 0]),
        'max_force_deviation': np.array([0.05, 0.2, 0.01, 3.0, 0.4]),
    }
    return SelectionData.from_arrays(
        {**arrays, **changes},
        ['job_00_walker_00', 'job_00_walker_01'],
        {'lower': 0.1, 'upper': None, 'method': 'fixed'},
    )


def test_comes_back_from_the_database() -> None:
    node = load_node(selection().store().pk)
    assert node.verdicts == VERDICTS
    assert node.thresholds == {'lower': 0.1, 'upper': None, 'method': 'fixed'}
    assert node.base.attributes.get('n_frames') == 5
    np.testing.assert_array_equal(node.get_array('max_force_deviation'), [0.05, 0.2, 0.01, 3.0, 0.4])


def test_every_verdict_is_counted() -> None:
    assert selection().counts == {
        'accurate': 1,
        'candidate': 0,
        'failed': 1,
        'unphysical': 0,
        'duplicate': 0,
        'over_budget': 0,
        'audit': 1,
        'selected': 2,
    }


def test_chosen_frames_in_order_of_choice() -> None:
    expected = [('job_00_walker_01', 2), ('job_00_walker_01', 0), ('job_00_walker_00', 1)]
    assert selection().chosen() == expected
    assert load_node(selection().store().pk).chosen() == expected


def test_nothing_chosen() -> None:
    assert selection(rank=np.full(5, -1)).chosen() == []


def test_unequal_lengths_are_not_stored() -> None:
    with pytest.raises(ValidationError, match=r"one row a frame, but their lengths are .*'rank': 4"):
        selection(rank=np.zeros(4)).store()


def test_equal_content_has_equal_hashes() -> None:
    hashes = [selection().store().base.caching.get_hash() for _ in range(2)]
    assert hashes[0] == hashes[1]
    assert selection(rank=np.array([-1, 1, 2, -1, 0])).store().base.caching.get_hash() != hashes[0]


def test_queried_by_counts() -> None:
    node = selection(verdict=encode([Verdict.DUPLICATE] * 5)).store()
    selection().store()
    query = QueryBuilder().append(SelectionData, filters={'attributes.counts.duplicate': {'>=': 5}}, project='uuid')
    assert query.all(flat=True) == [node.uuid]
