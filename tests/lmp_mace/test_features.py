"""Features of LAMMPS that explorations use, in scripts as they are written for a native build."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lmp_mace.lmp_files import Finished, alloy, calculator, last_frame, write_data

ORDER = ('O', 'Au', 'Cu')
POTENTIAL = """
pair_style mace {models} out_freq 5 records records.jsonl {level}
pair_coeff * * O Au Cu
thermo_style custom step pe
thermo_modify format float %.17g
thermo 5
"""
START = 'units metal\nread_data data\n' + POTENTIAL


@pytest.fixture
def run(lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path) -> Callable[..., Finished]:
    """Return a function that runs a script on 16 atoms of O, Au and Cu, with {models} and {level} filled in."""
    write_data(tmp_path / 'data', alloy((2, 2, 1)), ORDER)

    def run(script: str, n_models: int = 1, level: str = '') -> Finished:
        named = ' '.join(map(str, models[:n_models]))
        return lmp_mace(script.replace('{models}', named).replace('{level}', level), '--dtype', 'float64')

    return run


def steps(folder: Path) -> list[int]:
    """Return the steps of the records."""
    return [json.loads(line)['step'] for line in (folder / 'records.jsonl').read_text().splitlines()]


WALKER = (
    """units metal
if "$(is_file(walker.0.restart))" then "read_restart walker.*.restart" else "read_data data"
"""
    + POTENTIAL
    + """
restart 10 walker.*.restart
fix integrate all nve
fix heat all langevin 300 $(v_last*20) 0.1 7
if "$(step) == 0" then "velocity all create 300 11" "print 'a fresh start'"
run ${last} upto start 0 stop 60
"""
)


def test_one_script_starts_and_continues(run: Callable[..., Finished], tmp_path: Path) -> None:
    first = run('variable last equal 24\n' + WALKER)
    assert first.returncode == 0, first.output
    assert (first.status['end'], first.status['step']) == ('finished', 24)
    assert sorted(path.name for path in tmp_path.glob('walker.*')) == [f'walker.{step}.restart' for step in (10, 20)]
    (tmp_path / 'walker.10.restart').rename(tmp_path / 'walker.0.restart')  # what is_file asks for
    second = run('variable last equal 40\n' + WALKER)
    assert second.returncode == 0, second.output
    assert 'a fresh start' not in second.output.splitlines()
    assert second.thermo[0, 0] == 20
    assert second.status['step'] == 40
    assert steps(tmp_path) == list(range(0, 41, 5))


def test_if_runs_what_lmp_mace_must_see(run: Callable[..., Finished], tmp_path: Path) -> None:
    """The potential, an included file and quit within an if, at any depth."""
    (tmp_path / 'more.in').write_text('variable more equal 1\nif "${more}" then "run 3 upto" \'print "more"\'\n')
    script = START.replace('pair_style', 'if "1 > 0" then "pair_style').replace('{level}\n', '{level}"\n')
    script = script.replace('pair_coeff * * O Au Cu', 'if "0" then "clear" else "pair_coeff * * O Au Cu"')
    script += 'fix 1 all nve\nif "2 < 1" then "run 1" elif "1 == 1" "run 2" "include more.in" else "run 5"\n'
    script += 'if "0 == 1" then "quit 5"\nif "$(step) == 3" then """if "1" then "quit 6" """\nrun 100\n'
    done = run(script, n_models=2)
    assert done.returncode == 6, done.output
    assert done.output.splitlines().count('more') == 1
    assert done.status['step'] == 3
    assert done.status['error'] == "The script's quit gave the exit status 6."


def test_quit_within_a_loop(run: Callable[..., Finished]) -> None:
    loop = 'fix 1 all nve\nvariable i loop 5\nlabel again\nrun 2\n{quit}\nnext i\njump SELF again\nprint "the end"\n'
    for line, code in (('if "$i == 2" then "print two" quit', 0), ('if "$i > 2" then "quit $i"', 3)):
        done = run(START + loop.replace('{quit}', line))
        assert done.returncode == code, done.output
        assert done.status['step'] == 4 + 2 * (code == 3)
        assert done.status['finished'] == (code == 0)
        assert 'the end' not in done.output.splitlines()
    assert run(START + loop.replace('{quit}', 'quit 7')).returncode == 7


def test_a_refusal_within_an_if(run: Callable[..., Finished]) -> None:
    done = run('units metal\nread_data data\nif "1 > 0" then "run 0"\n')
    assert done.returncode == 1
    assert 'run comes before the potential' in done.status['error']
    done = run(START + 'if "1 > 0" then "clear"\n')
    assert 'clear would remove the models' in done.status['error']


def test_time_limit(run: Callable[..., Finished], tmp_path: Path) -> None:
    script = START + 'fix 1 all nve\ntimer timeout 0:00:01 every 5\nrun 100000 upto start 0 stop 100000\n'
    done = run(script + 'write_restart own.restart\nrun 200000 upto\nprint "the script went on"\n')
    assert done.returncode == 0, done.output
    status = done.status
    assert (status['end'], status['finished'], status['error']) == ('timeout', True, None)
    assert status['message'] == 'The time limit of timer timeout ended a run before its last step.'
    assert 0 < status['step'] < 1000
    assert status['step'] % 5 == 0
    assert steps(tmp_path) == list(range(0, status['step'] + 1, 5))
    assert (tmp_path / 'own.restart').is_file()
    assert 'the script went on' in done.output.splitlines()


def test_a_run_that_ends_within_its_time_limit(run: Callable[..., Finished]) -> None:
    done = run(START + 'fix 1 all nve\ntimer timeout 1:00:00 every 5\nrun 5 upto\nrun 3\n')
    assert (done.status['end'], done.status['step']) == ('finished', 8)


@pytest.mark.parametrize('limit', ['', 'timer timeout 1:00:00\n'])
@pytest.mark.parametrize(
    ('then', 'end', 'step'),
    [('soft', 'halted', 12), ('continue', 'finished', 32), ('hard', 'error', 12)],
)
def test_fix_halt(then: str, end: str, step: int, limit: str, run: Callable[..., Finished], tmp_path: Path) -> None:
    script = START + limit + 'fix 1 all nve\nvariable s equal step\n'
    script += f'fix limit all halt 4 v_s > 10 error {then} message yes\nrun 50\nunfix limit\nrun 20\nrun 0\n'
    done = run(script)
    assert (done.status['end'], done.status['step']) == (end, step)
    assert done.returncode == (1 if then == 'hard' else 0)
    assert done.status['finished'] == (then != 'hard')
    assert 'Fix halt condition for fix-id limit met on step 12' in done.output
    assert steps(tmp_path) == list(range(0, step + 1, 5)), 'a check is lost'


SWAPS = """
fix swap all atom/swap 1 4 29 {temperature} ke no types 2 3
thermo_style custom step pe f_swap[1] f_swap[2]
thermo_modify format float %.17g
thermo 1
dump types all custom 1 dump.types id type x y z
dump_modify types sort id format float %.17g
run 10
"""


def test_swaps_at_zero_temperature_only_lower_the_energy(
    run: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    done = run(START + SWAPS.format(temperature='1e-3'), n_models=2)
    assert done.returncode == 0, done.output
    energies, attempts, accepted = done.thermo[:, 1:].T
    assert attempts[-1] > accepted[-1] >= 2
    changes, swaps = np.diff(energies), np.diff(accepted)
    assert np.all(changes[swaps > 0] < -1e-6)
    np.testing.assert_allclose(changes[swaps == 0], 0, atol=1e-9)
    atoms = alloy((2, 2, 1))
    kinds = last_frame(tmp_path / 'dump.types')[1][:, 1]
    symbols = [ORDER[int(kind) - 1] for kind in kinds]
    assert symbols != atoms.get_chemical_symbols()
    assert sorted(symbols) == sorted(atoms.get_chemical_symbols())
    # The energy is the lead's, and the record is of the frame, of all models, and not of a trial.
    atoms.symbols[:] = symbols
    by_model = []
    for model in models[:2]:
        atoms.calc = calculator(model)
        by_model.append(atoms.get_potential_energy())
    assert energies[-1] == pytest.approx(by_model[0], abs=1e-9)
    record = json.loads((tmp_path / 'records.jsonl').read_text().splitlines()[-1])
    assert record['step'] == 10
    assert record['energy'] == pytest.approx(np.mean(by_model), abs=1e-8)


def test_trials_of_swaps_do_not_end_a_run(
    run: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from aiida_mlip_al.lmp_mace import callback

    asked: list[float] = []
    judge = callback.model_deviation

    def watched(*arguments: object) -> object:
        found = judge(*arguments)  # type: ignore[arg-type]
        asked.append(found.max_devi_f)
        return found

    monkeypatch.setattr(callback, 'model_deviation', watched)

    def largest(script: str) -> list[float]:
        assert run(script, n_models=2).status['end'] == 'finished'
        lines = (tmp_path / 'records.jsonl').read_text().splitlines()
        return [json.loads(line)['max_force_deviation'] for line in lines]

    script = START.replace('out_freq 5', 'out_freq 1') + SWAPS
    cold, hot = (
        script.format(temperature='1e-3', models='{models}', level='{level}'),
        script.format(temperature='5000', models='{models}', level='{level}'),
    )
    upper = 1.001 * max(largest(cold))
    assert max(asked) > upper, 'no trial is worse than the frames: choose another seed'
    done = run(cold, n_models=2, level=f'upper {upper:.9g}')
    assert (done.status['end'], done.status['step']) == ('finished', 10)
    frames = largest(hot)
    worst = int(np.argmax(frames))
    upper = 0.999 * frames[worst]
    assert max(frames[:worst], default=np.inf) < upper, 'the worst frame is the first: choose another seed'
    done = run(hot, n_models=2, level=f'upper {upper:.9g}')
    assert (done.status['end'], done.status['step']) == ('upper_level', worst)
    assert f'{frames[worst]:.4g} eV/A' in done.status['message']
    assert steps(tmp_path)[-1] == worst


def test_restraint_of_a_distance(run: Callable[..., Finished], tmp_path: Path) -> None:
    """Colvars adds its force to what moves the atoms; the records stay free of it."""
    group = 'group{} {{ atomNumbers {} }}'
    (tmp_path / 'restraint').write_text(
        f'colvar {{ name d\n distance {{ {group.format(1, 2)}\n {group.format(2, 7)} }} }}\n'
        'harmonic { colvars d\n centers 4.5\n forceConstant 30 }\n'
    )
    script = (
        'atom_modify map array\n'
        + START
        + 'fix 1 all nve\nfix bias all colvars restraint output bias\nvariable all equal pe+ke+f_bias\n'
    )
    script += 'thermo_style custom step v_all f_bias pe ke\nthermo_modify format float %.17g\nthermo 1\n'
    script += 'dump frames all custom 30 dump.frames id x y z fx fy fz\ndump_modify frames format float %.17g\nrun 30\n'
    done = run(script)
    assert done.returncode == 0, done.output
    step, rows = last_frame(tmp_path / 'dump.frames')
    record = json.loads((tmp_path / 'records.jsonl').read_text().splitlines()[-1])
    assert record['step'] == step == 30
    atoms = alloy((2, 2, 1))
    atoms.positions = rows[:, 1:4]
    vector = atoms.get_distance(1, 6, mic=True, vector=True)
    distance = float(np.linalg.norm(vector))
    force = 30 * (distance - 4.5) * vector / distance
    assert np.linalg.norm(force) > 0.5
    wanted = np.array(record['forces'])
    wanted[1] += force
    wanted[6] -= force
    np.testing.assert_allclose(rows[:, 4:], wanted, atol=1e-7)
    total, bias = done.thermo[:, 1:3].T
    assert bias[-1] == pytest.approx(15 * (distance - 4.5) ** 2, rel=1e-7)
    assert np.ptp(bias) > 0.5
    assert np.ptp(total) < 0.02 * np.ptp(bias)


def test_deformation(run: Callable[..., Finished], models: list[Path], tmp_path: Path) -> None:
    script = START + 'fix 1 all nve\nfix pull all deform 1 z scale 1.3 xy delta 0.8 remap x\n'
    script += 'thermo_style custom step pe lx ly lz xy xz yz\nthermo_modify format float %.17g\n'
    script += 'dump frames all custom 20 dump.frames id x y z\ndump_modify frames format float %.17g\nrun 20\n'
    script += 'unfix pull\nrun 0\n'  # fix deform changes the box after the forces of a step
    done = run(script)
    assert done.returncode == 0, done.output
    energy, *lengths, xy, xz, yz = done.thermo[-1, 1:]
    atoms = alloy((2, 2, 1))
    assert lengths[2] == pytest.approx(1.3 * atoms.cell[2, 2], rel=1e-9)
    assert xy == pytest.approx(atoms.cell[1, 0] + 0.8, rel=1e-9)
    atoms.set_cell([[lengths[0], 0, 0], [xy, lengths[1], 0], [xz, yz, lengths[2]]])
    atoms.positions = last_frame(tmp_path / 'dump.frames')[1][:, 1:]
    atoms.calc = calculator(models[0])
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
