"""When a run stops, and why."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from aiida_mlip_al.selection import IterationRow, stop_decision
from aiida_mlip_al.selection.settings import StopParameters

STOP = StopParameters(max_iterations=5, max_labels=100, accurate_fraction=0.9, target_force_error=0.05, rounds=2)


def row(
    accurate: float = 0.5, mae: float | None = 0.2, candidates: int = 10, labels: int = 50, **others: Any
) -> IterationRow:
    return IterationRow(0, labels, accurate, candidates, new_label_force_mae=mae, **others)


def reason(history: list[IterationRow], stop: StopParameters, hours: float = 0.0) -> str | None:
    decision = stop_decision(history, stop, hours)
    return None if decision is None else decision.reason


GOOD = row(0.9, 0.05)


@pytest.mark.parametrize(
    ('history', 'expected'),
    [
        ([], None),
        ([row()], None),
        ([GOOD], None),
        ([GOOD, GOOD], 'converged'),
        ([GOOD, row(), GOOD], None),
        ([row(), GOOD, GOOD], 'converged'),
        ([GOOD, row(0.89, 0.05)], None),
        ([GOOD, row(0.9, 0.051)], None),
        ([GOOD, row(1.0, None, candidates=0)], 'converged'),
        ([GOOD, row(1.0, math.nan, candidates=0)], 'converged'),
        ([GOOD, row(0.95, None, candidates=3)], None),
        ([GOOD, row(math.nan, 0.01)], None),
        ([row(0.5, None, 0)], None),
        ([row(0.5, None, 0), row(0.5, None, 0)], 'no_candidates'),
        ([row(math.nan, None, 0), row(math.nan, None, 0)], 'no_candidates'),
        ([row(0.95, 0.2, 0), row(0.95, 0.2, 0)], 'no_candidates'),
        ([row(0.5, None, 0), row(0.5, None, 1)], None),
        ([row(labels=99)], None),
        ([row(labels=100)], 'max_labels'),
        ([GOOD, row(0.9, 0.05, labels=100)], 'converged'),
        ([row()] * 4, None),
        ([row()] * 5, 'max_iterations'),
        ([*[row()] * 3, GOOD, GOOD], 'converged'),
        ([row(n_left=0)], 'pool_used_up'),
        ([row(n_left=1)], None),
        ([GOOD, row(0.9, 0.05, n_left=0)], 'converged'),
    ],
)
def test_stop_reason(history: list[IterationRow], expected: str | None) -> None:
    assert reason(history, STOP) == expected


def test_without_error_target_the_fraction_decides() -> None:
    assert reason([row(0.96, 9.0)], StopParameters(rounds=1)) == 'converged'
    assert reason([row(0.96, None)], StopParameters(rounds=1)) == 'converged'
    assert reason([row(0.94, 0.0)], StopParameters(rounds=1)) is None


def test_without_any_target_only_limits_end_a_run() -> None:
    stop = StopParameters(accurate_fraction=None, max_iterations=3, rounds=1)
    assert reason([row(1.0, 0.0)] * 2, stop) is None
    assert reason([row(1.0, 0.0)] * 3, stop) == 'max_iterations'


def test_no_limit_on_labels() -> None:
    assert reason([row(labels=10**6)], StopParameters()) is None


@pytest.mark.parametrize(
    ('history', 'every', 'one'),
    [
        ([row(0.9, 0.01), row(0.9, 0.01)], 'converged', 'converged'),
        ([row(0.9, 0.2), row(0.9, 0.2)], None, 'converged'),
        ([row(0.5, 0.01), row(0.5, 0.01)], None, 'converged'),
        ([row(0.9, 0.2), row(0.5, 0.01)], None, None),
        ([row(0.5, 0.2), row(0.5, 0.2)], None, None),
    ],
)
def test_all_targets_or_any_one_of_them(history: list[IterationRow], every: str | None, one: str | None) -> None:
    """Any one: the same one in all rounds."""
    assert reason(history, STOP) == every
    assert reason(history, STOP.model_copy(update={'require': 'any'})) == one


@pytest.mark.parametrize(
    ('core_hours', 'hours', 'expected'), [(1, 1, None), (2, 1, 'max_core_hours'), (1, 4, 'max_hours')]
)
def test_time_that_is_spent(core_hours: float, hours: float, expected: str | None) -> None:
    stop = StopParameters(max_core_hours=3.5, max_hours=4)
    history = [row(core_hours=core_hours), row(core_hours=core_hours)]
    assert reason(history, stop, hours) == expected


def test_nothing_to_be_gained() -> None:
    """A flat curve: four iterations to see it, and one more for it to last two rounds."""
    stop = StopParameters(max_labels=1000, min_gain=0.1, rounds=2)
    history = [row(labels=n, n_learned=n, test_force_mae=n**-0.01) for n in (50, 60, 70, 80, 90)]
    assert reason(history[:4], stop) is None
    assert reason(history, stop) == 'no_gain'
    steep = [row(labels=n, n_learned=n, test_force_mae=1 / n) for n in (50, 60, 70, 80, 90)]
    assert reason(steep, stop) is None


def test_the_sentence_has_the_numbers() -> None:
    def sentence(history: list[IterationRow], stop: StopParameters = STOP) -> str:
        decision = stop_decision(history, stop)
        assert decision is not None
        return decision.sentence

    assert sentence([GOOD, GOOD]) == (
        'The targets were met in 2 successive iterations; in the last one 90 % of the explored frames were accurate '
        '(at least 90 % asked for), the force MAE on the new labels was 0.05 eV/Å (at most 0.05 asked for).'
    )
    missed = 'not met: 50 % of the explored frames were accurate (at least 90 % asked for).'
    assert sentence([row(0.5, None, 0)] * 2) == (
        f'No explored frame was worth a label in 2 successive iterations; {missed}'
    )
    assert sentence([row(0.5, 0.01, labels=100)]) == f'100 of the 100 labels allowed are in hand; {missed}'
    assert (
        sentence([row()], StopParameters(max_iterations=1, accurate_fraction=None))
        == '1 of the 1 iterations allowed are done.'
    )


def test_rows_survive_json() -> None:
    full = IterationRow(3, 60, 0.7, 5, 0.1, 4, 200, 3, 2, 0.05, 1.0, 2, 1, 56, 0.2, 0.3, 1.5, {'a': {'volume': 1.0}})
    assert IterationRow.from_dict(json.loads(json.dumps(full.as_dict()))) == full
    empty = IterationRow.from_dict(json.loads(json.dumps(row(math.nan, math.nan).as_dict() | {'else': 1})))
    assert math.isnan(empty.accurate_fraction)
    assert empty.new_label_force_mae is None
