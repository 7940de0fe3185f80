"""A whole run with VASP as the label engine, through the daemon; the stand-in takes the place of VASP."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

HERE = Path(__file__).parent
FAKES = HERE.parent / 'fakes'

pytestmark = [pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def vasp(installation):
    """VASP as the command line sets it up; one of the first calls crashes, whenever its structure comes."""
    folder = installation.folder
    installation.run(sys.executable, str(FAKES / 'potcars.py'), 'potcars', 'Cu')
    executable = FAKES / 'vasp_standin' / 'vasp_std'
    told = installation.cli(
        *(
            'setup',
            'codes',
            'localhost',
            '--vasp',
            str(executable),
            '--no-mpi',
            '--potcars',
            'potcars',
            '--family',
            'STAND-IN',
        )
    )
    assert 'vasp_std@localhost' in told
    assert '1 POTCARs (Cu)' in told
    write(folder / 'copper.xyz', bulk('Cu', cubic=True))
    (folder / 'faults.json').write_text(json.dumps([{'match': {'nth_call': 2}, 'fault': 'crash'}]))
    environment = {'VASP_STANDIN_LOG': str(folder / 'calls.jsonl'), 'VASP_STANDIN_FAULTS': str(folder / 'faults.json')}
    text = (HERE / 'vasp.yaml').read_text()
    (folder / 'vasp.yaml').write_text(
        f'{text}\nresources: {{label: {{environment_variables: {json.dumps(environment)}}}}}\n'
    )
    return installation


def test_dry_run_says_what_vasp_gets(vasp):
    told = vasp.cli('launch', '--dry-run', 'vasp.yaml')
    assert 'PAW_PBE Cu' in told
    assert '4 x 4 x 4' in told
    assert 'Nothing was submitted' in told


@pytest.mark.parametrize(
    ('old', 'new', 'sentence'),
    [
        ('STAND-IN', 'PBE.54', 'no POTCAR family `PBE.54` (there are STAND-IN)'),
        ('vasp_std@', 'vasp_gam@', 'The code `vasp_gam@localhost` for the stage `label` does not exist'),
        ('{ismear: 1', '{ismeer: 1', 'ismeer'),
        ('copper.xyz', 'water.xyz', 'has no POTCAR `H` for H'),
    ],
)
def test_mistakes_are_told_before_anything_is_submitted(vasp, old, new, sentence):
    (vasp.folder / 'wrong.yaml').write_text((vasp.folder / 'vasp.yaml').read_text().replace(old, new))
    told = vasp.cli('launch', 'wrong.yaml', check=False)
    assert sentence in ' '.join(told.split())
    assert 'Traceback' not in told


def test_a_whole_run(vasp):
    """A label that fails does not stop it, nothing is computed twice, and everything has its creator."""
    pk = vasp.launch('--wait', config='vasp.yaml')
    state = vasp.ask('state', pk)
    assert state['exit_status'] == 0, state
    outputs = vasp.ask('outputs', pk)
    assert sum(outputs['datasets']['seeds'].values()) + sum(outputs['datasets']['test'].values()) == 7, 'eight less one'
    assert {'seeds', 'test', 'iteration_01'} <= set(outputs['datasets'])
    assert vasp.ask('without_creator', pk) == []
    calls = [json.loads(line) for line in (vasp.folder / 'calls.jsonl').read_text().splitlines()]
    hashes = [call['hash'] for call in calls]
    assert len(hashes) == len(set(hashes)), 'no structure was computed twice'
    assert [call['fault'] for call in calls].count('crash') == 1
