"""Do the plots show what the summary says?"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from aiida_mlip_al.report import figures
from aiida_mlip_al.report.figure_parts import log_axis, log_range
from aiida_mlip_al.report.summary import Errors, Parity, RunSummary


def drawn(figure: go.Figure | None) -> go.Figure:
    assert figure is not None
    return figure


def trace(figure: go.Figure | None, name: str) -> go.Scatter:
    return next(trace for trace in drawn(figure).data if trace.name == name)


def texts(figure: go.Figure | None) -> list[str]:
    return [annotation.text for annotation in drawn(figure).layout.annotations]


def test_learning_curve_has_every_set_in_thousandths_against_labels(summary: RunSummary) -> None:
    figure = drawn(figures.learning_curve(summary))
    test = trace(figure, 'test')
    assert list(test.x) == [48, 78, 108, 138]
    assert list(test.y) == pytest.approx([298, 142, 93.4, 71.1])
    assert test.customdata[1] == 'iteration 2, test'
    assert list(trace(figure, 'validation').y) == pytest.approx([238.4, 113.6, 74.72, 56.88])
    assert list(trace(figure, 'new labels').y) == pytest.approx([566.2, 269.8, 177.46, 135.09])
    final = trace(figure, 'final committee, test')
    assert (final.x[0], final.y[0], final.marker.symbol) == (168, pytest.approx(60.8), 'star')
    assert list(trace(figure, 'final, single members').y) == pytest.approx([66.8, 69.1, 70.2, 67.9])
    assert figure.layout.yaxis.type == 'log'
    assert [shape.y0 for shape in figure.layout.shapes] == pytest.approx([80, 120])
    assert [10**text.y for text in figure.layout.annotations] == pytest.approx([80, 120])
    assert texts(figure) == ['target, test: 80 meV/Å', 'target, new labels: 120 meV/Å']
    low, high = 10 ** np.array(figure.layout.yaxis.range)
    assert low < 56.88
    assert high > 566.2


def test_learning_curve_of_energies(summary: RunSummary) -> None:
    figure = drawn(figures.learning_curve(summary, 'energy_mae'))
    assert list(trace(figure, 'test').y) == pytest.approx(np.array([298, 142, 93.4, 71.1]) / 42)
    assert 'meV/atom' in figure.layout.yaxis.title.text
    assert not figure.layout.shapes


def test_without_test_frames_the_final_committee_is_drawn_by_its_validation_error(summary: RunSummary) -> None:
    assert summary.final is not None
    summary.final.errors, summary.final.member_errors = None, []
    summary.final.validation_errors = Errors(energy_mae=0.002, force_mae=0.05, force_rmse=0.1)
    assert list(trace(figures.learning_curve(summary), 'final committee, validation').y) == [50]


def test_a_target_is_shown_with_the_errors_that_it_is_for(summary: RunSummary) -> None:
    del summary.targets['test_force_error']
    assert texts(figures.learning_curve(summary)) == ['target, new labels: 120 meV/Å']
    for turn in summary.iterations:
        turn.new_label_errors = None
    assert texts(figures.learning_curve(summary)) == []


def test_learning_curve_skips_what_a_logarithm_cannot_show(summary: RunSummary) -> None:
    summary.iterations[0].test_errors = Errors(energy_mae=0.0, force_mae=float('nan'), force_rmse=1.0)
    for quantity in ('force_mae', 'energy_mae'):
        assert list(trace(figures.learning_curve(summary, quantity), 'test').x) == [78, 108, 138]


def test_parity_of_energies_is_shifted_by_the_mean_reference(summary: RunSummary) -> None:
    parity = summary.parity
    assert parity is not None
    figure = drawn(figures.parity_energy(parity))
    points = figure.data[1]
    assert np.mean(points.x) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(
        points.y - points.x, 1000 * (parity.energy_predicted - parity.energy_reference), atol=1e-8
    )
    np.testing.assert_array_equal(points.marker.color, parity.temperature)
    assert f'Ē = −{-parity.energy_reference.mean():.4f} eV/atom' in texts(figure)[0]


def test_parity_writes_the_errors_of_all_points_and_draws_a_fixed_sample() -> None:
    reference = np.linspace(-5, 5, 20_000)
    predicted = reference + np.where(np.arange(20_000) % 4, 0.0, 0.2)
    energies = np.zeros(2)
    parity = Parity(
        energy_reference=energies, energy_predicted=energies, force_reference=reference, force_predicted=predicted
    )
    figure = drawn(figures.parity_forces(parity))
    assert texts(figure) == ['MAE 50.0, RMSE 100 meV/Å']
    points = figure.data[1]
    assert len(points.x) == len(set(points.x)) == figures.MAX_POINTS
    assert set(points.x) <= set(reference)
    np.testing.assert_array_equal(points.x, drawn(figures.parity_forces(parity)).data[1].x)
    assert figure.layout.xaxis.range == figure.layout.yaxis.range


def test_the_errors_of_a_parity_plot_stand_above_its_points(summary: RunSummary) -> None:
    for figure in (drawn(figures.parity_energy(summary.parity)), drawn(figures.parity_forces(summary.parity))):
        (text,) = figure.layout.annotations
        assert (text.yref, text.y, text.yanchor) == ('y domain', 1, 'bottom')
        assert figure.layout.margin.t >= 18 * (1 + text.text.count('<br>'))


@pytest.mark.parametrize(
    ('values', 'labels'),
    [
        ((50, 350), ['50', '100', '200']),
        ((13, 80), ['20', '30', '50', '70']),
        ((60, 90), ['60', '70', '80', '90']),
        ((41, 47), ['40', '45', '50']),
        ((44, 44), ['42', '44', '46']),
        ((0.02, 30000), ['0.01', '0.1', '1', '10', '100', '1000', '10000']),
    ],
)
def test_a_logarithmic_axis_has_three_labels_or_more(values: tuple[float, float], labels: list[str]) -> None:
    ticks, (low, high) = log_axis(log_range(values)), log_range(values)
    seen = [
        text for tick, text in zip(ticks['tickvals'], ticks['ticktext'], strict=True) if low <= np.log10(tick) <= high
    ]
    assert seen == labels


def test_parity_of_stress(bulk: RunSummary) -> None:
    parity = bulk.parity
    assert parity is not None
    assert parity.stress_reference is not None
    assert parity.stress_predicted is not None
    parity.stress_predicted[:6] = np.nan
    figure = drawn(figures.parity_stress(parity))
    np.testing.assert_allclose(figure.data[1].x, 1000 * parity.stress_reference[6:])
    assert 'meV/Å³' in texts(figure)[0]
    parity.stress_predicted[:] = np.nan
    assert figures.parity_stress(parity) is None


def test_errors_by_temperature_are_in_order(summary: RunSummary) -> None:
    assert summary.final is not None
    summary.final.by_temperature.reverse()
    mae = trace(figures.errors_by_temperature(summary), 'MAE')
    assert list(mae.x) == ['300 K', '450 K', '600 K']
    assert list(mae.y) == pytest.approx([44.2, 58.9, 79.3])
    assert mae.customdata[0].startswith('40 frames')


def test_histograms_count_every_frame_and_draw_each_iterations_levels(summary: RunSummary) -> None:
    summary.iterations[0].deviations[:3] = (np.nan, np.inf, 0.0)
    figure = drawn(figures.deviation_histograms(summary))
    bars = [trace for trace in figure.data if trace.type == 'bar']
    assert [int(np.sum(bar.customdata)) for bar in bars] == [1605, 1608, 1608, 1608]
    for bar in bars:
        assert np.sum(bar.y) == pytest.approx(100)
    lower = [trace for trace in figure.data if trace.name == 'lower level']
    assert [trace.x[0] for trace in lower] == [0.09, 0.11, 0.15, 0.2]
    assert max(lower[0].y) < 0.8 * figure.layout.yaxis.range[1], 'the label has room'
    assert [trace.showlegend for trace in lower] == [True, False, False, False]
    last = summary.iterations[3]
    below = 100 * np.mean(last.deviations < 0.2)
    assert f'iteration 4, {below:.0f}\u00a0% below' in texts(figure)
    colors = np.array(bars[3].marker.color)
    assert set(colors[bars[3].x < 0.2]) == {figures.VERDICT_COLORS['accurate']}
    assert set(colors[(bars[3].x > 0.2) & (bars[3].x < 1.0)]) == {figures.VERDICT_COLORS['candidate']}
    assert set(colors[bars[3].x > 1.0]) == {figures.VERDICT_COLORS['failed']}


def test_histograms_have_the_unit_of_the_measure(summary: RunSummary) -> None:
    assert drawn(figures.deviation_histograms(summary)).layout.xaxis4.title.text == (
        'Largest force deviation of the frame (eV/Å)'
    )
    summary.measure = 'mahalanobis'
    figure = drawn(figures.deviation_histograms(summary))
    assert figure.layout.xaxis4.title.text == 'Largest Mahalanobis distance of the frame (no unit)'
    assert not any('eV' in trace.hovertemplate for trace in figure.data)


def test_one_model_has_no_committee_in_its_learning_curve(summary: RunSummary) -> None:
    summary.single_model = True
    figure = drawn(figures.learning_curve(summary))
    assert trace(figure, 'final model, test').customdata[0] == 'final model, test'
    assert 'committee' not in figure.to_json()


def test_many_iterations_are_thinned_to_first_and_last_and_some_between(summary: RunSummary) -> None:
    template = summary.iterations[0]
    summary.iterations = [type(template)(**vars(template) | {'number': n}) for n in range(1, 31)]
    shown = [text.split(',')[0] for text in texts(figures.deviation_histograms(summary)) if 'iteration' in text]
    assert len(shown) == figures.MAX_HISTOGRAMS
    assert (shown[0], shown[-1]) == ('iteration 1', 'iteration 30')


def test_fates_are_shares_with_the_labelled_number_on_top(summary: RunSummary) -> None:
    summary.iterations[0].fates = {'accurate': 10, 'selected': 20, 'audit': 5, 'novel': 5, 'failed': 0}
    summary.iterations = summary.iterations[:1]
    figure = drawn(figures.fates(summary))
    assert [trace.name for trace in figure.data] == ['accurate', 'audit', 'selected', 'novel']
    assert [trace.y[0] for trace in figure.data] == [25, 12.5, 50, 12.5]
    assert [trace.marker.color for trace in figure.data][:3] == [
        figures.VERDICT_COLORS[v] for v in ('accurate', 'audit', 'selected')
    ]
    assert texts(figure) == ['25']


def test_fates_reach_a_hundred_percent(summary: RunSummary) -> None:
    figure = drawn(figures.fates(summary))
    assert np.sum([trace.y for trace in figure.data], axis=0) == pytest.approx([100] * 4)
    assert [annotation.x for annotation in figure.layout.annotations] == [0, 1, 2, 3]


def test_times_add_up_in_a_fitting_unit(summary: RunSummary) -> None:
    wall = drawn(figures.time_by_stage(summary))
    assert 'minutes' in wall.layout.yaxis.title.text
    sums = [sum(i.wall_s.values()) / 60 for i in summary.iterations]
    assert np.sum([trace.y for trace in wall.data], axis=0) == pytest.approx(sums)
    assert [trace.name for trace in wall.data] == ['seed', 'label', 'train', 'explore', 'evaluate', 'select', 'final']
    core = trace(figures.time_by_stage(summary, 'core_s'), 'train')
    assert core.y[1] == pytest.approx(450 / 60)
    assert figures.share_of_stages(summary).startswith('train 64\u00a0%, final ')


def test_nothing_is_drawn_from_nothing(summary: RunSummary) -> None:
    summary.iterations, summary.final, summary.parity = [], None, None
    for draw in (
        figures.learning_curve,
        figures.errors_by_temperature,
        figures.deviation_histograms,
        figures.fates,
        figures.time_by_stage,
    ):
        assert draw(summary) is None
    for draw_parity in (figures.parity_energy, figures.parity_forces, figures.parity_stress):
        assert draw_parity(None) is None
    assert figures.share_of_stages(summary) == ''
