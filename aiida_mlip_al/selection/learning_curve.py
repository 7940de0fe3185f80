"""The learning curve: what further labels would bring, and how many an error takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class LearningCurve:
    """Error ε against number of labels N as a power law, ε = a N^b: a straight line of the logarithms.

    :param slope: b; negative while labels help.
    :param slope_error: its standard error.
    """

    slope: float
    slope_error: float

    def gain(self, labels: int, budget: int) -> float:
        """Return by which part the error would still fall, 1 - (budget / labels)^b.

        The slope is taken one standard error steeper than fitted, so that scatter alone never shows that nothing is to be
        gained.

        :param labels: labels in hand.
        :param budget: labels in the end.
        """
        return float(1 - (budget / labels) ** (self.slope - self.slope_error))


def fit_learning_curve(labels: Sequence[int], errors: Sequence[float]) -> LearningCurve | None:
    """Fit a power law to errors by least squares of the logarithms.

    Errors of learned potentials fall as a power of the training set's size (B. Huang, O. A. von Lilienfeld, J. Chem. Phys. 145,
    161102 (2016)).

    :param labels: (n,) labels that each committee was trained on.
    :param errors: (n,) its errors, all in one unit.
    :returns: None with fewer than three points, one number of labels only, or an error that is not positive.
    """
    x, y = np.asarray(labels, dtype=float), np.asarray(errors, dtype=float)
    if len(x) < 3 or len(np.unique(x)) < 2 or not (np.isfinite(y).all() and (y > 0).all() and (x > 0).all()):
        return None
    x, y = np.log(x), np.log(y)
    spread = np.sum((x - x.mean()) ** 2)
    slope = np.sum((x - x.mean()) * (y - y.mean())) / spread
    residual = y - y.mean() - slope * (x - x.mean())
    return LearningCurve(float(slope), float(np.sqrt(np.sum(residual**2) / (len(x) - 2) / spread)))


def labels_needed(labels: ArrayLike, errors: ArrayLike, target: float) -> float:
    """Return the number of labels at which a curve first comes down to a target, on straight lines in log-log.

    :param labels: (n,), rising.
    :param errors: (n,), positive.
    :param target: error to reach.
    :returns: the first number of labels if the curve begins there; infinite if it does not get there.
    """
    x, y = np.log(np.asarray(labels, dtype=float)), np.log(np.asarray(errors, dtype=float))
    aim = math.log(target)
    below = np.flatnonzero(y <= aim)
    if not len(below):
        return math.inf
    last = int(below[0])
    if last == 0:
        return float(np.exp(x[0]))
    part = (y[last - 1] - aim) / (y[last - 1] - y[last])
    return float(np.exp(x[last - 1] + part * (x[last] - x[last - 1])))
