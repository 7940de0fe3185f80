"""Logs as LAMMPS writes them, and as a killed job leaves them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from aiida_mlip_al.lammps.log import Halt, Log, read_log

RECORDED = Path(__file__).parent / 'recorded'
CASES = sorted(path.stem for path in RECORDED.glob('*.log'))


def recorded(case: str) -> str:
    return (RECORDED / f'{case}.log').read_text()


def test_finished() -> None:
    log = read_log(recorded('finished'))
    assert log.version == '22 Jul 2025 - Update 4'
    assert list(log.thermo) == ['Step', 'Temp', 'PotEng', 'Press']
    assert log.thermo['Step'].tolist() == [0, 5, 10]
    assert log.thermo['Temp'].tolist() == [30, 232.88066, 699.82479]
    assert log.thermo['Press'].tolist() == [39639.97, 35947.147, 27417.936]
    assert (log.errors, log.halted, log.timed_out, log.finished, log.last_step) == ([], None, False, True, 10)


def test_minimisation_and_runs_with_other_columns() -> None:
    thermo = read_log(recorded('minimize_and_two_runs')).thermo
    assert list(thermo) == ['Step', 'Temp', 'PotEng', 'Press', 'Fmax']
    # The minimisation ended at step 8, the first run at step 13: the first row of what follows takes their place.
    assert thermo['Step'].tolist() == [0, 5, 8, 10, 13, 15, 20, 23]
    assert np.isnan(thermo['Fmax']).tolist() == [True] * 4 + [False] * 4
    assert np.isnan(thermo['Temp']).tolist() == [False] * 4 + [True] * 4
    assert thermo['PotEng'][0] == 0.47873118
    assert thermo['PotEng'][4] == -0.55449028


def test_later_row_takes_the_place_of_the_same_step() -> None:
    """At step 5 two atoms were moved to the same place between the runs."""
    thermo = read_log(recorded('nan')).thermo
    assert thermo['Step'].tolist() == [0, 5, 10]
    np.testing.assert_array_equal(thermo['PotEng'], [-0.27865777, math.nan, -0.057192337])
    np.testing.assert_array_equal(thermo['Press'], [818.85275, math.nan, math.nan])


def test_steps_that_begin_again_stay() -> None:
    block = 'Per MPI rank memory\nStep Temp\n0 {} \n5 {} \nLoop time of 2.5 on 1 procs for 5 steps\n'
    log = read_log(block.format(1, 2) + block.format(3, 4))
    assert log.thermo['Step'].tolist() == [0, 5, 0, 5]
    assert log.thermo['Temp'].tolist() == [1, 2, 3, 4]
    assert (log.finished, log.wall_s) == (False, 5.0)


def test_yaml() -> None:
    thermo = read_log(recorded('yaml')).thermo
    assert list(thermo)[:4] == ['Step', 'Temp', 'KinEng', 'PotEng']
    assert len(thermo) == 12
    assert thermo['Step'].tolist() == [0, 5, 10]
    assert thermo['PotEng'].tolist() == [-0.55731554096708, -0.557087601723727, -0.556405761460788]


def test_warnings_between_the_rows() -> None:
    log = read_log(recorded('lost_atoms'))
    assert log.thermo['Temp'].tolist() == [60000, 59890.779, 9054.4376]
    assert log.errors == []


def test_halted() -> None:
    log = read_log(recorded('halted'))
    assert log.halted == Halt('hot', 5, 29.748072786513365)
    assert (log.errors, log.timed_out, log.finished, log.last_step) == ([], False, True, 5)


def test_halted_with_an_error() -> None:
    log = read_log(recorded('halted_hard'))
    assert log.halted == Halt('hot', 5, 29.748072786513365)
    assert log.errors == ['Fix halt condition for fix-id hot met on step 5 with value 29.748072786513365']
    assert (log.finished, log.last_step) == (False, 0)


def test_timed_out() -> None:
    log = read_log(recorded('timed_out'))
    assert (log.timed_out, log.halted, log.finished, log.wall_s, log.last_step) == (True, None, True, 1.0, 0)
    longer = read_log(recorded('timed_out').replace('Total wall time: 0:00:01', 'Total wall time: 26:01:02'))
    assert longer.wall_s == 26 * 3600 + 62


def test_error() -> None:
    log = read_log(recorded('bad_command'))
    assert log.errors == ["Unrecognized fix style 'npz'"]
    assert (log.thermo, log.last_step, log.finished) == ({}, None, False)
    on_one = 'ERROR on proc 3: Non-numeric atom coords - simulation unstable'
    assert read_log(on_one).errors == ['Non-numeric atom coords - simulation unstable']


def test_killed_in_the_last_row() -> None:
    text = recorded('killed')
    assert text.splitlines()[-1].split()[0] == '850000'
    log = read_log(text)
    assert log.last_step == 800000
    assert len(log.thermo['Temp']) == 17
    assert (log.errors, log.finished) == ([], False)


def test_killed_before_step_0() -> None:
    assert read_log(recorded('killed_before_step_0')) == Log(version='22 Jul 2025 - Update 4')
    assert read_log('') == Log()


@pytest.mark.parametrize('case', CASES)
def test_cut_anywhere(case: str) -> None:
    """What is read of a part are the first rows of the whole."""
    text = recorded(case)
    whole = read_log(text)
    steps = whole.thermo.get('Step', np.empty(0))
    for end in range(0, len(text), 13):
        log = read_log(text[:end])
        assert not log.finished
        found = log.thermo.get('Step', np.empty(0))
        np.testing.assert_array_equal(found, steps[: len(found)])
