"""LammpsExploreParser on what lmp-mace left, whole and cut, and what a native LAMMPS leaves."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from aiida import orm
from aiida.plugins import ParserFactory
from ase.io import read

CASE = 'lammps_explore/finished'
INPUTS = ('structure.xyz', 'settings.json', 'walker.json')


@pytest.fixture
def parse(recorded, generate_calc_job_node, make_model, tmp_path):
    """Return a function that parses the recorded files after ``change(files)``, with changed settings."""

    def run(change=lambda files: None, scheduler=None, **settings):
        files = recorded(CASE)
        given = {name: files.pop(name).decode() for name in INPUTS}
        structure = read(io.StringIO(given['structure.xyz']), format='extxyz')
        change(files)
        inputs = {
            'script': orm.SinglefileData.from_string('', filename='walker.in'),
            'structure': orm.StructureData(ase=structure),
            'committee': {'member_00': make_model(elements=('Au', 'Cu'))},
            'dynamics': orm.Dict({**json.loads(given['settings.json']), **settings}),
            'walker': orm.Dict(json.loads(given['walker.json'])),
        }
        for name in list(files):
            if name.endswith('.restart') or name.startswith('walker.'):
                (tmp_path / name).write_bytes(files.pop(name))
        attributes = {} if scheduler is None else {'exit_status': scheduler, 'exit_message': 'said the scheduler'}
        node = generate_calc_job_node('mlip_al.lammps_explore', inputs, files, attributes)
        parser = ParserFactory('mlip_al.lammps_explore')
        outputs, parsing = parser.parse_from_node(
            node, store_provenance=False, retrieved_temporary_folder=str(tmp_path)
        )
        return outputs, parsing.exit_status, structure

    return run


def cut(name, keep):
    """Return a change that leaves a part of a file."""

    def change(files):
        files[name] = files[name][: round(keep * len(files[name]))]

    return change


def killed(files):
    """Leave what a job leaves that was killed: no status, and a log and a dump that end somewhere."""
    del files['lmp-mace.status.json']
    log = files['log.lammps']
    files['log.lammps'] = log[: log.rindex(b'\n         8 ') + 40]


def test_whole_walker(parse):
    outputs, status, structure = parse()
    assert not status
    trajectory, deviation = outputs['trajectories']['walker_00'], outputs['deviations']['walker_00']
    np.testing.assert_array_equal(trajectory.get_stepids(), [4, 8, 12])
    np.testing.assert_allclose(trajectory.get_times(), [0.008, 0.016, 0.024])
    assert list(trajectory.symbols) == ['Cu', 'Au', 'Cu', 'Cu']
    # The cell is turned as that of the structure, and has changed a little.
    assert np.abs(trajectory.get_cells()[0] - structure.cell.array).max() < 0.01
    assert np.abs(trajectory.get_positions()[0] - structure.positions).max() < 0.3
    np.testing.assert_allclose(deviation.get_array('target_temperature_K'), [400, 500, 600])
    np.testing.assert_allclose(deviation.get_array('time_fs'), [8, 16, 24])
    forces = trajectory.get_array('forces')
    np.testing.assert_allclose(deviation.get_array('max_force'), np.linalg.norm(forces, axis=2).max(axis=1), rtol=1e-6)
    assert (deviation.max_force_deviation > 0).all()
    assert len(deviation.get_array('descriptors')) == 3
    attributes = deviation.base.attributes
    assert (attributes.get('stop_reason'), attributes.get('stopped_early')) == ('finished', False)
    thermo = outputs['thermo']
    np.testing.assert_allclose(thermo.get_array('Temp')[-3:], deviation.get_array('temperature_K'))
    report = outputs['report'].get_dict()
    assert (report['n_frames'], report['ends'], report['last_step']) == (3, {'finished': 1}, 12)
    assert report['wall_s'] > report['core_s'] * 0.2 > 0
    assert 'restart' not in outputs


def test_frames_before_the_end_of_the_equilibration_are_left_out(parse):
    outputs, _, _ = parse(equilibration=4, steps=8)
    np.testing.assert_array_equal(outputs['trajectories']['walker_00'].get_stepids(), [8, 12])


def test_killed_walker_keeps_its_frames_and_says_where_to_go_on(parse):
    outputs, status, _ = parse(killed)
    assert status == 400
    np.testing.assert_array_equal(outputs['deviations']['walker_00'].get_array('step'), [4])
    assert outputs['deviations']['walker_00'].base.attributes.get('stop_reason') == 'killed'
    assert outputs['restart'].filename == 'continue.restart'
    assert outputs['restart'].base.attributes.get('step') == 10


def test_restart_file_that_was_cut_is_not_used(parse):
    def change(files):
        killed(files)
        files['walker.5.restart'] = files['walker.10.restart']
        files['walker.10.restart'] = files['walker.10.restart'][:-20]

    outputs, _, _ = parse(change)
    assert outputs['restart'].base.attributes.get('step') == 5


def test_schedulers_verdict_stands(parse):
    outputs, status, _ = parse(killed, scheduler=120)
    assert status == 120
    assert 'restart' in outputs


@pytest.mark.parametrize('name', ['walker.dump', 'log.lammps', 'walker.jsonl'])
@pytest.mark.parametrize('keep', [0.0, 0.1, 0.35, 0.5, 0.65, 0.8, 0.99])
def test_any_file_may_end_anywhere(parse, name, keep):
    outputs, status, _ = parse(cut(name, keep))
    n_frames = outputs['report']['n_frames']
    assert n_frames in range(4)
    assert bool(n_frames) == ('trajectories' in outputs)
    if n_frames:
        steps = outputs['deviations']['walker_00'].get_array('step')
        np.testing.assert_array_equal(steps, [4, 8, 12][:n_frames])
        assert outputs['trajectories']['walker_00'].numsteps == n_frames
    else:
        assert status in (300, 400)


def test_job_that_never_began(parse):
    outputs, status, _ = parse(lambda files: files.clear())
    assert status == 400
    assert outputs['report']['ends'] == {'killed': 1}
    assert 'restart' not in outputs


def test_frame_that_is_not_finite_and_those_after_it_are_left_out(parse):
    def change(files):
        lines = files['walker.jsonl'].decode().split('\n')
        record = json.loads(lines[-3])
        assert record['step'] == 8
        record['forces'][1][2] = float('nan')
        record['max_force'] = float('nan')
        lines[-3] = json.dumps(record)
        files['walker.jsonl'] = '\n'.join(lines).encode()

    outputs, status, _ = parse(change)
    assert not status
    np.testing.assert_array_equal(outputs['deviations']['walker_00'].get_array('step'), [4])
    assert outputs['deviations']['walker_00'].base.attributes.get('stop_reason') == 'non_finite'


def status_file(**changes):
    """Return a change of what lmp-mace says at its end."""

    def change(files):
        status = {**json.loads(files['lmp-mace.status.json']), **changes}
        files['lmp-mace.status.json'] = json.dumps(status).encode()

    return change


def test_walker_beyond_the_upper_level(parse):
    outputs, status, _ = parse(status_file(end='upper_level', message='max_devi_f is above the level.', step=8))
    assert not status
    deviation = outputs['deviations']['walker_00'].base.attributes
    assert (deviation.get('stop_reason'), deviation.get('stopped_early')) == ('upper_level', True)
    assert outputs['report']['messages'] == {'walker_00': 'max_devi_f is above the level.'}


def test_terminated_walker_goes_on_from_where_it_stood(parse):
    def change(files):
        status_file(finished=False, error='terminated', end='terminated', step=11)(files)
        files['stopped.restart'] = files['walker.10.restart']

    outputs, status, _ = parse(change)
    assert status == 400
    assert outputs['restart'].base.attributes.get('step') == 11


def test_error_without_frames_is_an_exit_code_with_its_words(parse):
    def change(files):
        for name in list(files):
            if name.startswith('walker'):
                del files[name]
        files['log.lammps'] = b'LAMMPS (22 Jul 2025)\nERROR: Unknown fix style nonsense (src/modify.cpp:978)\n'
        status_file(finished=False, end='error', error='Unknown fix style nonsense', step=0)(files)

    outputs, status, _ = parse(change)
    assert status == 310
    assert outputs['report']['messages'] == {'walker_00': 'Unknown fix style nonsense'}


@pytest.mark.parametrize(
    ('settings', 'reason'), [({'max_force': 1e-5}, 'high_force'), ({'min_distance_fraction': 2.0}, 'too_close')]
)
def test_frame_beyond_a_limit_is_the_last(parse, settings, reason):
    outputs, status, _ = parse(**settings)
    assert not status
    assert outputs['report']['ends'] == {reason: 1}
    assert outputs['trajectories']['walker_00'].numsteps == 1


def test_fix_halt_names_the_reason(parse):
    def change(files):
        del files['lmp-mace.status.json']
        files['log.lammps'] += (
            b'WARNING: Fix halt condition for fix-id distance_limit_1a met on step 12 with value 0.9 (src/fix_halt.cpp:310)\n'
        )

    outputs, status, _ = parse(change)
    assert not status
    assert outputs['report']['ends'] == {'distance_limit': 1}


def test_native_lammps_leaves_no_deviations(parse):
    def change(files):
        del files['lmp-mace.status.json'], files['walker.jsonl']

    outputs, status, _ = parse(change, pair_style='mliap')
    assert not status
    assert 'deviations' not in outputs
    trajectory = outputs['trajectories']['walker_00']
    assert trajectory.numsteps == 3
    np.testing.assert_allclose(trajectory.get_array('energies'), outputs['thermo'].get_array('PotEng')[-3:])
    assert 'forces' not in trajectory.get_arraynames()
    assert trajectory.base.attributes.get('stop_reason') == 'finished'
