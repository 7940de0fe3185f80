"""How far the measure could be trusted: what each round claimed of frames, against what their labels then showed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from aiida_mlip_al.report.summary import IterationSummary, RunSummary
from aiida_mlip_al.selection.audit import audit_statistics, wilson_interval
from aiida_mlip_al.selection.calibration import finite_pairs


class Part(NamedTuple):
    """So many of so many, with the Wilson interval of the probability behind them.

    :param hits: of the trials.
    :param trials: at least 1.
    :param low: lower end of the interval.
    :param high: upper end of the interval.
    """

    hits: int
    trials: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """hits / trials."""
        return self.hits / self.trials


class Round(NamedTuple):
    """What one round claimed, and what became of it.

    :param number: of the iteration; None for all together.
    :param promised: probability of the calibrated bound; None if the level was not calibrated, or for all together if it changed.
    :param guaranteed: whether there were enough frames to calibrate with.
    :param within: new labels whose error kept to the bound.
    :param missed: audited frames that were called accurate and were not: false negatives.
    """

    number: int | None
    promised: float | None
    guaranteed: bool
    within: Part | None
    missed: Part | None


def rounds(run: RunSummary) -> list[Round]:
    """Return each round that has labels of the frames it chose, in order."""
    return [
        Round(
            turn.number,
            turn.coverage,
            turn.guaranteed,
            within_bound(turn, run.confidence),
            false_negatives(turn, run.targets.get('tolerance'), run.confidence),
        )
        for turn in run.iterations
        if turn.outcomes is not None
    ]


def all_rounds(run: RunSummary) -> Round:
    """Return all rounds together, each frame held against the bound of its own round."""
    found = rounds(run)
    promised = {round_.promised for round_ in found if round_.within}
    return Round(
        None,
        promised.pop() if len(promised) == 1 else None,
        all(round_.guaranteed for round_ in found),
        _together((round_.within for round_ in found), run.confidence),
        _together((round_.missed for round_ in found), run.confidence),
    )


def within_bound(turn: IterationSummary, confidence: float) -> Part | None:
    """Count the new labels with error <= factor * measure; None without a calibrated factor or a label.

    :param confidence: of the two-sided interval.
    """
    if turn.outcomes is None or turn.factor is None:
        return None
    measure, error = finite_pairs(turn.outcomes.measure, turn.outcomes.error)
    return _part(int(np.sum(error <= turn.factor * measure)), len(error), confidence)


def false_negatives(turn: IterationSummary, tolerance: float | None, confidence: float) -> Part | None:
    """Count the audited frames beyond the tolerance; None without a tolerance or an audited frame.

    :param tolerance: accepted largest force error, eV/Å.
    :param confidence: of the two-sided interval.
    """
    if turn.outcomes is None or tolerance is None:
        return None
    audit = audit_statistics(turn.outcomes.error[turn.outcomes.audit], tolerance, confidence)
    return _part(audit.n_wrong, audit.n_audited, confidence)


def _together(parts: Iterable[Part | None], confidence: float) -> Part | None:
    known = [part for part in parts if part is not None]
    return _part(sum(part.hits for part in known), sum(part.trials for part in known), confidence)


def _part(hits: int, trials: int, confidence: float) -> Part | None:
    return Part(hits, trials, *wilson_interval(hits, trials, confidence)) if trials else None
