"""`launch --dry-run` of a run that labels with any executable: the plan, or one sentence on what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from aiida import orm
from ase.build import bulk
from ase.io import write
from click.testing import CliRunner, Result

from aiida_mlip_al.cli import main

SHELL = {
    'command': './my_program',
    'arguments': ['-in', 'pw.in'],
    'files': ['Cu.UPF'],
    'template': 'pw.in.j2',
    'input': {'filename': 'pw.in', 'format': 'espresso-in', 'arguments': {'pseudopotentials': {'Cu': 'Cu.UPF'}}},
    'output': {'filename': 'stdout', 'format': 'espresso-out'},
    'unconverged': 'quantum_espresso',
}
RUN = {'protocol': 'quickstart', 'structures': ['copper.xyz'], 'seed': [{'rattle': {'copies': 5}}]}


@pytest.fixture
def dry_run(aiida_profile_clean: Any, python_code: Any, tmp_path: Path) -> Any:
    """Return a function that plans a run with changed settings of the program: ``dry_run(command='x')``."""
    write(tmp_path / 'copper.xyz', bulk('Cu', cubic=True))
    (tmp_path / 'pw.in.j2').write_text('{{ structure }}K_POINTS automatic\n{{ kpoints(0.3) | join(" ") }} 0 0 0\n')
    (tmp_path / 'Cu.UPF').write_text('pseudopotential')
    (tmp_path / 'pw.in').write_text('something else')
    (tmp_path / 'my_program').write_text('#!/bin/sh\n')
    (tmp_path / 'my_program').chmod(0o755)

    def invoke(run: dict[str, Any] | None = None, **shell: Any) -> Result:
        values = {**RUN, 'labels': {'shell': {**SHELL, **shell}}, **(run or {})}
        (tmp_path / 'run.yaml').write_text(yaml.safe_dump(values))
        return CliRunner().invoke(main, ['launch', str(tmp_path / 'run.yaml'), '--dry-run'])

    return invoke


def test_plan(dry_run: Any) -> None:
    """One label in each job, the settings in force, and nothing is stored, not even the program's code."""
    before = orm.QueryBuilder().append(orm.Node).count()
    result = dry_run()
    assert result.exit_code == 0, result.output
    assert '0 seed, 5 label' in result.output
    assert 'labels.shell.command' in result.output
    assert orm.QueryBuilder().append(orm.Node).count() == before


@pytest.mark.parametrize(
    ('run', 'shell', 'sentence'),
    [
        ({}, {'comand': 'x'}, '`labels.shell.comand` is not a known key; did you mean `command`?'),
        ({}, {'command': 'no-such-program'}, 'There is neither a code nor an executable `no-such-program`'),
        ({}, {'batch_size': 3}, '`labels.shell`: the input is of one structure, so `batch_size` must be 1, got 3.'),
        ({}, {'files': ['no.UPF']}, 'There is no file node `no.UPF`'),
        ({}, {'files': ['pw.in']}, 'The file name `pw.in` is taken in the job'),
        (
            {},
            {'template': 'my_program', 'input': {'format': 'aims', 'arguments': {'x': 1}}},
            '`labels.shell`: the writer aims of ASE failed',
        ),
        (
            {},
            {'input': {'filename': 'pw.in'}},
            "`labels.shell`: the template cannot be filled in: 'structure' is undefined",
        ),
        ({'seed': [{'md': {}}]}, {}, 'chain `seed`, step 1, `md`: name its `calculator`'),
        ({'resources': {'label': {'append_text': 'x'}}}, {}, 'Put the `append_text` on the code'),
        ({'labels': {}}, {}, '`labels`: give one engine'),
    ],
)
def test_mistakes(dry_run: Any, run: dict[str, Any], shell: dict[str, Any], sentence: str) -> None:
    result = dry_run(run, **shell)
    assert result.exit_code == 1
    assert sentence in result.output
    assert result.output.startswith(f'Error: {sentence[:2]}')
    assert len(result.output.splitlines()) == 1
