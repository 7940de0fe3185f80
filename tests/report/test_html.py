"""Is the page complete, self-contained and safe?"""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from aiida_mlip_al.report.html import FIGURES, draw, render
from aiida_mlip_al.report.summary import Errors, Failure, RunSummary

VOID = {'meta', 'link', 'img', 'br', 'hr', 'input', 'base'}
SECTIONS = [
    'learning', 'accuracy', 'exploration', 'reliability', 'iterations', 'cost', 'models', 'failures', 'settings', 'provenance',
]  # fmt: skip


class Page(HTMLParser):
    """What a browser would find in a page: elements, text by element, plots."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self.seen: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        place = self.open[-1] if self.open else ''
        if place == 'script':
            place = f'script {self.elements[-1][1].get("id", "")}'.strip()
        elif place != 'style':
            self.seen.append(data)
        self.text[place] = self.text.get(place, '') + data

    @property
    def prose(self) -> str:
        """All text that a reader sees, with single plain spaces."""
        return ' '.join(''.join(self.seen).split())

    @property
    def figures(self) -> dict[str, Any]:
        return json.loads(self.text['script figures'])

    def attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]


@pytest.fixture
def page(summary: RunSummary) -> Page:
    return Page(render(summary))


def test_every_section_has_its_plots_with_captions(bulk: RunSummary) -> None:
    page = Page(render(bulk))
    assert not page.open
    assert [a['id'] for tag, a in page.elements if tag == 'section'] == SECTIONS
    assert {'#' + name for name in SECTIONS} == set(page.attributes('href'))
    places = {name.removeprefix('plot-') for name in page.attributes('id') if name.startswith('plot-')}
    assert places == set(page.figures) == set(FIGURES)
    tags = [tag for tag, _ in page.elements]
    assert tags.count('figure') == tags.count('figcaption') == len(FIGURES)


def test_points_that_lead_to_one_place_stay_apart(summary: RunSummary) -> None:
    assert summary.parity is not None
    assert summary.final is not None
    summary.parity.evaluation, summary.parity.n_atoms = 571, np.full(120, 9)
    summary.final.nodes = {'errors': 570}
    traces = [trace for figure in draw(summary).values() for trace in figure.data]
    assert all(trace.ids is None for trace in traces), 'plotly draws points of one id as one'
    places = [tuple(trace.meta) for trace in traces if trace.meta]
    assert ('node/570',) * 4 in places
    assert tuple(f'test/571/{frame}' for frame in range(120) for _ in range(27)) in places


def test_plots_name_their_axes_with_units(bulk: RunSummary) -> None:
    for name, figure in Page(render(bulk)).figures.items():
        x = [
            axis['title']['text']
            for key, axis in figure['layout'].items()
            if key.startswith('xaxis') and 'text' in axis['title']
        ]
        assert x, name
        written = x + [
            axis['title'].get('text', '') for key, axis in figure['layout'].items() if key.startswith('yaxis')
        ]
        written += [annotation['text'] for annotation in figure['layout'].get('annotations', [])]
        assert any(unit in ' '.join(written) for unit in ('eV', '%', 'minutes')), name


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    assert not page.attributes('src')
    assert all(link.startswith('#') for link in page.attributes('href'))
    assert not {'link', 'iframe', 'img', 'object', 'embed', 'base'} & {tag for tag, _ in page.elements}
    assert 'url(' not in page.text['style']
    assert '@import' not in page.text['style']
    policy = next(a['content'] for tag, a in page.elements if 'http-equiv' in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert 'http' not in policy
    assert page.text['script'].count('Plotly.react(place') == 1
    assert 'plotly.js v' in page.text['script']


def test_the_page_says_the_finding_and_the_numbers(page: Page) -> None:
    assert page.text['h1'].strip() == 'ethanol-demo'
    prose = page.prose
    for words in (
        'fell from 298 to 60.8 meV/Å (mean absolute), 4.9 times smaller',
        'stopped because 97 % of the explored frames were accurate',
        '24 min 52 s',
        '43 + 5',
        '17 % (3 to 56 %)',
        'Of 24 frames called accurate and labelled to check that, 1 was wrong',
        '7 finished, 1 upper level',
        'conformal: factor 2.4 from 30 pairs',
        'member_03',
        '60 880',
        'SCF not converged in 250 cycles',
        'tblite.ase:TBLite',
        'verdi process status 1412',
    ):
        assert words in prose, words


def test_the_target_of_new_labels_is_not_that_of_the_test_set(page: Page, summary: RunSummary) -> None:
    assert 'RMSE 86.9, target 80' in page.prose
    del summary.targets['test_force_error']
    prose = Page(render(summary)).prose
    assert 'RMSE 86.9' in prose
    assert 'RMSE 86.9, target' not in prose


def test_embedded_data_are_the_summarys(page: Page) -> None:
    test = next(trace for trace in page.figures['learning-force']['data'] if trace['name'] == 'test')
    assert test['x'] == [48, 78, 108, 138]
    assert test['y'] == pytest.approx([298, 142, 93.4, 71.1])


def test_provenance_names_every_process(page: Page, summary: RunSummary) -> None:
    cells = page.text['td']
    for pks in [summary.nodes, *(i.processes for i in summary.iterations)]:
        for pk in pks.values():
            assert str(pk) in cells
    assert summary.uuid in page.text['code']


HOSTILE = '</script ><script>alert(1)</script><img src=x onerror="alert(2)">&{{ 7*7 }}\''


def test_hostile_strings_stay_text(summary: RunSummary) -> None:
    harmless = Page(render(summary))
    summary.label = summary.theory = summary.uuid = summary.version = summary.stop_reason = HOSTILE
    summary.formulas, summary.settings = [HOSTILE], {HOSTILE: {HOSTILE: [HOSTILE]}}
    summary.nodes, summary.failures = {HOSTILE: 1}, [Failure(stage=HOSTILE, pk=None, reason=HOSTILE)]
    for model in summary.models:
        model.name = model.committee = model.dtype = HOSTILE
    for turn in summary.iterations:
        turn.level_note, turn.stopped_walkers = HOSTILE, {HOSTILE: 1}
        turn.fates[HOSTILE] = turn.processes[HOSTILE] = 3
        turn.wall_s[HOSTILE] = 2.0
    source = render(summary)
    page = Page(source)
    assert [tag for tag, _ in page.elements].count('script') == [tag for tag, _ in harmless.elements].count('script')
    assert 'img' not in {tag for tag, _ in page.elements}
    assert not page.attributes('onerror')
    assert page.text['h1'].strip() == HOSTILE
    assert '49' not in page.text['h1']
    assert HOSTILE.replace('_', ' ') in {trace['name'] for trace in page.figures['fates']['data']}
    assert '<' not in page.text['script figures']
    assert '</script ><script>alert' not in source


def test_a_running_run_says_what_is_missing(running: RunSummary) -> None:
    page = Page(render(running))
    assert {'learning-force', 'deviations', 'fates', 'wall-time'} <= set(page.figures)
    assert not {'parity-energy', 'parity-forces', 'parity-stress', 'by-temperature'} & set(page.figures)
    for words in (
        'still running',
        'There are no predictions on a test set yet',
        'There are no errors on a test set',
        'the final committee has not been evaluated yet',
        'No model has been trained yet.',
        'Nothing failed so far.',
    ):
        assert words in page.prose, words


def test_a_finished_run_without_test_frames_shows_validation_errors(summary: RunSummary) -> None:
    assert summary.final is not None
    for turn in summary.iterations:
        turn.test_errors = None
    final = summary.final
    final.errors, final.first_errors, final.member_errors, final.by_temperature = None, None, [], []
    final.validation_errors = Errors(energy_mae=0.002, force_mae=0.0512, force_rmse=0.1)
    prose = Page(render(summary)).prose
    assert 'on validation frames it is 51.2 meV/Å' in prose
    assert 'Validation force MAE51.2 meV/Å' in prose
    assert 'The validation curve should fall' in prose
    assert 'learned from all labels and is the one to use.' in prose
    assert 'final151 + 17 –– 51.2' in prose
    for wrong in ('not been evaluated', 'Test frames are never', 'training stops by them', 'single members'):
        assert wrong not in prose, wrong


def test_a_colour_is_spoken_of_only_if_it_is_there(page: Page, summary: RunSummary) -> None:
    assert 'The green share should grow' in page.prose
    for turn in summary.iterations:
        turn.fates['accurate'] = 0
    prose = Page(render(summary)).prose
    assert 'green share' not in prose
    assert 'The share of accurate frames should grow' in prose


def test_one_model_is_no_committee(summary: RunSummary) -> None:
    summary.single_model, summary.measure = True, 'mahalanobis'
    for model in summary.models:
        model.committee = 'final'
    summary.nodes = {}
    page = Page(render(summary))
    assert 'committee' not in page.prose.lower()
    assert 'disagree' not in page.prose.lower()
    assert 'How uncertain the model is' in page.prose
    assert 'Levels no unit' in page.prose.replace('Levelsno', 'Levels no')
    assert 'Largest Mahalanobis distance (no unit)' in json.dumps(page.figures['calibration'])


def test_without_new_labels_nothing_is_said_to_be_reliable(summary: RunSummary) -> None:
    for turn in summary.iterations:
        turn.outcomes = None
    page = Page(render(summary))
    assert 'nothing tests how reliable the disagreement is' in page.prose
    assert not {'calibration', 'kept-bounds', 'false-negatives'} & set(page.figures)


def test_a_run_without_stress_says_so(page: Page) -> None:
    assert 'Stress is not shown' in page.prose


def test_a_run_that_has_only_begun(running: RunSummary) -> None:
    running.iterations, running.settings, running.nodes = [], {}, {}
    running.labels_in_hand = 6
    page = Page(render(running))
    assert page.figures == {}
    assert 'Labels6' in page.prose
    assert 'learned from' not in page.prose
    for words in (
        'no learning curve',
        'Nothing has been explored yet',
        'No iteration has begun',
        'No stage has been timed',
    ):
        assert words in page.prose, words


@pytest.mark.parametrize(('state', 'status', 'badge'), [('finished', 0, 'finished'), ('finished', 410, 'bad')])
def test_badge_tells_a_good_end_from_a_bad_one(summary: RunSummary, state: Any, status: int, badge: str) -> None:
    summary.state, summary.exit_status = state, status
    assert f'state {badge}' in Page(render(summary)).attributes('class')


def test_equal_summaries_give_equal_pages(summary: RunSummary) -> None:
    assert render(summary) == render(summary)
