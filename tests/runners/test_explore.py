"""Exploring with a committee."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read

from aiida_mlip_al.runners.frames import read_frames, read_lines

WALKER = {'structure': 0, 'temperature_K': 300.0, 'seed': 1}


def base(files: list[Path], **changes: Any) -> dict[str, Any]:
    dynamics = {'steps': 40, 'timestep_fs': 0.5, 'min_distance_fraction': 0.3}
    config = {
        'models': [str(file) for file in files],
        'dtype': 'float64',
        'walkers': [WALKER],
        'check_interval': 10,
        'dynamics': {**dynamics, **changes.pop('dynamics', {})},
    }
    return {**config, **changes}


def table(job: Any, number: int = 0) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *frames, end = read_lines(job.folder / f'walker_{number:02d}.jsonl')
    return frames, end


def test_every_frame_against_mace_calculator(job, committee_files, ethanol: Atoms) -> None:
    import torch
    from mace.calculators import MACECalculator

    status = job.run('explore', base(committee_files), [ethanol])
    assert status['exit_code'] == 0, status['output']
    assert (status['n_walkers'], set(status['versions']) >= {'torch', 'mace', 'ase'}) == (1, True)
    lines, end = table(job)
    assert end == {'end': 'finished', 'step': 40, 'message': ''}
    frames = read(job.folder / 'walker_00.xyz', ':')
    assert [line['step'] for line in lines] == [10, 20, 30, 40] == [frame.info['step'] for frame in frames]
    committee = MACECalculator(model_paths=[str(file) for file in committee_files], default_dtype='float64')
    lead = MACECalculator(model_paths=[str(committee_files[0])], default_dtype='float64')
    for frame, line in zip(frames, lines, strict=True):
        with torch.jit.optimized_execution(False):
            committee.calculate(frame)
            features = lead.get_descriptors(frame)
        energies, forces = committee.results['energy_comm'], committee.results['forces_comm']
        assert frame.get_forces() == pytest.approx(forces.mean(axis=0), abs=1e-6)
        assert frame.get_potential_energy() == pytest.approx(energies.mean(), abs=1e-6) == line['energy']
        per_atom = np.sqrt((np.linalg.norm(forces - forces.mean(axis=0), axis=2) ** 2).mean(axis=0))
        assert line['max_force_deviation'] == pytest.approx(per_atom.max(), abs=1e-6)
        assert line['mean_force_deviation'] == pytest.approx(per_atom.mean(), abs=1e-6)
        assert line['min_force_deviation'] == pytest.approx(per_atom.min(), abs=1e-6)
        assert line['percentile_force_deviation'] == pytest.approx(np.percentile(per_atom, 95), abs=1e-6)
        relative = per_atom / (np.linalg.norm(forces.mean(axis=0), axis=1) + 0.2)
        assert line['relative_force_deviation'] == pytest.approx(relative.max(), abs=1e-6)
        assert line['energy_deviation_per_atom'] == pytest.approx(energies.std() / 9, abs=1e-6)
        assert line['max_force'] == pytest.approx(np.linalg.norm(forces[0], axis=1).max(), abs=1e-6), (
            'of the lead model'
        )
        expected = [features[frame.numbers == z].mean(axis=0) for z in (1, 6, 8)]
        assert line['descriptor'] == pytest.approx(np.concatenate(expected), abs=1e-5)
    assert max(line['max_force_deviation'] for line in lines) > 0.01


def test_walkers_together_equal_a_walker_alone(make_job, committee_files, ethanol: Atoms) -> None:
    water = Atoms('OH2', [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    walkers = [
        {'structure': 0, 'temperature_K': 300.0, 'seed': 1},
        {'structure': 1, 'temperature_K': 200.0, 'seed': 2},
        {'structure': 0, 'temperature_K': [100.0, 400.0], 'seed': 3},
    ]
    together = make_job('together')
    assert together.run_here('explore', base(committee_files, walkers=walkers), [ethanol, water])['finished']
    for number, walker in enumerate(walkers):
        alone = make_job(f'alone_{number}')
        alone.run_here('explore', base(committee_files, walkers=[walker]), [ethanol, water])
        expected = read(alone.folder / 'walker_00.xyz', ':')
        found = read(together.folder / f'walker_{number:02d}.xyz', ':')
        assert len(found) == 4
        for one, other in zip(found, expected, strict=True):
            assert one.positions == pytest.approx(other.positions, abs=1e-7)
            assert one.get_momenta() == pytest.approx(other.get_momenta(), abs=1e-7)


@pytest.mark.slow
def test_walkers_divided_among_processes_are_those_of_one(make_job, committee_files, ethanol: Atoms) -> None:
    walkers = [{**WALKER, 'seed': seed} for seed in (1, 2, 3)]
    jobs = {processes: make_job(f'in_{processes}') for processes in (1, 2)}
    for processes, job in jobs.items():
        status = job.run('explore', base(committee_files[:2], walkers=walkers, processes=processes), [ethanol])
        assert status['exit_code'] == 0, status['output']
        assert (status['n_walkers'], 'mace' in status['versions']) == (3, True)
    for number in range(3):
        file = f'walker_{number:02d}.xyz'
        one, other = (read(jobs[processes].folder / file, ':') for processes in (1, 2))
        assert len(one) == len(other) == 4
        assert other[-1].positions == pytest.approx(one[-1].positions, abs=1e-7)
    shares = [json.loads((jobs[2].folder / f'explore_{process}.json').read_text())['numbers'] for process in range(2)]
    assert shares == [[0, 2], [1]]


@pytest.mark.slow
def test_a_process_that_fails_says_why(job, committee_files, ethanol: Atoms) -> None:
    walkers = [WALKER, {**WALKER, 'temperature_K': -1}]
    status = job.run('explore', base(committee_files[:1], walkers=walkers, processes=2), [ethanol])
    assert (status['exit_code'], status['finished']) == (1, False)
    assert status['error'] == 'temperature_K of a walker must be positive, not -1.'


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_a_killed_run_is_continued_by_another_job(make_job, committee_files, ethanol: Atoms, processes: int) -> None:
    walkers = [WALKER, {**WALKER, 'seed': 2}]
    config = base(committee_files[:1], walkers=walkers, dynamics={'steps': 100_000}, dtype='float32')
    config['processes'] = processes
    first, second = make_job('first'), make_job('second')
    first.prepare('explore', config, [ethanol])
    paths = [first.folder / f'walker_0{number}.xyz' for number in range(2)]
    process = first.start('explore')
    first.stop_when(process, lambda: all(p.exists() and len(read_frames(p)) >= 2 for p in paths), signal.SIGTERM)
    for file in first.folder.glob('walker_*'):
        shutil.copy(file, second.folder)
    cut = second.folder / 'walker_01.xyz'
    cut.write_bytes(cut.read_bytes()[:-30])
    before = [table(first, number) for number in range(2)]
    n_before = [len(frames) + ('end' not in end) for frames, end in before]
    steps = 10 * max(n_before) + 50
    config.update(continued=True, dynamics={**config['dynamics'], 'steps': steps})
    assert second.run('explore', config, [ethanol])['finished']
    for number in range(2):
        frames, end = table(second, number)
        assert end == {'end': 'finished', 'step': steps, 'message': ''}
        assert [frame['step'] for frame in frames] == list(range(10, steps + 1, 10))
        old, new = read_frames(paths[number]), read_frames(second.folder / f'walker_0{number}.xyz')
        assert len(new) == len(frames)
        kept = n_before[number] - number  # the last frame of the second one was cut
        for one, other in zip(old[:kept], new, strict=False):
            assert one.positions == pytest.approx(other.positions, abs=1e-8)
            assert one.get_momenta() == pytest.approx(other.get_momenta(), abs=1e-8)
        moved = np.abs(new[kept].positions - new[kept - 1].positions).max()
        assert 0 < moved < 0.5, 'it goes on from where it was'


def test_a_walker_that_had_ended_is_left_as_it_is(make_job, committee_files, ethanol: Atoms) -> None:
    config = base(committee_files[:1], walkers=[WALKER, {**WALKER, 'seed': 2}])
    first, second = make_job('first'), make_job('second')
    first.run_here('explore', config, [ethanol])
    files = sorted(first.folder.glob('walker_*'))
    assert len(files) == 4
    for file in files:
        shutil.copy(file, second.folder)
    assert second.run_here('explore', {**config, 'continued': True}, [ethanol])['finished']
    assert [(second.folder / file.name).read_bytes() == file.read_bytes() for file in files] == [True] * 4


def test_equal_seeds_give_equal_files(make_job, committee_files, ethanol: Atoms) -> None:
    walkers = [WALKER, {**WALKER, 'seed': 5}]
    config = base(committee_files, walkers=walkers, dtype='float32')
    folders = []
    for name in ('one', 'two'):
        job = make_job(name)
        job.run_here('explore', config, [ethanol])
        folders.append(job.folder)
    for file in ('walker_00.xyz', 'walker_01.xyz', 'walker_00.jsonl', 'walker_01.jsonl'):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
    assert (folders[0] / 'walker_00.xyz').read_bytes() != (folders[0] / 'walker_01.xyz').read_bytes()


def test_one_walker_above_the_upper_level_stops_alone(make_job, committee_files, ethanol: Atoms) -> None:
    crowded = ethanol.copy()  # compressed: the members disagree more
    crowded.positions *= 0.8
    walkers = [{**WALKER, 'structure': 1}, WALKER]
    free = make_job('free')
    free.run_here('explore', base(committee_files, walkers=walkers), [ethanol, crowded])
    first, second = (max(line['max_force_deviation'] for line in table(free, number)[0]) for number in (0, 1))
    assert first > 1.05 * second, 'the model committee does not tell the two apart'
    level = (first + second) / 2
    job = make_job('limited')
    status = job.run_here(
        'explore', base(committee_files, walkers=walkers, levels={'upper': level}), [ethanol, crowded]
    )
    assert status['finished'], status['error']
    lines, end = table(job, 0)
    assert end['end'] == 'upper_level'
    assert lines[-1]['max_force_deviation'] > level
    assert lines[-1]['step'] == end['step'] < 40
    assert all(line['max_force_deviation'] <= level for line in lines[:-1])
    assert len(read_frames(job.folder / 'walker_00.xyz')) == len(lines)
    assert table(job, 1)[1]['end'] == 'finished'
    # Not to the last digit: a batch of one takes the place of a batch of two when the other one has stopped.
    for found, expected in zip(table(job, 1)[0], table(free, 1)[0], strict=True):
        assert found.pop('descriptor') == pytest.approx(expected.pop('descriptor'), abs=1e-7), 'seven digits'
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_a_walker_beyond_a_distance_limit_stops(job, committee_files, ethanol: Atoms) -> None:
    """The model pulls the two carbon atoms together; the frame outside is recorded as the last one."""
    apart = ethanol.copy()
    apart.set_distance(0, 1, 1.9, fix=0, indices=[1, 3, 4, 5], add=False)
    limits = [{'pair': [0, 2], 'min': 0.5, 'max': None}, {'pair': [1, 0], 'min': 1.45, 'max': 1.7}]
    config = base(
        committee_files[:1],
        walkers=[{**WALKER, 'structure': 1}, WALKER],
        check_interval=5,
        dynamics={'distance_limits': limits, 'steps': 200, 'stride': 10},
    )
    status = job.run_here('explore', config, [ethanol, apart])
    assert status['finished'], status['error']
    lines, end = table(job, 0)
    assert (end['end'], end['step'], len(lines)) == ('distance_limit', 0, 1)
    assert end['message'] == 'C1 and C0 are 1.900 Å apart, more than the 1.7 Å allowed.'
    lines, end = table(job, 1)
    assert end['end'] == 'distance_limit'
    assert 'less than the 1.45 Å allowed' in end['message']
    frames = read(job.folder / 'walker_01.xyz', ':')
    distances = [frame.get_distance(0, 1) for frame in frames]
    assert len(frames) == len(lines) > 1
    assert distances[-1] < 1.45 < min(distances[:-1])
    assert frames[-1].info['step'] == lines[-1]['step'] == end['step'] < 200
    config['dynamics']['distance_limits'] = [{'pair': [0, 9], 'max': 2.0}]
    status = job.run_here('explore', config, [ethanol, apart])
    assert 'on the atoms 0 and 9, but C2H6O has the atoms 0 to 8' in status['error']


def test_stride_is_recorded_and_every_check_can_stop(job, committee_files, ethanol: Atoms) -> None:
    config = base(committee_files, check_interval=5, dynamics={'stride': 20}, descriptors=None)
    job.run_here('explore', config, [ethanol])
    lines, _ = table(job)
    assert [line['step'] for line in lines] == [20, 40]
    assert 'descriptor' not in lines[0]
    config['levels'] = {'upper': 1e-6}
    job.run_here('explore', config, [ethanol])
    lines, end = table(job)
    assert (end['end'], end['step'], len(lines)) == ('upper_level', 0, 1), 'checked from the start'


def test_stress_deviation_against_mace_calculator(job, committee_files) -> None:
    from mace.calculators import MACECalculator

    crystal = bulk('C', cubic=True)
    config = base(committee_files, stress_deviation=True, dynamics={'steps': 20})
    status = job.run('explore', config, [crystal])
    assert status['exit_code'] == 0, status['output']
    lines, _ = table(job)
    frames = read(job.folder / 'walker_00.xyz', ':')
    assert len(frames) == 2
    models = [MACECalculator(model_paths=[str(file)], default_dtype='float64') for file in committee_files]
    for frame, line in zip(frames, lines, strict=True):
        stresses = np.array([model.get_stress(frame) for model in models])
        assert line['stress_deviation'] == pytest.approx(stresses.std(axis=0).max(), rel=1e-5)
        assert line['stress_deviation'] > 1e-6


def test_a_molecule_has_no_stress_deviation(job, committee_files, ethanol: Atoms) -> None:
    assert job.run_here('explore', base(committee_files[:2], stress_deviation=True), [ethanol])['finished']
    assert 'stress_deviation' not in table(job)[0][0]


def test_npt_changes_the_cell(job, committee_files) -> None:
    crystal = bulk('C', cubic=True)
    walker = {**WALKER, 'pressure_GPa': 20.0}
    dynamics = {'ensemble': 'npt', 'taup_fs': 50.0, 'barostat_mask': [True, True, False], 'max_temperature_factor': 50}
    status = job.run_here('explore', base(committee_files, walkers=[walker], dynamics=dynamics), [crystal])
    assert status['finished'], status['error']
    _, end = table(job)
    assert end['end'] == 'finished', end
    change = np.abs(read(job.folder / 'walker_00.xyz', -1).cell.lengths() - crystal.cell.lengths())
    assert change[:2].min() > 1e-3
    assert change[2] == 0


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_its_frames(job, committee_files, ethanol: Atoms, signum: signal.Signals) -> None:
    walkers = [WALKER, {**WALKER, 'seed': 2}]
    config = base(committee_files[:1], walkers=walkers, dynamics={'steps': 1_000_000}, dtype='float32')
    job.prepare('explore', config, [ethanol])
    process = job.start('explore')
    paths = [job.folder / f'walker_0{number}.xyz' for number in range(2)]
    job.stop_when(process, lambda: all(path.exists() and len(read_frames(path)) >= 2 for path in paths), signum)
    assert all(len(read_frames(path)) >= 2 for path in paths)
    assert all('end' not in line for line in read_lines(job.folder / 'walker_00.jsonl'))
    if signum == signal.SIGTERM:
        assert process.returncode == 1
        assert job.status('explore')['error'] == 'terminated'


def test_bad_input_ends_with_one_sentence(job, committee_files, ethanol: Atoms) -> None:
    files = committee_files[:1]
    for config, message in [
        (base(files, dynamics={'stride': 15}), 'must be a multiple of check_interval'),
        (base([]), 'at least one model'),
        (base(files, level=1), 'unknown keys: level'),
        (base([Path('absent.model')]), 'absent.model does not exist'),
    ]:
        status = job.run_here('explore', config, [ethanol])
        assert (status['exit_code'], status['finished']) == (1, False)
        assert message in status['error']
    assert 'do not know Si' in job.run_here('explore', base(files), [bulk('Si')])['error']
    wrong_walker = base(files, walkers=[WALKER], dynamics={'ensemble': 'npt'})
    assert job.run_here('explore', wrong_walker, [ethanol])['finished']
    assert 'periodic in three directions' in table(job)[1]['message']
