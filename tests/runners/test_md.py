"""Molecular dynamics with one calculator."""

from __future__ import annotations

import json
import shutil
import signal
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.io import read

from aiida_mlip_al.runners.frames import read_frames, read_lines

SPRINGS = {'calculator': 'fakes.calculators:Springs', 'arguments': {'stiffness': 20.0}}
WALKER = {'structure': 0, 'temperature_K': 300.0, 'seed': 1}


def table(job: Any, number: int = 0) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the lines of the frames and the last line of a walker."""
    *frames, end = read_lines(job.folder / f'walker_{number:02d}.jsonl')
    assert 'end' in end
    return frames, end


def test_frames_and_lines_belong_together(job, ethanol: Atoms) -> None:
    dynamics = {'steps': 100, 'equilibration': 20, 'stride': 25, 'timestep_fs': 0.4}
    status = job.run('md', {**SPRINGS, 'dynamics': dynamics, 'walkers': [WALKER]}, [ethanol])
    assert status['exit_code'] == 0, status['output']
    lines, end = table(job)
    frames = read(job.folder / 'walker_00.xyz', ':')
    assert end == {'end': 'finished', 'step': 120, 'message': ''}
    assert [line['step'] for line in lines] == [45, 70, 95, 120] == [frame.info['step'] for frame in frames]
    for frame, line in zip(frames, lines, strict=True):
        moved = frame.positions - ethanol.positions
        assert frame.get_forces() == pytest.approx(-20.0 * moved, abs=1e-6)
        assert line['energy'] == pytest.approx(10.0 * (moved**2).sum(), abs=1e-6)
        assert line['max_force'] == pytest.approx(np.linalg.norm(frame.get_forces(), axis=1).max(), abs=1e-6)
        kinetic = frame.get_kinetic_energy()
        assert line['temperature_K'] == pytest.approx(2 * kinetic / (24 * units.kB), abs=0.01)
        assert line['time_fs'] == pytest.approx(0.4 * line['step'])
        assert frame.get_center_of_mass() == pytest.approx(ethanol.get_center_of_mass(), abs=1e-6)


def test_the_seed_decides(make_job, ethanol: Atoms) -> None:
    walkers = [WALKER, {**WALKER, 'seed': 2}, WALKER]
    texts = []
    for name in ('one', 'two'):
        job = make_job(name)
        job.run_here('md', {**SPRINGS, 'dynamics': {'steps': 50}, 'walkers': walkers}, [ethanol])
        texts.append([(job.folder / f'walker_{number:02d}.xyz').read_text() for number in range(3)])
    assert texts[0] == texts[1]
    assert texts[0][0] == texts[0][2] != texts[0][1]


def test_ramps_are_linear_over_the_recorded_steps(job) -> None:
    walker = {**WALKER, 'temperature_K': [100, 300], 'pressure_GPa': [1.0, 2.0]}
    dynamics = {'ensemble': 'npt', 'steps': 40, 'equilibration': 10, 'stride': 10}
    crystal = bulk('Cu', cubic=True)
    config = {'calculator': 'fakes.calculators:Crystal', 'dynamics': dynamics, 'walkers': [walker]}
    status = job.run_here('md', config, [crystal])
    assert status['finished'], status['error']
    lines, end = table(job)
    assert end['end'] == 'finished', end
    assert [line['target_temperature_K'] for line in lines] == pytest.approx([150, 200, 250, 300])
    pressures = [frame.info['pressure_GPa'] for frame in read_frames(job.folder / 'walker_00.xyz')]
    assert pressures == pytest.approx([1.25, 1.5, 1.75, 2.0])


@pytest.mark.parametrize(
    ('calculator', 'arguments', 'reason'),
    [
        ('Explosive', {'calls': 13, 'force': 250.0}, 'high_force'),
        ('Explosive', {'calls': 13, 'force': None}, 'non_finite'),
        ('Attraction', {}, 'too_close'),
        ('Springs', {}, 'high_temperature'),
    ],
)
def test_a_walker_stops_and_says_why(job, ethanol, calculator, arguments, reason) -> None:
    walker = dict(WALKER)
    if reason == 'high_temperature':  # the ramp cools the target to a millikelvin while energy is conserved
        walker['temperature_K'] = [300.0, 0.001]
    config = {
        'calculator': f'fakes.calculators:{calculator}',
        'arguments': arguments,
        'dynamics': {'steps': 400, 'stride': 400, 'ensemble': 'nve'},
        'walkers': [walker, WALKER],
    }
    status = job.run_here('md', config, [ethanol])
    assert status['finished'], status['error']
    lines, end = table(job)
    assert end['end'] == reason, end
    assert 0 < end['step'] <= 400
    frames = read_frames(job.folder / 'walker_00.xyz')
    assert len(frames) == len(lines) == (0 if reason == 'non_finite' else 1)
    if frames:
        assert frames[0].info['step'] == end['step']
        assert end['message']
    assert table(job, 1)[1]['step'] >= 0, 'the next walker ran'


def test_an_error_of_the_calculator_ends_one_walker(job, ethanol: Atoms) -> None:
    bad = ethanol.copy()
    bad.info['trouble'] = 'raises'
    silent = ethanol.copy()
    silent.info['trouble'] = 'says_unconverged'
    walkers = [{**WALKER, 'structure': index} for index in (0, 1, 2)]
    config = {'calculator': 'fakes.calculators:Troubled', 'dynamics': {'steps': 20}, 'walkers': walkers}
    assert job.run_here('md', config, [bad, silent, ethanol])['finished']
    assert table(job, 0)[1] == {'end': 'error', 'step': 0, 'message': 'RuntimeError: the disk is full'}
    assert 'converged = False' in table(job, 1)[1]['message']
    assert table(job, 2)[1]['end'] == 'finished'


def test_a_trajectory_can_be_continued(job, ethanol: Atoms) -> None:
    dynamics = {'ensemble': 'nve', 'steps': 60, 'stride': 20}
    xtb = {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN1-xTB', 'verbosity': 0}}
    config = {**xtb, 'dynamics': dynamics, 'walkers': [WALKER]}
    job.run_here('md', config, [ethanol])
    whole = read(job.folder / 'walker_00.xyz', ':')
    config['walkers'] = [{**WALKER, 'start_step': 20}]
    job.run_here('md', config, [whole[0]])
    rest = read(job.folder / 'walker_00.xyz', ':')
    assert [frame.info['step'] for frame in rest] == [40, 60]
    for one, other in zip(rest, whole[1:], strict=True):
        assert one.positions == pytest.approx(other.positions, abs=1e-4)


def test_a_killed_run_is_continued_by_another_job(make_job, ethanol: Atoms) -> None:
    """The first walker had ended early, the second one was at its third frame, the third had not begun."""
    walkers = [{**WALKER, 'seed': seed} for seed in (1, 2, 3)]
    config = {**SPRINGS, 'dynamics': {'ensemble': 'nvt', 'steps': 60, 'stride': 10}, 'walkers': walkers}
    whole, cut = make_job('whole'), make_job('cut')
    whole.run_here('md', config, [ethanol])
    ended_early = json.dumps({'end': 'high_force', 'step': 30, 'message': ''}) + '\n'
    for name, end in (('walker_00', ended_early), ('walker_01', '')):
        shutil.copy(whole.folder / f'{name}.xyz', cut.folder)
        lines = (whole.folder / f'{name}.jsonl').read_text().splitlines(keepends=True)
        (cut.folder / f'{name}.jsonl').write_text(''.join(lines[:3]) + end)
    ended = (cut.folder / 'walker_00.jsonl').read_bytes()
    status = cut.run_here('md', {**config, 'continued': True}, [ethanol])
    assert status['finished'], status['error']
    assert status['n_walkers'] == 3
    assert (cut.folder / 'walker_00.jsonl').read_bytes() == ended
    for number in (1, 2):
        assert [line['step'] for line in table(cut, number)[0]] == [10, 20, 30, 40, 50, 60]
        frames = read_frames(cut.folder / f'walker_0{number}.xyz')
        assert [frame.info['step'] for frame in frames] == [10, 20, 30, 40, 50, 60]
        before = read_frames(whole.folder / f'walker_0{number}.xyz')
        moved = [np.abs(one.positions - other.positions).max() for one, other in zip(before, frames, strict=True)]
        assert moved[:3] == pytest.approx([0, 0, 0], abs=1e-8)
        # What was continued has other random numbers of the thermostat from there on; what had not begun is the same.
        assert (moved[-1] > 1e-4) == (number == 1)


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_its_frames(job, ethanol: Atoms, signum: signal.Signals) -> None:
    config = {**SPRINGS, 'dynamics': {'steps': 10_000_000, 'stride': 10}, 'walkers': [WALKER]}
    job.prepare('md', config, [ethanol])
    process = job.start('md')
    path = job.folder / 'walker_00.xyz'
    job.stop_when(process, lambda: path.exists() and len(read_frames(path)) >= 3, signum)
    lines = read_lines(job.folder / 'walker_00.jsonl')
    frames = read_frames(path)
    assert len(frames) >= 3
    assert len(frames) - len(lines) in (0, 1)
    assert all('end' not in line for line in lines)
    if signum == signal.SIGTERM:
        assert job.status('md')['error'] == 'terminated'
    else:
        assert not (job.folder / 'md.status.json').exists()


@pytest.mark.parametrize(
    ('walkers', 'message'),
    [
        ([], 'at least one entry'),
        ([{**WALKER, 'structure': 1}], 'there are only 1'),
        ([{'structure': 0}], 'a walker has the keys'),
        ([{**WALKER, 'temperature_K': [1, 2, 3]}], r'\[first, last\]'),
        ([{**WALKER, 'temperature_K': 0}], 'must be positive'),
    ],
)
def test_bad_walkers(job, ethanol: Atoms, walkers: list[dict[str, Any]], message: str) -> None:
    status = job.run_here('md', {**SPRINGS, 'walkers': walkers}, [ethanol])
    assert status['exit_code'] == 1
    assert message.replace('\\', '') in status['error']


@pytest.mark.slow
def test_ethanol_with_xtb_has_the_temperature_asked_for(job, ethanol: Atoms) -> None:
    config = {
        'calculator': 'tblite.ase:TBLite',
        'arguments': {'method': 'GFN2-xTB', 'verbosity': 0},
        'dynamics': {'steps': 9000, 'equilibration': 1000, 'timestep_fs': 0.5, 'friction_per_fs': 0.05},
        'walkers': [{'structure': 0, 'temperature_K': 500.0, 'seed': 7}],
    }
    assert job.run_here('md', config, [ethanol])['finished']
    lines, end = table(job)
    assert end['end'] == 'finished'
    assert np.mean([line['temperature_K'] for line in lines]) == pytest.approx(500, rel=0.05)
