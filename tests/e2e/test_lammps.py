"""A whole run whose walkers are in LAMMPS, and a walker that outlives the time limit of its job, through the daemon."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LAMMPS = """explore:
  lammps: {temperature: [300, 500], walkers: 2, steps: 60, check_interval: 10, thermostat: csvr}
"""

pytestmark = [pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope='module')
def lammps(installation):
    """lmp-mace as the command line sets it up, and the tiny run with LAMMPS as its explorer."""
    program = str(Path(sys.executable).with_name('lmp-mace'))
    assert 'lmp-mace@localhost' in installation.cli('setup', 'codes', 'localhost', '--lammps', program)
    text = (HERE / 'tiny.yaml').read_text()
    text = re.sub(r'explore:\n.*\n', LAMMPS, text).replace('max_iterations: 2', 'max_iterations: 1')
    # Another seed: a job that both runs have in common would be taken from either by a run that uses the cache.
    text = text.replace('select: {', 'random_seed: 1\nselect: {descriptors: gradient, ')
    assert 'lammps' in text
    assert 'gradient' in text
    (installation.folder / 'lammps.yaml').write_text(text)
    return installation


@pytest.mark.parametrize(
    ('old', 'new', 'sentence'),
    [
        ('thermostat: csvr', 'code: lmp@localhost', 'The code `lmp@localhost` for the stage `explore` does not exist'),
        ('thermostat: csvr', 'ensemble: npt, pressure: 0', 'There is no pressure along x, y, z'),
        ('thermostat: csvr', 'bias: {colvars: nothing.in}', 'There is no file nothing.in for the bias'),
    ],
)
def test_mistakes_are_told_before_anything_is_submitted(lammps, old, new, sentence):
    text = (lammps.folder / 'lammps.yaml').read_text()
    (lammps.folder / 'wrong.yaml').write_text(text.replace(old, new))
    told = lammps.cli('launch', 'wrong.yaml', check=False)
    assert sentence in ' '.join(told.split())
    assert 'Traceback' not in told


@pytest.fixture(scope='module')
def lammps_run(lammps):
    """PK of a run with LAMMPS that has ended."""
    return lammps.launch('--wait', config='lammps.yaml')


def test_a_whole_run(lammps, lammps_run):
    state = lammps.ask('state', lammps_run)
    assert state['exit_status'] == 0, state
    outputs = lammps.ask('outputs', lammps_run)
    assert sum(outputs['datasets']['iteration_01'].values()) == 4
    assert 'LammpsExploreCalculation' in lammps.verdi('process', 'status', str(lammps_run))
    assert lammps.ask('without_creator', lammps_run) == []
    story = lammps.cli('explain', str(lammps.ask('newest_label')['pk']))
    for word in ('LabelData', 'disagreed', 'committee', 'LammpsExploreCalculation'):
        assert word in story, story


def test_walker_outlives_the_time_limit_of_its_jobs(lammps, lammps_run):
    """LAMMPS ends in time by itself, six seconds after it began; the next job goes on from its restart file."""
    text = (lammps.folder / 'lammps.yaml').read_text()
    text = text.replace('walkers: 2, steps: 60', 'max_restarts: 30, upper: 50, walkers: 1, steps: 4000')
    (lammps.folder / 'long.yaml').write_text(f'{text}resources: {{explore: {{max_wallclock_seconds: 12}}}}\n')
    told = lammps.cli('explore', 'long.yaml', '--from', str(lammps_run), '--wait')
    (found,) = lammps.ask('walkers', re.findall(r'process (\d+)', told)[0])
    assert found['exit_statuses'][-1] == 0
    assert set(found['exit_statuses'][:-1]) == {400}, 'it was interrupted'
    assert found['steps'] == list(range(10, 4001, 10)), json.dumps(found)
