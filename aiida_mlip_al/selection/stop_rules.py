"""The rules by which a run may stop, each a small function of the learning history, with its finding in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .audit import AuditStatistics, frames_to_prove
from .history import IterationRow
from .learning_curve import fit_learning_curve
from .properties import properties_agree
from .settings import PropertyGate, StopParameters

History = Sequence[IterationRow]


@dataclass(frozen=True)
class Finding:
    """What a rule finds in the last iteration of a history.

    :param holds: whether what is asked for is met.
    :param text: the number that was found and the one asked for, in words.
    """

    holds: bool
    text: str


def accurate_fraction(history: History, asked: float) -> Finding:
    """Judge the part of accurate frames among the explored ones (DP-GEN2's ``conv_accuracy``)."""
    found = history[-1].accurate_fraction
    if math.isnan(found):
        return Finding(False, 'no frame was explored')
    return Finding(
        found >= asked, f'{percent(found)} of the explored frames were accurate (at least {percent(asked)} asked for)'
    )


def target_force_error(history: History, asked: float) -> Finding:
    """Judge the force error on the new labels.

    It is measured on frames that were chosen because they are uncertain, so it errs on the safe side. An iteration without a
    new label counts only if it also had no candidate and half of its frames or more were accurate, so that neither lost labels nor
    explorations that fail pass for accuracy.
    """
    row = history[-1]
    if row.new_label_force_mae is None or math.isnan(row.new_label_force_mae):
        if row.n_candidates:
            return Finding(False, f'none of {row.n_candidates} candidates got a label to measure the error on')
        if not row.accurate_fraction >= 0.5:
            found = percent(row.accurate_fraction)
            return Finding(
                False, f'no candidate was left to measure the error on, but only {found} of the frames were accurate'
            )
        return Finding(True, 'no candidate was left to measure the error on')
    return _below(row.new_label_force_mae, asked, 'the force MAE on the new labels')


def test_force_error(history: History, asked: float) -> Finding:
    """Judge the force error on the test frames, which no committee learns from (aims-PAX's ``desired_acc``)."""
    found = history[-1].test_force_mae
    if found is None or math.isnan(found):
        return Finding(False, 'no test set was evaluated')
    return _below(found, asked, 'the force MAE on the test set')


def level_drift(history: History, asked: float) -> Finding:
    """Judge the change of the lower level from one iteration to the next (DP-GEN2's ``conv_tolerance``).

    An iteration whose every frame was lost has no lower level: all frames are beyond the upper one.
    """
    if any(row.n_frames and row.n_failed + row.n_unphysical == row.n_frames for row in history[-2:]):
        return Finding(False, 'there are no two lower levels to compare: every explored frame failed or was unphysical')
    levels = [row.lower_level for row in history[-2:] if row.lower_level is not None and math.isfinite(row.lower_level)]
    if len(levels) < 2:
        return Finding(False, 'there are no two lower levels to compare')
    before, now = levels
    unit = f' {history[-1].level_unit}'.rstrip()
    return Finding(
        abs(now - before) < asked,
        f'the lower level went from {before:.3g} to {now:.3g}{unit} (a change below {asked:.3g}{unit} asked for)',
    )


def false_negative_rate(history: History, asked: float, confidence: float = 0.95) -> Finding:
    """Judge how often frames called accurate are not: the upper end of the Wilson interval must lie below the rate asked for.

    The audited frames are those of the last iteration, and of as many before it as it takes for the interval to reach below
    that rate at all.
    """
    audit = recent_audit(history, asked, confidence)
    needed = frames_to_prove(asked, confidence)
    text = (
        f'{audit.n_wrong} of {audit.n_audited} audited frames were wrong: a false-negative rate of at most '
        f'{percent(audit.high)} at {percent(confidence)} confidence (below {percent(asked)} asked for'
    )
    return Finding(audit.high < asked, text + (f', which takes {needed} frames)' if audit.n_audited < needed else ')'))


def properties(history: History, asked: PropertyGate) -> Finding:
    """Judge what the committee predicts against what the one before it predicted."""
    now, before = history[-1].properties, history[-2].properties if len(history) > 1 else None
    if now is None or before is None:
        return Finding(False, 'there are no two committees whose properties could be compared')
    checks = properties_agree(before, now, asked)
    wrong = [check for check in checks if not check.holds]
    return Finding(
        bool(checks) and not wrong,
        '; '.join(check.text for check in wrong or checks) or 'no structure has these properties',
    )


def targets(history: History, stop: StopParameters) -> dict[str, Finding]:
    """Return what each target that is asked for finds in the last iteration, by the setting that asks for it.

    :param history: finished iterations, oldest first, at least one.
    :param stop: what is asked for; None asks for nothing.
    """
    rules: dict[str, Callable[[History, Any], Finding]] = {
        'accurate_fraction': accurate_fraction,
        'target_force_error': target_force_error,
        'test_force_error': test_force_error,
        'level_drift': level_drift,
        'false_negative_rate': partial(false_negative_rate, confidence=stop.confidence),
        'properties': properties,
    }
    return {name: rule(history, asked) for name, rule in rules.items() if (asked := getattr(stop, name)) is not None}


def no_gain(history: History, stop: StopParameters) -> Finding | None:
    """Judge what the labels that are left in the budget would bring, by the learning curve of the last iterations.

    :returns: None where the curve cannot be told: too few iterations, no error, no budget left.
    """
    last = history[-stop.gain_rounds :]
    labels, budget = history[-1].n_labels, stop.max_labels
    if stop.min_gain is None or budget is None or labels >= budget or len(last) < stop.gain_rounds:
        return None
    kind, errors = _independent_errors(last)
    curve = fit_learning_curve([row.n_learned for row in last], errors)
    if curve is None:
        return None
    gain = curve.gain(labels, budget)
    return Finding(
        gain < stop.min_gain,
        f'{budget - labels} more labels would lower the {kind} force MAE, now {errors[-1]:.3g} eV/Å, by {percent(max(gain, 0))} '
        f'(worth it from {percent(stop.min_gain)}): it goes as N^b, b = {curve.slope:.2f} ± {curve.slope_error:.2f}, over '
        f'the last {len(last)} iterations',
    )


def spent(history: History, stop: StopParameters, hours: float) -> dict[str, Finding]:
    """Return, for each limit that is set, whether it is reached.

    :param hours: since the run began.
    """
    core_hours = sum(row.core_hours for row in history)
    used = {
        'max_labels': (history[-1].n_labels, stop.max_labels, 'labels allowed are in hand'),
        'max_core_hours': (core_hours, stop.max_core_hours, 'core-hours allowed are used'),
        'max_hours': (hours, stop.max_hours, 'hours allowed have passed'),
        'max_iterations': (len(history), stop.max_iterations, 'iterations allowed are done'),
    }
    return {
        name: Finding(value >= limit, f'{_amount(value)} of the {_amount(limit)} {what}')
        for name, (value, limit, what) in used.items()
        if limit is not None
    }


def recent_audit(history: History, rate: float, confidence: float) -> AuditStatistics:
    """Pool the audits of the last iterations, newest first, until a rate could be proved with them.

    :param history: finished iterations, oldest first.
    :param rate: to be proved.
    :param confidence: of the two-sided interval.
    """
    needed = frames_to_prove(rate, confidence)
    n_audited = n_wrong = 0
    for row in reversed(history):
        if n_audited >= needed:
            break
        n_audited += row.n_audited
        n_wrong += row.n_audit_wrong
    return AuditStatistics.from_counts(n_audited, n_wrong, confidence)


def percent(fraction: float) -> str:
    """Write a fraction as a percentage of three digits: ``97.3 %``."""
    return f'{100 * fraction:.3g} %'


def _below(found: float, asked: float, what: str) -> Finding:
    return Finding(found <= asked, f'{what} was {found:.3g} eV/Å (at most {asked:.3g} asked for)')


def _independent_errors(rows: History) -> tuple[str, list[float]]:
    """Return the errors on the test frames, or on the validation frames where an iteration has none, and which they are."""
    tested = [row.test_force_mae for row in rows]
    if all(error is not None for error in tested):
        return 'test', [error for error in tested if error is not None]
    return 'validation', [math.nan if row.validation_force_mae is None else row.validation_force_mae for row in rows]


def _amount(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:.3g}'
