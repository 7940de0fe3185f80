"""Conformal calibration of the lower level."""

import math

import numpy as np
import pytest

from aiida_mlip_al.selection import conformal_lower_level, empirical_coverage


def pairs(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """An overconfident committee: true errors are 5 times the deviation, with a heavy tail."""
    deviation = rng.lognormal(mean=-3, sigma=0.7, size=n)
    return deviation, deviation * 5 * rng.lognormal(sigma=0.5, size=n)


def test_factor_is_the_finite_sample_quantile() -> None:
    deviation = np.full(19, 0.1)
    error = 0.1 * np.arange(1, 20)
    result = conformal_lower_level(deviation, error, tolerance=0.9, coverage=0.9)
    assert result.factor == pytest.approx(18)  # ceil(20 * 0.9) = 18th smallest of 1..19
    assert result.lower == pytest.approx(0.05)
    assert (result.n_pairs, result.coverage, result.guaranteed) == (19, 0.9, True)


def test_coverage_on_new_pairs_is_the_promised_one() -> None:
    rng = np.random.default_rng(3)
    coverages = []
    for _ in range(300):
        factor = conformal_lower_level(*pairs(rng, 29), tolerance=0.1, coverage=0.9).factor
        coverages.append(empirical_coverage(*pairs(rng, 400), factor))
    assert np.mean(coverages) == pytest.approx(27 / 30, abs=0.01)


def test_order_of_pairs_does_not_matter_and_scale_does() -> None:
    deviation, error = pairs(np.random.default_rng(0), 50)
    result = conformal_lower_level(deviation, error, 0.1)
    assert conformal_lower_level(deviation[::-1], error[::-1], 0.1) == result
    assert conformal_lower_level(2 * deviation, error, 0.1).lower == pytest.approx(2 * result.lower)
    assert conformal_lower_level(deviation, error, 0.2).lower == pytest.approx(2 * result.lower)


@pytest.mark.parametrize(('n', 'guaranteed'), [(1, False), (8, False), (9, True)])
def test_few_pairs_take_the_largest_ratio(n: int, guaranteed: bool) -> None:
    result = conformal_lower_level(np.ones(n), np.arange(1.0, n + 1), 1.0, coverage=0.9)
    assert (result.factor, result.guaranteed) == (n, guaranteed)


def test_pairs_that_are_not_finite_are_left_out() -> None:
    result = conformal_lower_level([1, 1, np.nan, 1, np.inf], [2, 3, 1, np.inf, 1], 6.0)
    assert (result.n_pairs, result.factor, result.lower) == (2, 3, 2)


def test_pair_without_deviation_keeps_its_place() -> None:
    deviation = np.ones(99)
    error = np.arange(1.0, 100)
    plain = conformal_lower_level(deviation, error, 1.0)
    deviation[:5] = 0
    shifted = conformal_lower_level(deviation, error, 1.0)
    assert (plain.factor, shifted.factor) == (90, 95)
    deviation[:20] = 0
    fallback = conformal_lower_level(deviation, error, 1.0)
    assert (fallback.factor, fallback.guaranteed) == (99, False)


def test_perfect_predictions_accept_everything() -> None:
    result = conformal_lower_level(np.ones(20), np.zeros(20), 0.1)
    assert (result.factor, result.lower) == (0, math.inf)


def test_pairs_without_deviation_and_error_tell_nothing() -> None:
    deviation, error = pairs(np.random.default_rng(5), 29)
    expected = conformal_lower_level(deviation, error, 0.1)
    assert conformal_lower_level(np.append(deviation, [0.0] * 50), np.append(error, [0.0] * 50), 0.1) == expected


def test_empirical_coverage_counts_finite_pairs() -> None:
    assert empirical_coverage([1, 1, 1, 1, np.nan], [1, 2, 3, 2, 0], 2.0) == 0.75
    assert math.isnan(empirical_coverage([], [], 1.0))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (([], [], 0.1), 'cannot be calibrated'),
        (([0.0], [0.0], 0.1), 'cannot be calibrated'),
        (([0.0], [1.0], 0.1), 'cannot be calibrated'),
        (([np.nan], [1.0], 0.1), 'cannot be calibrated'),
        (([1.0], [1.0], 0.0), 'tolerance must be positive'),
        (([1.0], [1.0], 0.1, 1.0), 'coverage must lie between 0 and 1'),
        (([1.0, 2.0], [1.0], 0.1), 'two arrays of one length'),
        (([-1.0], [1.0], 0.1), 'must not be negative'),
    ],
)
def test_unusable_input_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conformal_lower_level(*arguments)
