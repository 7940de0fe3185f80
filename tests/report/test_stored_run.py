"""Is a stored run read and told with the number that it compared with its levels, and with who predicted?"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from aiida import orm
from helpers.stored_run import StoredRun

from aiida_mlip_al.data import DeviationData, FrameData
from aiida_mlip_al.page.reader import SeenRun
from aiida_mlip_al.page.structures import explored
from aiida_mlip_al.report.collect import _deviations, collect
from aiida_mlip_al.report.graph import Process, read_processes, shared_time
from aiida_mlip_al.report.progress import progress
from aiida_mlip_al.report.reliability import rounds
from aiida_mlip_al.report.story import story
from aiida_mlip_al.selection.measure import MEASURES


@pytest.fixture(scope='module')
def computer(aiida_profile: Any) -> orm.Computer:
    return orm.Computer('report', 'localhost', '', 'core.local', 'core.direct').store()


@pytest.fixture(scope='module')
def single(computer: orm.Computer) -> StoredRun:
    """A run of one model with an uncertainty, judged by the Mahalanobis distance; read only."""
    run = StoredRun(computer, measure='mahalanobis', uncertain=True)
    run.seed()
    run.iterate()
    run.finish()
    return run


@pytest.fixture(scope='module')
def committee(computer: orm.Computer) -> StoredRun:
    """A run of a committee that goes on."""
    run = StoredRun(computer)
    run.seed()
    run.iterate()
    return run


def test_a_run_is_collected_by_its_measure(single: StoredRun) -> None:
    summary = collect(single.node)
    (turn,) = summary.iterations
    assert summary.measure == 'mahalanobis'
    assert summary.compared.unit == ''
    assert summary.single_model
    assert summary.predictor == 'model'
    forces = single.made['selection'].get_array('max_force_deviation')
    np.testing.assert_allclose(turn.deviations, 10 * forces)
    assert turn.outcomes is not None
    np.testing.assert_allclose(turn.outcomes.measure, 10 * forces[-4:])
    np.testing.assert_allclose(turn.outcomes.error, 2 * forces[-4:])
    assert summary.final is not None
    assert summary.final.member_errors == [], 'virtual members are no models'


def test_labels_are_counted_however_they_came(single: StoredRun, computer: orm.Computer) -> None:
    assert collect(single.node).labels_in_hand == progress(single.node).labels == 8
    run = StoredRun(computer)
    run.give(single.datasets['seeds'], run.node, 'datasets__earlier_seeds')
    run.give(single.datasets['test'], run.node, 'datasets__earlier_test')
    run.label({'frame_000': FrameData.from_ase(run.moved()).store()}, 'iteration_01_label', None, 'train')
    assert collect(run.node).labels_in_hand == progress(run.node).labels == 5


def test_the_list_of_explored_frames_is_of_the_measure(single: StoredRun) -> None:
    seen = SeenRun(single.node, '', '', [])
    measure = np.sort(single.made['selection'].measure)[::-1]
    page = explored(seen, 1, 0, {'low': f'{measure[2] * 0.9999:.6g}', 'high': f'{measure[0] * 0.9999:.6g}'})
    assert [row['deviation'] for row in page.rows] == pytest.approx(measure[1:3])


def test_before_the_selection_the_measure_comes_from_the_trajectories(single: StoredRun) -> None:
    deviations = single.node.outputs.iterations.iteration_01.deviations
    found = _deviations({'deviations': dict(deviations.items())}, MEASURES['mahalanobis'])
    np.testing.assert_array_equal(found, single.made['selection'].measure)
    assert _deviations({'deviations': dict(deviations.items())}, MEASURES['relative']).size == 0
    assert _deviations({}, MEASURES['max']).size == 0


def test_late_labels_are_told_apart_and_counted(committee: StoredRun) -> None:
    run = committee
    assess = run.process(orm.CalcFunctionNode, 'assess_labels', run.node, 'CALL', {})
    arrays = {
        **dict.fromkeys(DeviationData.REQUIRED, np.full(6, 0.05)),
        'rank': np.arange(6.0),
        'audit': np.array([0, 0, 0, 1, 0, 1.0]),
        'max_force_error': np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.4]),
    }
    late = run.create(DeviationData.from_arrays(arrays), assess, 'new_labels')
    run.give(late, run.node, 'iterations__iteration_01__late_labels')
    summary = collect(run.node)
    outcomes = summary.iterations[0].outcomes
    assert outcomes is not None
    assert outcomes.late.tolist() == [False] * 4 + [True] * 2
    assert outcomes.audit.tolist() == [False, False, False, True, False, True]
    missed = rounds(summary)[0].missed
    assert missed is not None
    assert (missed.hits, missed.trials) == (1, 2), 'the late audit counts'
    assert summary.iterations[0].nodes['late_labels'] == late.pk


def test_the_story_names_one_model_and_the_measure(single: StoredRun) -> None:
    told = ' '.join(story(single.made['iteration_01_label_frame_003']))
    value = 10 * single.made['selection'].get_array('max_force_deviation')[-1]
    assert f'its largest Mahalanobis distance was {value:.2f} and' in told
    assert 'because the model was uncertain' in told
    assert 'and its uncertainty' in told
    assert 'committee' not in told
    levels = story(single.made['selection'])[0]
    assert levels.endswith('lower level of the largest Mahalanobis distance 0.0900 (fixed).')
    uncertainty = story(single.uncertainty['uncertainty'])[0]
    assert 'is the uncertainty of model' in uncertainty
    assert 'from 8 training frames' in uncertainty


def test_the_story_of_a_committee_is_in_millielectronvolts(committee: StoredRun) -> None:
    run = committee
    told = ' '.join(story(run.made['iteration_01_label_frame_003']))
    value = 1000 * run.made['selection'].get_array('max_force_deviation')[-1]
    assert f'its largest force deviation was {value:.0f} meV/Å' in told
    assert 'because the models disagreed' in told
    assert 'with the committee <' in told
    assert '90.0 meV/Å (fixed)' in story(run.made['selection'])[0]


def test_the_order_is_that_of_time_for_an_import_numbers_nodes_anew(computer: orm.Computer) -> None:
    run = StoredRun(computer)
    run.seed()
    run.train_and_evaluate('final')
    final = [process.pk for process in read_processes(run.node) if process.label.startswith('final')]
    run.iterate()
    for pk in final:
        orm.load_node(pk).backend_entity.model.ctime = datetime.now(timezone.utc)
    assert [process.label.split('_')[0] for process in read_processes(run.node)][-2:] == ['final', 'final']
    summary = collect(run.node)
    assert summary.parity is not None
    assert summary.parity.committee == 'final'
    assert summary.parity.evaluation == run.made['final_evaluate'].pk
    assert [row[0] for row in progress(run.node).rows] == [1, None]


def test_stages_side_by_side_share_the_time_that_passed() -> None:
    def process(stage: str, first: int, last: int) -> Process:
        begin, end = (datetime(2025, 1, 1, 0, 0, second, tzinfo=timezone.utc) for second in (first, last))
        return Process(0, '', '', 'finished', 0, None, None, False, begin, end, '', stage)

    called = [
        process('train', 0, 10),
        process('explore', 12, 20),
        process('evaluate', 12, 16),
        process('label', 20, 22),
    ]
    assert shared_time(called) == {'train': 10, 'explore': 6, 'evaluate': 2, 'label': 2}
    assert shared_time([*called, process('label', 21, 30)])['label'] == 10
    assert shared_time([]) == {}
