"""The rules that a replay compares: the package's own selection with the settings of each rule, and two that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aiida_mlip_al.config.protocols import protocol_values
from aiida_mlip_al.sampling.base import parse_parameters, stream, stream_seed
from aiida_mlip_al.selection.errors import Prediction, compare
from aiida_mlip_al.selection.levels import Evidence, Pairs, find_levels
from aiida_mlip_al.selection.measure import MEASURES
from aiida_mlip_al.selection.sanity import unphysical_reason
from aiida_mlip_al.selection.select import Selection, SelectionSettings, select_frames
from aiida_mlip_al.selection.settings import SelectParameters

Indices = NDArray[np.int_]
PROTOCOL = 'balanced'
_EVERYTHING: dict[str, Any] = {'levels': {'adaptive_lower': {'number': 0, 'fraction': 1}}, 'upper': None}
# Rules that are the protocol's `select`, but for what they say themselves.
_OURS = ('ours', 'upper', 'farthest', 'fair', 'strict', 'gradient', 'far_gradient', 'llpr')
_NO_EXTRAS: dict[str, Any] = {'audit_fraction': 0, 'duplicate_tolerance': None}


@dataclass(frozen=True)
class Rule:
    """A way to choose the frames of a round.

    :param name: for people.
    :param key: for folders and results.
    :param members: models that it needs in a round; 0: it looks at no model.
    :param select: what differs from the protocol's `select`; None: the rule needs no model.
    """

    name: str
    key: str
    members: int
    select: dict[str, Any] | None

    @property
    def options(self) -> SelectParameters:
        """What the user would write under `select`."""
        assert self.select is not None
        own = protocol_values(PROTOCOL)['select'] if self.key in _OURS else {}
        return parse_parameters('select', SelectParameters, {**own, **self.select})

    @property
    def folder(self) -> str:
        """Name of the folder of what the models say: that of all rules with as many models and the same descriptors."""
        kind = 'committee' if self.members > 1 else 'llpr'
        return kind if self.options.descriptors == 'features' else f'{kind}_{self.options.descriptors}'


OURS = Rule('ours: conformal level, largest cluster', 'ours', 4, {'upper': None})
RULES = (
    Rule('random', 'random', 0, None),
    Rule('time-uniform', 'time', 0, None),
    Rule('top n', 'top', 4, {**_EVERYTHING, **_NO_EXTRAS, 'diversity': 'top'}),
    Rule(
        "aims-PAX's level",
        'aims_pax',
        4,
        {
            'levels': {'moving_average': {'c_x': 0.0, 'n': 400}},
            'upper': None,
            **_NO_EXTRAS,
            'diversity': 'random',
        },
    ),
    Rule(
        "apax's MaxDist",
        'max_dist',
        1,
        {**_EVERYTHING, **_NO_EXTRAS, 'diversity': 'farthest_point', 'descriptors': 'gradient'},
    ),
    Rule('ours, but by farthest points', 'farthest', 4, {'diversity': 'farthest_point'}),
    Rule('ours, fair to walkers', 'fair', 4, {'max_per_trajectory': 'fair'}),
    Rule('ours, tolerance of 0.05 eV/Å', 'strict', 4, {'tolerance': 0.05}),
    Rule('ours, by the gradient', 'gradient', 4, {'descriptors': 'gradient'}),
    Rule("ours, by MaxDist's choice", 'far_gradient', 4, {'diversity': 'farthest_point', 'descriptors': 'gradient'}),
    Rule('ours, with an upper level', 'upper', 4, {}),
    Rule('ours with one model (LLPR)', 'llpr', 1, {}),
    OURS,
)


@dataclass
class Round:
    """What a rule that looks at models knows when it chooses.

    :param explored: N frames, in the order of the pool.
    :param predicted: of the committee on them, with descriptors.
    :param walker: (N,) number of the trajectory of each.
    :param labelled: frames labelled so far, with info `split`.
    :param predicted_labelled: of the committee on these, with descriptors.
    :param new: measure and error of the last round's labels, of the committee that asked for them.
    :param history: a row for each earlier round.
    """

    explored: Sequence[Atoms]
    predicted: Prediction
    walker: Indices
    labelled: Sequence[Atoms]
    predicted_labelled: Prediction
    new: Pairs = field(default_factory=Pairs)
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """Frames to label, the errors and deviations on them, and how they were found."""

    chosen: Indices
    pairs: Pairs
    row: dict[str, Any]


def choose(rule: Rule, known: Round, batch: int, seed: int) -> Choice:
    """Choose frames as the loop does: :func:`aiida_mlip_al.calculations.functions.select_frames`, without its nodes.

    :param rule: that looks at models.
    :param known: what it knows.
    :param batch: labels of the round at most; fewer where the rule finds no more candidates.
    :param seed: of its random choices.
    """
    options = rule.options
    column = MEASURES[options.measure].column
    # The errors of explored frames are known here and not in a run: only those of the chosen ones leave this function.
    explored = compare(known.explored, known.predicted).arrays
    measure = explored[column]
    splits = np.array([frame.info['split'] for frame in known.labelled])
    labelled = compare(known.labelled, known.predicted_labelled).arrays
    train, validation = (
        Pairs(labelled[column][splits == split], labelled['max_force_error'][splits == split])
        for split in ('train', 'validation')
    )
    held_out = Pairs(
        np.concatenate([validation.deviation, known.new.deviation]), np.concatenate([validation.error, known.new.error])
    )
    time = np.array([frame.info['time_fs'] for frame in known.explored])
    in_time = np.lexsort((known.walker, time))
    levels, thresholds = find_levels(
        options.level_rule,
        Evidence(measure[in_time], held_out, train, options.tolerance, options.upper, known.history),
    )
    selection = select_frames(
        measure,
        levels,
        settings_of(options, batch, stream_seed(seed, 'select', len(known.history))),
        max_force=[np.linalg.norm(forces.mean(axis=0), axis=1).max() for forces in known.predicted.forces],
        descriptors=known.predicted.descriptors,
        training_descriptors=known.predicted_labelled.descriptors,
        trajectory=known.walker,
        temperature=[frame.info['temperature_K'] for frame in known.explored],
        structure=lambda index: known.explored[index],
        unphysical=[unphysical_reason(frame, options.limits) for frame in known.explored],
    )
    chosen = selection.chosen
    return Choice(
        chosen,
        Pairs(measure[chosen], explored['max_force_error'][chosen]),
        {'thresholds': thresholds, 'n_labels': len(known.labelled) + len(chosen), **counts_of(selection)},
    )


def settings_of(options: SelectParameters, batch: int, seed: int) -> SelectionSettings:
    """Return the settings of a selection, by their equal names.

    :param options: what the user wrote.
    :param batch: labels of the round at most.
    :param seed: of the random choices.
    """
    shared = [own.name for own in fields(SelectionSettings) if own.name not in ('max_labels', 'seed')]
    return SelectionSettings(max_labels=batch, seed=seed, **{name: getattr(options, name) for name in shared})


def counts_of(selection: Selection) -> dict[str, Any]:
    """Return how many frames met which fate."""
    return {'counts': {verdict: count for verdict, count in selection.counts.items() if count}}


def at_random(n_frames: int, batch: int, seed: int, number: int) -> Indices:
    """Choose frames with equal probability.

    :param n_frames: to choose from.
    :param batch: how many.
    :param seed: of the choice.
    :param number: of the round.
    """
    return np.random.default_rng(stream(seed, 'random', number)).permutation(n_frames)[:batch]


def evenly_in_time(free: NDArray[np.bool_], batch: int, phase: float) -> Indices:
    """Choose frames at equal distances in time, each the next free one at or after its place, round the end if need be.

    :param free: (N,) frames of the pool in the order of time: False for those labelled before.
    :param batch: how many, at most as many as are free.
    :param phase: from 0 to 1, of the first place within the first interval.
    :returns: their indices in the pool.
    """
    left = np.array(free, dtype=bool)
    chosen = []
    for place in ((np.arange(min(batch, left.sum())) + phase) * len(left) / batch).astype(int):
        ahead = np.roll(left, -place)
        index = int((place + np.argmax(ahead)) % len(left))
        left[index] = False
        chosen.append(index)
    return np.array(chosen, dtype=int)
