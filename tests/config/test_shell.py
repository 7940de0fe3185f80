"""Labels by any executable: what the input file may say, and the one sentence for each mistake."""

from __future__ import annotations

from typing import Any

import pytest

from aiida_mlip_al.config import ConfigError, make_config
from aiida_mlip_al.config.shell import ShellLabels, ShellSettings

SCRIPT = {'command': 'python@localhost', 'arguments': ['label.py'], 'files': ['label.py']}
ESPRESSO = {
    'command': 'pw.x@cluster',
    'arguments': ['-in', 'pw.in'],
    'input': {'filename': 'pw.in', 'format': 'espresso-in'},
    'template': 'pw/pw.in.j2',
    'output': {'filename': 'stdout', 'format': 'espresso-out'},
    'unconverged': 'quantum_espresso',
}


def configured(shell: dict[str, Any], **changes: Any) -> Any:
    """Return a whole configuration that labels with a program."""
    return make_config({'protocol': 'fast', 'structures': ['x.xyz'], 'labels': {'shell': shell}, **changes})


def test_script_labels_batches_in_extended_xyz() -> None:
    labels = configured(SCRIPT).labels
    assert (labels.shell.input.filename, labels.shell.output.filename) == ('structures.extxyz', 'labels.extxyz')
    assert (labels.ase, labels.batch_size, labels.shell.output.format) == (None, 20, 'extxyz')
    assert (labels.shell.max_force, labels.shell.min_distance_fraction) == (50.0, 0.5)


def test_own_format_is_one_structure_a_job() -> None:
    assert configured(ESPRESSO).labels.batch_size == 1
    assert configured({**SCRIPT, 'template': 'x.j2'}).labels.batch_size == 1
    assert configured({**SCRIPT, 'input': {'format': 'aims'}}).labels.batch_size == 1


def test_patterns() -> None:
    assert ShellLabels(**ESPRESSO).patterns() == ['convergence NOT achieved']
    assert ShellLabels(**{**ESPRESSO, 'unconverged': [r'dE > \d']}).patterns() == [r'dE > \d']


def test_settings_are_what_the_job_takes() -> None:
    settings = ShellLabels(**ESPRESSO).settings()
    assert ShellSettings(**settings).input.format == 'espresso-in'
    assert not set(settings) & {'command', 'arguments', 'files', 'template', 'batch_size'}


@pytest.mark.parametrize(
    ('base', 'change', 'expected'),
    [
        (SCRIPT, {'command': ''}, '`labels.shell.command`: string should have at least 1 character'),
        (SCRIPT, {'argument': []}, '`labels.shell.argument` is not a known key; did you mean `arguments`?'),
        (SCRIPT, {'arguments': ['pw.x', '>', 'out']}, '`<` and `>` do not redirect here'),
        (SCRIPT, {'output': {'filename': 'out/labels.extxyz'}}, '`out/labels.extxyz` must be a plain file name'),
        (SCRIPT, {'input': {'filename': 'stdout'}}, 'the file name `stdout` is taken'),
        (SCRIPT, {'output': {'filename': 'status'}}, 'the file name `status` is taken'),
        (SCRIPT, {'output': {'filename': 'structures.extxyz'}}, 'both `structures.extxyz`'),
        (
            SCRIPT,
            {'output': {'format': 'espresso-out'}},
            '`output.format: espresso-out` is for an input of one structure',
        ),
        (
            SCRIPT,
            {'keys': {'force': 'f'}},
            "`labels.shell.keys.force.[key]`: input should be 'energy', 'forces' or 'stress'",
        ),
        (SCRIPT, {'max_force': 0}, '`labels.shell.max_force`: input should be greater than 0'),
        (ESPRESSO, {'batch_size': 5}, '`batch_size` must be 1, got 5'),
        (ESPRESSO, {'input': {'format': 'espreso-in'}}, 'did you mean `espresso-in`?'),
        (ESPRESSO, {'input': {'format': 'espresso-out'}}, '`espresso-out` is no format that ASE can write'),
        (ESPRESSO, {'output': {'format': 'no-such'}}, '`no-such` is no format that ASE can read'),
        (ESPRESSO, {'unconverged': ['(']}, '`(` is no regular expression'),
    ],
)
def test_mistakes(base: dict[str, Any], change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured({**base, **change})
    assert expected in str(caught.value)
    assert str(caught.value).endswith(('.', '?'))


def test_exactly_one_engine() -> None:
    for engines, count in (({}, 0), ({'shell': SCRIPT, 'ase': {'calculator': 'ase.calculators.emt:EMT'}}, 2)):
        with pytest.raises(ConfigError, match=rf'`labels`: give one engine, `ase` .* or `shell` .*; {count} are given'):
            make_config({'protocol': 'fast', 'structures': ['x.xyz'], 'labels': engines})


def test_command_is_the_code_that_labels() -> None:
    with pytest.raises(ConfigError, match=r'its program is `labels\.shell\.command`'):
        configured(SCRIPT, codes={'label': 'pw.x@cluster'})
    assert configured(SCRIPT, codes={'train': 'python@gpu'}).code('train') == 'python@gpu'


def test_steps_that_need_a_calculator_name_it() -> None:
    emt = {'calculator': 'ase.calculators.emt:EMT'}
    good = [{'rattle': {'copies': 2}}, {'md': {**emt, 'steps': 10, 'every': 5}}]
    assert configured(SCRIPT, seed=good, test=good).labels.shell.command == 'python@localhost'
    for where in ('seed', 'test'):
        with pytest.raises(ConfigError, match=r'chain `hot`, step 2, `md`: name its `calculator`'):
            configured(SCRIPT, **{where: {'hot': [{'rattle': {}}, {'md': {'steps': 10, 'every': 5}}]}})
