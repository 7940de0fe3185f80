"""Parameters of relaxations."""

from __future__ import annotations

from typing import Any

import pytest

from aiida_mlip_al.sampling.base import parse_parameters
from aiida_mlip_al.sampling.relax import Relaxation, RelaxStep, relaxation_of

MASK = [True, True, False, False, False, True]


def test_defaults() -> None:
    step = parse_parameters('relax', RelaxStep, None)
    assert relaxation_of(step) == {
        'fmax': 0.02,
        'max_steps': 500,
        'optimizer': 'FIRE',
        'cell': 'none',
        'pressure_GPa': 0.0,
        'periodic': None,
        'min_distance_fraction': 0.5,
        'keep_unconverged': False,
    }
    assert (step.calculator, step.arguments) == (None, None)
    assert step.expected_frames(3) == 3


@pytest.mark.parametrize('cell', ['none', 'full', 'isotropic', MASK])
def test_settings_of_the_job_are_the_step_without_its_calculator(cell: Any) -> None:
    values = {'fmax': 0.05, 'cell': cell, 'periodic': [True, True, False], 'keep_unconverged': True}
    step = parse_parameters('relax', RelaxStep, {**values, 'calculator': 'a.b:C', 'arguments': {'x': 1}})
    settings = relaxation_of(step)
    assert {key: settings[key] for key in values} == values
    assert not {'calculator', 'arguments'} & set(settings)
    assert parse_parameters('relax', Relaxation, settings) == Relaxation.model_validate(settings)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'fmax': 0}, r"^relax: 'fmax' should be greater than 0, got 0$"),
        ({'max_steps': 0}, "^relax: 'max_steps' should be greater than or equal to 1"),
        ({'optimizer': 'CG'}, "^relax: 'optimizer' should be 'FIRE', 'BFGS' or 'LBFGS', got 'CG'$"),
        ({'cell': 'free'}, "^relax: 'cell' should be 'none', 'full' or 'isotropic' or "),
        ({'cell': [True, False]}, "^relax: 'cell' "),
        ({'cell': [False] * 6}, r"^relax: 'cell' frees none of the six strains; say 'none'$"),
        ({'pressure_GPa': 5.0}, r"^relax: 'pressure_GPa' needs a 'cell' that may change, such as 'full'$"),
        (
            {'calculator': 'EMT'},
            r"^relax: 'calculator' must read 'module:name', such as 'tblite.ase:TBLite', got 'EMT'$",
        ),
        ({'arguments': {}}, "^relax: 'arguments' need a 'calculator'$"),
        ({'steps': 10}, "^relax: unknown key 'steps', allowed are arguments, calculator, cell, fmax,"),
    ],
)
def test_each_mistake_gets_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_parameters('relax', RelaxStep, values)


def test_every_field_is_described() -> None:
    assert all(field.description for field in RelaxStep.model_fields.values())
