"""Plain descriptions of a run: what the report shows, free of AiiDA and of plotting.

Units: eV, eV/atom, eV/Å, eV/Å³ (ASE's sign), K, Å, s; levels and deviations have the unit of the run's
measure. ``None`` or an empty container means "not known" or "not there yet"; the report then says so in a sentence.
``pk`` is AiiDA's number of a node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aiida_mlip_al.selection.measure import MEASURES, Measure, MeasureName

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Stages whose time is counted, in the order of the loop.
STAGES = ('seed', 'label', 'train', 'explore', 'evaluate', 'select', 'final')

State = Literal['running', 'finished', 'excepted', 'killed']


@dataclass(kw_only=True)
class Errors:
    """Errors of a committee (its mean) or of one model on a set of labelled frames.

    :param energy_mae: mean absolute error of the energy, eV/atom.
    :param force_mae: mean absolute error over force components, eV/Å.
    :param force_rmse: root-mean-square error over force components, eV/Å.
    :param stress_mae: mean absolute error over stress components, eV/Å³; None without periodic labels.
    """

    energy_mae: float
    force_mae: float
    force_rmse: float
    stress_mae: float | None = None


@dataclass(kw_only=True)
class Outcomes:
    """What the labels of the frames that an iteration chose showed.

    :param measure: of each frame when it was chosen, in the unit of the run's measure, shape (n,).
    :param error: largest force error (vector norm) of the models that chose it, eV/Å, shape (n,).
    :param audit: whether it was called accurate and labelled to check that, shape (n,).
    :param late: whether its label came after those that the next training saw, shape (n,).
    :param rank: its place in the order of choice, shape (n,); None if that is not known.
    """

    measure: FloatArray
    error: FloatArray
    audit: BoolArray
    late: BoolArray
    rank: FloatArray | None = None


@dataclass(kw_only=True)
class IterationSummary:
    """One turn of the loop: train, explore, select, label.

    :param number: from 1.
    :param n_labels: labels its committee saw, training and validation together.
    :param new_labels: labels that this iteration added; the next committee sees them.
    :param new_label_errors: on the new labels, of the committee that chose them: unseen frames, the hardest it met.
    :param deviations: measure of every explored frame, in its unit, shape (n_frames,).
    :param lower: frames below it are accurate, in the unit of the measure.
    :param upper: frames beyond it are failed, in the unit of the measure.
    :param level_note: how the levels were found, for example 'conformal: factor 7.5 from 40 pairs' or 'fixed'.
    :param fates: number of explored frames of every verdict.
    :param factor: a in the bound error <= a measure that a calibrated lower level comes from, eV/Å for a unit of the measure.
    :param coverage: the probability that was asked of that bound, 0 to 1.
    :param guaranteed: whether there were enough labelled frames to give it.
    :param accurate_fraction: share of the explored frames that are accurate, 0 to 1.
    :param outcomes: what the labels of the frames that it chose showed.
    :param wall_s: wall time of each stage, s; stages that went on side by side share it, so that their sum is the time that the
        iteration took. The seed counts in the first iteration, the final committee in the last.
    :param core_s: core-seconds of each stage, s.
    :param processes: pk of the process of each stage.
    :param stopped_walkers: number of walkers for each reason of their end.
    :param nodes: pk of what it made: ``errors``, ``selection``, ``new_labels``, ``history``.
    """

    number: int
    n_labels: int
    n_train: int
    n_validation: int
    new_labels: int = 0
    validation_errors: Errors | None = None
    test_errors: Errors | None = None
    new_label_errors: Errors | None = None
    deviations: FloatArray = field(default_factory=lambda: np.empty(0))
    lower: float | None = None
    upper: float | None = None
    level_note: str = ''
    fates: dict[str, int] = field(default_factory=dict)
    factor: float | None = None
    coverage: float | None = None
    guaranteed: bool = True
    accurate_fraction: float | None = None
    outcomes: Outcomes | None = None
    wall_s: dict[str, float] = field(default_factory=dict)
    core_s: dict[str, float] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)
    stopped_walkers: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class FinalSummary:
    """The committee trained at the end, on all labels.

    :param errors: on the test set, committee mean.
    :param validation_errors: on the validation frames, committee mean.
    :param first_errors: on the test set, of the first iteration's committee.
    :param by_temperature: (temperature in K, number of test frames, errors on them).
    :param member_errors: on the test set, one for each member.
    :param processes: pk of the process of each stage.
    :param nodes: pk of what it made: ``errors``.
    """

    n_train: int
    n_validation: int
    errors: Errors | None = None
    validation_errors: Errors | None = None
    first_errors: Errors | None = None
    by_temperature: list[tuple[float, int, Errors]] = field(default_factory=list)
    member_errors: list[Errors] = field(default_factory=list)
    processes: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Parity:
    """Reference and prediction on the test set.

    :param energy_reference: energies per atom, eV/atom, shape (n_frames,).
    :param force_reference: force components of all frames, eV/Å, shape (n_components,).
    :param stress_reference: stress components of all periodic frames, eV/Å³, shape (n_components,).
    :param temperature: temperature each frame was sampled at, K, shape (n_frames,).
    :param n_atoms: number of atoms of each frame, shape (n_frames,).
    :param committee: 'final' or 'iteration 3'.
    :param evaluation: pk of the process that predicted.
    """

    energy_reference: FloatArray
    energy_predicted: FloatArray
    force_reference: FloatArray
    force_predicted: FloatArray
    stress_reference: FloatArray | None = None
    stress_predicted: FloatArray | None = None
    temperature: FloatArray | None = None
    n_atoms: FloatArray | None = None
    committee: str = 'final'
    evaluation: int | None = None


@dataclass(kw_only=True)
class ModelSummary:
    """One model.

    :param committee: 'final' or 'iteration 3'.
    :param trained_on: number of training frames.
    :param energy_mae: on validation, eV/atom.
    :param force_mae: on validation, eV/Å.
    :param r_max: cutoff radius, Å.
    """

    name: str
    pk: int
    committee: str
    seed: int | None = None
    trained_on: int | None = None
    epochs: int | None = None
    energy_mae: float | None = None
    force_mae: float | None = None
    r_max: float | None = None
    n_parameters: int | None = None
    elements: list[str] = field(default_factory=list)
    dtype: str = ''


@dataclass(kw_only=True)
class Failure:
    """Something that failed and was survived, or that ended the run."""

    stage: str
    pk: int | None
    reason: str


@dataclass(kw_only=True)
class RunSummary:
    """One run of the active-learning loop.

    :param stop_reason: why the loop stopped, in words that follow "because".
    :param exit_status: of the process; 0 is a good end.
    :param message: exit message or error of the process.
    :param wall_s: from creation to the end, or to now while it runs, s.
    :param version: of aiida-mlip-al.
    :param settings: all settings in force, nested.
    :param labels_in_hand: labels to learn from that the run has, learned from or not, test frames left out.
    :param theory: name of the level of theory of the labels.
    :param targets: what the run aimed at; known keys are ``tolerance`` (largest force error accepted on a frame, eV/Å),
        ``target_force_error`` (force MAE on new labels, eV/Å), ``test_force_error`` (on test frames, eV/Å),
        ``accurate_fraction``, ``false_negative_rate``, ``max_labels`` and ``max_iterations``.
    :param measure: which number of a frame is compared with the levels.
    :param single_model: whether one model with an uncertainty stands for a committee.
    :param confidence: of the intervals, two-sided.
    :param nodes: pk of the nodes worth knowing, by name.
    :param others: runs to compare it with, tested on the same frames.
    """

    label: str
    pk: int
    uuid: str
    state: State
    created: datetime
    exit_status: int | None = None
    message: str = ''
    stop_reason: str | None = None
    wall_s: float = 0.0
    version: str = ''
    theory: str = ''
    elements: list[str] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)
    targets: dict[str, float] = field(default_factory=dict)
    measure: MeasureName = 'max'
    single_model: bool = False
    confidence: float = 0.95
    settings: dict[str, Any] = field(default_factory=dict)
    labels_in_hand: int = 0
    iterations: list[IterationSummary] = field(default_factory=list)
    final: FinalSummary | None = None
    parity: Parity | None = None
    models: list[ModelSummary] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=dict)
    others: list[RunSummary] = field(default_factory=list)

    @property
    def compared(self) -> Measure:
        """The measure, with its name and unit."""
        return MEASURES[self.measure]

    @property
    def predictor(self) -> str:
        """What predicts: a committee, or one model."""
        return 'model' if self.single_model else 'committee'

    @property
    def n_labels(self) -> int:
        """Labels that the last committee learned from, training and validation together."""
        if self.final:
            return self.final.n_train + self.final.n_validation
        return next((turn.n_labels for turn in reversed(self.iterations) if turn.n_labels), 0)

    @property
    def first_errors(self) -> Errors | None:
        """Test errors of the first committee that has any."""
        if self.final and self.final.first_errors:
            return self.final.first_errors
        return next((i.test_errors for i in self.iterations if i.test_errors), None)

    @property
    def last_errors(self) -> Errors | None:
        """Test errors of the final committee, or of the last one that has any."""
        if self.final and self.final.errors:
            return self.final.errors
        return next((i.test_errors for i in reversed(self.iterations) if i.test_errors), None)

    @property
    def last_validation_errors(self) -> Errors | None:
        """Validation errors of the final committee, or of the last one that has any."""
        if self.final and self.final.validation_errors:
            return self.final.validation_errors
        return next((i.validation_errors for i in reversed(self.iterations) if i.validation_errors), None)

    @property
    def n_committees_tested(self) -> int:
        """Committees with test errors, the final one included."""
        return sum(i.test_errors is not None for i in self.iterations) + bool(self.final and self.final.errors)

    def time_by_stage(self, kind: Literal['wall_s', 'core_s']) -> dict[str, float]:
        """Sum the time of each stage over the iterations, s: stages in the loop's order, then unknown ones by name."""
        times: dict[str, float] = {}
        for iteration in self.iterations:
            for stage, seconds in getattr(iteration, kind).items():
                times[stage] = times.get(stage, 0.0) + seconds
        return {stage: times[stage] for stage in ordered(times, STAGES)}


def ordered(names: dict[str, Any], known: tuple[str, ...]) -> list[str]:
    """Sort names: the known ones in their order, then the others alphabetically."""
    return [name for name in known if name in names] + sorted(set(names) - set(known))
