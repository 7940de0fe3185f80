"""What the report's plots share: colours, axes, levels, and where a point leads to.

Text and grid take the page's colours (light or dark) when the page draws them; the colours of the data are fixed here
and readable on both. A trace that can be looked up has in ``meta``, for each point, where a page that is served finds what
it stands for; not in ``ids``, for plotly draws points of one id as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import plotly.graph_objects as go

from aiida_mlip_al.report.summary import FinalSummary, IterationSummary

VERDICT_COLORS = {
    'accurate': '#2f9e8f',
    'audit': '#3b82c4',
    'selected': '#e8590c',
    'candidate': '#f2b84b',
    'duplicate': '#98a1ab',
    'over_budget': '#b18cd9',
    'failed': '#d6455d',
    'unphysical': '#8a5a44',
}
GUIDE_COLOR = '#8c8c8c'
LOWER_COLOR, UPPER_COLOR = '#2f9e8f', '#d6455d'
HEIGHT = 380
# Ticks of a decade, from few to many.
LOG_STEPS = ((1,), (1, 2, 5), (1, 2, 3, 5, 7), *(np.arange(1, 10, step) for step in (1, 0.5, 0.2, 0.1, 0.05)))


def style(figure: go.Figure) -> None:
    """Give a figure the looks that all have."""
    figure.update_layout(
        template=go.layout.Template(),
        height=HEIGHT,
        autosize=True,
        margin={'l': 64, 'r': 16, 't': 16, 'b': 56},
        paper_bgcolor='rgba(0,0,0,0)',
        plot_bgcolor='rgba(0,0,0,0)',
        font={'family': 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif', 'size': 13},
        legend={'orientation': 'h', 'x': 0, 'y': 1.02, 'xanchor': 'left', 'yanchor': 'bottom', 'traceorder': 'normal'},
        hoverlabel={'namelength': -1},
    )
    axis: dict[str, Any] = {
        'showline': True,
        'mirror': True,
        'ticks': 'outside',
        'ticklen': 4,
        'zeroline': False,
        'automargin': True,
    }
    axis['title_font'] = {'size': 13}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)


def log_guide(figure: go.Figure, y: float, text: str, color: str) -> None:
    """Draw a level across a plot with a logarithmic y axis (where a shape takes the value, an annotation its log10)."""
    line = {'dash': 'dash', 'color': color, 'width': 1.5}
    figure.add_shape(type='line', xref='x domain', x0=0, x1=1, yref='y', y0=y, y1=y, line=line, layer='below')
    place = {'x': 0.01, 'xanchor': 'left', 'yanchor': 'bottom'}
    figure.add_annotation(text=text, xref='x domain', yref='y', y=float(np.log10(y)), showarrow=False, **place)


def log_axis(axis_range: list[float]) -> dict[str, Any]:
    """Describe a logarithmic axis that has its labels at round numbers, the roundest of which it shows three or more.

    :param axis_range: its ends, as decadic logarithms.
    """
    low, high = axis_range
    decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    ticks: list[float] = []
    for steps in LOG_STEPS:
        ticks = [float(step) * 10.0**decade for decade in decades for step in steps]
        if sum(low <= np.log10(tick) <= high for tick in ticks) >= 3:
            break
    return {'type': 'log', 'range': axis_range, 'tickvals': ticks, 'ticktext': [f'{tick:g}' for tick in ticks]}


def log_range(values: Iterable[float]) -> list[float]:
    """Return the range of a logarithmic axis on which all positive values have some room, as decadic logarithms."""
    exponents = [float(np.log10(value)) for value in values if value > 0]
    margin = 0.06 * (max(exponents) - min(exponents)) + 0.03
    return [min(exponents) - margin, max(exponents) + margin]


def place_of(holder: IterationSummary | FinalSummary, kind: str) -> str:
    """Say where to look up an output, or nothing if it is not known."""
    return f'node/{holder.nodes[kind]}' if kind in holder.nodes else ''


def levels_of(turn: IterationSummary) -> list[tuple[str, float, str]]:
    """Return name, value and colour of the levels that an iteration has."""
    both = (('lower level', turn.lower, LOWER_COLOR), ('upper level', turn.upper, UPPER_COLOR))
    return [(name, level, color) for name, level, color in both if level and np.isfinite(level)]


def spread(rows: list[IterationSummary], at_most: int) -> list[IterationSummary]:
    """Choose so many at most, evenly, always the first and the last."""
    if len(rows) <= at_most:
        return rows
    return [rows[round(k)] for k in np.linspace(0, len(rows) - 1, at_most)]
