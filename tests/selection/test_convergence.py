"""Stop rules and audit statistics."""

import json
import math

import numpy as np
import pytest

from aiida_mlip_al.selection import IterationRow, StopCriteria, audit_statistics, stop_reason, wilson_interval

CRITERIA = StopCriteria(max_iterations=5, max_labels=100, accurate_fraction=0.9, target_force_error=0.05, rounds=2)


def row(accurate: float = 0.5, mae: float | None = 0.2, candidates: int = 10, labels: int = 50) -> IterationRow:
    return IterationRow(0, labels, accurate, candidates, new_label_force_mae=mae)


GOOD = row(0.9, 0.05)


@pytest.mark.parametrize(
    ('history', 'expected'),
    [
        ([], None),
        ([row()], None),
        ([GOOD], None),
        ([GOOD, GOOD], 'converged'),
        ([GOOD, row(), GOOD], None),
        ([row(), GOOD, GOOD], 'converged'),
        ([GOOD, row(0.89, 0.05)], None),
        ([GOOD, row(0.9, 0.051)], None),
        ([GOOD, row(1.0, None, candidates=0)], 'converged'),
        ([GOOD, row(1.0, math.nan, candidates=0)], 'converged'),
        ([GOOD, row(0.95, None, candidates=3)], None),
        ([GOOD, row(math.nan, 0.01)], None),
        ([row(0.5, None, 0)], None),
        ([row(0.5, None, 0), row(0.5, None, 0)], 'no_candidates'),
        ([row(math.nan, None, 0), row(math.nan, None, 0)], 'no_candidates'),
        ([row(0.95, 0.2, 0), row(0.95, 0.2, 0)], 'no_candidates'),
        ([row(0.5, None, 0), row(0.5, None, 1)], None),
        ([row(labels=99)], None),
        ([row(labels=100)], 'max_labels'),
        ([GOOD, row(0.9, 0.05, labels=100)], 'converged'),
        ([row()] * 4, None),
        ([row()] * 5, 'max_iterations'),
        ([*[row()] * 3, GOOD, GOOD], 'converged'),
    ],
)
def test_stop_reason(history: list[IterationRow], expected: str | None) -> None:
    assert stop_reason(history, CRITERIA) == expected


def test_without_error_target_the_fraction_decides() -> None:
    assert stop_reason([row(0.96, 9.0)], StopCriteria(rounds=1)) == 'converged'
    assert stop_reason([row(0.96, None)], StopCriteria(rounds=1)) == 'converged'
    assert stop_reason([row(0.94, 0.0)], StopCriteria(rounds=1)) is None


def test_no_limit_on_labels() -> None:
    assert stop_reason([row(labels=10**6)], StopCriteria()) is None


def test_rows_survive_json() -> None:
    full = IterationRow(3, 60, 0.7, 5, 0.1, 4, 200, 3, 2, 0.05, 1.0, 2, 1)
    assert IterationRow.from_dict(json.loads(json.dumps(full.as_dict()))) == full
    empty = IterationRow.from_dict(json.loads(json.dumps(row(math.nan, math.nan).as_dict() | {'else': 1})))
    assert math.isnan(empty.accurate_fraction)
    assert empty.new_label_force_mae is None


@pytest.mark.parametrize(
    'wrong',
    [{'max_iterations': 0}, {'max_labels': 0}, {'accurate_fraction': 1.1}, {'target_force_error': 0}, {'rounds': 0}],
)
def test_wrong_criteria_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' must be"):
        StopCriteria(**wrong)


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


@pytest.mark.parametrize('arguments', [(1, 0), (-1, 5), (1, 5, 1.0)])
def test_wrong_counts_are_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError, match='must lie between'):
        wilson_interval(*arguments)
