"""The rules for the lower level, on numbers whose answer is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from aiida_mlip_al.selection.criteria import classify
from aiida_mlip_al.selection.levels import (
    AdaptiveLower,
    Conformal,
    ErrorFit,
    Evidence,
    Fixed,
    MovingAverage,
    Pairs,
    Quantile,
    adaptive_lower_level,
    find_levels,
    fitted_level,
    moving_average_level,
    quantile_level,
)
from aiida_mlip_al.selection.verdict import Verdict

HELD_OUT = Pairs(np.full(19, 0.1), 0.1 * np.arange(1, 20))


def test_moving_average_is_of_the_last_values() -> None:
    assert moving_average_level([9.0, 1.0, 2.0, 3.0], n=3) == pytest.approx(2.0)
    assert moving_average_level([9.0, 1.0, 2.0, 3.0], c_x=-0.1, n=3) == pytest.approx(1.8)
    assert moving_average_level([1.0, np.nan, 3.0, np.inf], c_x=0.5, n=400) == pytest.approx(3.0)


def test_moving_average_goes_on_over_rounds() -> None:
    rule = MovingAverage(n=4)
    history: list[dict[str, Any]] = []
    seen: list[float] = []
    for explored in ([1.0, 2.0], [3.0, 4.0], [5.0, 60.0]):
        seen += explored
        levels, thresholds = find_levels(rule, Evidence(explored=np.array(explored), history=history))
        assert levels.lower == pytest.approx(np.mean(seen[-4:]))
        assert thresholds['recent'] == seen[-4:]
        history.append({'thresholds': json.loads(json.dumps(thresholds)), 'n_labels': 10 * len(seen)})
    frozen = MovingAverage(n=4, freeze_labels=60)
    levels, thresholds = find_levels(frozen, Evidence(explored=np.ones(9), history=history))
    assert levels.lower == np.mean([3, 4, 5, 60])
    assert thresholds['frozen'] is True
    levels, _ = find_levels(frozen, Evidence(explored=np.ones(9), history=history[:2]))
    assert levels.lower == 1.0


@pytest.mark.parametrize(
    ('number', 'fraction', 'upper', 'candidates'),
    [
        (2, 0.0, None, [9.0, 10.0]),
        (2, 0.0, 8.0, [7.0, 8.0]),
        (1, 0.35, None, [8.0, 9.0, 10.0]),
        (0, 0.5, 4.0, [3.0, 4.0]),
        (99, 0.0, 3.0, [1.0, 2.0, 3.0]),
        (0, 0.0, 3.0, []),
        (5, 0.0, 0.5, []),
        (0, 0.01, None, []),
    ],
)
def test_adaptive_level_has_the_wanted_number_of_candidates_above(
    number: int, fraction: float, upper: float | None, candidates: list[float]
) -> None:
    values = np.array([np.nan, *range(10, 0, -1)])
    level = adaptive_lower_level(values, upper, number, fraction)
    above = values[(values > level) & (values <= (np.inf if upper is None else upper))]
    assert sorted(above) == candidates
    if candidates:
        assert level == pytest.approx(candidates[0], rel=1e-15), "DP-GEN's level is the lowest candidate"


def test_quantile_of_held_out_frames() -> None:
    assert quantile_level([*range(101), np.nan], 0.95) == pytest.approx(95.0)


def test_fit_through_the_origin_minimises_the_squares_of_the_deviation() -> None:
    deviation, error = np.array([0.1, 0.5, 0.2]), np.array([1.0, 2.0, 3.0])
    level, slope = fitted_level([*deviation, np.nan], [*error, 1.0], 0.3)
    expected = np.linalg.lstsq(error[:, None], deviation, rcond=None)[0][0]
    assert slope == pytest.approx(expected) == pytest.approx((0.1 + 1.0 + 0.6) / 14)
    assert level == pytest.approx(0.3 * expected)


def test_rules_take_the_evidence_that_is_theirs() -> None:
    evidence = Evidence(
        explored=np.arange(1.0, 11.0),
        held_out=HELD_OUT,
        trained=Pairs(np.array([10.0]), np.array([10.0])),
        tolerance=0.9,
        upper=50.0,
    )

    def lower(rule: Any) -> float:
        return find_levels(rule, evidence)[0].lower

    assert lower(Fixed(lower=0.2)) == 0.2
    assert lower(Conformal(coverage=0.9)) == pytest.approx(0.05)  # 18th smallest ratio of 1 … 19
    assert lower(Quantile(quantile=0.5)) == pytest.approx(0.1)
    assert lower(AdaptiveLower(number=3, fraction=0.0)) == pytest.approx(8.0)
    assert lower(MovingAverage(c_x=0.2)) == pytest.approx(6.6)
    every = np.concatenate([HELD_OUT.error, [10.0]])
    slope = (0.1 * HELD_OUT.error.sum() + 100.0) / (every**2).sum()
    assert lower(ErrorFit()) == pytest.approx(0.9 * slope)


def test_what_is_recorded() -> None:
    _, thresholds = find_levels(Conformal(), Evidence(held_out=HELD_OUT, tolerance=0.9, upper=0.8))
    assert thresholds == {
        'lower': pytest.approx(0.05),
        'upper': 0.8,
        'method': 'conformal',
        'tolerance': 0.9,
        'factor': pytest.approx(18.0),
        'n_pairs': 19,
        'coverage': 0.9,
        'guaranteed': True,
    }
    _, thresholds = find_levels(Fixed(lower=0.2), Evidence())
    assert thresholds == {'lower': 0.2, 'upper': None, 'method': 'fixed'}


def test_lower_level_gives_way_to_the_upper_one_and_is_positive() -> None:
    levels, thresholds = find_levels(Conformal(), Evidence(held_out=HELD_OUT, tolerance=0.9, upper=0.01))
    assert (levels.lower, levels.upper, thresholds['lower']) == (0.01, 0.01, 0.01)
    assert find_levels(MovingAverage(), Evidence(explored=np.zeros(3)))[0].lower > 0


def test_held_out_frames_without_forces_make_every_frame_a_candidate() -> None:
    isolated = Pairs(np.zeros(3), np.zeros(3))
    levels, thresholds = find_levels(Conformal(), Evidence(held_out=isolated, tolerance=0.1))
    assert (classify([0.0, 1e-300], levels) == [Verdict.ACCURATE.code, Verdict.CANDIDATE.code]).all()
    assert (thresholds['factor'], thresholds['guaranteed']) == (None, False)


def test_a_lower_level_is_a_number_that_json_knows() -> None:
    perfect = Pairs(np.ones(20), np.zeros(20))
    _, thresholds = find_levels(Conformal(), Evidence(held_out=perfect, tolerance=0.1))
    assert json.loads(json.dumps(thresholds, allow_nan=False)) == thresholds


@pytest.mark.parametrize('rule', [Conformal(), Quantile(), ErrorFit(), MovingAverage(), AdaptiveLower()])
def test_rules_without_evidence_say_so(rule: Any) -> None:
    with pytest.raises(ValueError, match='the lower level cannot be '):
        find_levels(rule, Evidence(tolerance=0.1))
