"""A run that chooses from labelled frames until every one was chosen, as a user makes it."""

from __future__ import annotations

import re

import pytest
import yaml
from ase.io import read

pytestmark = [pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope='module')
def pool_run(installation, finished_run) -> int:
    """PK of the run; its pool are the labels of another one, whose test frames are no part of it."""
    path = installation.folder / 'labels.xyz'
    installation.cli('dataset', 'export', str(finished_run), '-o', str(path))
    n_frames = sum(frame.info['split'] != 'test' for frame in read(path, ':'))
    assert n_frames == 16
    pool = re.search(r'dataset (\d+)', installation.cli('dataset', 'import', str(path), '--theory', 'GFN2-xTB'))
    printed = installation.cli('dataset', 'draw', pool[1], '--frames', '6', '--test', str(n_frames - 6 - 7))
    assert '6 frames to begin with' in printed
    written = yaml.safe_load(printed.split('rest:\n')[1])
    assert written['explore'] == {'pool': {'frames': [int(pool[1])]}}
    tiny = yaml.safe_load((installation.folder / 'tiny.yaml').read_text())
    mace = {**tiny['train']['mace'], 'members': 1, 'min_members': 1}
    values = {
        **{key: tiny[key] for key in ('protocol', 'structures')},
        **written,
        'label': 'from a pool',
        'labels': {'pool': {}},
        'train': {'mace': mace, 'uncertainty': {'llpr': {}}},
        'select': {'tolerance': 0.05, 'max_labels': 4, 'duplicate_tolerance': None, 'max_force': None},
        'stop': {'max_iterations': 9, 'accurate_fraction': None, 'target_force_error': None},
    }
    (installation.folder / 'pool.yaml').write_text(yaml.safe_dump(values))
    return installation.launch('--wait', config='pool.yaml')


def test_every_frame_is_chosen_once_and_then_it_ends(installation, pool_run):
    found = installation.ask('outputs', pool_run)
    assert found['history']['stop_reason'] == 'pool_used_up'
    assert found['history']['stop_sentence'] == 'Every frame of the pool was chosen.'
    rows = found['history']['rows']
    assert [(row['n_frames'], row['n_new_labels'], row['n_left']) for row in rows] == [(7, 4, 3), (3, 3, 0)]
    assert [row['n_labels'] for row in rows] == [10, 13]
    assert found['errors']['train']['n_frames'] + found['errors']['validation']['n_frames'] == 13
    assert installation.ask('without_creator', pool_run) == []


def test_its_labels_lead_back_to_the_pool(installation, pool_run):
    story = installation.cli('explain', str(installation.ask('newest_label_of', pool_run)['pk']))
    for word in ('found by read_pool_labels', 'frames of the pool that were not labelled', 'the model was uncertain'):
        assert word in story, story
    assert re.search(r'DatasetData <\d+> was given by the user', story)


def test_it_is_compared_with_runs_of_the_same_test_frames_alone(installation, pool_run, finished_run):
    page = installation.folder / 'against.html'
    again = installation.launch('--wait', '--cache', config='pool.yaml')
    printed = installation.cli('report', str(again), '--against', str(pool_run), '-o', str(page))
    assert 'this run as many' in ' '.join(printed.split())
    assert 'Labels saved' in page.read_text()
    page.unlink()
    refused = installation.cli('report', str(pool_run), '--against', str(finished_run), '-o', str(page), check=False)
    assert 'were not tested on the same frames' in refused
    assert not page.exists()


def test_more_frames_than_there_are_cannot_be_drawn(installation, pool_run):
    pool = yaml.safe_load((installation.folder / 'pool.yaml').read_text())['explore']['pool']['frames'][0]
    refused = installation.cli('dataset', 'draw', str(pool), '--frames', '1000', check=False)
    assert re.search(r'Error: 1000 frames cannot be drawn of \d+ that differ: ask for fewer\.', refused), refused
