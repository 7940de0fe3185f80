"""The choice of frames to label: sanity filters, trust levels, duplicates, diversity, budget, audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_mlip_al.sampling.base import stream
from aiida_mlip_al.selection.criteria import TrustLevels, classify
from aiida_mlip_al.selection.diversity import Floats, deduplicate, farthest_point_order, standardise
from aiida_mlip_al.selection.sanity import NON_FINITE, PhysicalLimits, value_reasons
from aiida_mlip_al.selection.verdict import Codes, Verdict, count_verdicts

Diversity = Literal['farthest_point', 'top', 'random']
Indices = NDArray[np.int_]


@dataclass(frozen=True)
class SelectionSettings:
    """How many frames to label and how to choose them.

    :param max_labels: budget of one iteration, audit included.
    :param audit_fraction: part of the budget spent on random accurate frames, to measure how often they are not; at
        least one frame unless it is 0 or the budget is a single label.
    :param diversity: order of the candidates: 'farthest_point' from the training set and each other, 'top' by
        deviation, or 'random'.
    :param duplicate_tolerance: candidates nearer than this to the training set or to each other are duplicates: the
        root-mean-square difference of descriptors in standard deviations; 0 marks identical ones only, None nothing.
    :param max_per_trajectory: most candidates taken from one trajectory; None for no limit.
    :param max_force: frames with a larger force (eV/Å) are unphysical; None for no limit.
    :param seed: of every random choice, non-negative.
    """

    max_labels: int = 20
    audit_fraction: float = 0.05
    diversity: Diversity = 'farthest_point'
    duplicate_tolerance: float | None = 0.01
    max_per_trajectory: int | None = None
    max_force: float | None = 50.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_labels < 0:
            raise ValueError(f"'max_labels' must not be negative, got {self.max_labels}")
        if not 0 <= self.audit_fraction <= 1:
            raise ValueError(f"'audit_fraction' must lie between 0 and 1, got {self.audit_fraction}")
        if self.diversity not in get_args(Diversity):
            raise ValueError(f"'diversity' must be one of {', '.join(get_args(Diversity))}, got {self.diversity!r}")
        if self.duplicate_tolerance is not None and not self.duplicate_tolerance >= 0:
            raise ValueError(f"'duplicate_tolerance' must not be negative, got {self.duplicate_tolerance}")
        if self.max_per_trajectory is not None and self.max_per_trajectory < 1:
            raise ValueError(f"'max_per_trajectory' must be at least 1, got {self.max_per_trajectory}")
        if self.max_force is not None and not self.max_force > 0:
            raise ValueError(f"'max_force' must be positive (eV/Å), got {self.max_force}")
        if self.seed < 0:
            raise ValueError(f"'seed' must be a non-negative integer, got {self.seed}")

    @property
    def n_audit(self) -> int:
        """Labels set aside for the audit."""
        rounded = int(self.audit_fraction * self.max_labels + 0.5)
        return max(1, rounded) if self.audit_fraction > 0 and self.max_labels > 1 else rounded


@dataclass(frozen=True)
class Selection:
    """What became of every frame.

    :param verdicts: (N,) codes.
    :param ranks: (N,) order in which to label, from 0; candidates first, then the audit; -1 where not chosen.
    :param reasons: why a frame is unphysical, None for all others.
    """

    verdicts: Codes
    ranks: Indices
    reasons: tuple[str | None, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of frames with each verdict; every verdict is a key."""
        return count_verdicts(self.verdicts)

    @property
    def reason_counts(self) -> dict[str, int]:
        """Number of unphysical frames for each reason."""
        return dict(sorted(Counter(reason for reason in self.reasons if reason is not None).items()))

    @property
    def chosen(self) -> Indices:
        """Indices of the frames to label, in order."""
        ranked = np.flatnonzero(self.ranks >= 0)
        return ranked[np.argsort(self.ranks[ranked])]

    @property
    def accurate_fraction(self) -> float:
        """Accurate frames, audited ones included, among all frames, failed and unphysical ones too; nan without any."""
        n_accurate = np.isin(self.verdicts, [Verdict.ACCURATE.code, Verdict.AUDIT.code]).sum()
        return float(n_accurate / len(self.verdicts)) if len(self.verdicts) else float('nan')

    @property
    def n_candidates(self) -> int:
        """Candidates that were worth a label: chosen or over the budget, duplicates not counted."""
        return int(np.isin(self.verdicts, [Verdict.SELECTED.code, Verdict.OVER_BUDGET.code]).sum())


def select_frames(
    max_force_deviation: ArrayLike,
    levels: TrustLevels,
    settings: SelectionSettings,
    *,
    max_force: ArrayLike | None = None,
    descriptors: ArrayLike | None = None,
    training_descriptors: ArrayLike | None = None,
    trajectory: ArrayLike | None = None,
    unphysical: Sequence[str | None] | None = None,
) -> Selection:
    """Decide the fate of every explored frame.

    In this order, so that no label is spent on a frame that is dropped later: sanity filters; trust levels; duplicates
    (of two like candidates the one with the higher deviation stays); the audit; the rest of the budget by diversity,
    starting from the training set, or from the highest deviation if that is empty. What the audit leaves unused goes to
    the candidates. Equal inputs give equal results.

    :param max_force_deviation: (N,) largest force deviation of each frame, eV/Å.
    :param levels: trust levels.
    :param settings: budget and choice.
    :param max_force: (N,) largest force in each frame, eV/Å; None if it was not recorded.
    :param descriptors: (N, D) of each frame, from the same model as those of the training set; None turns off the
        search for duplicates, and 'farthest_point' then needs another ``diversity``.
    :param training_descriptors: (M, D); None or empty if there is no training set.
    :param trajectory: (N,) number of the trajectory of each frame, for ``max_per_trajectory``.
    :param unphysical: for each frame the reason why it is unphysical, or None.
    :raises ValueError: lengths differ, or descriptors are missing.
    """
    deviation = np.asarray(max_force_deviation, dtype=float)
    n_frames = len(deviation)
    features = None if descriptors is None else np.asarray(descriptors, dtype=float)
    if features is not None and n_frames == 0:
        features = None
    columns = {'max_force': max_force, 'descriptors': features, 'trajectory': trajectory, 'unphysical': unphysical}
    for name, values in columns.items():
        if values is not None and len(np.asarray(values)) != n_frames:
            msg = f"'{name}' must have one entry for each of the {n_frames} frames, got {len(np.asarray(values))}"
            raise ValueError(msg)
    if features is None and settings.diversity == 'farthest_point' and n_frames:
        raise ValueError("diversity 'farthest_point' needs descriptors; record them, or choose 'top' or 'random'")

    reasons = _reasons(deviation, max_force, features, unphysical, settings)
    verdicts = classify(deviation, levels)
    verdicts[[reason is not None for reason in reasons]] = Verdict.UNPHYSICAL.code

    candidates = np.flatnonzero(verdicts == Verdict.CANDIDATE.code)
    candidates = candidates[np.argsort(-deviation[candidates], kind='stable')]
    physical = verdicts != Verdict.UNPHYSICAL.code
    scaled, scaled_training = _scaled(features, training_descriptors, physical, candidates)
    if scaled is not None and settings.duplicate_tolerance is not None:
        duplicate = deduplicate(scaled, scaled_training, settings.duplicate_tolerance)
        verdicts[candidates[duplicate]] = Verdict.DUPLICATE.code
        candidates, scaled = candidates[~duplicate], scaled[~duplicate]

    accurate = np.flatnonzero(verdicts == Verdict.ACCURATE.code)
    audit = np.random.default_rng(stream(settings.seed, 'audit')).permutation(accurate)[: settings.n_audit]
    groups = np.zeros(n_frames, dtype=int) if trajectory is None else np.asarray(trajectory, dtype=int)
    budget = settings.max_labels - len(audit)
    selected = candidates[_take(settings, budget, scaled, scaled_training, groups[candidates])]

    verdicts[candidates] = Verdict.OVER_BUDGET.code
    verdicts[selected] = Verdict.SELECTED.code
    verdicts[audit] = Verdict.AUDIT.code
    ranks = np.full(n_frames, -1, dtype=int)
    ranks[np.concatenate([selected, audit])] = np.arange(len(selected) + len(audit))
    return Selection(verdicts, ranks, tuple(reasons))


def _reasons(
    deviation: Floats,
    max_force: ArrayLike | None,
    features: Floats | None,
    unphysical: Sequence[str | None] | None,
    settings: SelectionSettings,
) -> list[str | None]:
    """Reason why each frame is unphysical: the given one first, then its numbers."""
    found = value_reasons(deviation, max_force, PhysicalLimits(max_force=settings.max_force))
    described = [True] * len(deviation) if features is None else [bool(np.isfinite(row).all()) for row in features]
    given = [None] * len(deviation) if unphysical is None else list(unphysical)
    return [
        reason or number or (None if ok else NON_FINITE)
        for reason, number, ok in zip(given, found, described, strict=True)
    ]


def _scaled(
    features: Floats | None, training: ArrayLike | None, physical: NDArray[np.bool_], candidates: Indices
) -> tuple[Floats | None, Floats | None]:
    """Descriptors of candidates and training set on the scale of all physical frames; the rest is left out."""
    if features is None:
        return None, None
    old = None if training is None else np.asarray(training, dtype=float)
    if old is not None and old.ndim == 2:
        old = old[np.isfinite(old).all(axis=1)]
    new, old = standardise(features[physical], old)
    position = np.cumsum(physical) - 1
    return new[position[candidates]], old


def _take(
    settings: SelectionSettings, budget: int, scaled: Floats | None, training: Floats | None, groups: Indices
) -> Indices:
    """Positions of the candidates to label, in order, out of all candidates sorted by falling deviation."""
    quota = settings.max_per_trajectory
    if settings.diversity == 'farthest_point' and scaled is not None:
        return farthest_point_order(scaled, training, budget, groups=groups, per_group=quota)[0]
    order = np.arange(len(groups))
    if settings.diversity == 'random':
        order = np.random.default_rng(stream(settings.seed, 'candidates')).permutation(order)
    if quota is not None:
        taken: Counter[int] = Counter()
        within = []
        for position in order.tolist():
            taken[int(groups[position])] += 1
            within.append(taken[int(groups[position])] <= quota)
        order = order[within]
    return order[:budget]
