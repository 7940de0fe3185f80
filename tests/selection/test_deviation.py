"""Committee deviations against hand-made numbers."""

import dataclasses

import numpy as np
import pytest

from aiida_mlip_al.selection import energy_deviation_per_atom, force_deviation, frame_deviations
from aiida_mlip_al.selection.deviation import stress_deviation


def test_deviation_is_population_and_vector_norm() -> None:
    forces = np.zeros((2, 2, 3))
    forces[:, 0, 0] = [1, -1]
    forces[:, 1] = [[3, 4, 0], [-3, -4, 0]]
    np.testing.assert_allclose(force_deviation(forces), [1.0, 5.0])


def test_deviation_is_sqrt3_times_the_component_mean() -> None:
    forces = np.random.default_rng(0).normal(size=(4, 7, 3))
    component_mean = np.sqrt(((forces - forces.mean(axis=0)) ** 2).mean(axis=(0, 2)))
    np.testing.assert_allclose(force_deviation(forces), np.sqrt(3) * component_mean)


def test_frames_of_different_sizes() -> None:
    forces = np.zeros((2, 4, 3))
    forces[0, :, 2] = [2, 4, 6, 20]
    deviations = frame_deviations(forces, [3, 1])
    np.testing.assert_allclose(deviations.max, [3, 10])
    np.testing.assert_allclose(deviations.mean, [2, 10])
    np.testing.assert_allclose(deviations.min, [1, 10])
    np.testing.assert_allclose(deviations.percentile, [2.9, 10])
    # The mean forces are as large as the deviations: 1, 2, 3 and 10.
    np.testing.assert_allclose(deviations.relative, [3 / 3.2, 10 / 10.2])


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_one_bad_force_spoils_its_frame_only(bad: float) -> None:
    forces = np.ones((3, 4, 3))
    forces[1, 0, 2] = bad
    deviations = frame_deviations(forces, [2, 2])
    for values in dataclasses.astuple(deviations):
        np.testing.assert_array_equal(values, [np.nan, 0.0])


def test_no_frames() -> None:
    assert len(frame_deviations(np.empty((4, 0, 3)), []).max) == 0


def test_energy_deviation_is_per_atom() -> None:
    np.testing.assert_allclose(energy_deviation_per_atom([[1, 10], [3, 10]], [4, 2]), [0.25, 0])


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: force_deviation(np.zeros((1, 4, 3))), 'at least two committee members, got 1'),
        (lambda: force_deviation(np.zeros((4, 3))), r'shape \(members, atoms, 3\), got \(4, 3\)'),
        (lambda: frame_deviations(np.zeros((2, 4, 3)), [2, 3]), 'add up to the 4 atoms with forces, got a sum of 5'),
        (lambda: frame_deviations(np.zeros((2, 4, 3)), [4, 0]), 'must be positive'),
        (lambda: energy_deviation_per_atom(np.zeros(3), [1]), r'shape \(members, frames\)'),
        (lambda: energy_deviation_per_atom(np.zeros((1, 3)), [1, 1, 1]), 'at least two committee members'),
    ],
)
def test_wrong_shapes_are_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()


def test_stress_deviation_is_the_largest_over_the_components() -> None:
    stresses = np.zeros((3, 2, 6))
    stresses[:, 0, 2] = [0.01, 0.02, 0.03]
    stresses[:, 0, 4] = [-0.01, 0.0, 0.01]
    stresses[:, 1] = np.nan
    found = stress_deviation(stresses)
    assert found[0] == pytest.approx(0.01 * np.sqrt(2 / 3))
    assert np.isnan(found[1]), 'not periodic in three directions'
    with pytest.raises(ValueError, match='at least two committee members'):
        stress_deviation(stresses[:1])
    with pytest.raises(ValueError, match='members, frames, 6'):
        stress_deviation(stresses[0])
