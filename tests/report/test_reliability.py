"""Is it counted right what was promised and what came of it, and drawn and said so?"""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
import pytest

from aiida_mlip_al.report import reliability, reliability_figures, words
from aiida_mlip_al.report.reliability import Part, Round, all_rounds, rounds
from aiida_mlip_al.report.summary import IterationSummary, Outcomes, RunSummary

# Wilson's interval of 1 in 4 at 95 %, from z = 1.959964: centre (1/4 + z²/8) / (1 + z²/4), by hand.
ONE_OF_FOUR = (0.0456, 0.6994)


def turn(number: int, factor: float | None = 2.0) -> IterationSummary:
    """Four chosen frames, of which three keep to error <= 2 measure, and four audited ones, of which one is beyond 0.5."""
    return IterationSummary(
        number=number,
        n_labels=10,
        n_train=9,
        n_validation=1,
        lower=0.2,
        upper=2.0,
        factor=factor,
        coverage=None if factor is None else 0.9,
        outcomes=Outcomes(
            measure=np.array([0.3, 0.4, 0.5, 0.6, 0.1, 0.1, 0.2, 0.2]),
            error=np.array([0.6, 0.7, 0.9, 1.3, 0.1, 0.1, 0.3, 0.6]),
            audit=np.array([False] * 4 + [True] * 4),
            late=np.array([False, True, False, False, False, False, False, True]),
            rank=np.arange(8.0),
        ),
        nodes={'selection': 7, 'new_labels': 8},
    )


@pytest.fixture
def run(summary: RunSummary) -> RunSummary:
    """Three rounds: the level of the first is fixed, those of the others are calibrated."""
    summary.iterations = [turn(1, None), turn(2), turn(3)]
    summary.targets['tolerance'] = 0.5
    return summary


def drawn(figure: go.Figure | None) -> go.Figure:
    assert figure is not None
    return figure


def points(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.name == name]


def test_each_round_is_held_against_its_own_bound_and_the_tolerance(run: RunSummary) -> None:
    first, second, _ = rounds(run)
    assert first.within is None
    assert first.promised is None
    # 1.3 > 2 x 0.6 and 0.6 > 2 x 0.2 break the bound; 0.6 = 2 x 0.3 keeps to it.
    assert second.within is not None
    assert (second.within.hits, second.within.trials) == (6, 8)
    assert first.missed is not None
    assert (first.missed.hits, first.missed.trials) == (1, 4)
    assert (first.missed.low, first.missed.high) == pytest.approx(ONE_OF_FOUR, abs=1e-3)
    assert first.missed.share == 0.25


def test_all_rounds_are_pooled(run: RunSummary) -> None:
    together = all_rounds(run)
    assert together.within is not None
    assert together.missed is not None
    assert (together.within.hits, together.within.trials) == (12, 16)
    assert (together.missed.hits, together.missed.trials) == (3, 12)
    assert together.promised == 0.9
    assert together.missed.high < ONE_OF_FOUR[1], 'more frames, a shorter interval'


def test_missing_labels_count_nowhere(run: RunSummary) -> None:
    outcomes = run.iterations[1].outcomes
    assert outcomes is not None
    outcomes.error[[3, 7]] = np.nan
    second = rounds(run)[1]
    assert second.within is not None
    assert second.missed is not None
    assert (second.within.hits, second.within.trials) == (6, 6)
    assert (second.missed.hits, second.missed.trials) == (0, 3)


def test_the_confidence_is_that_of_the_run(run: RunSummary) -> None:
    usual = rounds(run)[0].missed
    run.confidence = 0.5
    bold = rounds(run)[0].missed
    assert usual is not None
    assert bold is not None
    assert bold.high < usual.high


def test_without_tolerance_or_audit_there_is_no_false_negative_rate(run: RunSummary) -> None:
    clause = words.false_negative_clause
    assert 'nothing says when' in clause(all_rounds(run), None, 0.95)
    for iteration in run.iterations:
        assert iteration.outcomes is not None
        iteration.outcomes.audit[:] = False
    assert all_rounds(run).missed is None
    assert 'not known' in clause(all_rounds(run), 0.5, 0.95)
    assert reliability_figures.false_negatives(run) is None
    assert reliability.false_negatives(run.iterations[0], None, 0.95) is None


def test_the_false_negative_rate_is_said_with_its_interval(run: RunSummary) -> None:
    said = words.false_negative_clause(all_rounds(run), 0.5, 0.95).replace('\u00a0', ' ')
    assert said == (
        'Of 12 frames called accurate and labelled to check that, 3 were wrong (largest force error above 0.5 eV/Å): a '
        'false-negative rate of 25 % (9 to 53 %), at 95 % confidence.'
    )


@pytest.mark.parametrize(
    ('within', 'said'),
    [
        (Part(70, 100, 0.604, 0.781), 'less than promised'),
        (Part(88, 100, 0.802, 0.930), 'agree within the interval'),
        (Part(100, 100, 0.963, 1.0), '100 % (96 to 100 %), at 95 % confidence, against 90 % promised.'),
        (None, 'No new label has been held against a calibrated bound'),
    ],
)
def test_a_promise_is_said_to_be_kept_or_not(within: Part | None, said: str) -> None:
    sentence = words.promise(Round(None, 0.9, True, within, None), 0.95).replace('\u00a0', ' ')
    assert said in sentence
    assert ('less than' in sentence) is (within is not None and within.high < 0.9)
    assert 'enough' not in sentence


def test_a_promise_without_enough_frames_is_called_that(run: RunSummary) -> None:
    assert 'enough labelled frames' not in words.promise(all_rounds(run), 0.95)
    run.iterations[2].guaranteed = False
    assert 'Not every round had enough labelled frames to promise that' in words.promise(all_rounds(run), 0.95)


def test_calibration_plot_has_points_by_kind_levels_bound_and_tolerance_in_each_panel(run: RunSummary) -> None:
    figure = drawn(reliability_figures.calibration(run))
    assert [len(points(figure, name)) for name in ('chosen', 'chosen, late', 'audit', 'audit, late')] == [3, 3, 3, 3]
    chosen = points(figure, 'chosen')[1]
    assert list(chosen.x) == [0.3, 0.5, 0.6]
    assert list(chosen.y) == [0.6, 0.9, 1.3]
    assert list(chosen.meta) == ['chosen/7/0', 'chosen/7/2', 'chosen/7/3']
    assert list(points(figure, 'audit, late')[0].x) == [0.2]
    assert len({trace.marker.color for trace in figure.data if trace.mode == 'markers'}) == 2
    assert [set(trace.x) for trace in points(figure, 'lower level')] == [{0.2}] * 3
    assert [set(trace.x) for trace in points(figure, 'upper level')] == [{2.0}] * 3
    bounds = points(figure, 'calibrated bound')
    assert len(bounds) == 2, 'the first level is fixed'
    np.testing.assert_allclose(bounds[0].y, 2 * np.asarray(bounds[0].x))
    assert [set(trace.y) for trace in points(figure, 'tolerance 0.5 eV/Å')] == [{0.5}] * 3
    assert [trace.showlegend for trace in points(figure, 'chosen')] == [True, False, False]
    assert [note.text for note in figure.layout.annotations] == ['iteration 1', 'iteration 2', 'iteration 3']


def test_calibration_plot_leaves_out_what_a_logarithm_cannot_show(run: RunSummary) -> None:
    outcomes = run.iterations[1].outcomes
    assert outcomes is not None
    outcomes.measure[0], outcomes.error[2] = 0.0, np.nan
    run.iterations[1].lower = math.inf
    figure = drawn(reliability_figures.calibration(run))
    chosen = points(figure, 'chosen')[1]
    assert (list(chosen.x), list(chosen.meta)) == ([0.6], ['chosen/7/3'])
    assert len(points(figure, 'lower level')) == 2
    for iteration in run.iterations:
        assert iteration.outcomes is not None
        iteration.outcomes.error[:] = np.nan
    assert reliability_figures.calibration(run) is None


def test_calibration_plot_of_a_measure_without_a_unit_compares_no_lengths(run: RunSummary) -> None:
    assert len(points(drawn(reliability_figures.calibration(run)), 'error = deviation')) == 3
    run.measure = 'relative'
    figure = drawn(reliability_figures.calibration(run))
    assert not points(figure, 'error = deviation')
    titles = {figure.layout[axis].title.text for axis in figure.layout if axis.startswith('xaxis')}
    assert 'Largest relative force deviation (no unit)' in titles
    run.measure = 'energy'
    assert not points(drawn(reliability_figures.calibration(run)), 'error = deviation')


def test_shares_are_drawn_with_their_intervals(run: RunSummary) -> None:
    figure = drawn(reliability_figures.kept_bounds(run))
    kept, promised = figure.data
    assert list(kept.x) == list(promised.x) == ['2', '3']
    assert list(kept.y) == [75, 75]
    assert list(promised.y) == [90, 90]
    assert list(kept.meta) == ['node/8', 'node/8']
    missed = drawn(reliability_figures.false_negatives(run)).data[0]
    assert list(missed.y) == [25, 25, 25]
    assert missed.y[0] + missed.error_y.array[0] == pytest.approx(100 * ONE_OF_FOUR[1], abs=0.1)
    assert missed.y[0] - missed.error_y.arrayminus[0] == pytest.approx(100 * ONE_OF_FOUR[0], abs=0.1)
    run.iterations[0].nodes['late_labels'] = 9
    assert drawn(reliability_figures.false_negatives(run)).data[0].meta[0] == 'node/9'


def test_the_target_of_the_false_negative_rate_is_drawn(run: RunSummary) -> None:
    assert not drawn(reliability_figures.false_negatives(run)).layout.shapes
    run.targets['false_negative_rate'] = 0.1
    assert drawn(reliability_figures.false_negatives(run)).layout.shapes[0].y0 == pytest.approx(10)


def test_nothing_is_drawn_from_nothing(run: RunSummary) -> None:
    run.iterations = []
    for draw in (
        reliability_figures.calibration,
        reliability_figures.kept_bounds,
        reliability_figures.false_negatives,
    ):
        assert draw(run) is None
    assert rounds(run) == []
