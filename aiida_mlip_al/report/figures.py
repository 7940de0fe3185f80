"""The report's plots: pure functions from a summary to a plotly figure, or None if there is nothing to plot."""

from __future__ import annotations

from itertools import cycle, pairwise
from typing import Literal
from urllib.parse import quote

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from aiida_mlip_al.report.figure_parts import (
    GUIDE_COLOR,
    HEIGHT,
    VERDICT_COLORS,
    levels_of,
    log_axis,
    log_guide,
    log_range,
    place_of,
    spread,
    style,
)
from aiida_mlip_al.report.summary import (
    Errors,
    FloatArray,
    IterationSummary,
    Parity,
    RunSummary,
    ordered,
)
from aiida_mlip_al.report.words import LABELLED, VERDICTS, axis, count, duration, milli, number, percent

STAGE_COLORS = {
    'seed': '#98a1ab',
    'label': '#e8590c',
    'train': '#3b82c4',
    'explore': '#2f9e8f',
    'evaluate': '#b18cd9',
    'select': '#f2b84b',
    'final': '#d6455d',
}
OTHER_COLOR = '#7d7d7d'
OTHER_RUNS = ('#7d7d7d', '#8a5a44', '#b18cd9')
SET_COLORS = {'test': '#3b82c4', 'validation': '#2f9e8f', 'new labels': '#e8590c'}
# What a run may ask of the force MAE on a set, as its settings call it.
TARGETS = {'test': 'test_force_error', 'new labels': 'target_force_error'}

MAX_POINTS = 5000
DENSITY_CELLS = 120
MAX_HISTOGRAMS = 8
# From few to many, readable on light and on dark.
DENSITY_SCALE = [[0, '#8fb8de'], [0.5, '#3b82c4'], [1, '#e8590c']]


def learning_curve(summary: RunSummary, quantity: Literal['force_mae', 'energy_mae'] = 'force_mae') -> go.Figure | None:
    """Plot errors against the number of labels, logarithmic: test, validation, new labels, the final models, other runs."""
    unit, title = ('meV/Å', 'Force MAE') if quantity == 'force_mae' else ('meV/atom', 'Energy MAE')
    hover = f'%{{customdata}}<br>%{{x}} labels<br>%{{y:.3g}} {unit}'
    figure = go.Figure()
    for shade, other in zip(cycle(OTHER_RUNS), summary.others):
        turns = [(turn, value) for turn in other.iterations if (value := _milli(turn.test_errors, quantity))]
        figure.add_scatter(
            x=[turn.n_labels for turn, _ in turns],
            y=[value for _, value in turns],
            customdata=[f'run {other.pk}, iteration {turn.number}, test' for turn, _ in turns],
            name=f'run {other.pk}, test',
            mode='lines+markers',
            line={'dash': 'longdash', 'color': shade, 'width': 2},
            marker={'symbol': 'circle-open', 'size': 9},
            hovertemplate=hover + '<extra></extra>',
        )
    for name, attribute, dash, symbol, node in (
        ('test', 'test_errors', 'solid', 'circle', 'errors'),
        ('validation', 'validation_errors', 'dot', 'square', 'errors'),
        ('new labels', 'new_label_errors', 'dash', 'triangle-up', 'new_labels'),
    ):
        points = [(i, value) for i in summary.iterations if (value := _milli(getattr(i, attribute), quantity))]
        if points:
            figure.add_scatter(
                x=[i.n_labels for i, _ in points],
                y=[value for _, value in points],
                customdata=[f'iteration {i.number}, {name}' for i, _ in points],
                meta=[place_of(i, node) for i, _ in points],
                name=name,
                mode='lines+markers',
                line={'dash': dash, 'color': SET_COLORS[name], 'width': 2},
                marker={'symbol': symbol, 'size': 9},
                hovertemplate=hover + '<extra></extra>',
            )
    on, final = _of_final(summary, quantity)
    if summary.final and final:
        members = [value for errors in summary.final.member_errors if (value := _milli(errors, quantity))]
        if members:
            figure.add_scatter(
                x=[summary.n_labels] * len(members),
                y=members,
                customdata=[f'final {summary.predictor}, member {k}, test' for k in range(len(members))],
                meta=[place_of(summary.final, 'errors')] * len(members),
                name='final, single members',
                mode='markers',
                marker={'symbol': 'line-ew-open', 'size': 16, 'color': SET_COLORS['test'], 'line': {'width': 1.5}},
                hovertemplate=hover + '<extra></extra>',
            )
        figure.add_scatter(
            x=[summary.n_labels],
            y=[final],
            customdata=[f'final {summary.predictor}, {on}'],
            meta=[place_of(summary.final, 'errors')],
            name=f'final {summary.predictor}, {on}',
            mode='markers',
            marker={'symbol': 'star', 'size': 17, 'color': '#c99700', 'line': {'width': 1, 'color': '#fff3c4'}},
            hovertemplate=hover + '<extra></extra>',
        )
    if not figure.data:
        return None
    shown = [float(value) for trace in figure.data for value in trace.y]
    drawn = {trace.name for trace in figure.data}
    for name, asked in TARGETS.items() if quantity == 'force_mae' else ():
        if name in drawn and asked in summary.targets:
            target = 1000 * summary.targets[asked]
            log_guide(figure, target, f'target, {name}: {target:g} {unit}', SET_COLORS[name])
            shown.append(target)
    style(figure)
    figure.update_xaxes(title_text='Labels (training and validation)', rangemode='tozero')
    figure.update_yaxes(title_text=f'{title} ({unit})', **log_axis(log_range(shown)))
    return figure


def parity_energy(parity: Parity | None) -> go.Figure | None:
    """Plot predicted against reference energies per atom, less the mean reference; colour tells the temperature."""
    if parity is None or not len(parity.energy_reference):
        return None
    origin = float(np.nanmean(parity.energy_reference))
    figure = _parity(
        1000 * (parity.energy_reference - origin),
        1000 * (parity.energy_predicted - origin),
        quantity='energy',
        unit='meV/atom',
        color=parity.temperature,
        frames=_frames_of(parity, np.ones(len(parity.energy_reference))),
    )
    if figure is not None:
        mean = f'Ē = {origin:.4f} eV/atom'.replace('-', '−')
        figure.layout.annotations[0].text += f'<br>{mean}'
        figure.update_xaxes(title_text='Reference energy − Ē (meV/atom)')
        figure.update_yaxes(title_text='Predicted energy − Ē (meV/atom)')
    return figure


def parity_forces(parity: Parity | None) -> go.Figure | None:
    """Plot predicted against reference force components."""
    if parity is None:
        return None
    return _parity(
        parity.force_reference,
        parity.force_predicted,
        quantity='force',
        unit='eV/Å',
        milli_errors=True,
        frames=_frames_of(parity, None if parity.n_atoms is None else 3 * parity.n_atoms),
    )


def parity_stress(parity: Parity | None) -> go.Figure | None:
    """Plot predicted against reference stress components; None without periodic labels."""
    if parity is None or parity.stress_reference is None or parity.stress_predicted is None:
        return None
    every_frame = len(parity.stress_reference) == 6 * len(parity.energy_reference)
    return _parity(
        1000 * parity.stress_reference,
        1000 * parity.stress_predicted,
        quantity='stress',
        unit='meV/Å³',
        frames=_frames_of(parity, np.full(len(parity.energy_reference), 6) if every_frame else None),
    )


def _parity(
    reference: FloatArray,
    predicted: FloatArray,
    *,
    quantity: str,
    unit: str,
    color: FloatArray | None = None,
    milli_errors: bool = False,
    frames: list[str] | None = None,
) -> go.Figure | None:
    reference, predicted = np.asarray(reference, dtype=float).ravel(), np.asarray(predicted, dtype=float).ravel()
    finite = np.isfinite(reference) & np.isfinite(predicted)
    if not finite.any():
        return None
    colors = None if color is None else np.asarray(color, dtype=float)[finite]
    reference, predicted = reference[finite], predicted[finite]
    mae, rmse = float(np.mean(abs(predicted - reference))), float(np.sqrt(np.mean((predicted - reference) ** 2)))
    shown, crowd = thin(reference, predicted)
    marker = {'size': 6, 'opacity': 0.6, 'color': SET_COLORS['test']}
    if len(shown) > 1000:
        marker |= {'size': 4, 'opacity': 0.35}
    extra = ''
    if len(shown) < len(reference):
        marker |= {'opacity': 0.8, 'color': np.log10(crowd), 'colorscale': DENSITY_SCALE, 'colorbar': _count_bar(crowd)}
    if colors is not None and np.isfinite(colors).any():
        marker |= {
            'color': colors[shown],
            'colorscale': 'Plasma',
            'colorbar': _colorbar('K'),
            'size': 7,
            'opacity': 0.8,
        }
        marker |= {'cmin': float(np.nanmin(colors)) * 0.8, 'cmax': float(np.nanmax(colors)) * 1.15}
        extra = '<br>%{marker.color:.0f} K'
    low, high = (float(pick([reference, predicted])) for pick in (np.min, np.max))
    margin = 0.05 * (high - low) or 1.0
    ends = [low - margin, high + margin]
    figure = go.Figure()
    figure.add_scatter(x=ends, y=ends, mode='lines', line={'color': GUIDE_COLOR, 'width': 1.5}, hoverinfo='skip')
    figure.add_scatter(
        x=reference[shown],
        y=predicted[shown],
        mode='markers',
        marker=marker,
        meta=None if frames is None else np.asarray(frames)[finite][shown].tolist(),
        hovertemplate=f'reference %{{x:.4g}}<br>predicted %{{y:.4g}} {unit}{extra}<extra></extra>',
    )
    scale, error_unit = (1000, f'm{unit}') if milli_errors else (1, unit)
    figure.add_annotation(
        text=f'MAE {number(scale * mae)}, RMSE {number(scale * rmse)} {error_unit}',
        xref='x domain',
        yref='y domain',
        x=0,
        y=1,
        xanchor='left',
        yanchor='bottom',
        align='left',
        showarrow=False,
    )
    style(figure)
    figure.update_layout(showlegend=False, hovermode='closest', margin={'t': 44})
    figure.update_xaxes(title_text=f'Reference {quantity} ({unit})', range=ends, constrain='domain')
    figure.update_yaxes(
        title_text=f'Predicted {quantity} ({unit})', range=ends, scaleanchor='x', scaleratio=1, constrain='domain'
    )
    return figure


def errors_by_temperature(summary: RunSummary) -> go.Figure | None:
    """Plot the force errors of the final committee on the test frames of each temperature."""
    rows = sorted(summary.final.by_temperature, key=lambda row: row[0]) if summary.final else []
    if not rows:
        return None
    names = [f'{temperature:.0f} K' for temperature, _, _ in rows]
    notes = [f'{count(n)} frames, energy MAE {milli(errors.energy_mae)} meV/atom' for _, n, errors in rows]
    figure = go.Figure()
    for name, attribute, color in (('MAE', 'force_mae', '#3b82c4'), ('RMSE', 'force_rmse', '#f2b84b')):
        figure.add_bar(
            x=names,
            y=[1000 * getattr(errors, attribute) for _, _, errors in rows],
            customdata=notes,
            meta=[place_of(summary.final, 'errors')] * len(rows) if summary.final else None,
            name=name,
            marker={'color': color},
            texttemplate='%{y:.3g}',
            textposition='outside',
            cliponaxis=False,
            hovertemplate=f'%{{x}}, {name} %{{y:.3g}} meV/Å<br>%{{customdata}}<extra></extra>',
        )
    style(figure)
    figure.update_layout(barmode='group', bargap=0.35)
    figure.update_xaxes(title_text='Temperature of the test frames', type='category')
    figure.update_yaxes(title_text='Force error (meV/Å)', rangemode='tozero')
    return figure


def deviation_histograms(summary: RunSummary) -> go.Figure | None:
    """Plot the distribution of the frames' measure, one row an iteration, with the levels that judged them.

    Beyond :data:`MAX_HISTOGRAMS` iterations some evenly spread ones are shown, always the first and the last.
    """
    unit = summary.compared.unit
    usable = {i.number: _positive(i.deviations) for i in summary.iterations}
    rows = spread([i for i in summary.iterations if len(usable[i.number])], MAX_HISTOGRAMS)
    if not rows:
        return None
    levels = [level for i in rows for _, level, _ in levels_of(i)]
    low = min([float(usable[i.number].min()) for i in rows] + levels)
    high = max([float(usable[i.number].max()) for i in rows] + levels)
    edges = np.geomspace(low / 1.1, high * 1.1, 61)
    centers = np.sqrt(edges[1:] * edges[:-1])
    figure = make_subplots(rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=0.12 / len(rows))
    drawn: set[str] = set()
    for row, iteration in enumerate(rows, start=1):
        deviations = usable[iteration.number]
        share = 100 * np.histogram(deviations, bins=edges)[0] / len(deviations)
        figure.add_bar(
            x=centers,
            y=share,
            width=np.diff(edges),
            marker={'color': [_region_color(center, iteration) for center in centers], 'line': {'width': 0}},
            customdata=np.round(share * len(deviations) / 100).astype(int),
            meta=[f'explored/{iteration.number}?low={low:.6g}&high={high:.6g}' for low, high in pairwise(edges)],
            hovertemplate=(
                f'iteration {iteration.number}<br>%{{x:.3g}} {unit}<br>%{{y:.1f}} %, %{{customdata}} frames<extra></extra>'
            ),
            showlegend=False,
            row=row,
            col=1,
        )
        highest = float(share.max())
        top = 1.35 * highest
        for name, level, color in levels_of(iteration):
            figure.add_scatter(
                x=[level, level],
                # The rest is for the name of the iteration.
                y=[0, highest],
                mode='lines',
                line={'color': color, 'width': 2, 'dash': 'dash'},
                name=name,
                legendgroup=name,
                showlegend=name not in drawn,
                hovertemplate=f'{name} {number(level)} {unit}<extra></extra>',
                row=row,
                col=1,
            )
            drawn.add(name)
        below = f', {percent(float(np.mean(deviations < iteration.lower)))} below' if iteration.lower else ''
        figure.add_annotation(
            text=f'iteration {iteration.number}{below}',
            x=0.01,
            y=0.96,
            xref='x domain',
            yref='y domain',
            xanchor='left',
            yanchor='top',
            showarrow=False,
            row=row,
            col=1,
        )
        figure.update_yaxes(range=[0, top], nticks=3, row=row, col=1)
    style(figure)
    figure.update_layout(bargap=0, height=max(HEIGHT, 92 * len(rows) + 100))
    figure.add_annotation(
        text='Frames (%)',
        textangle=-90,
        xref='paper',
        yref='paper',
        x=0,
        y=0.5,
        xshift=-46,
        showarrow=False,
    )
    figure.update_xaxes(**log_axis([float(np.log10(edges[0])), float(np.log10(edges[-1]))]))
    figure.update_xaxes(title_text=axis(f'{summary.compared.title} of the frame', unit), row=len(rows), col=1)
    figure.update_layout(margin={'l': 64})
    return figure


def fates(summary: RunSummary) -> go.Figure | None:
    """Plot the share of each verdict among the explored frames, one bar an iteration, the number labelled on top."""
    rows = [i for i in summary.iterations if sum(i.fates.values())]
    if not rows:
        return None
    totals = [sum(i.fates.values()) for i in rows]
    names = [str(i.number) for i in rows]
    figure = go.Figure()
    for verdict in ordered({name: 0 for i in rows for name, n in i.fates.items() if n}, tuple(VERDICTS)):
        numbers = [i.fates.get(verdict, 0) for i in rows]
        figure.add_bar(
            x=names,
            y=[100 * n / total for n, total in zip(numbers, totals, strict=True)],
            name=verdict.replace('_', ' '),
            customdata=numbers,
            meta=[f'explored/{i.number}?verdict={quote(verdict)}' for i in rows],
            marker={'color': VERDICT_COLORS.get(verdict, OTHER_COLOR), 'line': {'width': 0}},
            hovertemplate='iteration %{x}<br>%{customdata} frames, %{y:.1f} %<extra>%{fullData.name}</extra>',
        )
    for position, iteration in enumerate(rows):
        labelled = sum(iteration.fates.get(verdict, 0) for verdict in LABELLED)
        figure.add_annotation(x=position, y=100, text=count(labelled), showarrow=False, yanchor='bottom')
    style(figure)
    figure.update_layout(barmode='stack', bargap=0.35)
    figure.update_xaxes(title_text='Iteration (above the bar: frames labelled)', type='category')
    figure.update_yaxes(title_text='Explored frames (%)', range=[0, 108], tickvals=[0, 25, 50, 75, 100])
    return figure


def time_by_stage(summary: RunSummary, kind: Literal['wall_s', 'core_s'] = 'wall_s') -> go.Figure | None:
    """Plot the time of each stage, one bar an iteration."""
    stages = summary.time_by_stage(kind)
    rows = [i for i in summary.iterations if sum(getattr(i, kind).values())]
    if not rows:
        return None
    unit, size = _time_unit(max(sum(getattr(i, kind).values()) for i in rows))
    names = [str(i.number) for i in rows]
    figure = go.Figure()
    for stage in stages:
        seconds = [getattr(i, kind).get(stage, 0.0) for i in rows]
        figure.add_bar(
            x=names,
            y=[value / size for value in seconds],
            customdata=[duration(value) for value in seconds],
            meta=[f'node/{i.processes[stage]}' if stage in i.processes else '' for i in rows],
            name=stage,
            marker={'color': STAGE_COLORS.get(stage, OTHER_COLOR), 'line': {'width': 0}},
            hovertemplate='iteration %{x}<br>%{customdata}<extra>%{fullData.name}</extra>',
        )
    style(figure)
    figure.update_layout(barmode='stack', bargap=0.35)
    figure.update_xaxes(title_text='Iteration', type='category')
    figure.update_yaxes(title_text=f'Wall time ({unit})' if kind == 'wall_s' else f'Core time (core-{unit})')
    return figure


def share_of_stages(summary: RunSummary, kind: Literal['wall_s', 'core_s'] = 'wall_s') -> str:
    """Say which stages took most of the time: 'train 62 %, label 21 %, explore 12 %'."""
    stages = summary.time_by_stage(kind)
    total = sum(stages.values())
    if not total:
        return ''
    largest = sorted(stages, key=lambda stage: -stages[stage])[:3]
    return ', '.join(f'{stage} {percent(stages[stage] / total)}' for stage in largest)


def _colorbar(title: str) -> dict[str, object]:
    return {'title': {'text': title}, 'thickness': 10, 'outlinewidth': 0, 'nticks': 5}


def _milli(errors: Errors | None, quantity: str) -> float | None:
    """Return an error in thousandths, or None if a logarithmic axis cannot show it."""
    value = 1000 * getattr(errors, quantity) if errors else 0.0
    return value if np.isfinite(value) and value > 0 else None


def _of_final(summary: RunSummary, quantity: str) -> tuple[str, float | None]:
    """Return what the final committee was judged on, and its error there: on validation frames for want of test frames."""
    if summary.final is None:
        return '', None
    on_test = _milli(summary.final.errors, quantity)
    return ('test', on_test) if on_test else ('validation', _milli(summary.final.validation_errors, quantity))


def thin(x: FloatArray, y: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose at most :data:`MAX_POINTS` points: all where they are sparse, some where they are dense.

    The plane is cut into cells, and of each cell the same number is kept, drawn at random but the same every time. So
    outliers are never lost; how many points a cell has is what their colour tells.

    :param x: shape (n,).
    :param y: shape (n,).
    :returns: rows of the chosen points, in order, and the number of points in the cell of each.
    """
    n = len(x)
    cells = np.zeros(n, dtype=int)
    for values in (x, y):
        low, width = values.min(), np.ptp(values) or 1.0
        cells = cells * DENSITY_CELLS + np.minimum(
            (DENSITY_CELLS * (values - low) / width).astype(int), DENSITY_CELLS - 1
        )
    _, cell, counts = np.unique(cells, return_inverse=True, return_counts=True)
    if n <= MAX_POINTS:
        return np.arange(n), counts[cell]
    shuffled = np.random.default_rng(0).permutation(n)
    by_cell = shuffled[np.argsort(cell[shuffled], kind='stable')]
    turn = np.empty(n, dtype=int)
    turn[by_cell] = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.sort(shuffled[np.argsort(turn[shuffled], kind='stable')][:MAX_POINTS])
    return chosen, counts[cell[chosen]]


def _count_bar(crowd: NDArray[np.intp]) -> dict[str, object]:
    decades = range(int(np.log10(crowd.max())) + 1)
    ticks = {'tickvals': list(decades), 'ticktext': [count(10**decade) for decade in decades]}
    return {'title': {'text': 'points<br>nearby'}, 'thickness': 10, 'outlinewidth': 0, **ticks}


def _frames_of(parity: Parity, repeats: FloatArray | None) -> list[str] | None:
    """Name the test frame of every component, given how many components each frame has."""
    if parity.evaluation is None or repeats is None:
        return None
    names = [f'test/{parity.evaluation}/{row}' for row in range(len(repeats))]
    return [name for name, times in zip(names, repeats, strict=True) for _ in range(int(times))]


def _positive(values: FloatArray) -> FloatArray:
    values = np.asarray(values, dtype=float).ravel()
    return values[np.isfinite(values) & (values > 0)]


def _region_color(deviation: float, iteration: IterationSummary) -> str:
    if iteration.upper and deviation > iteration.upper:
        return VERDICT_COLORS['failed']
    if iteration.lower and deviation < iteration.lower:
        return VERDICT_COLORS['accurate']
    return VERDICT_COLORS['candidate'] if iteration.lower else SET_COLORS['test']


def _time_unit(seconds: float) -> tuple[str, float]:
    for name, size in (('hours', 3600.0), ('minutes', 60.0)):
        if seconds >= 2 * size:
            return name, size
    return 'seconds', 1.0
