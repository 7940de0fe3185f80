"""A whole run with VASP as the label engine, through the daemon; the stand-in takes the place of VASP."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

HERE = Path(__file__).parent
FAKES = HERE.parent / 'fakes'
# A level of theory besides that of the labels.
CHEAP = 'calculators: {cheap: {vasp: {code: vasp_std@localhost, potential_family: STAND-IN, incar: {encut: 200}}}}\n'

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
        (
            'md: {temperature',
            'md: {calculator: cheap, temperature',
            '`reuse_labels` needs the level of theory of the labels',
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_submitted(vasp, old, new, sentence):
    text = (vasp.folder / 'vasp.yaml').read_text()
    assert old in text
    (vasp.folder / 'wrong.yaml').write_text(text.replace(old, new) + CHEAP)
    told = vasp.cli('launch', 'wrong.yaml', check=False)
    assert sentence in ' '.join(told.split())
    assert 'Traceback' not in told


def test_a_whole_run(vasp):
    """A label that fails does not stop it, nothing is computed twice, and everything has its creator."""
    pk = vasp.launch('--wait', config='vasp.yaml')
    state = vasp.ask('state', pk)
    assert state['exit_status'] == 0, state
    outputs = vasp.ask('outputs', pk)
    counts = {name: sum(splits.values()) for name, splits in outputs['datasets'].items()}
    assert counts['seeds'] + counts['test'] == 9, 'six rattled, two of the MD and two for tests, less one'
    assert {'seeds', 'test', 'iteration_01'} <= set(outputs['datasets'])
    assert vasp.ask('without_creator', pk) == []
    calls = [json.loads(line) for line in (vasp.folder / 'calls.jsonl').read_text().splitlines()]
    hashes = [call['hash'] for call in calls]
    assert len(hashes) == len(set(hashes)), 'no structure was computed twice'
    assert [call['fault'] for call in calls].count('crash') == 1
    assert len(calls) == 8 + counts['iteration_01'], 'the frames of the MD had their labels'

    vasp.launch('--wait', '--cache', config='vasp.yaml')
    again = [json.loads(line)['hash'] for line in (vasp.folder / 'calls.jsonl').read_text().splitlines()][len(calls) :]
    crashed = {call['hash'] for call in calls if call['fault'] == 'crash'}
    assert set(again) & set(hashes) == crashed, 'all that VASP had computed came from the cache'


# What a scheduler does at the end of the time: it kills the whole job. AiiDA's `core.direct` never does.
TIME_LIMIT = '[ -n "$LIMITED" ] || LIMITED=1 exec timeout -s KILL {} bash "$0"'
MD = """
seed: [{{md: {{ensemble: nve, temperature: 600, timestep_fs: 2.0, steps: 9, every: 1}}}}]
resources:
  seed:
    max_wallclock_seconds: 8
    custom_scheduler_commands: '{limit}'
    environment_variables: {environment}
"""


def test_dynamics_outlives_the_time_limit(vasp):
    """A frame takes a second and a job has eight, so that the scheduler kills some: no frame is lost, and nobody can tell."""
    log, faults = vasp.folder / 'md_calls.jsonl', vasp.folder / 'md_faults.json'
    faults.write_text(json.dumps([{'match': {}, 'fault': 'slow', 'seconds': 1.0}]))
    environment = json.dumps({'VASP_STANDIN_LOG': str(log), 'VASP_STANDIN_FAULTS': str(faults)})
    kept = [
        line
        for line in (HERE / 'vasp.yaml').read_text().splitlines()
        if not line.startswith(('seed:', '  near:', '  hot:'))
    ]
    text = MD.format(limit=TIME_LIMIT.format(8), environment=environment)
    (vasp.folder / 'md.yaml').write_text('\n'.join(kept) + text)
    told = vasp.cli('seed', 'md.yaml', '--wait')
    (found,) = vasp.ask('dynamics', re.findall(r'process (\d+)', told)[0])
    assert found['steps'] == list(range(1, 10))
    assert found['exit_statuses'][-1] == 0
    assert set(found['exit_statuses'][:-1]) == {400}, 'killed at least once'
    assert sum(found['frames_of_jobs']) == 10, 'no frame is lost, and none computed again'
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert [call['velocities'] for call in calls] == [False] + [True] * (len(calls) - 1)
    assert len(calls) == len(found['exit_statuses'])
    # Verlet's step holds across the breaks: x(t+Δt) - 2 x(t) + x(t-Δt) = F/m Δt².
    assert found['largest_jump'] < 1e-6
    assert found['largest_acceleration'] > 1e-4
