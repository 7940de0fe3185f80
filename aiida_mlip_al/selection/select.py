"""The choice of frames to label: sanity filters, trust levels, duplicates, diversity, budget, audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from aiida_mlip_al.sampling.base import stream
from aiida_mlip_al.sampling.walkers import Descriptors
from aiida_mlip_al.selection.criteria import TrustLevels, classify
from aiida_mlip_al.selection.diversity import (
    Floats,
    deduplicate,
    farthest_point_order,
    standardise,
    strata,
    stratified_order,
)
from aiida_mlip_al.selection.quota import Most, Quotas
from aiida_mlip_al.selection.rmsd import alike_molecules
from aiida_mlip_al.selection.sanity import NON_FINITE, PhysicalLimits, value_reasons
from aiida_mlip_al.selection.verdict import Codes, Verdict, count_verdicts

Diversity = Literal['largest_cluster', 'farthest_point', 'top', 'random', 'stratified', 'rmsd']
_BY_DESCRIPTORS = ('largest_cluster', 'farthest_point')
Strata = Literal['deviation', 'temperature', 'trajectory']
Share = Annotated[int, Field(ge=1)] | Literal['fair'] | None
Indices = NDArray[np.int_]


@dataclass(frozen=True)
class SelectionSettings:
    """How many frames to label and how to choose them.

    :param max_labels: budget of one iteration, audit included.
    :param audit_fraction: part of the budget spent on random accurate frames, to measure how often they are not; at
        least one frame unless it is 0 or the budget is a single label, and never all labels unless it is 1.
    :param diversity: order of the candidates: 'farthest_point' from the training set and each other, the same within the
        'largest_cluster' (default), 'top' by deviation, 'random', 'stratified' (each of the ``strata`` in turn), or 'rmsd'
        ('top' among molecules that differ).
    :param descriptors: what is given as such: 'features' of the atoms, whose distances are counted in standard deviations
        (:func:`standardise`), or the 'gradient' of the energy with respect to the last layers' weights, whose distances are
        those of the kernel g·g' and are taken as they are.
    :param duplicate_tolerance: candidates nearer than this to the training set or to each other are duplicates: the
        root-mean-square difference of descriptors, whichever they are, in standard deviations; 0 marks identical ones only,
        None nothing.
    :param strata: what the strata are of.
    :param min_rmsd: with 'rmsd', molecules closer than this (Å) are duplicates, whatever their descriptors.
    :param exclude_hydrogen: with 'rmsd', compare the other atoms, if there are at least three.
    :param max_per_trajectory: most candidates taken from one trajectory; 'fair': the trajectories take turns as far as there are
        candidates; None for no limit.
    :param max_per_system: the same for each system.
    :param max_per_composition: the same for each composition.
    :param max_force: frames with a larger force (eV/Å) are unphysical; None for no limit.
    :param seed: of every random choice, non-negative.
    """

    max_labels: int = 20
    audit_fraction: float = 0.05
    diversity: Diversity = 'largest_cluster'
    descriptors: Descriptors = 'features'
    duplicate_tolerance: float | None = 0.01
    max_per_trajectory: Share = None
    max_force: float | None = 50.0
    strata: Strata = 'deviation'
    min_rmsd: float = 0.05
    exclude_hydrogen: bool = True
    max_per_system: Share = None
    max_per_composition: Share = None
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
        if self.strata not in get_args(Strata):
            raise ValueError(f"'strata' must be one of {', '.join(get_args(Strata))}, got {self.strata!r}")
        if not self.min_rmsd > 0:
            raise ValueError(f"'min_rmsd' must be positive (Å), got {self.min_rmsd}")
        for name in ('max_per_trajectory', 'max_per_system', 'max_per_composition'):
            share = getattr(self, name)
            if isinstance(share, int) and share < 1:
                raise ValueError(f"'{name}' must be at least 1, got {share}")
        if self.max_force is not None and not self.max_force > 0:
            raise ValueError(f"'max_force' must be positive (eV/Å), got {self.max_force}")
        if self.seed < 0:
            raise ValueError(f"'seed' must be a non-negative integer, got {self.seed}")

    @property
    def n_audit(self) -> int:
        """Labels set aside for the audit."""
        if self.audit_fraction == 1:
            return self.max_labels
        wanted = max(1, int(self.audit_fraction * self.max_labels + 0.5)) if self.audit_fraction > 0 else 0
        return max(0, min(wanted, self.max_labels - 1))


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
    measure: ArrayLike,
    levels: TrustLevels,
    settings: SelectionSettings,
    *,
    max_force: ArrayLike | None = None,
    descriptors: ArrayLike | None = None,
    training_descriptors: ArrayLike | None = None,
    trajectory: ArrayLike | None = None,
    system: ArrayLike | None = None,
    composition: ArrayLike | None = None,
    temperature: ArrayLike | None = None,
    structure: Callable[[int], Atoms] | None = None,
    unphysical: Sequence[str | None] | None = None,
) -> Selection:
    """Decide the fate of every explored frame.

    In this order, so that no label is spent on a frame that is dropped later: sanity filters; trust levels; duplicates
    (of two like candidates the one with the higher deviation stays); the audit; the rest of the budget by diversity,
    starting from the training set, or from the highest deviation if that is empty. What the audit leaves unused goes to
    the candidates. Equal inputs give equal results.

    :param measure: (N,) deviation of each frame, such as the largest force deviation, eV/Å.
    :param levels: trust levels, in the unit of the measure.
    :param settings: budget and choice.
    :param max_force: (N,) largest force in each frame, eV/Å; None if it was not recorded.
    :param descriptors: (N, D) of each frame, from the same model as those of the training set; None turns off the
        search for duplicates, and 'farthest_point' and 'largest_cluster' then need another ``diversity``.
    :param training_descriptors: (M, D); None or empty if there is no training set.
    :param trajectory: (N,) number of the trajectory of each frame, for ``max_per_trajectory``.
    :param system: (N,) number of the system of each frame, for ``max_per_system``.
    :param composition: (N,) number of the composition of each frame, for ``max_per_composition``.
    :param temperature: (N,) K, for the strata of temperature.
    :param structure: returns the frame of an index, for 'rmsd'; asked for candidates only.
    :param unphysical: for each frame the reason why it is unphysical, or None.
    :raises ValueError: lengths differ, or descriptors are missing.
    """
    deviation = np.asarray(measure, dtype=float)
    n_frames = len(deviation)
    features = None if descriptors is None else np.asarray(descriptors, dtype=float)
    if features is not None and n_frames == 0:
        features = None
    columns = {
        'max_force': max_force,
        'descriptors': features,
        'trajectory': trajectory,
        'system': system,
        'composition': composition,
        'temperature': temperature,
        'unphysical': unphysical,
    }
    for name, values in columns.items():
        if values is not None and len(np.asarray(values)) != n_frames:
            msg = f"'{name}' must have one entry for each of the {n_frames} frames, got {len(np.asarray(values))}"
            raise ValueError(msg)
    if features is None and settings.diversity in _BY_DESCRIPTORS and n_frames:
        raise ValueError(
            f"diversity '{settings.diversity}' needs descriptors; record them, or choose 'top' or 'random'"
        )
    if structure is None and settings.diversity == 'rmsd' and n_frames:
        raise ValueError("diversity 'rmsd' needs the structures")

    reasons = _reasons(deviation, max_force, features, unphysical, settings)
    verdicts = classify(deviation, levels)
    verdicts[[reason is not None for reason in reasons]] = Verdict.UNPHYSICAL.code

    candidates = np.flatnonzero(verdicts == Verdict.CANDIDATE.code)
    candidates = candidates[np.argsort(-deviation[candidates], kind='stable')]
    known = _finite_rows(training_descriptors)
    physical = verdicts != Verdict.UNPHYSICAL.code
    scaled, scaled_known = _scaled(features, known, physical, candidates)
    duplicate = np.zeros(len(candidates), dtype=bool)
    if settings.diversity == 'rmsd' and structure is not None:
        molecules = [structure(int(index)) for index in candidates]
        duplicate = alike_molecules(molecules, settings.min_rmsd, settings.exclude_hydrogen)
    elif scaled is not None and settings.duplicate_tolerance is not None:
        duplicate = deduplicate(scaled, scaled_known, settings.duplicate_tolerance)
    verdicts[candidates[duplicate]] = Verdict.DUPLICATE.code
    candidates = candidates[~duplicate]

    accurate = np.flatnonzero(verdicts == Verdict.ACCURATE.code)
    audit = np.random.default_rng(stream(settings.seed, 'audit')).permutation(accurate)[: settings.n_audit]
    budget = settings.max_labels - len(audit)
    kinds = np.transpose([_numbers(values, n_frames)[candidates] for values in (composition, system, trajectory)])
    quotas: list[Most] = [settings.max_per_composition, settings.max_per_system, settings.max_per_trajectory]
    if settings.diversity in _BY_DESCRIPTORS and features is not None and scaled is not None:
        as_given = settings.descriptors == 'gradient'
        taken = farthest_point_order(
            features[candidates] if as_given else scaled[~duplicate],
            known if as_given else scaled_known,
            budget,
            largest_cluster=settings.diversity == 'largest_cluster',
            groups=kinds,
            per_group=quotas,
        )[0]
    else:
        heat = np.zeros(n_frames) if temperature is None else np.asarray(temperature, dtype=float)
        order = _order(settings, deviation[candidates], heat[candidates], kinds[:, -1])
        taken = Quotas(kinds, quotas).take_in_order(order, budget)
    selected = candidates[taken]

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


def _finite_rows(training_descriptors: ArrayLike | None) -> Floats | None:
    known = None if training_descriptors is None else np.asarray(training_descriptors, dtype=float)
    return known[np.isfinite(known).all(axis=1)] if known is not None and known.ndim == 2 else known


def _scaled(
    features: Floats | None, known: Floats | None, physical: NDArray[np.bool_], candidates: Indices
) -> tuple[Floats | None, Floats | None]:
    """Descriptors of candidates and training set on the scale of all physical frames; the rest is left out."""
    if features is None:
        return None, None
    new, old = standardise(features[physical], known)
    position = np.cumsum(physical) - 1
    return new[position[candidates]], old


def _numbers(values: ArrayLike | None, n_frames: int) -> Indices:
    return np.zeros(n_frames, dtype=int) if values is None else np.asarray(values, dtype=int)


def _order(settings: SelectionSettings, deviation: Floats, temperature: Floats, trajectory: Indices) -> Indices:
    """Order of candidates that are sorted by falling deviation."""
    rng = np.random.default_rng(stream(settings.seed, 'candidates'))
    if settings.diversity == 'random':
        return rng.permutation(len(deviation))
    if settings.diversity == 'stratified':
        values = deviation if settings.strata == 'deviation' else temperature
        return stratified_order(trajectory if settings.strata == 'trajectory' else strata(values), rng)
    return np.arange(len(deviation))
