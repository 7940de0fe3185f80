"""What the user may say about selection and stopping, and the sentence if it is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from aiida_mlip_al.sampling.base import parse_parameters
from aiida_mlip_al.selection.settings import SelectParameters, StopParameters, validate_select, validate_stop


def test_defaults() -> None:
    select = parse_parameters('select', SelectParameters, {'tolerance': 0.1})
    assert (select.max_labels, select.audit_fraction, select.diversity) == (20, 0.05, 'largest_cluster')
    stop = parse_parameters('stop', StopParameters, {})
    assert (stop.max_iterations, stop.accurate_fraction, stop.rounds) == (10, 0.95, 2)
    assert validate_stop({}) is None


@pytest.mark.parametrize(
    'values',
    [
        {'tolerance': 0.1},
        {'lower': 0.1},
        {'lower': 0.1, 'upper': 0.1},
        {'levels': {'moving_average': {'c_x': -0.1}}},
        {'levels': {'adaptive_lower': {}}, 'tolerance': 0.1},
        {'tolerance': 0.1, 'max_per_system': 'fair', 'max_per_composition': 3},
    ],
)
def test_accepted_levels(values: dict[str, Any]) -> None:
    assert validate_select(values) is None


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({}, "select: give either 'tolerance' or 'lower' (eV/Å)"),
        ({'tolerance': 0.1, 'lower': 0.1}, "select: give either 'tolerance' or 'lower' (eV/Å)"),
        ({'levels': {'quantile': {}}, 'lower': 0.1}, "select: give either 'lower' or a rule under 'levels'"),
        (
            {'levels': {}},
            "select: 'levels' give one rule: moving_average, adaptive_lower, quantile, error_fit; 0 are given",
        ),
        ({'levels': {'quantile': {}, 'error_fit': {}}, 'tolerance': 0.1}, "select: 'levels' give one rule: "),
        ({'levels': {'error_fit': {}}}, "select: the rule 'error_fit' needs 'tolerance' (eV/Å)"),
        ({'levels': {'moving_average': {'c_x': -1}}}, "select: 'levels' should be greater than -1, got -1"),
        ({'tolerance': 0.1, 'measure': 'median'}, "select: 'measure' should be 'max', 'mean', "),
        ({'tolerance': 0.1, 'max_per_system': 0}, "select: 'max_per_system' should be greater than or equal to 1 or "),
        (
            {'tolerance': 0.1, 'angle_range': [150, 30]},
            "select: 'angle_range' must be two rising angles between 0 and 180 degrees, got (150.0, 30.0)",
        ),
        ({'tolerance': 0.1, 'angle_range': [20, 400]}, "select: 'angle_range' must be two rising angles"),
        ({'lower': 0.2, 'upper': 0.1}, "select: 'upper' (0.1) must not be below 'lower' (0.2)"),
        ({'tolerance': -1}, "select: 'tolerance' should be greater than 0, got -1"),
        ({'tolerance': float('nan')}, "select: 'tolerance' should be"),
        ({'tolerance': 0.1, 'max_labels': 0}, "select: 'max_labels' should be greater than or equal to 1, got 0"),
        ({'tolerance': 0.1, 'audit_fraction': 1.1}, "select: 'audit_fraction' should be less than or equal to 1"),
        ({'tolerance': 0.1, 'coverage': 1}, "select: 'coverage' should be less than 1, got 1"),
        (
            {'tolerance': 0.1, 'diversity': 'best'},
            "select: 'diversity' should be 'largest_cluster', 'farthest_point', ",
        ),
        ({'tolerance': 0.1, 'validation_fraction': 1}, "select: 'validation_fraction' should be less than 1"),
        ({'tolerance': 0.1, 'budget': 5}, "select: unknown key 'budget', allowed are "),
    ],
)
def test_refused_selection(values: dict[str, Any], sentence: str) -> None:
    message = validate_select(values)
    assert message is not None
    assert message.startswith(sentence)


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'max_iterations': 0}, "stop: 'max_iterations' should be greater than or equal to 1, got 0"),
        ({'accurate_fraction': 0}, "stop: 'accurate_fraction' should be greater than 0, got 0"),
        ({'rounds': 1.5}, "stop: 'rounds' should be a valid integer"),
        (
            {'max_label': 3},
            "stop: unknown key 'max_label', allowed are accurate_fraction, confidence, ",
        ),
    ],
)
def test_refused_stop(values: dict[str, Any], sentence: str) -> None:
    message = validate_stop(values)
    assert message is not None
    assert message.startswith(sentence)
