"""When to stop: one row for each iteration in, a reason out; and what the audit says about accurate frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri


class StopReason(str, Enum):
    """Why a run ended.

    ``converged``: accurate by deviation and by measured error over successive iterations. ``no_candidates``: successive
    iterations gave nothing worth a label and yet the targets are not met: the other frames failed, were unphysical or
    repeat the training set. ``max_labels`` and ``max_iterations``: the budget is spent.
    """

    CONVERGED = 'converged'
    NO_CANDIDATES = 'no_candidates'
    MAX_LABELS = 'max_labels'
    MAX_ITERATIONS = 'max_iterations'

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class IterationRow:
    """One iteration of the loop in numbers.

    :param iteration: number of the iteration.
    :param n_labels: labels in hand at its end, seeds included.
    :param n_new_labels: labels that it added.
    :param n_frames: explored frames.
    :param n_candidates: frames worth a label, duplicates not counted.
    :param n_failed: frames beyond the upper level.
    :param n_unphysical: frames refused by a sanity filter.
    :param accurate_fraction: accurate frames among all explored ones.
    :param new_label_force_mae: mean absolute error over force components of the committee that chose the new labels,
        measured on them, eV/Å; None if there were none.
    :param lower_level: lower trust level, eV/Å.
    :param upper_level: upper trust level, eV/Å; None if there is none.
    :param n_audited: audited frames with a label.
    :param n_audit_wrong: audited frames whose largest force error exceeded the tolerance.
    """

    iteration: int
    n_labels: int
    accurate_fraction: float
    n_candidates: int
    new_label_force_mae: float | None = None
    n_new_labels: int = 0
    n_frames: int = 0
    n_failed: int = 0
    n_unphysical: int = 0
    lower_level: float | None = None
    upper_level: float | None = None
    n_audited: int = 0
    n_audit_wrong: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data; numbers that are not finite become None, as JSON has no word for them."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> IterationRow:
        """The reverse of :meth:`as_dict`; further keys are left out."""
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in row.items() if key in known}
        if values.get('accurate_fraction') is None:
            values['accurate_fraction'] = math.nan
        return cls(**values)


@dataclass(frozen=True)
class StopCriteria:
    """When the loop ends.

    :param max_iterations: iterations at most.
    :param max_labels: labels at most, seeds included; None for no limit.
    :param accurate_fraction: target part of accurate frames.
    :param target_force_error: target for ``new_label_force_mae``, eV/Å; None judges by the accurate fraction alone.
    :param rounds: successive iterations in which the targets must be met, or in which there must be no candidate.
    """

    max_iterations: int = 10
    max_labels: int | None = None
    accurate_fraction: float = 0.95
    target_force_error: float | None = None
    rounds: int = 2

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise ValueError(f"'max_iterations' must be at least 1, got {self.max_iterations}")
        if self.max_labels is not None and self.max_labels < 1:
            raise ValueError(f"'max_labels' must be at least 1, got {self.max_labels}")
        if not 0 < self.accurate_fraction <= 1:
            raise ValueError(f"'accurate_fraction' must be above 0 and at most 1, got {self.accurate_fraction}")
        if self.target_force_error is not None and not self.target_force_error > 0:
            raise ValueError(f"'target_force_error' must be positive (eV/Å), got {self.target_force_error}")
        if self.rounds < 1:
            raise ValueError(f"'rounds' must be at least 1, got {self.rounds}")


def round_satisfied(row: IterationRow, criteria: StopCriteria) -> bool:
    """Whether one iteration meets the targets.

    The measured error is that of frames chosen because they are uncertain, so it errs on the safe side. An iteration
    without a new label has no measured error: it counts only if it also had no candidate, so that lost labels never
    pass for accuracy.

    :param row: the iteration.
    :param criteria: the targets.
    """
    if not row.accurate_fraction >= criteria.accurate_fraction:
        return False
    if criteria.target_force_error is None:
        return True
    if row.new_label_force_mae is None or math.isnan(row.new_label_force_mae):
        return row.n_candidates == 0
    return row.new_label_force_mae <= criteria.target_force_error


def stop_reason(history: Sequence[IterationRow], criteria: StopCriteria) -> StopReason | None:
    """Why the loop should end now.

    :param history: finished iterations, oldest first.
    :param criteria: when to end.
    :returns: the first that holds of converged, no_candidates, max_labels, max_iterations; None to go on.
    """
    if not history:
        return None
    last = history[-criteria.rounds :]
    if len(last) == criteria.rounds:
        if all(round_satisfied(row, criteria) for row in last):
            return StopReason.CONVERGED
        if all(row.n_candidates == 0 for row in last):
            return StopReason.NO_CANDIDATES
    if criteria.max_labels is not None and history[-1].n_labels >= criteria.max_labels:
        return StopReason.MAX_LABELS
    if len(history) >= criteria.max_iterations:
        return StopReason.MAX_ITERATIONS
    return None


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


def audit_statistics(max_force_error: ArrayLike, tolerance: float, confidence: float = 0.95) -> AuditStatistics:
    """False negative rate of the verdict 'accurate', measured on random accurate frames that were labelled.

    :param max_force_error: (n,) largest force error of each audited frame, eV/Å; nan where the label is missing.
    :param tolerance: accepted largest force error, eV/Å.
    :param confidence: of the two-sided interval.
    """
    error = np.asarray(max_force_error, dtype=float)
    error = error[~np.isnan(error)]
    n_wrong = int(np.sum(error > tolerance))
    low, high = wilson_interval(n_wrong, len(error), confidence)
    return AuditStatistics(len(error), n_wrong, n_wrong / len(error) if len(error) else math.nan, low, high)


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
