"""What the audit says: how often frames that were called accurate are not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri


@dataclass(frozen=True)
class AuditStatistics:
    """How often frames that were called accurate are not.

    :param n_audited: audited frames with a finite error.
    :param n_wrong: those beyond the tolerance.
    :param rate: false negative rate n_wrong / n_audited; nan without any.
    :param low: lower end of its confidence interval.
    :param high: upper end of its confidence interval.
    """

    n_audited: int
    n_wrong: int
    rate: float
    low: float
    high: float

    @classmethod
    def from_counts(cls, n_audited: int, n_wrong: int, confidence: float = 0.95) -> AuditStatistics:
        """Return the rate of so many wrong frames and its interval.

        :param n_audited: audited frames.
        :param n_wrong: those that were wrong.
        :param confidence: of the two-sided interval.
        """
        low, high = wilson_interval(n_wrong, n_audited, confidence)
        return cls(n_audited, n_wrong, n_wrong / n_audited if n_audited else math.nan, low, high)


def audit_statistics(max_force_error: ArrayLike, tolerance: float, confidence: float = 0.95) -> AuditStatistics:
    """False negative rate of the verdict 'accurate', measured on random accurate frames that were labelled.

    :param max_force_error: (n,) largest force error of each audited frame, eV/Å; nan where the label is missing.
    :param tolerance: accepted largest force error, eV/Å.
    :param confidence: of the two-sided interval.
    """
    error = np.asarray(max_force_error, dtype=float)
    error = error[~np.isnan(error)]
    return AuditStatistics.from_counts(len(error), int(np.sum(error > tolerance)), confidence)


def frames_to_prove(rate: float, confidence: float = 0.95) -> int:
    """Return how many audited frames, none of them wrong, put the interval's upper end below a rate.

    With no hit the upper end of the Wilson interval is z² / (n + z²), so n must exceed z² (1 - rate) / rate.

    :param rate: between 0 and 1.
    :param confidence: of the two-sided interval.
    """
    z = float(ndtri(0.5 + confidence / 2))
    return math.floor(z**2 * (1 - rate) / rate) + 1


def wilson_interval(n_hits: int, n_trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion (E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927)).

    :param n_hits: successes.
    :param n_trials: trials; 0 gives (0, 1).
    :param confidence: two-sided, between 0 and 1.
    :raises ValueError: the confidence or the counts are out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f'the confidence must lie between 0 and 1, got {confidence}')
    if not 0 <= n_hits <= n_trials:
        raise ValueError(f'the hits must lie between 0 and the {n_trials} trials, got {n_hits}')
    if n_trials == 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + confidence / 2))
    share = n_hits / n_trials
    denominator = 1 + z**2 / n_trials
    centre = (share + z**2 / (2 * n_trials)) / denominator
    half = z / denominator * math.sqrt(share * (1 - share) / n_trials + z**2 / (4 * n_trials**2))
    low = 0.0 if n_hits == 0 else centre - half
    high = 1.0 if n_hits == n_trials else centre + half
    return low, high
