"""A run against others: how many labels it saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aiida_mlip_al.report.summary import RunSummary
from aiida_mlip_al.report.words import count, milli, percent, plural
from aiida_mlip_al.selection.learning_curve import labels_needed


@dataclass(frozen=True)
class Need:
    """Labels that a run took for an error; at most so many, if its first committee was that good already."""

    labels: int
    at_most: bool

    def __str__(self) -> str:
        return f'{"at most " if self.at_most else ""}{count(self.labels)}'


@dataclass(frozen=True)
class Saving:
    """Labels of two runs for the same force error on the same test frames.

    :param error: force MAE, eV/Å, that the other run reached with its last labels, or this one if it never got there.
    :param needed: labels that this run took.
    :param other: labels that the other run took.
    """

    error: float
    needed: Need
    other: Need


def curve(run: RunSummary) -> tuple[list[int], list[float]]:
    """Return labels and force MAE (eV/Å) on the test frames of the committees of a run's iterations.

    An error of zero, on test frames that are all perfect crystals, is on no straight line in log-log and left out.
    """
    points = [(turn.n_labels, turn.test_errors.force_mae) for turn in run.iterations if turn.test_errors is not None]
    return [labels for labels, error in points if error > 0], [error for _, error in points if error > 0]


def need(run: RunSummary, error: float) -> Need | None:
    """Return when a run first came down to an error, on straight lines between committees in log-log; None if it did not."""
    labels, errors = curve(run)
    needed = labels_needed(labels, errors, error)
    return Need(round(needed), errors[0] <= error) if math.isfinite(needed) else None


def saving(run: RunSummary, other: RunSummary) -> Saving | None:
    """Return what two runs took for what the other one reached, or this one if it never got there.

    The final committees do not count: they are trained otherwise.

    :returns: None if the two have no error in common.
    """
    (_, errors), (_, its_errors) = curve(run), curve(other)
    for error in (*its_errors[-1:], *errors[-1:]):
        needed, its_need = need(run, error), need(other, error)
        if needed is not None and its_need is not None:
            return Saving(error, needed, its_need)
    return None


def same_test_frames(run: RunSummary, other: RunSummary) -> bool:
    """Return whether the committees of two runs were tested on the same frames, by the reference forces on them."""
    if run.parity is None or other.parity is None:
        return False
    forces, its = (np.sort(item.parity.force_reference) for item in (run, other) if item.parity is not None)
    return forces.shape == its.shape and bool(np.allclose(forces, its, rtol=0, atol=1e-10))


def clause(run: RunSummary, other: RunSummary) -> str:
    """Say in a sentence how many labels a run saved against another one."""
    found = saving(run, other)
    name = f'<{other.pk}> {other.label}'.strip()
    if found is None:
        return (
            f'{name}: the two runs have no force error on the test set in common, so their labels cannot be compared.'
        )
    needed, its_need = found.needed, found.other
    took = (
        f'{name} took {its_need} label{"" if its_need.labels == 1 else "s"} for a force error of {milli(found.error)} meV/Å '
        'on the test set, '
    )
    saved = its_need.labels - needed.labels
    if needed == its_need:
        return f'{took}and this run as many.'
    if (needed.at_most and saved <= 0) or (its_need.at_most and saved >= 0):
        return f'{took}this run {needed}.'
    at_least = 'at least ' if needed.at_most or its_need.at_most else ''
    verdict = (
        f'{plural(abs(saved), "label")} {"saved" if saved > 0 else "more"} ({percent(abs(saved) / its_need.labels)})'
    )
    return f'{took}this run {needed}: {at_least}{verdict}.'
