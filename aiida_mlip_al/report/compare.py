"""A run against others: how many labels it saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aiida_mlip_al.report.summary import RunSummary
from aiida_mlip_al.report.words import milli, percent, plural
from aiida_mlip_al.selection.learning_curve import labels_needed


@dataclass(frozen=True)
class Saving:
    """Labels of two runs for the same force error on the same test frames.

    :param error: force MAE, eV/Å, that the other run reached with its last labels, or this one if it never got there.
    :param needed: labels that this run took.
    :param other: labels that the other run took.
    """

    error: float
    needed: float
    other: float


def curve(run: RunSummary) -> tuple[list[int], list[float]]:
    """Return labels and force MAE (eV/Å) on the test frames of the committees of a run's iterations."""
    points = [(turn.n_labels, turn.test_errors.force_mae) for turn in run.iterations if turn.test_errors is not None]
    return [labels for labels, _ in points], [error for _, error in points]


def saving(run: RunSummary, other: RunSummary) -> Saving | None:
    """Return what a run took for what another one reached, on straight lines between committees in log-log.

    The final committees do not count: they are trained otherwise.

    :returns: None if the two have no error in common.
    """
    (labels, errors), (its_labels, its_errors) = curve(run), curve(other)
    if not labels or not its_labels:
        return None
    needed = labels_needed(labels, errors, its_errors[-1])
    if math.isfinite(needed):
        return Saving(its_errors[-1], needed, its_labels[-1])
    its_need = labels_needed(its_labels, its_errors, errors[-1])
    return Saving(errors[-1], labels[-1], its_need) if math.isfinite(its_need) else None


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
    took = f'{name} took {plural(round(found.other), "label")} for a force error of {milli(found.error)} meV/Å on the test set, '
    saved = round(found.other) - round(found.needed)
    if saved == 0:
        return f'{took}and this run as many.'
    verdict = (
        f'{plural(abs(saved), "label")} {"saved" if saved > 0 else "more"} ({percent(abs(saved) / round(found.other))})'
    )
    return f'{took}this run {round(found.needed)}: {verdict}.'
