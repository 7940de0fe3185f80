"""VASP's numbers judged, and what makes a level of theory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiida_mlip_al.config.vasp import VaspSettings
from aiida_mlip_al.data.vasp_result import (
    VaspRun,
    changed_tags,
    judge,
    label_incar,
    species_order,
    theory_differences,
    theory_of,
)

LEVEL: dict[str, Any] = {
    'incar': {'encut': 520, 'gga': 'PE', 'algo': 'normal', 'ncore': 4},
    'kpoint_spacing': 0.25,
    'potential_family': 'PBE.54',
    'potcars': {'Cu': {'symbol': 'Cu', 'sha512': 'abc'}},
}


def misc(**changes: Any) -> dict[str, Any]:
    return {
        'run_status': {'finished': True, 'electronic_converged': True, 'contains_nelm_breach': False, 'nelm': 60},
        'total_energies': {'energy_free': -3.5, 'energy_extrapolated': -3.4},
        'forces': [[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]],
        'stress': [[10.0, 1.0, 2.0], [1.0, 20.0, 3.0], [2.0, 3.0, 30.0]],
        'version': '6.4.2',
        **changes,
    }


def test_free_energy_and_stress_in_ases_sign_and_order() -> None:
    run = VaspRun.from_misc(misc())
    assert judge(run, VaspSettings()) is None
    assert run.energy == -3.5
    assert run.energy_extrapolated == -3.4
    assert VaspRun.from_misc(misc(total_energies={'energy_free': -3.5})).energy_extrapolated is None
    # 1 kB = 0.1 GPa = 6.241509e-4 eV/Å³; VASP's is positive when compressed.
    np.testing.assert_allclose(run.stress, -6.241509e-4 * np.array([10, 20, 30, 3, 2, 1]), rtol=1e-6)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'run_status': {'finished': False, 'electronic_converged': True}}, 'not_finished'),
        ({'run_status': {'finished': True, 'electronic_converged': False, 'nelm': 60}}, 'unconverged'),
        (
            {'run_status': {'finished': True, 'electronic_converged': True, 'contains_nelm_breach': True}},
            'unconverged',
        ),
        ({'run_status': None}, 'not_finished'),
        ({'total_energies': {'energy_extrapolated': -3.4}}, 'no_result'),
        ({'forces': None}, 'no_result'),
        ({'forces': [[0.0, 0.0, float('nan')], [0.0, 0.0, 0.0]]}, 'non_finite'),
        ({'stress': [[float('inf')] * 3] * 3}, 'non_finite'),
        ({'forces': [[0.0, 0.0, 60.0], [0.0, 0.0, -60.0]]}, 'force_cap'),
    ],
)
def test_what_is_no_label(changes: dict[str, Any], reason: str) -> None:
    rejection = judge(VaspRun.from_misc(misc(**changes)), VaspSettings())
    assert rejection is not None
    assert rejection.reason == reason


def test_nothing_at_all() -> None:
    rejection = judge(None, VaspSettings())
    assert rejection is not None
    assert rejection.reason == 'no_result'


def test_atoms_are_grouped_by_element_and_keep_their_order_within() -> None:
    assert species_order(['Cu', 'Ni', 'Cu', 'Al', 'Ni']).tolist() == [0, 2, 1, 4, 3]


@pytest.mark.parametrize(
    'changes',
    [
        {'incar': {**LEVEL['incar'], 'encut': 600}},
        {'incar': {**LEVEL['incar'], 'ivdw': 12}},
        {'kpoint_spacing': 0.2},
        {'potcars': {'Cu': {'symbol': 'Cu_pv', 'sha512': 'def'}}},
        {'magnetic_moments': {'Cu': 1.0}},
        {'hubbard': {'mapping': {'Cu': ['d', 4.0]}}},
    ],
)
def test_what_makes_another_theory(changes: dict[str, Any]) -> None:
    assert theory_of({**LEVEL, **changes}, '6.4.2').fingerprint != theory_of(LEVEL, '6.4.2').fingerprint


@pytest.mark.parametrize(
    ('changes', 'names'),
    [
        ({'incar': {**LEVEL['incar'], 'encut': 600, 'nelm': 9}}, ['ENCUT']),
        ({'incar': {**LEVEL['incar'], 'ivdw': 12}, 'kpoint_spacing': 0.2}, ['IVDW', '`kpoint_spacing`']),
        ({'potcars': {'Cu': {'symbol': 'Cu_pv', 'sha512': 'def'}}, 'potential_family': 'PBE.64'}, ['`potcars`']),
        ({'theory': 'PBE', 'potential_family': 'PBE.64'}, []),
    ],
)
def test_in_what_theories_differ(changes: dict[str, Any], names: list[str]) -> None:
    assert theory_differences({**LEVEL, **changes}, LEVEL) == names
    assert theory_differences(LEVEL, {**LEVEL, **changes}) == names


def test_what_makes_no_other_theory() -> None:
    same = {
        **LEVEL,
        'incar': {'gga': 'PE', 'encut': 520, 'algo': 'all', 'nelm': 300, 'kpar': 2, 'lwave': True, 'isym': 0},
    }
    assert theory_of(same, '6.4.2').fingerprint == theory_of(LEVEL, '6.4.2').fingerprint
    assert theory_of(LEVEL, '6.3.0').fingerprint != theory_of(LEVEL, '6.4.2').fingerprint
    assert theory_of(LEVEL, '6.4.2').name == 'VASP PBE.54(GGA=PE, ENCUT=520)'
    assert theory_of({**LEVEL, 'theory': 'PBE'}, None).name == 'PBE'


def test_what_was_changed() -> None:
    asked = label_incar(LEVEL)
    assert asked['nsw'] == 0
    assert asked['lwave'] is False
    used = {**asked, 'nelm': 150, 'algo': 'all', 'istart': 1, 'magmom': '4*1.0', 'ldauu': [0.0]}
    assert changed_tags(asked, used) == {'algo': ['normal', 'all'], 'nelm': [None, 150]}
    assert changed_tags(asked, {**asked, 'encut': 400}) == {'encut': [520, 400]}
