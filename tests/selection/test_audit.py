"""How often frames called accurate are not."""

import math

import numpy as np
import pytest

from aiida_mlip_al.selection import audit_statistics, wilson_interval
from aiida_mlip_al.selection.audit import AuditStatistics, frames_to_prove


@pytest.mark.parametrize(
    ('hits', 'trials', 'low', 'high'),
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval(hits: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(hits, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_covers_the_true_share() -> None:
    drawn = np.random.default_rng(0).binomial(30, 0.1, 2000)
    inside = [low <= 0.1 <= high for low, high in (wilson_interval(int(hits), 30) for hits in drawn)]
    assert 0.93 < np.mean(inside) < 0.99


def test_audit_statistics() -> None:
    statistics = audit_statistics([0.05, 0.2, np.nan, 0.1, 0.09, np.inf], tolerance=0.1)
    assert (statistics.n_audited, statistics.n_wrong, statistics.rate) == (5, 2, 0.4)
    assert (statistics.low, statistics.high) == wilson_interval(2, 5)
    nothing = audit_statistics([], 0.1)
    assert math.isnan(nothing.rate)
    assert (nothing.low, nothing.high) == (0, 1)


@pytest.mark.parametrize(('rate', 'confidence', 'frames'), [(0.05, 0.95, 73), (0.1, 0.95, 35), (0.2, 0.9, 11)])
def test_frames_to_prove_are_the_fewest(rate: float, confidence: float, frames: int) -> None:
    assert frames_to_prove(rate, confidence) == frames
    bounds = [AuditStatistics.from_counts(n, 0, confidence).high for n in (frames - 1, frames)]
    assert bounds[0] >= rate > bounds[1]


@pytest.mark.parametrize('arguments', [(1, 0), (-1, 5), (1, 5, 1.0)])
def test_wrong_counts_are_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError, match='must lie between'):
        wilson_interval(*arguments)
