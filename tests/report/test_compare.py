"""A run against another one: labels saved."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np

from aiida_mlip_al.report.compare import Need, clause, curve, same_test_frames, saving
from aiida_mlip_al.report.figures import learning_curve
from aiida_mlip_al.report.html import render
from aiida_mlip_al.report.summary import Errors, IterationSummary, RunSummary


def run(summary: RunSummary, points: Sequence[tuple[int, float | None]], pk: int = 45) -> RunSummary:
    """A run with test errors (meV/Å) at so many labels; None: not tested."""
    made = deepcopy(summary)
    made.pk, made.label = pk, 'random'
    made.iterations = [
        IterationSummary(
            number=number,
            n_labels=labels,
            n_train=labels,
            n_validation=0,
            test_errors=None if error is None else Errors(energy_mae=1e-3, force_mae=1e-3 * error, force_rmse=1.0),
        )
        for number, (labels, error) in enumerate(points, 1)
    ]
    return made


FALLING = [(10, 400.0), (20, 200.0), (40, 100.0), (80, 50.0)]


def test_labels_are_read_off_between_committees(summary: RunSummary) -> None:
    """Errors that fall as 1 / N are a straight line in log-log."""
    ours, other = run(summary, FALLING), run(summary, [(10, 400.0), (60, 80.0)])
    found = saving(ours, other)
    assert found is not None
    assert (found.error, found.needed, found.other) == (0.08, Need(50, False), Need(60, False))
    text = '<45> random took 60 labels for a force error of 80.0 meV/Å on the test set, this run 50: 10 labels saved (17 %).'
    assert clause(ours, other).replace('\u00a0', ' ') == text


def test_a_run_that_needs_more_says_so(summary: RunSummary) -> None:
    worse = clause(run(summary, [(10, 400.0), (60, 80.0)]), run(summary, FALLING))
    assert 'took 50 labels for a force error of 80.0 meV/Å on the test set, this run 60: 10 labels more' in worse
    assert 'and this run as many.' in clause(run(summary, FALLING), run(summary, FALLING))


def test_both_runs_are_read_where_they_first_get_there(summary: RunSummary) -> None:
    """A curve that rises again saves nothing against itself, whichever of the two ends higher."""
    points = [(20, 100.0), (40, 60.0), (60, 40.0), (80, 45.0)]
    itself = clause(run(summary, points), run(summary, points))
    assert 'took 53 labels for a force error of 45.0 meV/Å on the test set, and this run as many.' in itself
    worse = clause(run(summary, points), run(summary, [*points[:3], (80, 70.0)]))
    assert 'took 32 labels for a force error of 70.0 meV/Å on the test set, and this run as many.' in worse
    found = saving(run(summary, [(20, 100.0), (40, 46.0), (80, 50.0)]), run(summary, [(20, 100.0), (40, 40.0)]))
    assert found is not None
    assert (found.error, found.needed) == (0.05, Need(37, False))
    assert found.other == Need(34, False), 'where it was at 50 meV/Å, not where it ended'


def test_what_the_first_committee_reached_is_a_bound(summary: RunSummary) -> None:
    good, slow = run(summary, [(20, 30.0), (40, 20.0)]), run(summary, [(20, 80.0), (60, 30.0)])
    text = clause(good, slow).replace('\u00a0', ' ')
    assert 'took 60 labels for' in text
    assert text.endswith('this run at most 20: at least 40 labels saved (67 %).')
    assert clause(run(summary, [(100, 30.0)]), slow).endswith(', this run at most 100.')
    first = run(summary, [(20, 30.0)])
    assert 'took at most 20 labels for a force error of 30.0' in clause(slow, first)
    assert 'this run 60: at least 40 labels more' in clause(slow, first)
    assert clause(good, first).endswith('and this run as many.')


def test_committees_that_were_not_tested_are_left_out(summary: RunSummary) -> None:
    tested = run(summary, [(10, None), (20, 200.0)])
    assert curve(tested) == ([20], [0.2])
    nothing = run(summary, [(10, None)])
    assert saving(tested, nothing) is None
    assert 'cannot be compared' in clause(tested, nothing)
    assert 'cannot be compared' in clause(nothing, tested)


def test_an_error_of_zero_is_left_out(summary: RunSummary) -> None:
    vanishing = run(summary, [(10, 200.0), (20, 0.0)])
    assert curve(vanishing) == ([10], [0.2])
    assert 'cannot be compared' in clause(run(summary, [(10, 0.0)]), run(summary, [(10, 0.0)]))


def test_runs_are_compared_on_the_same_frames_only(summary: RunSummary) -> None:
    """In whatever order their test frames stand."""
    other = deepcopy(summary)
    assert summary.parity is not None
    assert other.parity is not None
    other.parity.force_reference = np.roll(summary.parity.force_reference, 5)
    assert same_test_frames(summary, other)
    other.parity.force_reference = summary.parity.force_reference + 1e-6
    assert not same_test_frames(summary, other)
    other.parity.force_reference = summary.parity.force_reference[:-3]
    assert not same_test_frames(summary, other)
    other.parity = None
    assert not same_test_frames(summary, other)


def test_the_report_has_both_curves_and_the_number(summary: RunSummary) -> None:
    alone = render(summary)
    assert f'aiida-mlip-al report {summary.pk} --against PK' in alone
    summary.others = [run(summary, [(48, 298.0), (138, 90.0)])]
    figure = learning_curve(summary)
    assert figure is not None
    drawn = next(trace for trace in figure.data if trace.name == 'run 45, test')
    assert list(drawn.y) == [298.0, 90.0]
    page = render(summary)
    assert '&lt;45&gt; random took 138 labels' in page
    assert '--against PK' not in page
