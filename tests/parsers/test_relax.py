"""RelaxParser: relaxed structures by the names of the inputs, and the reason of every other one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase.build import bulk, fcc111, molecule

from aiida_mlip_al.data import FrameData
from aiida_mlip_al.data.extxyz import read_frames

Make = Callable[..., Any]


def inputs_of(structures: dict[str, Any], **settings: Any) -> dict[str, Any]:
    nodes = {name: orm.StructureData(ase=atoms) for name, atoms in structures.items()}
    calculator = orm.Dict({'calculator': 'ase.calculators.emt:EMT'})
    return {'structures': nodes, 'settings': orm.Dict(settings), 'calculator': calculator}


def metals(**settings: Any) -> dict[str, Any]:
    """What the recorded crystal and slab were relaxed from, the second of the names first."""
    slab = fcc111('Cu', (1, 1, 2), a=3.7, vacuum=6)
    return inputs_of({'slab': slab, 'bulk': bulk('Cu', a=3.7, cubic=True)}, cell='full', **settings)


def waters() -> dict[str, Any]:
    return inputs_of({'water_0': molecule('H2O'), 'water_1': molecule('H2O')})


def test_finished(parse_retrieved: Make, recorded: Make) -> None:
    files, inputs = recorded('relax/finished'), metals()
    outputs, status, _ = parse_retrieved('mlip_al.relax', inputs, files)
    assert status == 0
    assert sorted(outputs['structures']) == ['bulk', 'slab']
    for name, frame in zip(('bulk', 'slab'), read_frames(files['relaxed.extxyz']), strict=True):
        before, after = inputs['structures'][name].get_ase(), outputs['structures'][name].get_ase()
        assert type(outputs['structures'][name]) is orm.StructureData
        np.testing.assert_array_equal(after.numbers, before.numbers)
        np.testing.assert_array_equal(after.pbc, before.pbc)
        np.testing.assert_array_equal(after.get_tags(), before.get_tags())
        np.testing.assert_array_equal(after.positions, frame.positions)
        np.testing.assert_array_equal(after.cell.array, frame.cell.array)


def test_report(parse_retrieved: Make, recorded: Make) -> None:
    files = recorded('relax/finished')
    report = parse_retrieved('mlip_al.relax', metals(), files).outputs['report'].get_dict()
    ended = json.loads(files['relax.status.json'])
    lines = [json.loads(line) for line in files['relax.jsonl'].splitlines()]
    frames = read_frames(files['relaxed.extxyz'])
    rows = report.pop('structures')
    assert report == {
        'n_structures': 2,
        'n_converged': 2,
        'n_unconverged': 0,
        'n_failed': 0,
        'n_unfinished': 0,
        'wall_s': ended['wall_s'],
        'core_s': ended['cpu_s'],
    }
    assert sorted(rows) == ['bulk', 'slab']
    for name, line, frame in zip(('bulk', 'slab'), lines, frames, strict=True):
        assert rows[name] == {
            'converged': True,
            'reason': None,
            'message': '',
            'n_steps': line['n_steps'],
            'wall_s': line['wall_s'],
            'energy': pytest.approx(frame.get_potential_energy(), rel=1e-13),
            'fmax': pytest.approx(frame.info['fmax'], rel=1e-13),
        }
        assert rows[name]['fmax'] < 0.02


def test_not_converged_is_an_error_that_says_which(parse_retrieved: Make, recorded: Make) -> None:
    outputs, status, message = parse_retrieved('mlip_al.relax', metals(), recorded('relax/not_converged'))
    assert status == 320
    assert message == (
        '2 of 2 structures did not relax: `bulk`: after 4 steps the largest force is 0.11 eV/Å, above 0.02 eV/Å. '
        '`slab`: after 4 steps the largest force is 0.0645 eV/Å, above 0.02 eV/Å.'
    )
    assert set(outputs) == {'report'}
    report = outputs['report'].get_dict()
    assert (report['n_converged'], report['n_unconverged'], report['n_failed']) == (0, 2, 0)


def test_keep_unconverged(parse_retrieved: Make, recorded: Make) -> None:
    files = recorded('relax/not_converged')
    outputs, status, _ = parse_retrieved('mlip_al.relax', metals(keep_unconverged=True), files)
    assert status == 0
    frames = read_frames(files['relaxed.extxyz'])
    np.testing.assert_array_equal(outputs['structures']['bulk'].get_ase().positions, frames[0].positions)
    assert sorted(outputs['structures']) == ['bulk', 'slab']
    assert not outputs['report']['structures']['slab']['converged']


def test_one_that_fails_is_named_and_the_other_is_kept(parse_retrieved: Make, recorded: Make) -> None:
    outputs, status, message = parse_retrieved('mlip_al.relax', waters(), recorded('relax/failed'))
    assert (status, message) == (320, '1 of 2 structures did not relax: `water_0`: a force is not finite.')
    assert list(outputs['structures']) == ['water_1']
    assert outputs['report']['structures']['water_0']['reason'] == 'non_finite'
    assert outputs['report']['n_failed'] == 1


def test_many_failures_make_a_short_message(parse_retrieved: Make, recorded: Make) -> None:
    files = recorded('relax/failed')
    line = json.loads(files['relax.jsonl'].splitlines()[0])
    files['relax.jsonl'] = ''.join(json.dumps({**line, 'index': index}) + '\n' for index in range(5)).encode()
    inputs = inputs_of({f'water_{index}': molecule('H2O') for index in range(5)})
    _, status, message = parse_retrieved('mlip_al.relax', inputs, files)
    assert status == 320
    assert message.startswith('5 of 5 structures did not relax: `water_0`: a force')
    assert message.endswith('`water_2`: a force is not finite. And 2 more, see the report.')


@pytest.mark.parametrize(('scheduler', 'expected'), [(None, 400), (120, 120), (110, 110)])
def test_killed_job_keeps_what_it_had_finished(
    parse_retrieved: Make, recorded: Make, scheduler: int | None, expected: int
) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.relax', waters(), recorded('relax/killed'), scheduler)
    assert status == expected
    assert list(outputs['structures']) == ['water_0']
    report = outputs['report'].get_dict()
    assert (report['n_converged'], report['n_unfinished']) == (1, 1)
    assert report['wall_s'] > 0


@pytest.mark.parametrize('name', ['relaxed.extxyz', 'relax.jsonl'])
def test_cut_files(parse_retrieved: Make, recorded: Make, name: str) -> None:
    """A structure counts when both its frame and its line are whole."""
    files = recorded('relax/finished')
    files[name] = files[name][:-20]
    outputs, status, _ = parse_retrieved('mlip_al.relax', metals(), files)
    assert (status, list(outputs['structures'])) == (400, ['bulk'])
    assert outputs['report']['n_unfinished'] == 1


@pytest.mark.parametrize('where', ['position', 'cell', 'energy'])
def test_numbers_that_are_not_finite_are_no_structure(parse_retrieved: Make, recorded: Make, where: str) -> None:
    files = recorded('relax/finished')
    lines = files['relaxed.extxyz'].decode().splitlines(keepends=True)
    if where == 'position':
        lines[2] = lines[2].replace(lines[2].split()[1], 'NaN', 1)
    elif where == 'cell':
        lines[1] = lines[1].replace('Lattice="3', 'Lattice="nan 3', 1).replace(' -0.0011863138451681642', '', 1)
    else:
        lines[1] = ''.join([lines[1].split('energy=')[0], 'energy=nan ', 'pbc="T T T"\n'])
    outputs, status, message = parse_retrieved('mlip_al.relax', metals(), {**files, 'relaxed.extxyz': ''.join(lines)})
    assert (status, message) == (320, '1 of 2 structures did not relax: `bulk`: the result is not finite.')
    assert list(outputs['structures']) == ['slab']
    assert outputs['report']['structures']['bulk']['reason'] == 'non_finite'


def test_runner_failed(parse_retrieved: Make, recorded: Make) -> None:
    outputs, status, message = parse_retrieved('mlip_al.relax', waters(), recorded('relax/no_calculator'))
    assert status == 310
    assert message.startswith('The runner stopped: The calculator nowhere:Calculator cannot be imported')
    assert set(outputs) == {'report'}
    assert outputs['report']['n_unfinished'] == 2


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({}, 'The job left no results: it printed nothing.'),
        ({'relax.out': 'python: command not found\n'}, 'The job left no results: python: command not found'),
        ({'relax.out': 'x\n', 'relax.jsonl': '', 'relaxed.extxyz': ''}, 'The job left no results: x'),
    ],
)
def test_nothing_left(parse_retrieved: Make, files: dict[str, str], message: str) -> None:
    assert parse_retrieved('mlip_al.relax', waters(), files)[1:] == (300, message)
    assert parse_retrieved('mlip_al.relax', waters(), files, scheduler=120).status == 120


def test_frames_become_plain_structures(parse_retrieved: Make, recorded: Make) -> None:
    inputs = waters()
    inputs['structures']['water_1'] = FrameData.from_ase(molecule('H2O'), 'validation', temperature_K=450.0)
    outputs = parse_retrieved('mlip_al.relax', inputs, recorded('relax/failed')).outputs
    assert type(outputs['structures']['water_1']) is orm.StructureData
