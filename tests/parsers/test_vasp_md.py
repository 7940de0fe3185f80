"""VaspMdParser, on what the stand-in for VASP leaves: whole, killed within a frame, empty, not finite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from fakes.potcars import potcar
from fakes.vasp_standin.__main__ import run

Make = Callable[..., Any]
INCAR = 'IBRION = 0\nNSW = 8\nPOTIM = 2\nTEBEG = 900\nSMASS = -3\nISIF = 2\nRANDOM_SEED = 3 0 0\n'


@pytest.fixture
def atoms() -> Atoms:
    """Some at the border of the cell, so that they cross it at once, and one far away from it."""
    atoms = bulk('Cu', cubic=True)
    atoms.symbols[[2, 3]] = 'Ni'
    atoms.positions[1] += 2 * atoms.cell[0]
    return atoms


@pytest.fixture
def left(tmp_path: Path, atoms: Atoms) -> Callable[..., dict[str, bytes]]:
    """Return a function that runs the stand-in and returns what it left: ``left({'fault': 'truncate'})``."""

    def make(fault: dict[str, Any] | None = None) -> dict[str, bytes]:
        write(tmp_path / 'POSCAR', atoms, format='vasp', direct=True)
        (tmp_path / 'POTCAR').write_text(potcar('Cu') + potcar('Ni'))
        (tmp_path / 'INCAR').write_text(INCAR)
        (tmp_path / 'faults.json').write_text(json.dumps([{'match': {}, **fault}] if fault else []))
        run(tmp_path, {'VASP_STANDIN_FAULTS': str(tmp_path / 'faults.json')})
        names = ('vasprun.xml', 'OUTCAR', 'CONTCAR')
        return {name: (tmp_path / name).read_bytes() for name in names if (tmp_path / name).exists()}

    return make


@pytest.fixture
def inputs(atoms: Atoms) -> dict[str, Any]:
    dynamics = {'ensemble': 'nve', 'temperature_K': 900.0, 'steps': 7, 'timestep_fs': 2.0}
    return {'structure': orm.StructureData(ase=atoms), 'dynamics': orm.Dict(dynamics)}


def test_finished(parse_retrieved: Make, left: Make, inputs: dict[str, Any], atoms: Atoms) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.vasp_md', inputs, left())
    assert status == 0
    trajectory, report = outputs['trajectory'], outputs['report'].get_dict()
    assert trajectory.get_stepids().tolist() == list(range(8))
    np.testing.assert_allclose(trajectory.get_times(), np.arange(8) * 0.002)
    positions = trajectory.get_positions()
    np.testing.assert_allclose(positions[0], atoms.positions, atol=1e-7)
    assert np.abs(np.diff(positions, axis=0)).max() < 0.1
    assert np.abs(positions[-1] - positions[0]).max() > 0.05
    for row in range(8):
        there = Atoms(
            atoms.numbers, positions=positions[row], cell=trajectory.get_cells()[row], pbc=True, calculator=EMT()
        )
        assert trajectory.get_array('energies')[row] == pytest.approx(there.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(trajectory.get_array('forces')[row], there.get_forces(), atol=1e-6)
        np.testing.assert_allclose(trajectory.get_array('stress')[row], there.get_stress(), atol=1e-7)
    assert {key: report[key] for key in ('job', 'first_step', 'next_step', 'n_frames', 'finished', 'version')} == {
        'job': 1,
        'first_step': 0,
        'next_step': 8,
        'n_frames': 8,
        'finished': True,
        'version': '6.4.3',
    }


@pytest.mark.parametrize('contcar', [False, True])
def test_killed_within_a_frame(parse_retrieved: Make, left: Make, inputs: dict[str, Any], contcar: bool) -> None:
    """The frames before are the same, and it goes on where the frame was that was cut off."""
    whole = parse_retrieved('mlip_al.vasp_md', inputs, left()).outputs['trajectory']
    files = left({'fault': 'truncate', 'frames': 5, 'contcar': contcar})
    assert ('CONTCAR' in files) is contcar
    outputs, status, message = parse_retrieved('mlip_al.vasp_md', inputs, files)
    assert status == 400
    assert 'kept' in message
    assert outputs['trajectory'].numsteps == outputs['report']['next_step'] == 5
    for name in ('positions', 'forces', 'energies', 'stress'):
        np.testing.assert_array_equal(outputs['trajectory'].get_array(name), whole.get_array(name)[:5])
    np.testing.assert_allclose(outputs['structure'].get_ase().positions, whole.get_positions()[5], atol=2e-6)
    speeds = np.diff(whole.get_positions()[4:6], axis=0)[0] / 2.0
    np.testing.assert_allclose(outputs['velocities'].get_array('velocities'), speeds, atol=1e-6)


def test_second_job(parse_retrieved: Make, left: Make, inputs: dict[str, Any]) -> None:
    before = orm.Dict({'next_step': 20, 'job': 2})
    outputs, _, _ = parse_retrieved('mlip_al.vasp_md', {**inputs, 'before': before}, left())
    assert outputs['trajectory'].get_stepids().tolist() == list(range(20, 28))
    assert outputs['trajectory'].get_times()[0] == pytest.approx(0.040)
    assert (outputs['report']['job'], outputs['report']['next_step']) == (3, 28)


def test_scheduler_has_the_word(parse_retrieved: Make, left: Make, inputs: dict[str, Any]) -> None:
    files = left({'fault': 'truncate', 'frames': 5})
    outputs, status, _ = parse_retrieved('mlip_al.vasp_md', inputs, files, scheduler=120)
    assert status == 120
    assert outputs['trajectory'].numsteps == 5


def test_forces_that_are_not_finite(parse_retrieved: Make, left: Make, inputs: dict[str, Any]) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.vasp_md', inputs, left({'fault': 'nan', 'frames': [3, 7, 8]}))
    assert status == 0
    assert outputs['trajectory'].get_stepids().tolist() == [0, 1, 3, 4, 5]
    assert outputs['report']['n_nonfinite'] == 3
    assert outputs['report']['next_step'] == 6, 'from the last finite frame on'


def test_electrons_that_do_not_converge(parse_retrieved: Make, left: Make, inputs: dict[str, Any]) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.vasp_md', inputs, left({'fault': 'never_converges', 'frames': [2]}))
    assert status == 0
    assert outputs['trajectory'].get_array('converged').tolist() == [True, False, *[True] * 6]
    assert outputs['trajectory'].get_array('scf_steps')[1] == 60
    assert outputs['report']['n_unconverged'] == 1


@pytest.mark.parametrize(
    'files', [{}, {'vasprun.xml': b''}, {'vasprun.xml': b'<?xml version="1.0"?>\n<modeling>\n <gener'}]
)
def test_nothing_to_read(parse_retrieved: Make, inputs: dict[str, Any], files: dict[str, bytes]) -> None:
    said = {'vasp_output': b' running on 1 core\n Error EDDDAV: Call to ZHEGV failed\n\n'}
    before = orm.Dict({'next_step': 4, 'job': 1})
    outputs, status, message = parse_retrieved('mlip_al.vasp_md', {**inputs, 'before': before}, {**files, **said})
    assert status == 310
    assert 'EDDDAV' in message
    assert sorted(outputs) == ['report']
    assert outputs['report']['next_step'] == 4


def test_time(parse_retrieved: Make, left: Make, inputs: dict[str, Any]) -> None:
    """Of a whole run VASP's own, of a killed one the sum of its steps."""
    files = left()
    loops = b'     LOOP+:  cpu time    1.5000: real time    2.0000\n' * 3
    report = parse_retrieved('mlip_al.vasp_md', inputs, {**files, 'OUTCAR': loops}).outputs['report']
    assert (report['wall_s'], report['core_s']) == (6.0, 4.5)
    ended = loops + b'   Total CPU time used (sec):        7.250\n   Elapsed time (sec):        9.500\n'
    report = parse_retrieved('mlip_al.vasp_md', inputs, {**files, 'OUTCAR': ended}).outputs['report']
    assert (report['wall_s'], report['core_s']) == (9.5, 7.25)
