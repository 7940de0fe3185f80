"""The committee in a run: deviations, the upper level, the restart, SIGTERM and exceptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.stress import voigt_6_to_full_3x3_stress
from lmp_mace.lmp_files import Finished, alloy, calculator, last_frame, write_data

from aiida_mlip_al.selection.deviation import force_deviation

ORDER = ('O', 'Au', 'Cu')
START = """
units metal
{source}
pair_style mace {models} out_freq 5 {level}
pair_coeff * * O Au Cu
timestep 0.001
fix integrate all nve
thermo_style custom step etotal f_mace[1] f_mace[2] f_mace[3]
thermo_modify format float %.12g
thermo 5
"""
FRESH = 'read_data data\nvelocity all create 2000 11'


def start(models: list[Path], source: str = FRESH, level: str = '') -> str:
    """Return the first part of a script."""
    return START.format(source=source, models=' '.join(map(str, models)), level=level)


def deviations(folder: Path) -> np.ndarray:
    """Return the rows of model_devi.out."""
    return np.loadtxt(folder / 'model_devi.out', ndmin=2)


def test_deviations_are_those_of_the_project(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    atoms = alloy((2, 2, 1))
    write_data(tmp_path / 'data', atoms, ORDER)
    dump = 'dump frames all custom 5 dump.frames id x y z\ndump_modify frames format float %.17g\nrun 7\nrun 8\n'
    done = lmp_mace(start(models) + dump, '--dtype', 'float64')
    assert done.returncode == 0, done.output
    rows = deviations(tmp_path)
    assert rows[:, 0].tolist() == [0, 5, 10, 15]
    # Steps 0 to 15, and step 7 again when the second run begins.
    assert done.status['n_evaluations'] == 17
    thermo = {int(row[0]): row[2:] for row in done.thermo}
    for step in (0, 5, 10, 15):
        np.testing.assert_allclose(thermo[step], rows[rows[:, 0] == step][0, [4, 5, 6]], rtol=1e-6)
    step, frame = last_frame(tmp_path / 'dump.frames')
    assert step == 15
    atoms.positions = frame[:, 1:]
    forces, virials = [], []
    for model in models:
        atoms.calc = calculator(model)
        forces.append(atoms.get_forces())
        virials.append(-voigt_6_to_full_3x3_stress(atoms.get_stress()) * atoms.get_volume())
    per_atom = force_deviation(forces)
    components = np.std(virials, axis=0) / len(atoms)
    wanted = [components.max(), components.min(), np.sqrt((components**2).mean())]
    wanted += [per_atom.max(), per_atom.min(), per_atom.mean()]
    assert per_atom.max() > 2 * per_atom.min() > 0.01
    np.testing.assert_allclose(rows[-1, 1:], wanted, rtol=2e-6)
    header, units = (tmp_path / 'model_devi.out').read_text().splitlines()[:2]
    assert header.split() == [
        *('#', 'step', 'max_devi_v', 'min_devi_v', 'avg_devi_v', 'max_devi_f', 'min_devi_f', 'avg_devi_f')
    ]
    assert units == '# virial (v): eV, per atom; force (f): eV/A'


def test_upper_level_ends_the_run_and_a_second_one_continues_it(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    write_data(tmp_path / 'data', alloy((2, 2, 1)), ORDER)
    ending = 'run 40\nrun 10\nprint "the script went on"\nwrite_restart own.restart\n'
    assert lmp_mace(start(models) + 'run 50\n', '--dtype', 'float64').returncode == 0
    uninterrupted = deviations(tmp_path)
    largest = uninterrupted[:, 4]
    rises = [row for row in range(2, 8) if largest[row] > largest[:row].max()]
    assert rises, 'the deviations of these models never rise: choose another seed'
    upper = largest[: rises[0]].max() * (1 + 1e-6)
    at = int(uninterrupted[rises[0], 0])

    dumps = 'dump wide all custom 1000 dump.wide id x y z fx\ndump here all custom 5 dump.here id x\n'
    dumps += 'dump binary all dcd 1000 dump.dcd\n'
    stopped = lmp_mace(start(models, level=f'upper {upper:.9g}') + dumps + ending, '--dtype', 'float64')
    assert stopped.returncode == 0, stopped.output
    assert stopped.status['finished']
    assert (stopped.status['end'], stopped.status['step']) == ('upper_level', at)
    assert f'is above the upper level of {upper:g} eV/A' in stopped.status['message']
    assert 'the script went on' in stopped.output
    assert 'dump binary holds frames at equal distances only' in stopped.output
    assert (tmp_path / 'own.restart').is_file()
    np.testing.assert_array_equal(deviations(tmp_path), uninterrupted[: rises[0] + 1])
    step, frame = last_frame(tmp_path / 'dump.wide')
    assert step == at
    assert np.abs(frame[:, 4]).max() > 0
    written = [int(line) for line in _after(tmp_path / 'dump.here', 'ITEM: TIMESTEP')]
    assert written == list(range(0, at + 1, 5))

    continued = lmp_mace(
        start(models, source='read_restart stopped.restart') + f'run {50 - at}\n', '--dtype', 'float64'
    )
    assert continued.returncode == 0, continued.output
    assert continued.status['end'] == 'finished'
    # One file, each step once, and the trajectory is the one that was never stopped.
    rows = deviations(tmp_path)
    assert rows[:, 0].tolist() == uninterrupted[:, 0].tolist()
    np.testing.assert_allclose(rows[:, 1:], uninterrupted[:, 1:], rtol=1e-5)


def test_last_frame_is_written_after_a_loop_as_well(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    """`jump SELF` makes LAMMPS read the rest as a file."""
    write_data(tmp_path / 'data', alloy((2, 2, 1)), ORDER)
    loop = 'variable part loop 3\nlabel again\nrun 4\nprint "part ${part}"\nnext part\njump SELF again\n'
    dump = 'dump wide all custom 1000 dump.wide id x y z\n'
    whole = lmp_mace(start(models) + dump + loop)
    assert whole.returncode == 0, whole.output
    assert whole.status['step'] == 12
    assert 'part 3' in whole.output
    stopped = lmp_mace(start(models, level='upper 1e-9') + dump + loop)
    assert stopped.returncode == 0, stopped.output
    assert stopped.status['step'] == 0
    assert last_frame(tmp_path / 'dump.wide')[0] == 0
    assert (tmp_path / 'stopped.restart').is_file()
    assert not (tmp_path / 'lmp-mace.block.in').exists()


def test_a_new_run_from_step_0_begins_a_new_file(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    write_data(tmp_path / 'data', alloy((1, 1, 1)), ORDER)
    for _ in range(2):
        assert lmp_mace(start(models[:2]) + 'run 5\n').returncode == 0
        assert deviations(tmp_path)[:, 0].tolist() == [0, 5]


def kill_when_there_is(path: Path, pid: int | None = None) -> None:
    """Send SIGTERM, to this process by default, a moment after a file has come."""
    deadline = time.monotonic() + 60
    while not path.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(pid or os.getpid(), signal.SIGTERM)


def test_sigterm_while_the_models_are_loaded_is_no_error(models: list[Path], tmp_path: Path) -> None:
    write_data(tmp_path / 'data', alloy((1, 1, 1)), ORDER)
    (tmp_path / 'in.lammps').write_text(start(models[:1]).replace('out_freq 5', '') + 'run 100000\n')
    program = str(Path(sys.executable).with_name('lmp-mace'))
    job = subprocess.Popen(
        [program, '-in', 'in.lammps'], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    kill_when_there_is(tmp_path / 'log.lammps', job.pid)
    assert job.wait(60) == 1
    status = json.loads((tmp_path / 'lmp-mace.status.json').read_text())
    assert (status['finished'], status['end'], status['error']) == (False, 'terminated', 'terminated')


def test_sigterm_ends_the_run_cleanly(lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path) -> None:
    write_data(tmp_path / 'data', alloy((1, 1, 1)), ORDER)
    arrived: list[int] = []

    def outer(number: int, frame: object) -> None:
        arrived.append(number)

    previous = signal.signal(signal.SIGTERM, outer)
    killer = threading.Thread(target=kill_when_there_is, args=(tmp_path / 'dump.wide',), daemon=True)
    killer.start()
    try:
        dump = 'dump wide all custom 100000 dump.wide id x y z\nrun 3000\nwrite_restart own.restart\n'
        done = lmp_mace(start(models[:1]).replace('out_freq 5', '') + dump)
        assert signal.getsignal(signal.SIGTERM) is outer
    finally:
        killer.join()
        signal.signal(signal.SIGTERM, previous)
    assert arrived == []
    assert done.returncode == 1
    status = done.status
    assert (status['finished'], status['end'], status['error']) == (False, 'terminated', 'terminated')
    assert 0 < status['step'] < 3000
    assert last_frame(tmp_path / 'dump.wide')[0] == status['step']
    assert (tmp_path / 'own.restart').is_file()
    assert (tmp_path / 'stopped.restart').is_file()


def test_an_exception_ends_the_run_with_its_message(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiida_mlip_al.lmp_mace.potential import Potential

    write_data(tmp_path / 'data', alloy((1, 1, 1)), ORDER)
    evaluate, calls = Potential.evaluate, []

    def fail_at_the_fourth(self: Potential, *arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 4:
            raise RuntimeError('out of memory on $GPU "0"')
        return evaluate(self, *arguments, **options)

    monkeypatch.setattr(Potential, 'evaluate', fail_at_the_fourth)
    done = lmp_mace(start(models[:2]) + 'run 20\nrun 5\nprint "the script went on"\n')
    assert done.returncode == 1
    assert "ERROR: lmp-mace: RuntimeError: out of memory on GPU '0'" in (tmp_path / 'log.lammps').read_text()
    assert 'print "the script went on"' not in done.output
    assert '\nthe script went on\n' not in done.output
    assert len(calls) == 4
    assert done.status['error'] == 'RuntimeError: out of memory on $GPU "0"'
    assert (done.status['finished'], done.status['end']) == (False, 'error')
    assert done.status['step'] < 20


def test_forces_that_are_not_finite_end_the_run(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    atoms = alloy((1, 1, 1))
    atoms.positions[1] = atoms.positions[0]
    write_data(tmp_path / 'data', atoms, ORDER)
    done = lmp_mace(start(models[:2]) + 'run 20\n')
    assert done.returncode == 1
    assert 'energy or forces are not finite at step 0' in done.output
    assert done.status['step'] == 0


def _after(path: Path, header: str) -> list[str]:
    lines = path.read_text().splitlines()
    return [lines[number + 1] for number, line in enumerate(lines) if line == header]
