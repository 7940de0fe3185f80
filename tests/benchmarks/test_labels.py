"""The parts of the label benchmark that need no model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.label_curves import (
    Curve,
    labels_needed,
    mean_text,
    needed_of_mean,
    needed_text,
    no_more_than,
    spread,
    targets_of,
)
from benchmarks.label_rules import OURS, RULES, at_random, evenly_in_time, settings_of

from aiida_mlip_al.selection.levels import Conformal, MovingAverage


def test_labels_needed_lie_on_a_power_law() -> None:
    """An error of 400 / n is 16 at 25 labels, wherever the curve was measured."""
    labels = [10, 20, 40, 80]
    assert labels_needed(labels, [400 / n for n in labels], 16.0) == pytest.approx(25.0)


def test_the_first_of_several_crossings_counts() -> None:
    """A curve that rises again has reached its target before."""
    assert labels_needed([10, 20, 40, 80], [100, 50, 60, 40], 50.0) == pytest.approx(20.0)


def test_a_curve_may_begin_below_its_target_or_never_get_there() -> None:
    """The first number of labels, and infinity."""
    assert labels_needed([10, 20], [30, 20], 30.0) == pytest.approx(10.0)
    assert labels_needed([10, 20], [30, 20], 19.9) == math.inf


def test_each_seed_has_the_target_of_its_own_random_frames() -> None:
    """What random frames reach with the last but one number, in each seed, though their errors differ by a factor of three."""
    random = Curve([[10, 20, 40]] * 2, [[40, 20, 10], [120, 60, 30]])
    better = Curve([[10, 20, 40]] * 2, [[80, 10, 5], [240, 30, 15]])
    assert targets_of(random) == [20, 60]
    assert better.needed(targets_of(random)) == pytest.approx([10 * 2 ** (2 / 3)] * 2)


def test_a_curve_goes_as_far_as_all_its_seeds() -> None:
    """The seed that stopped after two rounds ends the mean, and labels are averaged too."""
    labels, mean, deviation = Curve([[10, 20, 30], [10, 16]], [[50, 40, 30], [70, 44]]).mean()
    assert labels == pytest.approx([10, 18])
    assert mean == pytest.approx([60, 42])
    assert deviation == pytest.approx([math.sqrt(200), math.sqrt(8)])


def test_one_seed_has_no_spread() -> None:
    """Zero, not nan."""
    assert spread([[3.0, 4.0]]) == pytest.approx([0.0, 0.0])


def test_what_was_not_reached_is_said() -> None:
    """A mean over infinity would be no number."""
    assert needed_text([30, 40, 50], 60) == '40 ± 10'
    assert needed_text([30, math.inf, 50], 60) == 'over 60 in 1 of 3'


def test_the_mean_is_asked_instead_of_each_seed() -> None:
    """Errors of 400 / n need half the labels of 800 / n, though in the second seed neither falls."""
    labels = [[10, 20, 40, 80]] * 2
    random = Curve(labels, [[80, 40, 20, 10], [5, 5, 5, 5]])
    ours = Curve(labels, [[40, 20, 10, 5], [5, 5, 5, 5]])
    assert needed_of_mean(random, random) == pytest.approx((40, 10, 40))
    assert needed_of_mean(ours, random) == pytest.approx((20, 10, 20))
    worse = Curve(labels, [[40, 20, 10, 5], [6, 6, 6, 6]])
    assert needed_of_mean(worse, random)[2] == math.inf
    assert mean_text(needed_of_mean(worse, random), 80) == '21 (20 to over 80)'
    assert needed_of_mean(Curve(labels[:1], [[40, 20, 10, 5]]), Curve(labels[:1], [[80, 40, 20, 10]])) == pytest.approx(
        (20,) * 3
    )


@pytest.mark.parametrize(
    ('ours', 'other', 'expected'),
    [
        ([30, 31, 32], [40, 41, 42], True),
        ([40, 41, 42], [30, 31, 32], False),
        ([40, 30, 42], [30, 41, 40], True),
        ([30, 31, math.inf], [60, 60, 60], False),
        ([61, 61, 61], [math.inf] * 3, False),
    ],
)
def test_no_more_labels_than_another_within_the_spread(ours: list[float], other: list[float], expected: bool) -> None:
    """The spread is that of the difference seed by seed; a rule that did not get there counts as the last number."""
    assert no_more_than(ours, other, 60) is expected


def test_frames_lie_evenly_in_time() -> None:
    """Every tenth of a hundred, beginning in the middle of an interval."""
    assert evenly_in_time(np.ones(100, dtype=bool), 10, 0.5).tolist() == list(range(5, 100, 10))


def test_a_labelled_frame_gives_way_to_the_next_free_one() -> None:
    """Round the end of the pool if need be, and never the same frame twice."""
    free = np.array([False, False, True, False, True, False, True, False])
    assert evenly_in_time(free, 2, 0.9).tolist() == [4, 2]
    assert sorted(evenly_in_time(free, 8, 0.0).tolist()) == [2, 4, 6]


def test_random_frames_differ_by_round_and_seed_and_repeat() -> None:
    """No frame twice in a round."""
    first = at_random(50, 20, 3, 0)
    assert len(set(first.tolist())) == 20
    assert first.tolist() == at_random(50, 20, 3, 0).tolist()
    assert first.tolist() != at_random(50, 20, 3, 1).tolist()
    assert first.tolist() != at_random(50, 20, 4, 0).tolist()


def test_ours_is_the_protocol_and_the_others_are_not() -> None:
    """What is measured is what a user of `balanced` gets with a pool, but for the number of labels."""
    options = OURS.options
    assert (options.tolerance, options.upper) == (0.15, None)
    assert isinstance(options.level_rule, Conformal)
    settings = settings_of(options, 15, 7)
    assert (settings.max_labels, settings.seed, settings.n_audit) == (15, 7, 2)
    assert (settings.diversity, settings.duplicate_tolerance) == ('largest_cluster', 0.01)
    others = {rule.key: rule.options for rule in RULES if rule.key in ('top', 'aims_pax')}
    assert isinstance(others['aims_pax'].level_rule, MovingAverage)
    assert others['top'].diversity == 'top'
    assert {rule.audit_fraction for rule in others.values()} == {0}
    assert {rule.upper for rule in others.values()} == {None}
