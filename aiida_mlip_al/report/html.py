"""The HTML report: one self-contained page that needs no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from aiida_mlip_al.report import compare, figure_parts, figures, reliability, reliability_figures, words
from aiida_mlip_al.report.summary import STAGES, RunSummary, ordered

FOLDER = Path(__file__).parent

Draw = Callable[[RunSummary], 'go.Figure | None']

#: Every plot of the page by its name in the template.
FIGURES: dict[str, Draw] = {
    'learning-force': figures.learning_curve,
    'learning-energy': partial(figures.learning_curve, quantity='energy_mae'),
    'parity-energy': lambda summary: figures.parity_energy(summary.parity),
    'parity-forces': lambda summary: figures.parity_forces(summary.parity),
    'parity-stress': lambda summary: figures.parity_stress(summary.parity),
    'by-temperature': figures.errors_by_temperature,
    'deviations': figures.deviation_histograms,
    'fates': figures.fates,
    'calibration': reliability_figures.calibration,
    'kept-bounds': reliability_figures.kept_bounds,
    'false-negatives': reliability_figures.false_negatives,
    'wall-time': figures.time_by_stage,
    'core-time': partial(figures.time_by_stage, kind='core_s'),
}


def render(summary: RunSummary) -> str:
    """Write a run's report.

    :param summary: the run, complete or still running; what it lacks is left out, with a sentence.
    :returns: an HTML page with its styles, scripts and data inside. Equal summaries give equal pages.
    """
    drawn = draw(summary)
    return (
        environment()
        .get_template('report.html.j2')
        .render(
            **context(summary, {name: figure.layout.height for name, figure in drawn.items()}),
            linked=False,
            at_most=None,
            figures_json=_embed({name: json.loads(figure.to_json(engine='json')) for name, figure in drawn.items()}),
            plotly_js=Markup(get_plotlyjs()),
        )
    )


def draw(summary: RunSummary) -> dict[str, go.Figure]:
    """Draw every plot that there is something to draw of, by its name in the templates."""
    return {name: figure for name, draw_one in FIGURES.items() if (figure := draw_one(summary)) is not None}


def environment(*folders: Path) -> Environment:
    """Return what renders the report's templates, and those in further folders, with everything escaped."""
    made = Environment(
        loader=FileSystemLoader([*folders, FOLDER]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters = (words.number, words.milli, words.count, words.percent, words.duration)
    made.filters.update({function.__name__: function for function in filters})
    return made


def context(summary: RunSummary, heights: Mapping[str, int]) -> dict[str, Any]:
    """Return what the templates of the head and of the sections show.

    :param heights: of every plot that is drawn, by name, in pixels.
    """
    return {
        'run': summary,
        'words': words,
        'compare': compare,
        'heights': heights,
        'verdict_colors': figure_parts.VERDICT_COLORS,
        'verdict_totals': _verdict_totals(summary),
        'stages': _stages_with_processes(summary),
        'rounds': reliability.rounds(summary),
        'all_rounds': reliability.all_rounds(summary),
        'share_of_stages': figures.share_of_stages,
    }


def _embed(value: object) -> Markup:
    """Write JSON for a script element: what could end the element or open a comment is escaped."""
    text = json.dumps(value, sort_keys=True, separators=(',', ':'), allow_nan=False)
    return Markup(text.replace('&', '\\u0026').replace('<', '\\u003c').replace('>', '\\u003e'))


def _verdict_totals(summary: RunSummary) -> dict[str, int]:
    totals: dict[str, int] = {}
    for iteration in summary.iterations:
        for verdict, amount in iteration.fates.items():
            totals[verdict] = totals.get(verdict, 0) + amount
    return {verdict: totals[verdict] for verdict in ordered(totals, tuple(words.VERDICTS)) if totals[verdict]}


def _stages_with_processes(summary: RunSummary) -> list[str]:
    found: dict[str, int] = {}
    for iteration in summary.iterations:
        found |= iteration.processes
    if summary.final:
        found |= summary.final.processes
    return ordered(found, STAGES)
