"""Each stop rule on a history with a known answer, and what it says."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aiida_mlip_al.selection.history import IterationRow
from aiida_mlip_al.selection.learning_curve import LearningCurve, fit_learning_curve
from aiida_mlip_al.selection.settings import StopParameters
from aiida_mlip_al.selection.stop_rules import no_gain, recent_audit, spent, targets


def row(**numbers: Any) -> IterationRow:
    return IterationRow(**{'iteration': 1, 'n_labels': 50, 'accurate_fraction': 0.5, 'n_candidates': 10, **numbers})


def judge(name: str, asked: Any, rows: list[dict[str, Any]], **others: Any) -> tuple[bool, str]:
    """Return what a single target finds."""
    stop = StopParameters(**{'accurate_fraction': None, name: asked, **others})
    ((found, finding),) = targets([row(**numbers) for numbers in rows], stop).items()
    assert found == name
    return finding.holds, finding.text


@pytest.mark.parametrize(
    ('name', 'asked', 'rows', 'holds', 'text'),
    [
        (
            'accurate_fraction',
            0.95,
            [{'accurate_fraction': 0.95}],
            True,
            '95 % of the explored frames were accurate (at least 95 % asked for)',
        ),
        ('accurate_fraction', 0.95, [{'accurate_fraction': 0.949}], False, '94.9 % of'),
        (
            'target_force_error',
            0.05,
            [{'new_label_force_mae': 0.05}],
            True,
            'the force MAE on the new labels was 0.05 eV/Å (at most 0.05 asked for)',
        ),
        ('target_force_error', 0.05, [{'n_candidates': 0, 'accurate_fraction': 0.5}], True, 'no candidate was left'),
        (
            'target_force_error',
            0.05,
            [{'n_candidates': 0, 'accurate_fraction': 0.01}],
            False,
            'no candidate was left to measure the error on, but only 1 % of the frames were accurate',
        ),
        ('target_force_error', 0.05, [{'n_candidates': 3}], False, 'none of 3 candidates got a label'),
        (
            'test_force_error',
            0.03,
            [{'test_force_mae': 0.0299}],
            True,
            'the force MAE on the test set was 0.0299 eV/Å (at most 0.03 asked for)',
        ),
        ('test_force_error', 0.03, [{'test_force_mae': 0.0301}], False, 'was 0.0301'),
        ('test_force_error', 0.03, [{}], False, 'no test set was evaluated'),
        (
            'level_drift',
            0.05,
            [{'lower_level': 0.15}, {'lower_level': 0.11}],
            True,
            'the lower level went from 0.15 to 0.11 eV/Å (a change below 0.05 eV/Å asked for)',
        ),
        (
            'level_drift',
            0.5,
            [{'lower_level': 2.0}, {'lower_level': 2.2, 'level_unit': ''}],
            True,
            'the lower level went from 2 to 2.2 (a change below 0.5 asked for)',
        ),
        ('level_drift', 0.04, [{'lower_level': 0.25}, {'lower_level': 0.5}], False, 'from 0.25 to 0.5'),
        ('level_drift', 0.25, [{'lower_level': 0.25}, {'lower_level': 0.5}], False, 'from 0.25 to 0.5'),
        (
            'level_drift',
            0.05,
            [{'lower_level': 0.5, 'n_frames': 50, 'n_failed': n, 'n_unphysical': 2} for n in (9, 48)],
            False,
            'there are no two lower levels to compare: every explored frame failed or was unphysical',
        ),
        (
            'level_drift',
            0.05,
            [{'lower_level': 0.5, 'n_frames': 50, 'n_failed': 47, 'n_unphysical': 2}] * 2,
            True,
            'the lower level went from 0.5 to 0.5 eV/Å',
        ),
        ('level_drift', 0.05, [{'lower_level': 0.15}], False, 'no two lower levels'),
        ('level_drift', 0.05, [{'lower_level': math.inf}, {'lower_level': math.inf}], False, 'no two lower levels'),
    ],
)
def test_targets(name: str, asked: float, rows: list[dict[str, Any]], holds: bool, text: str) -> None:
    found, said = judge(name, asked, rows)
    assert found is holds
    assert text in said


def test_only_what_is_asked_for_is_judged() -> None:
    assert set(targets([row()], StopParameters())) == {'accurate_fraction'}
    assert not targets([row()], StopParameters(accurate_fraction=None))


class TestAudit:
    def test_the_last_iteration_alone_if_it_is_enough(self) -> None:
        rows = [{'n_audited': 50, 'n_audit_wrong': 50}, {'n_audited': 35}]
        holds, text = judge('false_negative_rate', 0.1, rows)
        assert holds
        assert text == (
            '0 of 35 audited frames were wrong: a false-negative rate of at most 9.89 % at 95 % confidence '
            '(below 10 % asked for)'
        )

    def test_as_many_iterations_as_it_takes(self) -> None:
        rows = [{'n_audited': 1000, 'n_audit_wrong': 999}, *({'n_audited': 12} for _ in range(3))]
        assert judge('false_negative_rate', 0.1, rows)[0]
        pooled = recent_audit([row(**numbers) for numbers in rows], 0.1, 0.95)
        assert (pooled.n_audited, pooled.n_wrong) == (36, 0)
        rows[-3]['n_audit_wrong'] = 1
        assert not judge('false_negative_rate', 0.1, rows)[0]

    def test_too_few(self) -> None:
        holds, text = judge('false_negative_rate', 0.05, [{'n_audited': 20}] * 3)
        assert not holds
        assert text.endswith('(below 5 % asked for, which takes 73 frames)')
        assert not judge('false_negative_rate', 0.05, [{}])[0]

    def test_confidence(self) -> None:
        assert judge('false_negative_rate', 0.1, [{'n_audited': 25}], confidence=0.9)[0]
        assert not judge('false_negative_rate', 0.1, [{'n_audited': 24}], confidence=0.9)[0]


class TestGain:
    STOP = StopParameters(max_labels=400, min_gain=0.3, gain_rounds=4)

    def history(self, slope: float, kind: str = 'test_force_mae', scatter: float = 0.0) -> list[IterationRow]:
        return [
            row(n_learned=n, n_labels=2 * n, **{kind: 2.0 * n**slope * math.exp(scatter * sign)})
            for n, sign in ((25, 1), (50, -1), (75, 1), (100, -1))
        ]

    def test_power_law_is_fitted_exactly(self) -> None:
        curve = fit_learning_curve([10, 20, 40], [1.0, 0.5**0.5, 0.5])
        assert curve is not None
        assert curve.slope == pytest.approx(-0.5)
        assert curve.slope_error == pytest.approx(0, abs=1e-7)
        assert curve.gain(100, 400) == pytest.approx(0.5)
        assert LearningCurve(-0.5, 0.5).gain(100, 400) == pytest.approx(0.75)
        assert LearningCurve(0.5, 0.0).gain(100, 400) == pytest.approx(-1.0)

    @pytest.mark.parametrize(
        'points', [([10, 20], [1, 1]), ([10, 10, 10], [1, 2, 3]), ([1, 2, 3], [1, 0, 1]), ([1, 2, 3], [1, 2, math.nan])]
    )
    def test_what_no_curve_can_be_fitted_to(self, points: tuple) -> None:
        assert fit_learning_curve(*points) is None

    @pytest.mark.parametrize(('slope', 'holds'), [(-0.6, False), (-0.5, True), (0.1, True)])
    def test_of_the_labels_left(self, slope: float, holds: bool) -> None:
        """From 200 to 400 labels the error falls by 1 - 2^b: by 34 % with b = -0.6, by 29 % with b = -0.5."""
        finding = no_gain(self.history(slope), self.STOP)
        assert finding is not None
        assert finding.holds is holds

    def test_says_what_it_found(self) -> None:
        finding = no_gain(self.history(-0.5), self.STOP)
        assert finding is not None
        assert finding.text == (
            '200 more labels would lower the test force MAE, now 0.2 eV/Å, by 29.3 % (worth it from 30 %): '
            'it goes as N^b, b = -0.50 ± 0.00, over the last 4 iterations'
        )

    def test_scatter_is_no_sign_that_nothing_is_gained(self) -> None:
        assert no_gain(self.history(-0.5), self.STOP).holds  # type: ignore[union-attr]
        assert not no_gain(self.history(-0.5, scatter=0.1), self.STOP).holds  # type: ignore[union-attr]

    def test_validation_stands_in_for_a_test_set(self) -> None:
        finding = no_gain(self.history(-0.5, 'validation_force_mae'), self.STOP)
        assert finding is not None
        assert 'the validation force MAE, now 0.2 eV/Å' in finding.text

    def test_when_it_cannot_be_told(self) -> None:
        history = self.history(-0.1)
        assert no_gain(history[1:], self.STOP) is None
        assert no_gain(history, StopParameters(max_labels=400)) is None
        assert no_gain(history, StopParameters(max_labels=200, min_gain=0.3)) is None
        assert no_gain([row(n_learned=n) for n in (10, 20, 30, 40)], self.STOP) is None


def test_limits() -> None:
    stop = StopParameters(max_iterations=3, max_labels=50, max_core_hours=2.0, max_hours=1.5)
    found = spent([row(core_hours=0.5), row(core_hours=1.5, n_labels=49)], stop, hours=1.25)
    assert {name: finding.holds for name, finding in found.items()} == {
        'max_labels': False,
        'max_core_hours': True,
        'max_hours': False,
        'max_iterations': False,
    }
    assert found['max_core_hours'].text == '2 of the 2 core-hours allowed are used'
    assert found['max_labels'].text == '49 of the 50 labels allowed are in hand'
    late = spent([row(n_labels=50)] * 3, stop, hours=1.5)
    assert {name for name, finding in late.items() if finding.holds} == {'max_labels', 'max_hours', 'max_iterations'}
    assert set(spent([row()], StopParameters(), 1e9)) == {'max_iterations'}
