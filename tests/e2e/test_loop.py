"""A whole run as a user makes it: command line, daemon, xTB labels, MACE models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from ase.io import read

pytestmark = [pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(900)]


def test_setup_check_runs_a_job_with_every_code(installation):
    answer = installation.cli('setup', 'check')
    for word in ('python@localhost', 'ase', 'torch', 'mace', torch.__version__):
        assert word in answer, answer


def test_run_ends_well_and_leaves_everything(installation, finished_run):
    found = installation.ask('outputs', finished_run)
    assert found['iterations'] == ['iteration_01', 'iteration_02']
    assert set(found['kinds']) == {'committee', 'dataset', 'deviations', 'errors', 'history', 'new_labels', 'selection'}
    assert set(found['datasets']) == {'seeds', 'test', 'iteration_01', 'iteration_02'}
    assert found['datasets']['test'] == {'train': 0, 'validation': 0, 'test': 10}
    assert found['members'] == ['member_00', 'member_01']
    assert found['history']['stop_reason'] == 'max_iterations'
    rows = found['history']['rows']
    assert [row['n_labels'] for row in rows] == [12, 16]
    assert rows[0]['n_new_labels'] == 4
    assert rows[0]['core_s']['train'] > 0
    assert found['errors']['test']['n_frames'] == 10
    assert {item['temperature_K'] for item in found['errors']['test']['by_temperature']} == {300.0, 500.0}


def test_every_node_inside_has_a_creator_or_was_given(installation, finished_run):
    assert installation.ask('without_creator', finished_run) == []


def test_no_label_is_lost_or_repeated(installation, finished_run):
    assert installation.ask('labelled_more_than_once', finished_run) == []
    assert installation.ask('structures_without_label', finished_run) == []


def test_process_status_reads_like_the_outline(installation, finished_run):
    tree = installation.verdi('process', 'status', str(finished_run))
    order = [
        'PerturbAndSampleWorkChain',
        'LabelWorkChain',
        'CommitteeTrainWorkChain',
        'ExploreWorkChain',
        'select_frames',
    ]
    places = [tree.index(name) for name in order]
    assert places == sorted(places)


def test_status_report_and_story(installation, finished_run):
    status = installation.cli('status', str(finished_run))
    assert 'iteration 2' in status
    assert 'final' in status
    page = installation.folder / 'page.html'
    installation.cli('report', str(finished_run), '-o', str(page))
    text = page.read_text()
    assert 'GFN2-xTB' in text
    assert f'verdi node show {finished_run}' in text or str(finished_run) in text
    label = installation.ask('newest_label')['pk']
    story = installation.cli('explain', str(label))
    for word in ('LabelData', 'GFN2-xTB', 'disagreed', 'committee', 'rattle', 'given by the user'):
        assert word in story, story


def test_datasets_and_models_can_be_listed_and_taken_out(installation, finished_run):
    assert 'GFN2-xTB' in installation.cli('dataset', 'list')
    path = installation.folder / 'out.xyz'
    installation.cli('dataset', 'export', str(finished_run), '-o', str(path), '--split', 'test')
    frames = read(path, ':')
    assert len(frames) == 10
    assert all('REF_energy' in frame.info and 'REF_forces' in frame.arrays for frame in frames)
    assert 'MACE' in installation.cli('model', 'list')
    folder = installation.folder / 'committee'
    installation.cli('model', 'export', str(finished_run), '-o', str(folder))
    assert sorted(item.name for item in folder.iterdir()) == ['member_00.model', 'member_01.model']
    imported = installation.cli('dataset', 'import', str(path), '--theory', 'GFN2-xTB (copy)')
    assert '10 frames imported' in imported
    assert 'GFN2-xTB' in installation.verdi('data', 'mlip-al-dataset', 'list')


def test_resubmission_recomputes_nothing(installation, finished_run):
    again = installation.cli('launch', '--cache', '--wait', 'tiny.yaml')
    pk = int(again.split('process ')[1].split(';')[0])
    assert installation.ask('state', pk)['exit_status'] == 0
    assert installation.ask('not_from_cache', pk) == []
    assert installation.ask('hashes', pk) == installation.ask('hashes', finished_run)


def test_archive_gives_the_same_answers_in_an_empty_profile(installation, finished_run):
    archive = installation.folder / 'run.aiida'
    before = installation.ask('answers')
    installation.verdi('archive', 'create', '-N', str(finished_run), '--', str(archive))
    installation.run('verdi', 'presto', '--no-broker', '-n', '-p', 'empty')
    installation.verdi('archive', 'import', str(archive), profile='empty')
    after = installation.ask('answers', profile='empty')
    assert set(after['labels']) <= set(before['labels'])
    assert after['labels']
    assert [item for item in before['uncertain'] if item in after['uncertain']] == after['uncertain'], 'same order too'
    assert after['committee']
    assert len(after['uncertain']) == 8


def test_new_run_continues_where_an_earlier_one_ended(installation, finished_run):
    plan = installation.cli('launch', '--dry-run', '--continue', str(finished_run), 'tiny.yaml')
    assert 'Nothing was submitted' in plan
    pk = installation.launch('--continue', str(finished_run), '--wait')
    found = installation.ask('outputs', pk)
    assert found['history']['rows'][0]['n_labels'] > 16
    assert {'earlier_seeds', 'earlier_iteration_02', 'earlier_test', 'iteration_01'} <= set(found['datasets'])


def test_single_stages_from_the_same_file(installation, finished_run):
    """Seeds with labels in one call, and a committee that explores alone."""
    preview = installation.folder / 'preview.xyz'
    assert 'nothing was submitted' in installation.cli('seed', 'tiny.yaml', '--preview', str(preview))
    assert len(read(preview, ':')) == 8
    output = installation.cli('seed', 'tiny.yaml', '--label', '--wait')
    dataset = re.search(r'dataset +(\d+)', output)
    assert dataset, output
    assert re.search(r'^n_frames +8$', installation.cli('dataset', 'show', dataset[1]), re.MULTILINE)
    explored = installation.cli('explore', 'tiny.yaml', '--from', str(finished_run), '--wait')
    assert 'trajectories' in explored
    assert 'deviations' in explored


def test_bad_input_is_refused_in_one_sentence(installation):
    text = (Path(installation.folder) / 'tiny.yaml').read_text()
    bad = installation.folder / 'bad.yaml'
    for change, sentence in (
        ('explore:\n', 'explroe:\n'),
        ('protocol: quickstart', 'protocol: slow'),
        ('[water.xyz]', '[steam.xyz]'),
        ('label: tiny', 'codes: {train: gpu@cluster}'),
        ('label: tiny', 'reference_energies: {H: -10.0}'),
    ):
        bad.write_text(text.replace(change, sentence))
        output = installation.cli('launch', str(bad), check=False)
        assert output.startswith('Error: '), output
        assert len(output.strip().splitlines()) == 1, output
