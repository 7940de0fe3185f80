"""Are numbers and findings said right?"""

from __future__ import annotations

from typing import Any

import pytest

from aiida_mlip_al.report import words
from aiida_mlip_al.report.summary import ModelSummary, RunSummary


@pytest.mark.parametrize(
    ('value', 'written'),
    [
        (298.4, '298'),
        (61.234, '61.2'),
        (1234.5, '1234'),
        (0.01234, '0.0123'),
        (0, '0'),
        (2.5e-6, '2.50e-06'),
        (-0.5, '-0.500'),
        (None, '–'),
        (float('nan'), '–'),
    ],
)
def test_number(value: float | None, written: str) -> None:
    assert words.number(value) == written


@pytest.mark.parametrize(
    ('seconds', 'written'),
    [
        (4.25, '4.2 s'),
        (42, '42 s'),
        (725, '12 min 5 s'),
        (3600, '1 h'),
        (11520, '3 h 12 min'),
        (187200, '2 d 4 h'),
        (59.7, '1 min'),
        (None, '–'),
    ],
)
def test_duration(seconds: float | None, written: str) -> None:
    assert words.duration(seconds).replace('\u00a0', ' ') == written


def test_percent_keeps_apart_what_is_nearly_all_or_nothing() -> None:
    values = [words.percent(fraction).rstrip('\u00a0%') for fraction in (0, 0.004, 0.5, 0.996, 1)]
    assert values == ['0', '0.4', '50', '99.6', '100']


def test_small_words() -> None:
    assert words.milli(0.0608) == '60.8'
    assert words.quantity(0.0608, 'eV/Å') == '60.8 meV/Å'
    assert words.quantity(0.00123, 'eV/atom') == '1.23 meV/atom'
    assert words.quantity(4.3, '') == '4.30'
    assert words.quantity(float('inf'), 'eV/Å') == words.NOT_KNOWN
    assert words.axis('energy deviation', 'eV/atom') == 'Energy deviation (eV/atom)'
    assert words.axis('largest Mahalanobis distance', '') == 'Largest Mahalanobis distance (no unit)'
    assert words.count(60880) == '60\u202f880'
    assert (words.plural(1, 'label'), words.plural(2, 'label')) == ('1 label', '2 labels')
    assert words.formula('C12H26O') == 'C₁₂H₂₆O'
    assert words.listing(['A', 'B', 'C'], 2) == 'A, B and 1 more'


def test_settings_become_dotted_rows() -> None:
    settings = {
        'seed': [{'rattle': {'copies': 20}}],
        'a': {'b': {'c': True}, 'd': [300, 600]},
        'e': None,
        'f': {},
        'g': [],
    }
    assert words.flatten(settings) == [
        ('seed[0].rattle.copies', '20'),
        ('a.b.c', 'yes'),
        ('a.d', '300, 600'),
        ('e', 'not set'),
        ('f', 'none'),
        ('g', 'none'),
    ]


def test_finding_of_a_finished_run(summary: RunSummary) -> None:
    assert words.finding(summary) == (
        'C₂H₆O at GFN2-xTB (tblite 0.5) was learned from 168 labels in 4 iterations. '
        'The force error on the test set fell from 298 to 60.8 meV/Å (mean absolute), 4.9 times smaller.'
    )
    assert words.ending(summary).replace('\u00a0', ' ') == (
        'It stopped because 97 % of the explored frames were accurate (95 % asked for), after 24 min 52 s.'
    )


@pytest.mark.parametrize(
    ('thresholds', 'unit', 'written'),
    [
        ({'method': 'fixed'}, 'eV/Å', 'fixed'),
        ({'method': 'moving_average', 'frozen': True}, 'eV/Å', 'moving average, frozen'),
        ({'method': 'quantile', 'n_pairs': 1}, '', 'quantile: from 1 pair'),
        (
            {'method': 'conformal', 'factor': 7.46, 'n_pairs': 40, 'guaranteed': True},
            'eV/Å',
            'conformal: factor 7.46 from 40 pairs',
        ),
        (
            {'method': 'conformal', 'factor': 0.12, 'n_pairs': 2, 'guaranteed': False},
            '',
            'conformal: factor 0.12 eV/Å from 2 pairs, too few for the coverage asked',
        ),
        (
            {'method': 'conformal', 'factor': 90.0, 'n_pairs': 9, 'guaranteed': True},
            'eV/atom',
            'conformal: factor 90 (eV/Å)/(eV/atom) from 9 pairs',
        ),
        (
            {'method': 'conformal', 'factor': None, 'n_pairs': 0, 'guaranteed': False},
            'eV/Å',
            'conformal: no labelled frame to calibrate with, so that every frame is a candidate',
        ),
        ({}, 'eV/Å', ''),
    ],
)
def test_how_a_level_was_found(thresholds: dict[str, Any], unit: str, written: str) -> None:
    assert words.level_note(thresholds, unit) == written


def test_why_it_stopped_follows_because() -> None:
    assert words.stop_clause({'stop_sentence': 'The targets were met.'}) == 'the targets were met'
    assert words.stop_clause({'stop_sentence': '5 of the 5 iterations allowed are done.'}) == (
        '5 of the 5 iterations allowed are done'
    )
    assert words.stop_clause({'rows': [], 'stop_reason': None}) is None


def test_finding_of_a_run_that_got_worse(summary: RunSummary) -> None:
    assert summary.final is not None
    assert summary.final.errors is not None
    summary.final.errors.force_mae = 0.596
    assert 'rose from 298 to 596 meV/Å (mean absolute), 2.0 times larger' in words.finding(summary)


def test_a_factor_is_said_only_where_it_says_something() -> None:
    assert words.change(298, 60.8) == '4.9 times smaller'
    assert words.change(100, 112) == '1.1 times larger'
    assert words.change(473, 452) == '4\u00a0% smaller'
    assert words.change(161, 171) == '6\u00a0% larger'


def test_finding_before_the_final_committee_uses_the_last_one_tested(summary: RunSummary) -> None:
    summary.final = None
    assert summary.n_labels == 138
    assert 'fell from 298 to 71.1 meV/Å' in words.finding(summary)
    summary.iterations = summary.iterations[:1]
    assert 'is 298 meV/Å' in words.finding(summary)


def test_finding_without_a_test_set_or_an_iteration(running: RunSummary) -> None:
    assert 'has been learned from 78 labels in 2 iterations. No test set' in words.finding(running)
    running.iterations[-1].n_labels = 0
    assert 'has been learned from 48 labels' in words.finding(running), 'those of the last one are not known yet'
    running.iterations = []
    assert words.finding(running).endswith('no committee has been trained yet.')
    running.single_model = True
    assert words.finding(running).endswith('no model has been trained yet.')


def test_ending_says_what_went_wrong(summary: RunSummary) -> None:
    summary.message = 'too many labels failed'
    summary.exit_status = 410
    assert words.ending(summary).startswith('It failed with exit status 410')
    summary.state = 'excepted'
    assert words.ending(summary).startswith('It was ended by an error')
    summary.state = 'killed'
    assert words.ending(summary).startswith('It was killed')
    assert words.ending(summary).endswith('Its message: too many labels failed')


def test_times_are_summed_in_the_order_of_the_loop(summary: RunSummary) -> None:
    summary.iterations[1].wall_s['coffee'] = 5.0
    times = summary.time_by_stage('wall_s')
    assert list(times) == ['seed', 'label', 'train', 'explore', 'evaluate', 'select', 'final', 'coffee']
    assert times['train'] == 4 * 150 + 40 * 10


def test_what_was_not_learned_from_is_said(running: RunSummary) -> None:
    running.labels_in_hand = 108
    assert 'has been learned from 78 of 108 labels in 2 iterations' in words.finding(running)
    for turn in running.iterations:
        turn.n_labels = 0
    assert words.finding(running).endswith(': 108 labels; no committee has been trained yet.')
    running.state, running.models = 'killed', [ModelSummary(name='member_00', pk=1, committee='iteration 1')]
    assert words.finding(running).endswith(': 108 labels; no committee has been evaluated.')
