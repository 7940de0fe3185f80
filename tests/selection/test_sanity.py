"""Physical filters."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aiida_mlip_al.selection import PhysicalLimits, unphysical_reason, value_reasons

LIMITS = PhysicalLimits()
START = bulk('Cu', cubic=True).cell.array


def copper(scale: float = 1.0) -> Atoms:
    atoms = bulk('Cu', cubic=True)
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    return atoms


def test_ordinary_frames_pass() -> None:
    for atoms in (copper(), molecule('CH3CH2OH'), molecule('H2')):
        assert unphysical_reason(atoms, LIMITS, forces=np.ones((len(atoms), 3)), start_cell=START) is None


@pytest.mark.parametrize('field', ['positions', 'cell', 'forces'])
@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_not_finite(field: str, bad: float) -> None:
    atoms, forces = copper(), np.zeros((4, 3))
    {'positions': atoms.positions, 'cell': atoms.cell.array, 'forces': forces}[field][0, 0] = bad
    assert unphysical_reason(atoms, LIMITS, forces=forces) == 'non_finite'


def test_too_close_counts_own_images() -> None:
    assert unphysical_reason(Atoms('Cu', cell=[1.2, 9, 9], pbc=True), LIMITS) == 'too_close'
    assert unphysical_reason(Atoms('H2', [[0, 0, 0], [0, 0, 0.3]]), LIMITS) == 'too_close'
    assert unphysical_reason(Atoms('H2', [[0, 0, 0], [0, 0, 0.32]]), LIMITS) is None


def test_force_cap_is_on_the_norm() -> None:
    forces = np.zeros((4, 3))
    forces[2] = [30, 0, 40.1]
    assert unphysical_reason(copper(), LIMITS, forces=forces) == 'force_cap'
    forces[2] = [30, 0, 39.9]
    assert unphysical_reason(copper(), LIMITS, forces=forces) is None


@pytest.mark.parametrize(
    ('factor', 'reason'), [(2.01, 'volume_change'), (1.99, None), (0.51, None), (0.49, 'volume_change')]
)
def test_volume_against_the_start(factor: float, reason: str | None) -> None:
    atoms = copper(factor ** (1 / 3))
    assert unphysical_reason(atoms, LIMITS, start_cell=START) == reason
    assert unphysical_reason(atoms, LIMITS) is None
    atoms.pbc = [True, True, False]
    assert unphysical_reason(atoms, LIMITS, start_cell=START) is None


def test_skewed_cell() -> None:
    atoms = Atoms('Cu', cell=[9, 9, 9, 90, 90, 20], pbc=True)
    assert unphysical_reason(atoms, LIMITS) == 'skewed_cell'
    atoms.pbc = [True, False, True]
    assert unphysical_reason(atoms, LIMITS) is None


def test_every_filter_can_be_switched_off() -> None:
    off = PhysicalLimits(min_distance_fraction=None, max_force=None, volume_factor=None, angle_range=None)
    atoms = Atoms('Cu2', cell=[9, 9, 9, 90, 90, 20], pbc=True)
    assert unphysical_reason(atoms, off, forces=np.full((2, 3), 1e6), start_cell=START) is None


def test_recorded_numbers() -> None:
    reasons = value_reasons([0.1, np.nan, 0.1, 0.1, 0.1], [1, 1, np.nan, 50.1, 50], LIMITS)
    assert reasons == [None, 'non_finite', 'non_finite', 'force_cap', None]
    assert value_reasons([0.1, np.inf], None, LIMITS) == [None, 'non_finite']


@pytest.mark.parametrize(
    'wrong',
    [{'min_distance_fraction': 1.0}, {'max_force': 0}, {'volume_factor': 1}, {'angle_range': (150, 30)}],
)
def test_wrong_limits_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' must be"):
        PhysicalLimits(**wrong)
