"""Step ``md``: what it says of VASP and of ramps."""

from __future__ import annotations

from typing import Any

import pytest

from aiida_mlip_al.sampling.md import MdStep, md_walkers
from aiida_mlip_al.sampling.steps import validate_steps


def test_ramp_replaces_the_temperatures() -> None:
    step = MdStep(
        temperature=[100, 200, 300], temperature_ramp=[300, 900], walkers_per_structure=2, steps=100, every=50
    )
    walkers = md_walkers(step, 3, 1)
    assert len(walkers) == step.walkers(3) == 6
    assert all(walker['temperature_K'] == [300, 900] for walker in walkers)
    assert step.expected_frames(3) == 12


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'calculator': 'tblite.ase:TBLite'}, "give 'calculator' or 'vasp', not both"),
        ({'thermostat': 'bussi'}, "with 'vasp' the thermostat is 'langevin'"),
        ({'ensemble': 'npt', 'pressure': 0.0, 'barostat_mask': 'isotropic'}, "'barostat_mask' is three booleans"),
        ({'ensemble': 'npt', 'pressure': 0.0, 'reuse_labels': True}, "'reuse_labels' is not for ensemble 'npt'"),
    ],
)
def test_what_vasp_cannot_do(values: dict[str, Any], sentence: str) -> None:
    assert sentence in str(validate_steps([{'md': {'vasp': 'cheap', **values}}]))


def test_labels_come_from_vasp_only() -> None:
    wrong = [{'md': {'calculator': 'tblite.ase:TBLite', 'reuse_labels': True}}]
    assert "'reuse_labels' is for MD by VASP" in str(validate_steps(wrong))
    assert validate_steps([{'md': {'vasp': 'label', 'reuse_labels': True}}]) is None


def test_what_vasp_can_do() -> None:
    values = {'vasp': 'cheap', 'ensemble': 'npt', 'pressure': 0.0, 'barostat_mask': [True, True, False]}
    assert validate_steps([{'md': values}]) is None
