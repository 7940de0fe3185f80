"""Whether two committees predict the same properties."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aiida_mlip_al.selection.history import IterationRow
from aiida_mlip_al.selection.properties import distance_change, frequency_change, properties_agree
from aiida_mlip_al.selection.settings import PropertyGate, StopParameters, stop_conflict, validate_stop
from aiida_mlip_al.selection.stop_rules import targets

BEFORE: dict[str, Any] = {
    'salt': {'volume': 22.0, 'bulk_modulus': 25.0, 'frequencies': [0.0, 5.0], 'drift': 9.0, 'rdf': {'g': [0.0, 1.0]}},
    'molecule': {'frequencies': [0.0, 30.0, 90.0], 'drift': None, 'rdf': {'g': [2.0, 0.0]}},
}
NOW: dict[str, Any] = {
    'salt': {'volume': 22.22, 'bulk_modulus': 24.0, 'frequencies': [3.0, 9.0], 'drift': -0.5, 'rdf': {'g': [1.0, 0.0]}},
    'molecule': {'frequencies': None, 'drift': 2.0, 'rdf': {'g': [2.0, 1.0]}},
}
GATE = PropertyGate(volume=0.02, bulk_modulus=0.02, frequencies=4.0, rdf=0.5, drift=1.0)


def test_changes_within_and_beyond_their_tolerance() -> None:
    found = {(check.structure, check.name): check for check in properties_agree(BEFORE, NOW, GATE)}
    assert {key: check.value for key, check in found.items()} == pytest.approx(
        {
            ('salt', 'volume'): 0.01,
            ('salt', 'bulk_modulus'): 0.04,
            ('salt', 'frequencies'): math.sqrt((9 + 16) / 2),
            ('salt', 'rdf'): 1.0,
            ('salt', 'drift'): 0.5,
            ('molecule', 'frequencies'): math.nan,
            ('molecule', 'rdf'): 1 / 5,
            ('molecule', 'drift'): 2.0,
        },
        nan_ok=True,
    )
    assert {key for key, check in found.items() if check.holds} == {
        ('salt', 'volume'),
        ('salt', 'frequencies'),
        ('salt', 'drift'),
        ('molecule', 'rdf'),
    }
    assert found['salt', 'bulk_modulus'].text == 'bulk_modulus of salt changed by 4 % (at most 2 % asked for)'
    assert found['molecule', 'drift'].text == 'drift of molecule is 2 meV/atom/ps (at most 1 meV/atom/ps asked for)'
    assert found['molecule', 'frequencies'].text == 'frequencies of molecule could not be computed'


def test_measures() -> None:
    assert frequency_change([1.0, 2.0], [2.0, 1.0]) == 0.0
    assert frequency_change([1.0], [1.0, 2.0]) == math.inf
    assert distance_change({'g': [0, 0]}, {'g': [0, 0]}) == 0.0
    assert distance_change({'g': [1]}, {'g': [1, 2]}) == math.inf


def test_target() -> None:
    def judge(gate: PropertyGate, *found: dict[str, Any] | None) -> tuple[bool, str]:
        rows = [IterationRow(1, 50, 0.5, 10, properties=item) for item in found]
        finding = targets(rows, StopParameters(accurate_fraction=None, properties=gate))['properties']
        return finding.holds, finding.text

    volume = PropertyGate(volume=0.02)
    assert judge(volume, BEFORE, NOW) == (True, 'volume of salt changed by 1 % (at most 2 % asked for)')
    assert not judge(PropertyGate(volume=0.02, bulk_modulus=0.02), BEFORE, NOW)[0]
    assert not judge(volume, NOW)[0]
    assert not judge(volume, None, NOW)[0]
    nothing = {'molecule': NOW['molecule']}
    assert judge(volume, nothing, nothing) == (False, 'no structure has these properties')


def test_job_settings_do_not_depend_on_tolerances() -> None:
    assert PropertyGate(volume=0.1).job_settings() == PropertyGate(bulk_modulus=0.2).job_settings()
    assert PropertyGate(volume=0.1).job_settings() == {
        'equation_of_state': True,
        'frequencies': False,
        'dynamics': None,
    }
    settings = PropertyGate(drift=1, frequencies=0.1, temperature=500).job_settings()
    assert settings['dynamics'] == {'temperature_K': 500.0, 'steps': 2000, 'timestep_fs': 0.5}
    assert (settings['equation_of_state'], settings['frequencies']) == (False, True)


@pytest.mark.parametrize(
    ('stop', 'sentence'),
    [
        ({'properties': {}}, "stop: 'properties' give a tolerance for at least one of volume, bulk_modulus"),
        ({'min_gain': 0.1}, "stop: 'min_gain' needs 'max_labels'"),
        (
            {'min_gain': 0.1, 'max_labels': 100, 'gain_rounds': 6, 'max_iterations': 3},
            "stop: 'min_gain' takes 7 iterations ('gain_rounds' + 'rounds' - 1), but 'max_iterations' is 3",
        ),
        (
            {'min_gain': 0.1, 'max_labels': 100, 'gain_rounds': 2},
            "stop: 'gain_rounds' should be greater than or equal to 3",
        ),
        ({'require': 'some'}, "stop: 'require' should be 'all' or 'any'"),
        ({'false_negative_rate': 1}, "stop: 'false_negative_rate' should be less than 1"),
    ],
)
def test_refused(stop: dict[str, Any], sentence: str) -> None:
    message = validate_stop(stop)
    assert message is not None
    assert message.startswith(sentence)


@pytest.mark.parametrize(
    ('stop', 'select', 'word'),
    [
        ({'level_drift': 0.1}, {'lower': 0.1}, "'select' fixes it"),
        ({'false_negative_rate': 0.1}, {'lower': 0.1}, 'needs select.tolerance'),
        ({'false_negative_rate': 0.1}, {'tolerance': 0.1, 'audit_fraction': 0}, 'audit_fraction above 0'),
        ({'level_drift': 0.1, 'false_negative_rate': 0.1}, {'tolerance': 0.1}, None),
        ({}, {'lower': 0.1, 'audit_fraction': 0}, None),
    ],
)
def test_what_the_selection_gives_no_number_for(stop: dict, select: dict, word: str | None) -> None:
    from aiida_mlip_al.selection.settings import SelectParameters

    found = stop_conflict(StopParameters(**stop), SelectParameters(**select))
    assert (found is None) == (word is None)
    assert (word or '') in (found or '')
