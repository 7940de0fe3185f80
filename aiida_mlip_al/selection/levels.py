"""Where the lower trust level comes from: the rules of the field, each a pure function, and what a user says about it.

A rule looks at one number for each frame, the measure u. The upper level is always the user's own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import Positive, StepParameters
from aiida_mlip_al.selection.calibration import conformal_lower_level, finite_pairs
from aiida_mlip_al.selection.criteria import TrustLevels

Floats = NDArray[np.float64]
_SMALLEST, _LARGEST = float(np.finfo(float).tiny), float(np.finfo(float).max)


def _none() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True)
class Pairs:
    """Labelled frames: measure u and true error e (largest force error, eV/Å), both (n,)."""

    deviation: Floats = field(default_factory=_none)
    error: Floats = field(default_factory=_none)


@dataclass(frozen=True)
class Evidence:
    """What is known when the level of a round is set.

    :param explored: (N,) measure of this round's frames, in the order of their time, over all trajectories.
    :param held_out: labelled frames that the models were not trained on when they were measured.
    :param trained: labelled frames that they were trained on.
    :param tolerance: accepted largest force error, eV/Å, or None.
    :param upper: upper level, or None.
    :param history: a row for each earlier round, with its ``thresholds`` and ``n_labels``.
    """

    explored: Floats = field(default_factory=_none)
    held_out: Pairs = field(default_factory=Pairs)
    trained: Pairs = field(default_factory=Pairs)
    tolerance: float | None = None
    upper: float | None = None
    history: Sequence[Mapping[str, Any]] = ()


# -------------------------------------------------------------------------------------------------------------- formulas


def moving_average_level(values: ArrayLike, c_x: float = 0.0, n: int = 400) -> float:
    """Return (1 + c_x) times the mean of the last n values.

    The rule of aims-PAX (github.com/tohenkes/aims-PAX; arXiv 2508.12888), where n is 400 and the values are those of all
    trajectories. It is a multiple of what was seen and knows of no error: with c_x = 0 about half of the frames are above.

    :param values: measure of frames, oldest first; those that are not finite are left out.
    :param c_x: above -1; negative values ask for more labels.
    :param n: length of the window.
    :raises ValueError: no value is finite.
    """
    return float((1.0 + c_x) * _finite(values)[-n:].mean())


def adaptive_lower_level(
    values: ArrayLike, upper: float | None = None, number: int = 200, fraction: float = 0.01
) -> float:
    """Return the level above which lie as many frames below the upper level as are wanted.

    The candidates are the max(number, int(fraction n)) highest of the n frames that do not exceed the upper level: the
    adaptive trust level of DP-GEN (``model_devi_adapt_trust_lo``: 10 and 0) and of DP-GEN2 (``adaptive-lower``: 200 and
    0.01). Their level is the lowest value of a candidate; this one is the next smaller number, so that it is a candidate.

    :param values: measure of the explored frames; those that are not finite are left out.
    :param upper: upper level, or None.
    :param number: candidates at least, if there are as many.
    :param fraction: part of the n frames that are candidates at least.
    :returns: the level; the upper one, or the highest value without one, if no frame is wanted.
    :raises ValueError: no value is finite.
    """
    known = np.sort(_finite(values))
    below = known if upper is None else known[known <= upper]
    wanted = min(len(below), max(number, int(fraction * len(below))))
    if not wanted:
        return float(known[-1]) if upper is None else upper
    return float(np.nextafter(below[len(below) - wanted], 0.0))


def quantile_level(values: ArrayLike, quantile: float = 0.95) -> float:
    """Return a quantile of the measure on held-out frames: what is above is unlike what the models know.

    A threshold on the score of normal data, as in novelty detection (Pimentel et al., Signal Process. 99, 215 (2014)).

    :param values: (n,) measure of held-out frames; those that are not finite are left out.
    :param quantile: between 0 and 1.
    :raises ValueError: no value is finite.
    """
    return float(np.quantile(_finite(values), quantile))


def fitted_level(deviation: ArrayLike, error: ArrayLike, tolerance: float) -> tuple[float, float]:
    """Return a times the tolerance, with a of the least-squares line u = a e through the origin, and a.

    The calibration of aiida-trains-pot (``error_calibration``), with our measure and our error.

    :param deviation: (n,) measure of labelled frames.
    :param error: (n,) their largest force error, eV/Å.
    :param tolerance: accepted largest force error, eV/Å.
    :raises ValueError: there is no finite pair with an error.
    """
    u, e = finite_pairs(deviation, error)
    if not np.any(e > 0):
        raise ValueError('the lower level cannot be fitted: there is no labelled frame with an error')
    slope = float(u @ e / (e @ e))
    return slope * tolerance, slope


def _finite(values: ArrayLike) -> Floats:
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if not len(known):
        raise ValueError('the lower level cannot be found: there is no frame with a finite deviation')
    return known


# ----------------------------------------------------------------------------------------------------------------- rules


class LevelRule(StepParameters):
    """A way to find the lower level of a round."""

    method: ClassVar[str]

    @abstractmethod
    def find(self, evidence: Evidence) -> tuple[float, dict[str, Any]]:
        """Return the lower level, and what is worth recording about it.

        :raises ValueError: the evidence does not suffice.
        """


class Fixed(LevelRule):
    """The level that the user gives, `lower`."""

    method = 'fixed'
    lower: Positive = Field(description='the level, in the unit of the measure')

    def find(self, evidence: Evidence) -> tuple[float, dict[str, Any]]:
        """Return it."""
        return self.lower, {}


class Conformal(LevelRule):
    """The level below which errors stay within the tolerance with a given probability: split conformal prediction."""

    method = 'conformal'
    coverage: float = Field(default=0.9, gt=0, lt=1, description='probability of the bound')

    def find(self, evidence: Evidence) -> tuple[float, dict[str, Any]]:
        """Calibrate on the held-out frames, with the labels just received among them.

        Where none of them deviates, all frames are candidates.
        """
        assert evidence.tolerance is not None
        held_out = evidence.held_out
        deviation, _ = finite_pairs(held_out.deviation, held_out.error)
        if len(deviation) and not deviation.any():
            return _SMALLEST, {'factor': None, 'n_pairs': 0, 'coverage': self.coverage, 'guaranteed': False}
        found = conformal_lower_level(held_out.deviation, held_out.error, evidence.tolerance, self.coverage)
        details = asdict(found)
        return details.pop('lower'), details


class MovingAverage(LevelRule):
    """The mean of the last checks of all trajectories, times 1 + c_x, as in aims-PAX."""

    method = 'moving_average'
    c_x: float = Field(default=0.0, gt=-1, description='the level is 1 + c_x times the mean')
    n: int = Field(
        default=400, ge=1, description='frames of the mean, the last ones of this round and of those before it'
    )
    freeze_labels: int | None = Field(default=None, ge=1, description='from so many labels on, the level stays')

    def find(self, evidence: Evidence) -> tuple[float, dict[str, Any]]:
        """Average this round's frames, after those that are left of earlier rounds."""
        last = evidence.history[-1] if evidence.history else {}
        before = last.get('thresholds', {})
        if self.freeze_labels is not None and last.get('n_labels', 0) >= self.freeze_labels:
            return float(before['lower']), {'frozen': True}
        values = np.concatenate([before.get('recent', []), evidence.explored])
        recent = values[np.isfinite(values)][-self.n :]
        return moving_average_level(recent, self.c_x, self.n), {'recent': recent.tolist()}


class AdaptiveLower(LevelRule):
    """As many candidates as are wanted, those with the largest deviations, as in DP-GEN and DP-GEN2."""

    method = 'adaptive_lower'
    number: int = Field(default=200, ge=0, description='candidates at least')
    fraction: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description='candidates at least, as part of the frames that do not exceed the upper level',
    )

    def find(self, evidence: Evidence) -> tuple[float, dict[str, Any]]:
        """Count from the top."""
        return adaptive_lower_level(evidence.explored, evidence.upper, self.number, self.fraction), {}


class Quantile(LevelRule):
    """What is unlike the held-out frames: above a quantile of their deviations."""

    method = 'quantile'
    quantile: float = Field(default=0.95, gt=0, lt=1, description='part of the held-out frames below the level')

    def find(self, evidence: Evidence) -> tuple[float, dict[str, Any]]:
        """Take it of the held-out frames."""
        values = evidence.held_out.deviation
        return quantile_level(values, self.quantile), {'n_pairs': int(np.isfinite(values).sum())}


class ErrorFit(LevelRule):
    """The deviation that goes with the tolerance on the line fitted to all labelled frames, as in aiida-trains-pot."""

    method = 'error_fit'

    def find(self, evidence: Evidence) -> tuple[float, dict[str, Any]]:
        """Fit it to the frames trained on and the held-out ones."""
        assert evidence.tolerance is not None
        deviation = np.concatenate([evidence.trained.deviation, evidence.held_out.deviation])
        error = np.concatenate([evidence.trained.error, evidence.held_out.error])
        lower, slope = fitted_level(deviation, error, evidence.tolerance)
        return lower, {'slope': slope, 'n_pairs': len(finite_pairs(deviation, error)[0])}


class LevelRules(StepParameters):
    """One rule for the lower level, by its name."""

    moving_average: MovingAverage | None = Field(default=None, description='the rule of aims-PAX')
    adaptive_lower: AdaptiveLower | None = Field(default=None, description='the rule of DP-GEN and DP-GEN2')
    quantile: Quantile | None = Field(default=None, description='a quantile of the held-out deviations')
    error_fit: ErrorFit | None = Field(default=None, description='the rule of aiida-trains-pot; needs `tolerance`')

    @model_validator(mode='after')
    def _one_rule(self) -> LevelRules:
        if len(self._given) != 1:
            raise ValueError(f'give one rule: {", ".join(type(self).model_fields)}; {len(self._given)} are given')
        return self

    @property
    def _given(self) -> list[LevelRule]:
        return [rule for name in type(self).model_fields if (rule := getattr(self, name)) is not None]

    @property
    def rule(self) -> LevelRule:
        """The rule that is given."""
        return self._given[0]


def find_levels(rule: LevelRule, evidence: Evidence) -> tuple[TrustLevels, dict[str, Any]]:
    """Return the trust levels of a round, and how they were found, as plain data.

    A lower level gives way where it would exceed the upper one.

    :param rule: for the lower level.
    :param evidence: what is known.
    :raises ValueError: the evidence does not suffice for the rule.
    """
    lower, details = rule.find(evidence)
    lower = float(np.clip(lower, _SMALLEST, _LARGEST))
    levels = TrustLevels(lower if evidence.upper is None else min(lower, evidence.upper), evidence.upper)
    tolerance = {} if evidence.tolerance is None else {'tolerance': evidence.tolerance}
    return levels, {'lower': levels.lower, 'upper': levels.upper, 'method': rule.method, **tolerance, **details}
