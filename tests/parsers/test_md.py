"""MdParser: one trajectory for each walker, whole frames only."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import units

from aiida_mlip_al.data.extxyz import read_frames

Make = Callable[..., Any]


def test_finished(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    files = recorded('md/finished')
    outputs, status, _ = parse_retrieved('mlip_al.md', dynamics_inputs, files)
    assert status == 0
    assert sorted(outputs['trajectories']) == ['walker_00', 'walker_01']
    ended = json.loads(files['md.status.json'])
    assert outputs['report'].get_dict() == {
        'n_frames': 8,
        'ends': {'finished': 2},
        'messages': {},
        'wall_s': ended['wall_s'],
        'core_s': ended['cpu_s'],
    }


def test_trajectory(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    files = recorded('md/finished')
    trajectory = parse_retrieved('mlip_al.md', dynamics_inputs, files).outputs['trajectories']['walker_01']
    frames = read_frames(files['walker_01.xyz'])
    records = [json.loads(line) for line in files['walker_01.jsonl'].splitlines()][:-1]
    assert trajectory.numsteps == len(frames) == len(records) == 4
    assert trajectory.symbols == ['O', 'H', 'H']
    assert list(trajectory.pbc) == [False, False, False]
    np.testing.assert_array_equal(trajectory.get_stepids(), [5, 10, 15, 20])
    np.testing.assert_allclose(trajectory.get_times(), [0.0025, 0.005, 0.0075, 0.01], rtol=1e-14)
    np.testing.assert_array_equal(trajectory.get_array('energies'), [record['energy'] for record in records])
    for row, frame in enumerate(frames):
        np.testing.assert_array_equal(trajectory.get_positions()[row], frame.positions)
        np.testing.assert_array_equal(trajectory.get_cells()[row], frame.cell.array)
        np.testing.assert_array_equal(trajectory.get_array('forces')[row], frame.calc.results['forces'])


def test_velocities_are_in_angstrom_per_picosecond(
    parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]
) -> None:
    files = recorded('md/finished')
    trajectory = parse_retrieved('mlip_al.md', dynamics_inputs, files).outputs['trajectories']['walker_00']
    masses = read_frames(files['walker_00.xyz'])[0].get_masses()
    record = json.loads(files['walker_00.jsonl'].splitlines()[0])
    # 1 u (Å/ps)² is 1.0364e-4 eV; water of fixed centre of mass has 6 degrees of freedom.
    speeds = trajectory.get_velocities()[0]
    kinetic = 0.5 * float((masses[:, None] * speeds**2).sum()) * 1.0364269656e-4
    assert kinetic == pytest.approx(0.5 * 6 * units.kB * record['temperature_K'], rel=1e-4)


@pytest.mark.parametrize(('scheduler', 'expected'), [(None, 400), (120, 120), (110, 110)])
def test_killed_job_keeps_its_frames(
    parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any], scheduler: int | None, expected: int
) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.md', dynamics_inputs, recorded('md/killed'), scheduler)
    assert status == expected
    assert list(outputs['trajectories']) == ['walker_00']
    assert outputs['trajectories']['walker_00'].numsteps == outputs['report']['n_frames'] >= 3
    assert outputs['report']['ends'] == {'killed': 2}


def test_cut_files_keep_what_both_have(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    files = recorded('md/killed')
    lines = files['walker_00.jsonl'].splitlines(keepends=True)[:3]
    files['walker_00.jsonl'] = b''.join([*lines[:2], lines[2][:-10]])
    outputs, _, _ = parse_retrieved('mlip_al.md', dynamics_inputs, files)
    assert outputs['trajectories']['walker_00'].numsteps == 2
    frame = len(b''.join(files['walker_00.xyz'].splitlines(keepends=True)[:5]))
    files['walker_00.xyz'] = files['walker_00.xyz'][: frame + 40]
    outputs, _, _ = parse_retrieved('mlip_al.md', dynamics_inputs, files)
    assert outputs['trajectories']['walker_00'].numsteps == 1


def test_exploded_walker(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    dynamics_inputs['walkers'].pop()
    files = recorded('md/non_finite')
    outputs, status, _ = parse_retrieved('mlip_al.md', dynamics_inputs, files)
    assert status == 0
    assert outputs['report']['ends'] == {'non_finite': 1}
    assert outputs['report']['messages'] == {'walker_00': 'a force is not finite.'}
    assert outputs['trajectories']['walker_00'].numsteps == 1


def test_no_frame_at_all(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    outputs, status, message = parse_retrieved('mlip_al.md', dynamics_inputs, recorded('md/no_frames'))
    assert (status, message) == (300, 'The job left no results: a force is not finite.')
    assert set(outputs) == {'report'}
    assert outputs['report']['ends'] == {'non_finite': 2}


def test_runner_failed(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    _, status, message = parse_retrieved('mlip_al.md', dynamics_inputs, recorded('md/bad_settings'))
    assert (status, message) == (310, "The runner stopped: ensemble must be one of nve, nvt, npt, not 'nph'.")


def test_nothing_left(parse_retrieved: Make, dynamics_inputs: dict[str, Any]) -> None:
    assert parse_retrieved('mlip_al.md', dynamics_inputs, {}).status == 400
    assert parse_retrieved('mlip_al.md', dynamics_inputs, {}, scheduler=120).status == 120
