"""From an accuracy in eV/Å to a lower trust level, by split conformal prediction.

With held-out pairs of deviation u and true error e, the score e/u and its finite-sample quantile a, a new pair from
the same distribution has e <= a u with at least the asked probability (Vovk, Gammerman and Shafer, Algorithmic Learning
in a Random World, 2005). Where u <= tolerance / a, the bound is then within the tolerance. Far from the data the
committee is overconfident and the bound does not hold: it is a trigger for labels, not an error bar.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Calibration:
    """A calibrated lower level.

    :param lower: tolerance / factor, eV/Å; infinite if so many errors are zero that the factor is.
    :param factor: a in error <= a * deviation.
    :param n_pairs: pairs used.
    :param coverage: the asked probability of the bound.
    :param guaranteed: False if there were too few pairs, or too many without any deviation, for the quantile to exist;
        the factor is then the largest finite ratio.
    """

    lower: float
    factor: float
    n_pairs: int
    coverage: float
    guaranteed: bool


def conformal_lower_level(
    deviation: ArrayLike, error: ArrayLike, tolerance: float, coverage: float = 0.9
) -> Calibration:
    """Lower trust level below which errors stay within a tolerance with a given probability.

    The factor is the ceil((n + 1) coverage)-th smallest ratio error / deviation. A pair without deviation but with an
    error has an infinite ratio and keeps its place in the order; one without either, as of an isolated atom, tells nothing.

    :param deviation: (n,) largest force deviation of held-out frames, eV/Å.
    :param error: (n,) largest force error (norm over x, y, z, largest over atoms) of the same frames, eV/Å.
    :param tolerance: accepted largest force error, eV/Å.
    :param coverage: probability of the bound, between 0 and 1.
    :raises ValueError: a parameter is out of range, or no pair is finite and usable.
    """
    if not (tolerance > 0 and math.isfinite(tolerance)):
        msg = f'the tolerance must be positive (eV/Å), got {tolerance}'
        raise ValueError(msg)
    if not 0 < coverage < 1:
        msg = f'the coverage must lie between 0 and 1, got {coverage}'
        raise ValueError(msg)
    u, e = finite_pairs(deviation, error)
    telling = (u > 0) | (e > 0)
    u, e = u[telling], e[telling]
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        ratios = np.sort(np.where(e == 0, 0.0, e / u))
    finite = ratios[np.isfinite(ratios)]
    if len(finite) == 0:
        msg = 'the lower level cannot be calibrated: there is no pair of a finite error and a positive deviation'
        raise ValueError(msg)
    position = math.ceil((len(ratios) + 1) * coverage - 1e-9)
    guaranteed = position <= len(finite)
    factor = float(ratios[position - 1] if guaranteed else finite[-1])
    lower = tolerance / factor if factor > 0 else math.inf
    return Calibration(lower, factor, len(ratios), coverage, guaranteed)


def empirical_coverage(deviation: ArrayLike, error: ArrayLike, factor: float) -> float:
    """Fraction of pairs with error <= factor * deviation.

    :param deviation: (n,) largest force deviation, eV/Å.
    :param error: (n,) largest force error, eV/Å.
    :param factor: of a calibration.
    :returns: the fraction of the finite pairs, or nan without any.
    """
    u, e = finite_pairs(deviation, error)
    return float(np.mean(e <= factor * u)) if len(u) else math.nan


def finite_pairs(deviation: ArrayLike, error: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return deviations and errors of the pairs in which both are finite.

    :param deviation: (n,) of labelled frames.
    :param error: (n,) of the same frames.
    :raises ValueError: the lengths differ, or a number is negative.
    """
    u = np.asarray(deviation, dtype=float)
    e = np.asarray(error, dtype=float)
    if u.ndim != 1 or u.shape != e.shape:
        msg = f'deviations and errors must be two arrays of one length, got shapes {u.shape} and {e.shape}'
        raise ValueError(msg)
    finite = np.isfinite(u) & np.isfinite(e)
    u, e = u[finite], e[finite]
    if np.any(u < 0) or np.any(e < 0):
        raise ValueError('deviations and errors must not be negative')
    return u, e
