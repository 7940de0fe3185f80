"""The documented questions, asked of a run whose answers are known."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from helpers.stored_run import StoredRun

QUERIES = runpy.run_path(str(Path(__file__).parents[2] / 'docs' / 'queries.py'))


@pytest.fixture(scope='module')
def run(aiida_profile: Any) -> StoredRun:
    """Four seeds and test frames, one iteration, and a final committee."""
    aiida_profile.reset_storage()
    made = StoredRun(orm.Computer('queries', 'localhost', '', 'core.local', 'core.direct').store())
    made.seed()
    made.iterate()
    made.finish()
    return made


def test_labels_are_counted_by_theory(run: StoredRun) -> None:
    assert QUERIES['labels_by_theory']() == {'GFN2-xTB': 4 + run.n_test + run.chosen}


def test_frames_are_counted_by_what_made_them(run: StoredRun) -> None:
    assert QUERIES['frames_by_origin']() == {'rattle': 4 + run.n_test, 'explore': run.chosen}


def test_a_rejected_structure_has_a_job_and_a_reason(run: StoredRun) -> None:
    ((job, structure, reason),) = QUERIES['rejected_structures']()
    assert (structure, reason) == ('frame_999', 'unconverged')
    assert orm.load_node(job).process_label == 'LabelCalculation'


def test_costs_are_added_up(run: StoredRun) -> None:
    """Three jobs of labels, and two committees."""
    costs = QUERIES['core_seconds_by_job']()
    assert (costs['LabelCalculation'], costs['MaceTrainCalculation']) == (3 * 5.0, 2 * 10.0 * len(run.models))


def test_only_jobs_that_failed_have_failed(run: StoredRun) -> None:
    assert QUERIES['failed_jobs']() == []
    job = run.process(orm.CalcJobNode, 'LabelCalculation', None, '', {})
    run.set_state(job, 'finished', 110, exit_message='The job ran out of memory.')
    assert QUERIES['failed_jobs']() == [(job.pk, 'LabelCalculation', 110, 'The job ran out of memory.')]


def test_the_best_model_comes_first_and_leads_to_its_data(run: StoredRun) -> None:
    better = next(iter(run.committee.values())).clone()
    better.base.attributes.set('errors', {'force_mae': 0.05})
    training = run.process(orm.CalcJobNode, 'MaceTrainCalculation', None, '', {'datasets__a': run.datasets['seeds']})
    run.create(better, training, 'model')
    models = QUERIES['best_models']()
    assert [error for _, error in models] == [0.05, *[0.1] * 2 * len(run.models)]
    assert models[0][0].pk == better.pk
    assert [dataset.pk for dataset in QUERIES['datasets_behind'](better)] == [run.datasets['seeds'].pk]
    last = next(iter(run.committee.values()))
    behind = {dataset.pk for dataset in QUERIES['datasets_behind'](last)}
    assert behind == {dataset.pk for dataset in run.datasets.values()}


def test_all_of_them_are_printed(run: StoredRun, capsys: pytest.CaptureFixture[str]) -> None:
    QUERIES['print_overview']()
    QUERIES['main']()
    said = capsys.readouterr().out
    for words in ("'GFN2-xTB'", "'explore'", 'core-seconds', 'rejected frame_999: unconverged', 'trained on datasets'):
        assert words in said
