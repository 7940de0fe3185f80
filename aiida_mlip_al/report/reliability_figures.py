"""The plots of how far the measure could be trusted: pure functions from a summary to a figure, or None if there is nothing."""

from __future__ import annotations

from typing import Any, Literal

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
    log_range,
    place_of,
    spread,
    style,
)
from aiida_mlip_al.report.reliability import Part, Round, rounds
from aiida_mlip_al.report.summary import IterationSummary, Outcomes, RunSummary
from aiida_mlip_al.report.words import axis, count, interval, number, percent

MAX_PANELS = 8
BOUND_COLOR = '#8f5fd0'
# Colour and symbol of a labelled frame, by why it was chosen and when its label came.
OUTCOME_MARKERS = {
    'chosen': (VERDICT_COLORS['selected'], 'circle'),
    'audit': (VERDICT_COLORS['audit'], 'circle'),
    'chosen, late': (VERDICT_COLORS['selected'], 'circle-open'),
    'audit, late': (VERDICT_COLORS['audit'], 'circle-open'),
}


def calibration(summary: RunSummary) -> go.Figure | None:
    """Plot the force error that a label showed against the measure when its frame was chosen, one panel an iteration.

    Colour tells why a frame was chosen, the symbol whether its label came late; with the levels, the tolerance and the
    calibrated bound. Beyond :data:`MAX_PANELS` iterations some evenly spread ones are shown, always the first and the last.
    """
    shown = {turn.number: usable for turn in summary.iterations if (usable := _drawable(turn.outcomes)) is not None}
    turns = spread([turn for turn in summary.iterations if turn.number in shown], MAX_PANELS)
    if not turns:
        return None
    unit, tolerance = summary.compared.unit, summary.targets.get('tolerance')
    levels = [level for turn in turns for _, level, _ in levels_of(turn)]
    x = np.concatenate([*(shown[turn.number].measure for turn in turns), levels])
    y = np.concatenate([*(shown[turn.number].error for turn in turns), [tolerance] if tolerance else []])
    x_range, y_range = log_range(x), log_range(y)
    columns = min(2, len(turns))
    rows = -(-len(turns) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes='all',
        shared_yaxes='all',
        horizontal_spacing=0.03,
        vertical_spacing=0.16 / rows,
    )
    named: set[str] = set()

    def add(position: int, name: str, **trace: Any) -> None:
        place = {'row': position // columns + 1, 'col': position % columns + 1}
        figure.add_scatter(name=name, legendgroup=name, showlegend=name not in named, **place, **trace)
        named.add(name)

    for position, turn in enumerate(turns):
        points = shown[turn.number]
        for kind, (color, symbol) in OUTCOME_MARKERS.items():
            mine = (points.audit == kind.startswith('audit')) & (points.late == kind.endswith('late'))
            if mine.any():
                add(
                    position,
                    kind,
                    x=points.measure[mine],
                    y=points.error[mine],
                    meta=_chosen(turn, points, mine),
                    mode='markers',
                    marker={
                        'size': 8,
                        'opacity': 0.8,
                        'color': color,
                        'symbol': symbol,
                        'line': {'width': 1.5, 'color': color},
                    },
                    hovertemplate=(
                        f'iteration {turn.number}<br>{summary.compared.title} %{{x:.3g}} {unit}<br>'
                        'force error %{y:.3g} eV/Å<extra>%{fullData.name}</extra>'
                    ),
                )
        for name, level, color in levels_of(turn):
            add(
                position,
                name,
                x=[level, level],
                y=[10.0**end for end in y_range],
                mode='lines',
                line={'color': color, 'width': 2, 'dash': 'dash'},
                hovertemplate=f'{name} {number(level)} {unit}<extra></extra>',
            )
        ends = np.array([10.0**end for end in x_range])
        if tolerance:
            add(
                position,
                f'tolerance {tolerance:g} eV/Å',
                x=ends,
                y=[tolerance, tolerance],
                mode='lines',
                line={'color': GUIDE_COLOR, 'width': 1.5, 'dash': 'dash'},
                hoverinfo='skip',
            )
        if turn.factor:
            add(
                position,
                'calibrated bound',
                x=ends,
                y=turn.factor * ends,
                mode='lines',
                line={'color': BOUND_COLOR, 'width': 2},
                hovertemplate=f'error = {number(turn.factor)} × measure<extra></extra>',
            )
        if unit == 'eV/Å':
            add(
                position,
                'error = deviation',
                x=ends,
                y=ends,
                mode='lines',
                line={'color': GUIDE_COLOR, 'width': 1.5, 'dash': 'dot'},
                hoverinfo='skip',
            )
        figure.add_annotation(
            text=f'iteration {turn.number}',
            x=0,
            y=1,
            xref='x domain',
            yref='y domain',
            xanchor='left',
            yanchor='bottom',
            showarrow=False,
            row=position // columns + 1,
            col=position % columns + 1,
        )
    style(figure)
    height = max(HEIGHT, 250 * rows + 120)
    figure.update_layout(hovermode='closest', height=height, legend={'y': 1 + 26 / (height - 120)})
    figure.update_xaxes(**log_axis(x_range))
    figure.update_yaxes(**log_axis(y_range))
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text=axis(summary.compared.title, unit), row=rows, col=column)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text='Largest force error (eV/Å)', row=row, col=1)
    return figure


def kept_bounds(summary: RunSummary) -> go.Figure | None:
    """Plot, for each round, the share of new labels whose error kept to the calibrated bound, against what was promised."""
    figure = _shares(summary, 'within', 'kept to the bound', VERDICT_COLORS['selected'])
    if figure is None:
        return None
    found = [round_ for round_ in rounds(summary) if round_.within and round_.promised is not None]
    figure.add_scatter(
        x=[str(round_.number) for round_ in found],
        y=[100 * (round_.promised or 0) for round_ in found],
        customdata=['' if round_.guaranteed else '; too few pairs to promise it' for round_ in found],
        name='promised',
        mode='markers',
        marker={'symbol': 'line-ew-open', 'size': 30, 'color': BOUND_COLOR, 'line': {'width': 2.5}},
        meta=_nodes_of(summary, found, 'selection'),
        hovertemplate='iteration %{x}<br>promised %{y:.3g} %%{customdata}<extra></extra>',
    )
    figure.update_yaxes(title_text='New labels within the bound (%)')
    return figure


def false_negatives(summary: RunSummary) -> go.Figure | None:
    """Plot, for each round, the share of audited frames that were called accurate and were not."""
    figure = _shares(summary, 'missed', 'wrong', VERDICT_COLORS['audit'])
    if figure is None:
        return None
    if target := summary.targets.get('false_negative_rate'):
        line = {'dash': 'dash', 'color': GUIDE_COLOR, 'width': 1.5}
        figure.add_hline(y=100 * target, line=line, annotation_text=f'target {percent(target)}')
    figure.update_yaxes(title_text='Audited frames that were wrong (%)')
    return figure


def _shares(summary: RunSummary, field: Literal['within', 'missed'], name: str, color: str) -> go.Figure | None:
    """Plot a share of each round with its interval."""
    found: list[tuple[Round, Part]] = [
        (round_, part) for round_ in rounds(summary) if (part := getattr(round_, field)) is not None
    ]
    if not found:
        return None
    figure = go.Figure()
    figure.add_scatter(
        x=[str(round_.number) for round_, _ in found],
        y=[100 * part.share for _, part in found],
        error_y={
            'type': 'data',
            'symmetric': False,
            'array': [100 * (part.high - part.share) for _, part in found],
            'arrayminus': [100 * (part.share - part.low) for _, part in found],
            'thickness': 1.5,
            'width': 6,
        },
        customdata=[f'{count(part.hits)} of {count(part.trials)}: {interval(part)}' for _, part in found],
        meta=_nodes_of(summary, [round_ for round_, _ in found], 'new_labels'),
        name=f'{name}, with {percent(summary.confidence)} interval',
        mode='markers',
        marker={'size': 10, 'color': color},
        hovertemplate='iteration %{x}<br>%{customdata}<extra></extra>',
    )
    style(figure)
    figure.update_layout(hovermode='closest', showlegend=True)
    figure.update_xaxes(title_text='Iteration', type='category')
    figure.update_yaxes(range=[-4, 104], tickvals=[0, 25, 50, 75, 100])
    return figure


def _nodes_of(summary: RunSummary, found: list[Round], kind: str) -> list[str]:
    """Say where to look up an output of each round; late labels in the place of new ones, for they are among them."""
    turns = {turn.number: turn for turn in summary.iterations}
    places = []
    for round_ in found:
        turn = turns[round_.number or 0]
        late = kind == 'new_labels' and 'late_labels' in turn.nodes
        places.append(place_of(turn, 'late_labels' if late else kind))
    return places


def _chosen(turn: IterationSummary, points: Outcomes, mine: NDArray[np.bool_]) -> list[str] | None:
    selection = turn.nodes.get('selection')
    if selection is None or points.rank is None:
        return None
    return [f'chosen/{selection}/{int(rank)}' for rank in points.rank[mine]]


def _drawable(outcomes: Outcomes | None) -> Outcomes | None:
    """Return the frames that logarithmic axes can show, or None if there is none."""
    if outcomes is None:
        return None
    both = np.stack([outcomes.measure, outcomes.error])
    usable = np.all(np.isfinite(both) & (both > 0), axis=0)
    if not usable.any():
        return None
    return Outcomes(
        measure=outcomes.measure[usable],
        error=outcomes.error[usable],
        audit=outcomes.audit[usable],
        late=outcomes.late[usable],
        rank=None if outcomes.rank is None else outcomes.rank[usable],
    )
