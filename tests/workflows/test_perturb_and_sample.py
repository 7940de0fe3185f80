"""PerturbAndSampleWorkChain through the real engine."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import WorkflowFactory
from helpers.time_limit import terminated_when

from aiida_mlip_al.report.story import story


def run(**inputs):
    inputs['chains'] = {name: orm.List(list(chain)) for name, chain in inputs['chains'].items()}
    return run_get_node(WorkflowFactory('mlip_al.perturb_and_sample'), **inputs)


def test_chains_of_pure_steps(copper):
    chains = {
        'near': [{'rattle': {'copies': 4, 'stdev': 0.02}}],
        'far': [
            {'volume_scan': {'factors': [0.95, 1.05], 'quantity': 'volume'}},
            {'rattle': {'copies': 2, 'stdev': 0.02}},
        ],
    }
    structures = copper(1)
    results, node = run(structures=structures, chains=chains, seed=3, split={'validation_fraction': 0.25})
    assert node.exit_status == 0
    frames = results['frames']
    assert sorted(frames) == [f'far_frame_{i:03d}' for i in range(4)] + [f'near_frame_{i:03d}' for i in range(4)]
    assert [frame.split for frame in frames.values()].count('validation') == 2
    assert frames['near_frame_000'].origin['kind'] == 'rattle'
    assert frames['far_frame_000'].origin['record']['parent']['seeder'] == 'volume_scan'
    assert frames['far_frame_000'].origin['parent_uuid'] == structures['frame_000'].uuid
    volume = structures['frame_000'].get_ase().get_volume()
    assert frames['far_frame_000'].get_ase().get_volume() == pytest.approx(0.95 * volume)
    assert all(frame.creator is not None for frame in frames.values())

    again, _ = run(structures=structures, chains=chains, seed=3, split={'validation_fraction': 0.25})
    for name, frame in frames.items():
        assert again['frames'][name].base.caching.get_hash() == frame.base.caching.get_hash()


def test_one_frame_of_all_chains_is_held_out_whatever_chance_does(copper):
    chains = {name: [{'rattle': {'copies': 1, 'stdev': 0.02}}] for name in ('one', 'other')}

    def splits(seed, fraction):
        results, node = run(structures=copper(1), chains=chains, seed=seed, split={'validation_fraction': fraction})
        assert node.exit_status == 0
        assert {frame.origin['kind'] for frame in results['frames'].values()} == {'rattle'}
        for frame in results['frames'].values():
            if frame.split == 'validation':
                assert 'is held out for validation by hold_out' in story(frame)[0]
                assert 'was made by the seeding step `rattle`' in story(frame)[1]
        return [results['frames'][name].split for name in sorted(results['frames'])]

    assert sorted(splits(0, 0.01)) == ['train', 'validation']
    assert splits(0, 0.01) == splits(0, 0.01)
    assert splits(0, 0.0) == ['train', 'train']


def test_md_between_pure_steps(python_code, emt, copper):
    chain = [
        {'supercell': {'matrix': [1, 1, 2]}},
        {'md': {'temperature': [300, 600], 'steps': 40, 'every': 10, 'timestep_fs': 2.0, 'frames': 6}},
        {'rattle': {'copies': 1, 'stdev': 0.01}},
    ]
    results, node = run(
        structures=copper(1),
        chains={'hot': chain},
        seed=1,
        split={'name': 'test'},
        ase={'code': python_code, 'calculator': emt},
    )
    assert node.exit_status == 0
    frames = results['frames']
    assert len(frames) == 6
    assert {frame.split for frame in frames.values()} == {'test'}
    assert {frame.origin['temperature_K'] for frame in frames.values()} == {300.0, 600.0}
    assert all(len(frame.get_ase()) == 8 for frame in frames.values())
    positions = np.array([frame.get_ase().positions for frame in frames.values()])
    assert np.ptp(positions, axis=0).max() > 0.01, 'the walkers moved'
    job = next(child for child in node.called if child.process_label == 'MdCalculation')
    assert len(job.outputs.trajectories) == 2
    assert job.outputs.report['ends'] == {'finished': 2}


def test_no_more_jobs_than_may_be_in_flight(python_code, emt, copper, monkeypatch):
    """Three chains, two jobs at a time: the third is sent when one has ended, and all go on when all are done."""
    process = instantiate_process(
        get_manager().get_runner(),
        WorkflowFactory('mlip_al.perturb_and_sample'),
        structures=copper(1),
        chains={name: orm.List([{'md': {'steps': 4, 'every': 2}}]) for name in ('one', 'three', 'two')},
        seed=orm.Int(1),
        max_concurrent=2,
        ase={'code': python_code, 'calculator': emt},
    )
    sent, over = [], []
    monkeypatch.setattr(process, 'submit', lambda _, **given: sent.append(given) or orm.CalcJobNode().store())
    monkeypatch.setattr(process, 'wait_for_any', lambda _: None)
    monkeypatch.setattr(process, 'ended', lambda running: [node for node in over if node.pk in running])
    process.setup()
    process.run_segment()
    process.run_jobs()
    assert [given['metadata']['call_link_label'] for given in sent] == ['md_one', 'md_three']
    process.run_jobs()
    assert len(sent) == 2
    over.append(orm.load_node(min(process.ctx.running)))
    process.inspect_jobs()
    process.run_jobs()
    assert [given['metadata']['call_link_label'] for given in sent[2:]] == ['md_two']
    assert process.should_run_jobs()
    over += [orm.load_node(pk) for pk in process.ctx.running]
    process.inspect_jobs()
    assert not process.should_run_jobs()
    assert {name: {part: len(nodes) for part, nodes in ended.items()} for name, ended in process.ctx.ended.items()} == {
        name: {'md': 1} for name in ('one', 'three', 'two')
    }


@pytest.mark.slow
def test_md_that_a_time_limit_cut_short_goes_on(python_code, emt, copper):
    """The second job adds what is missing to the frames of the first, whose walker it continues."""

    def has_frames(folder):
        return (folder / 'walker_00.jsonl').exists() and (folder / 'walker_00.jsonl').read_text().count('\n') > 2

    with terminated_when('md', has_frames) as stopped:
        results, node = run(
            structures=copper(1),
            chains={'hot': [{'md': {'temperature': [300], 'steps': 3000, 'every': 100, 'timestep_fs': 1.0}}]},
            seed=1,
            ase={'code': python_code, 'calculator': emt},
        )
    assert len(stopped) == 1
    assert node.exit_status == 0, node.exit_message
    first, second = sorted(
        (child for child in node.called if child.process_label == 'MdCalculation'), key=lambda job: job.pk
    )
    assert (first.exit_status, second.exit_status) == (400, 0)
    assert second.inputs.parent_folder.creator == first
    before, after = (job.outputs.trajectories['walker_00'] for job in (first, second))
    n_before = len(before.get_stepids())
    assert n_before >= 3
    np.testing.assert_array_equal(after.get_stepids(), np.arange(100, 3001, 100))
    np.testing.assert_array_equal(after.get_positions()[:n_before], before.get_positions())
    assert len(results['frames']) == 30


def test_step_that_cannot_go_on_is_an_exit_code(copper):
    chain = [{'rattle': {'copies': 1, 'stdev': 3.0, 'max_attempts': 2, 'min_distance_fraction': 0.95}}]
    _, node = run(structures=copper(1), chains={'wild': chain}, seed=1)
    assert node.exit_status == 401
    assert 'wild' in node.exit_message
    assert '2 attempts' in node.exit_message or 'attempt' in node.exit_message


@pytest.mark.parametrize(
    ('chain', 'sentence'),
    [
        ([{'ratle': {}}], 'unknown step'),
        ([{'rattle': {'copy': 3}}], 'unknown key'),
        ([{'md': {'steps': 100}}], 'give the code that runs it'),
    ],
)
def test_bad_chains_are_refused(copper, chain, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(structures=copper(1), chains={'bad': orm.List(chain)}, seed=1)


@pytest.mark.slow
def test_kept_frames_and_labels(python_code, emt, copper):
    """Relax, keep, strain and rattle, label all: one call from structures to a dataset."""
    chain = [
        {'relax': {'fmax': 0.05, 'cell': 'full'}},
        {'keep': {}},
        {'lattice_perturbation': {'copies': 2}},
        {'rattle': {'copies': 1, 'stdev': 0.02}},
    ]
    engine = {'code': python_code, 'calculator': emt}
    results, node = run(structures=copper(2), chains={'bulk': chain}, seed=1, ase=engine, label={'ase': engine})
    assert node.exit_status == 0, node.exit_message
    frames = results['frames']
    assert sorted(frames) == [f'bulk_frame_{i:03d}' for i in range(4)] + ['bulk_kept_000', 'bulk_kept_001']
    assert results['dataset'].n_frames == 6
    assert sorted(results['labels']) == sorted(frames)
    relaxed = results['labels']['bulk_kept_000']
    assert relaxed.base.attributes.get('max_force') < 0.05
    assert frames['bulk_kept_000'].get_ase().cell.lengths() == pytest.approx([3.59] * 3, abs=0.01), "EMT's copper"
    assert frames['bulk_frame_000'].origin['record']['parent']['seeder'] == 'lattice_perturbation'
    assert all(frame.creator is not None for frame in frames.values())
    first = orm.load_node(frames['bulk_frame_000'].origin['parent_uuid'])
    assert first.creator is not None
    assert first.get_ase().cell.lengths() == pytest.approx([3.59] * 3, abs=0.01)


def test_references_come_through_md(python_code, emt, copper):
    """What an MD started from is the reference of its frames: molecules are sought there."""
    chain = [
        {'md': {'temperature': 300, 'steps': 20, 'every': 10}},
        {'molecular_clusters': {'n_molecules': [1]}},
    ]
    _, node = run(structures=copper(1), chains={'cut': chain}, seed=1, ase={'code': python_code, 'calculator': emt})
    assert node.exit_status == 401
    assert 'network' in node.exit_message, 'copper has no molecules, and the message says so'
    call = next(child for child in node.called if child.process_label == 'seed_frames')
    references = [link.node for link in call.base.links.get_incoming().all() if 'references' in link.link_label]
    assert [reference.pk for reference in references] == [node.inputs.structures.frame_000.pk] * 2
