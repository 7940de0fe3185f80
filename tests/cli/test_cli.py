"""The command line without a daemon: help, plans, watching, errors."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from types import SimpleNamespace

import click
import pytest
import yaml
from ase.build import bulk
from ase.io import read, write
from click.testing import CliRunner
from rich.console import Console

from aiida_mlip_al.cli import COMMANDS, main
from aiida_mlip_al.cli.common import PIPE_WIDTH
from aiida_mlip_al.cli.dry_run import plan, show_plan, unexplored
from aiida_mlip_al.cli.follow import follow, render
from aiida_mlip_al.cli.preview import show_preview
from aiida_mlip_al.config import make_config
from aiida_mlip_al.data import DatasetData
from aiida_mlip_al.report.progress import Progress
from aiida_mlip_al.sampling.expected import chain_frames


@pytest.mark.parametrize('command', ['', *COMMANDS])
def test_every_command_has_help(command):
    result = CliRunner().invoke(main, [*([command] if command else []), '--help'])
    assert result.exit_code == 0, result.output
    assert 'Usage' in result.output


def test_help_imports_neither_aiida_nor_torch_nor_pydantic():
    program = (
        'import sys\nfrom click.testing import CliRunner\nfrom aiida_mlip_al.cli import main\n'
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "print([name for name in ('aiida', 'torch', 'ase', 'pydantic', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_unknown_command_gets_a_suggestion():
    result = CliRunner().invoke(main, ['lanch'])
    assert result.exit_code != 0
    assert 'Did you mean `launch`?' in result.output


def test_plan_counts_frames_labels_and_steps():
    config = make_config(
        {
            'protocol': 'quickstart',
            'structures': ['x.xyz'],
            'labels': {'ase': {'calculator': 'ase.calculators.emt:EMT', 'batch_size': 10}},
            'seed': [{'rattle': {'copies': 25}}],
            'test': [{'md': {'temperature': [300, 500], 'steps': 100, 'every': 10, 'equilibration': 50}}],
            'train': {
                'mace': {
                    'members': 3,
                    'gradient_steps': 100,
                    'warm_start': {'gradient_steps': 50},
                    'final': {'gradient_steps': 400},
                }
            },
            'explore': {'ase': {'walkers': 4, 'steps': 200}},
            'select': {'max_labels': 15},
            'stop': {'max_iterations': 3, 'max_labels': 70},
        }
    )
    stages = {stage.name: stage for stage in plan(config, ['C2H6O'])}
    assert stages['seed'].jobs == '0 seed, 3 label'
    assert stages['seed'].work == '25 frames, 25 labels'
    assert stages['test'].work == '20 frames, 300 MD steps, 20 labels'
    assert stages['label'].jobs == '2 in each iteration'
    # 3 members × (100 + 2 × 50 + 400) optimiser steps; 3 iterations × 4 walkers × 200 MD steps.
    assert stages['at most'].work == (
        '70 labels (test frames not counted), 1800 optimiser steps, 2400 MD steps with the committee'
    )


PLANNED = {
    'protocol': 'quickstart',
    'structures': ['x.xyz'],
    'labels': {'ase': {'calculator': 'ase.calculators.emt:EMT'}},
    'seed': [{'rattle': {'copies': 8}}],
    'select': {'max_labels': 4},
    'stop': {'max_iterations': 1, 'max_labels': 80, 'properties': {'frequencies': 0.1, 'drift': 1.0}},
    'train': {'uncertainty': {'llpr': {}}},
    'explore': {'ase': {'walkers': 1}},
}


def test_plan_has_no_more_labels_than_can_be_made():
    assert '12 labels' in plan(make_config(PLANNED), ['CH4O'])[-1].work
    assert (
        '10 labels'
        in plan(make_config({**PLANNED, 'select': {'max_labels': 4, 'label_budget': 10}}), ['CH4O'])[-1].work
    )
    assert '4 labels' in plan(make_config(PLANNED), ['CH4O'], seeds=False)[-1].work


def test_plan_has_every_kind_of_job():
    stages = {stage.name: stage for stage in plan(make_config(PLANNED), ['CH4O'])}
    assert stages['uncertainty'].jobs == '1 in each iteration, 1 at the end'
    assert stages['properties'] == ('properties', '1 in each iteration', 'frequencies, drift of the given structures')


def test_plan_warns_of_structures_without_a_walker():
    assert unexplored(make_config(PLANNED), ['CH4O']) == []
    (warning,) = unexplored(make_config(PLANNED), ['CH4O', 'C2H6', 'CH4O'])
    assert warning.startswith('`walkers: 1` for 3 structures')


def test_keys_of_the_plan_are_not_broken(python_code, tmp_path, monkeypatch):
    write(tmp_path / 'x.xyz', bulk('Cu', cubic=True))
    given = {**PLANNED, 'codes': {'default': python_code.full_label}}
    (tmp_path / 'run.yaml').write_text(yaml.safe_dump(given))
    for width in (80, None):
        console = Console(width=width or PIPE_WIDTH, record=True, file=io.StringIO())
        show_plan(tmp_path / 'run.yaml', None, console)
        assert 'train.mace.gradient_steps ' in console.export_text()


def test_frames_of_a_chain():
    chain = [{'volume_scan': {'factors': [0.9, 1.1], 'quantity': 'volume'}}, {'rattle': {'copies': 3}}]
    assert chain_frames(chain, 2) == (12, 0, 0)
    assert chain_frames([{'md': {'steps': 100, 'every': 10, 'frames': 4}}], 1) == (4, 100, 1)


def moment(**changes):
    """Return a moment of a run."""
    values = {
        'pk': 12,
        'label': 'ethanol',
        'ended': False,
        'iteration': 2,
        'max_iterations': 3,
        'stages': ['exploring', 'measuring errors'],
        'jobs': {'running': 2, 'finished': 9, 'failed': 1},
        'labels': 38,
        'rows': [(1, 18, 0.1114, 0.25), (2, 38, 0.0871, None)],
        'error_name': 'test',
        'elapsed_s': 83.0,
        'failures': ['labelling <40>: The job was stopped.'],
        'paused': [77],
    }
    return Progress(**{**values, **changes})


def text_of(now):
    """Return what a person sees of a moment."""
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(now))
    return console.export_text().replace('\xa0', ' ')


def test_a_moment_tells_all_that_a_user_wants_to_know():
    text = text_of(moment())
    for word in (
        'ethanol <12>',
        'iteration 2 of at most 3',
        'exploring',
        '2 running, 9 finished, 1 failed',
        'labels: 38',
        '1 min',
    ):
        assert word in text, text
    assert '111' in text
    assert '25' in text
    assert 'labelling <40>' in text
    assert 'verdi process play 77' in text


def test_ctrl_c_leaves_the_run_and_says_how_to_come_back(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, 'sleep', interrupted)
    monkeypatch.setattr('aiida_mlip_al.cli.follow.progress', lambda node: moment())
    console = Console(width=120, record=True, file=io.StringIO())
    node = SimpleNamespace(pk=12, is_terminated=False)
    assert follow(node, console) is False
    text = console.export_text()
    assert 'aiida-mlip-al status 12 --watch' in text
    assert 'verdi process kill 12' in text


def test_following_ends_with_the_run(monkeypatch):
    monkeypatch.setattr('aiida_mlip_al.cli.follow.progress', lambda node: moment(ended=True, stages=[]))
    console = Console(width=120, record=True, file=io.StringIO())
    assert follow(SimpleNamespace(pk=12, is_terminated=True), console) is True
    assert '[1 min 23 s] iteration 2: ended; 38 labels, force MAE on test 87.1 meV/Å' in console.export_text().replace(
        '\xa0', ' '
    )


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['status', '999999'], 'There is no process node `999999`'),
        (['explain', '999999'], 'There is no data node `999999`'),
        (['dataset', 'show', '999999'], 'There is no dataset node `999999`'),
        (['model', 'export', '999999'], 'There is no model or run node `999999`'),
        (['setup', 'codes', 'nowhere', '--python', '/usr/bin/python3'], 'nowhere'),
        (['setup', 'codes', 'localhost', '--python', 'python3'], 'must be an absolute path'),
    ],
)
@pytest.mark.usefixtures('aiida_profile')
def test_errors_are_one_sentence(arguments, sentence):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert sentence in result.output
    assert len(result.output.strip().splitlines()) == 1, result.output


def test_without_a_profile_the_way_to_one_is_told(monkeypatch):
    nothing = SimpleNamespace(profile_names=[], default_profile_name=None)
    monkeypatch.setattr('aiida.manage.get_manager', lambda: SimpleNamespace(get_profile=lambda: None))
    monkeypatch.setattr('aiida.manage.configuration.get_config', lambda create: nothing)
    result = CliRunner().invoke(main, ['dataset', 'list'])
    assert result.exit_code == 1
    assert result.output == (
        'Error: There is no AiiDA profile yet: `aiida-mlip-al setup profile` makes one that needs no service.\n'
    )


@pytest.mark.usefixtures('aiida_profile')
def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path, make_dataset, make_model):
    output = tmp_path / 'nowhere' / 'file'
    for command in (
        ['dataset', 'export', str(make_dataset().store().pk), '-o', str(output)],
        ['model', 'export', str(make_model().store().pk), '-o', str(output)],
        ['quickstart', '-o', str(output)],
    ):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1
        assert result.output.startswith(f'Error: {output} cannot be written: ')
        assert len(result.output.strip().splitlines()) == 1, result.output


@pytest.mark.usefixtures('aiida_profile')
def test_hashes_are_printed_whole(make_labelled, make_model, monkeypatch):
    monkeypatch.setenv('COLUMNS', '40')
    theory, long_hash = 'TBLite(method=GFN2-xTB, accuracy=0.1, electronic_temperature=300)', 'ae7' * 21
    dataset = DatasetData.from_ase([make_labelled()], theory, long_hash).store()
    model = make_model().store()
    for command, whole in (
        (['dataset', 'show', str(dataset.pk)], f' {long_hash}\n'),
        (['dataset', 'list'], theory),
        (['model', 'show', str(model.pk)], f' {model.base.attributes.get("sha256")}\n'),
    ):
        assert whole in CliRunner().invoke(main, command).output


@pytest.mark.usefixtures('aiida_profile')
def test_a_hash_that_was_cut_off_is_no_level_of_theory(tmp_path, make_labelled):
    write(tmp_path / 'frames.xyz', make_labelled())
    result = CliRunner().invoke(main, ['dataset', 'import', str(tmp_path / 'frames.xyz'), '--theory', 'ae7ae7…'])
    assert result.exit_code == 1
    assert 'is cut off: give it whole' in result.output


@pytest.mark.usefixtures('aiida_profile')
@pytest.mark.parametrize(
    ('command', 'sentence'),
    [
        (['model', 'import'], 'is no MACE model'),
        (['dataset', 'import', '--theory', 'PBE'], 'ASE cannot read'),
    ],
)
def test_a_file_of_another_kind_is_not_imported(tmp_path, command, sentence):
    path = tmp_path / 'input.yaml'
    path.write_text('structures: [water.xyz]')
    result = CliRunner().invoke(main, [*command, str(path)])
    assert result.exit_code == 1
    assert sentence in result.output
    assert len(result.output.strip().splitlines()) == 1, result.output


def test_preview_shows_what_pure_steps_make(tmp_path, capsys):
    chains = {
        'near': [{'supercell': {'matrix': [2, 2, 2]}}, {'rattle': {'copies': 3, 'stdev': 0.02}}],
        'hot': [{'volume_scan': {'quantity': 'volume', 'factors': [0.95, 1.05]}}, {'md': {}}, {'rattle': {}}],
    }
    output = tmp_path / 'preview.xyz'
    show_preview(chains, [bulk('Cu', cubic=True)], 1, output)
    frames = read(output, ':')
    assert [frame.info['chain'] for frame in frames] == ['near'] * 3 + ['hot'] * 2
    assert [len(frame) for frame in frames] == [32] * 3 + [4] * 2
    text = capsys.readouterr().out
    volume = bulk('Cu', cubic=True).get_volume()
    assert f'{0.95 * volume:.2f} to {1.05 * volume:.2f}' in text
    assert 'chain hot: shown up to its step 2, `md`' in text
    assert '5 structures written' in text
    with pytest.raises(click.ClickException, match='chain `bad`: supercell'):
        show_preview({'bad': [{'supercell': {'matrix': [9, 9, 9]}}]}, [bulk('Cu', cubic=True)], 1, output)


def test_a_busy_database_is_no_traceback(tmp_path, monkeypatch):
    import sqlite3

    from aiida_mlip_al.cli import status

    file = tmp_path / 'database.sqlite'
    with sqlite3.connect(file) as other:
        other.execute('BEGIN EXCLUSIVE')

        def read(*_, **__):
            sqlite3.connect(file, timeout=0).execute('SELECT * FROM sqlite_master')

        monkeypatch.setattr(status.status, 'callback', read)
        result = CliRunner().invoke(main, ['status', '1'])
    assert result.exit_code == 1
    assert result.output.startswith('Error: Others were writing to the SQLite database')
    assert 'Traceback' not in result.output
