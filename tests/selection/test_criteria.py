"""Trust levels."""

import math

import numpy as np
import pytest

from aiida_mlip_al.selection import TrustLevels, classify, decode


def test_classification_with_its_borders() -> None:
    codes = classify([0.0, 0.1, 0.11, 0.5, 0.51, np.nan, np.inf], TrustLevels(0.1, 0.5))
    assert [str(verdict) for verdict in decode(codes)] == [
        'accurate',
        'accurate',
        'candidate',
        'candidate',
        'failed',
        'unphysical',
        'unphysical',
    ]


def test_without_an_upper_level_nothing_fails() -> None:
    assert [str(verdict) for verdict in decode(classify([0.05, 1e6], TrustLevels(0.1)))] == ['accurate', 'candidate']


def test_infinite_lower_level_accepts_all() -> None:
    assert str(decode(classify([1e6], TrustLevels(math.inf)))[0]) == 'accurate'


def test_no_frames() -> None:
    assert classify([], TrustLevels(0.1)).shape == (0,)


@pytest.mark.parametrize(('lower', 'upper'), [(0, None), (math.nan, None), (-1, 1), (0.2, 0.1), (0.2, math.nan)])
def test_wrong_levels_are_refused(lower: float, upper: float | None) -> None:
    with pytest.raises(ValueError, match=r'the (lower|upper) level must'):
        TrustLevels(lower, upper)
