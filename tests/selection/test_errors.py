"""Errors against hand-made predictions."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from aiida_mlip_al.selection.errors import FrameErrors, Prediction, compare, mean_errors, parity_arrays

FORCES = [np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), np.array([[0.0, 0.0, 3.0]])]


def frames(stress: bool = False, **info: float) -> list[Atoms]:
    """A molecule of two atoms and one atom."""
    made = []
    for symbols, energy, forces in (('HO', -10.0, FORCES[0]), ('H', -2.0, FORCES[1])):
        atoms = Atoms(symbols, positions=np.zeros((len(forces), 3)))
        atoms.info.update(REF_energy=energy, **info)
        atoms.arrays['REF_forces'] = forces.copy()
        if stress:
            atoms.info['REF_stress'] = np.arange(6.0)
        made.append(atoms)
    return made


def prediction(members: int = 2) -> Prediction:
    """A committee that agrees with the labels; every test spoils it in its own way."""
    flat = np.concatenate(FORCES)
    return Prediction.from_arrays(
        {
            'n_atoms': np.array([2, 1]),
            'energies': np.array([[-10.0, -2.0]] * members),
            'forces': np.array([flat] * members),
            'stresses': np.array([[np.arange(6.0)] * 2] * members),
            'descriptors': np.array([[1.0, 2.0], [3.0, 4.0]]),
        }
    )


class TestPrediction:
    def test_forces_are_cut_by_frame(self) -> None:
        found = prediction(3)
        assert len(found) == 2
        assert [forces.shape for forces in found.forces] == [(3, 2, 3), (3, 1, 3)]
        np.testing.assert_array_equal(found.forces[1][0], FORCES[1])

    def test_without_descriptors(self) -> None:
        arrays = {
            'n_atoms': [1],
            'energies': np.zeros((1, 1)),
            'forces': np.zeros((1, 1, 3)),
            'stresses': np.zeros((1, 1, 6)),
        }
        found = Prediction.from_arrays(arrays)
        assert found.descriptors is None
        assert found.take([0]).descriptors is None

    def test_take_keeps_rows_together(self) -> None:
        taken = prediction().take([1])
        assert len(taken) == 1
        np.testing.assert_array_equal(taken.energies, [[-2.0], [-2.0]])
        np.testing.assert_array_equal(taken.forces[0][1], FORCES[1])
        np.testing.assert_array_equal(taken.descriptors, [[3.0, 4.0]])
        assert taken.stresses.shape == (2, 1, 6)
        swapped = prediction().take([1, 0])
        np.testing.assert_array_equal(swapped.forces[1][0], FORCES[0])

    @pytest.mark.parametrize('where', ['energies', 'forces'])
    def test_is_finite(self, where: str) -> None:
        found = prediction()
        assert found.is_finite()
        (found.energies if where == 'energies' else found.forces[1])[..., 0] = np.nan
        assert not found.is_finite()

    def test_no_stress_is_finite_all_the_same(self) -> None:
        found = prediction()
        found.stresses[:] = np.nan
        assert found.is_finite()


class TestCompare:
    def test_perfect(self) -> None:
        found = compare(frames(stress=True), prediction())
        for name in ('max_force_deviation', 'energy_deviation_per_atom', 'max_force_error', 'force_mae', 'force_mse'):
            np.testing.assert_array_equal(found.arrays[name], [0.0, 0.0])
        np.testing.assert_array_equal(found.arrays['n_atoms'], [2, 1])
        np.testing.assert_array_equal(found.arrays['descriptors'], [[1.0, 2.0], [3.0, 4.0]])
        assert np.isnan(found.arrays['temperature_K']).all()
        assert found.members == [{'force_mae': 0.0, 'energy_mae': 0.0}] * 2

    def test_errors_of_the_mean(self) -> None:
        spoilt = prediction()
        spoilt.forces[0][:, 1] += [3.0, 4.0, 0.0]
        spoilt.energies[:, 0] += 1.0
        found = compare(frames(), spoilt).arrays
        assert found['max_force_error'][0] == pytest.approx(5.0, rel=1e-14)
        assert found['force_mae'][0] == pytest.approx(7.0 / 6, rel=1e-14)
        assert found['force_mse'][0] == pytest.approx(25.0 / 6, rel=1e-14)
        assert found['energy_error_per_atom'][0] == pytest.approx(0.5, rel=1e-14)
        assert found['max_force_error'][1] == 0.0

    def test_opposite_members_deviate_and_their_mean_is_right(self) -> None:
        spoilt = prediction()
        shift = np.array([3.0, 4.0, 0.0])
        spoilt.forces[0][0, 1] += shift
        spoilt.forces[0][1, 1] -= shift
        spoilt.energies[0, 0] += 0.4
        spoilt.energies[1, 0] -= 0.4
        found = compare(frames(), spoilt)
        arrays = found.arrays
        np.testing.assert_allclose(arrays['max_force_deviation'], [5.0, 0.0], rtol=1e-14)
        np.testing.assert_allclose(arrays['mean_force_deviation'], [2.5, 0.0], rtol=1e-14)
        np.testing.assert_allclose(arrays['min_force_deviation'], [0.0, 0.0], atol=0)
        np.testing.assert_allclose(arrays['energy_deviation_per_atom'], [0.2, 0.0], rtol=1e-12)
        np.testing.assert_allclose(arrays['max_force_error'], 0.0, atol=1e-15)
        for member in found.members:
            assert member['force_mae'] == pytest.approx(7.0 / 9, rel=1e-14)
            assert member['energy_mae'] == pytest.approx(0.2 / 2, rel=1e-12)

    def test_single_model_has_errors_and_no_deviation(self) -> None:
        found = compare(frames(), prediction(1)).arrays
        for name in ('max_force_deviation', 'mean_force_deviation', 'min_force_deviation', 'energy_deviation_per_atom'):
            assert np.isnan(found[name]).all()
        np.testing.assert_array_equal(found['max_force_error'], [0.0, 0.0])

    def test_stress_counts_where_label_and_prediction_have_it(self) -> None:
        labelled, found = frames(stress=True), prediction()
        found.stresses[:, 0] = np.nan
        found.stresses[:, 1] += 0.5
        reference, predicted = compare(labelled, found).stress
        np.testing.assert_array_equal(reference, np.arange(6.0))
        np.testing.assert_array_equal(predicted, np.arange(6.0) + 0.5)
        del labelled[1].info['REF_stress']
        assert compare(labelled, found).stress[0].size == 0


class TestMeans:
    def test_forces_are_averaged_over_components(self) -> None:
        spoilt = prediction()
        spoilt.forces[0][:] += 1.0
        spoilt.forces[1][:] += 4.0
        spoilt.energies[:] += [2.0, -3.0]
        errors = mean_errors([compare(frames(), spoilt)])
        assert errors['n_frames'] == 2
        assert errors['force_mae'] == pytest.approx((6 * 1.0 + 3 * 4.0) / 9, rel=1e-14)
        assert errors['force_rmse'] == pytest.approx(np.sqrt((6 * 1.0 + 3 * 16.0) / 9), rel=1e-14)
        assert errors['energy_mae'] == pytest.approx((1.0 + 3.0) / 2, rel=1e-14)
        assert errors['stress_mae'] is None
        assert errors['by_temperature'] == []
        assert errors['members'] == [pytest.approx({'force_mae': 2.0, 'energy_mae': 2.0})] * 2

    def test_shards_make_no_difference(self) -> None:
        rng = np.random.default_rng(1)
        spoilt = prediction()
        for forces in spoilt.forces:
            forces[:] += rng.normal(size=forces.shape)
        spoilt.energies[:] += rng.normal(size=(2, 2))
        spoilt.stresses[:] += rng.normal(size=(2, 2, 6))
        labelled = frames(stress=True)
        whole = mean_errors([compare(labelled, spoilt)])
        parts = mean_errors([compare([labelled[row]], spoilt.take([row])) for row in (0, 1)])
        assert parts.pop('by_temperature') == whole.pop('by_temperature') == []
        members, expected = parts.pop('members'), whole.pop('members')
        assert parts == pytest.approx(whole, rel=1e-13)
        for one, other in zip(members, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-13)

    def test_by_temperature(self) -> None:
        spoilt, labelled = prediction(), frames()
        spoilt.forces[1][:] += 4.0
        labelled[0].info['temperature_K'] = 600.0
        labelled[1].info['temperature_K'] = 300.0
        cold, hot = mean_errors([compare(labelled, spoilt)])['by_temperature']
        assert (cold['temperature_K'], cold['n_frames'], cold['force_mae']) == (300.0, 1, 4.0)
        assert (hot['temperature_K'], hot['n_frames'], hot['force_mae']) == (600.0, 1, 0.0)

    def test_stress(self) -> None:
        spoilt = prediction()
        spoilt.stresses[:] += 0.25
        assert mean_errors([compare(frames(stress=True), spoilt)])['stress_mae'] == pytest.approx(0.25)

    def test_join_keeps_what_all_parts_have(self) -> None:
        one, other = compare(frames(), prediction()), compare(frames(), prediction())
        del other.arrays['descriptors']
        joined = FrameErrors.join([one, other])
        assert 'descriptors' not in joined
        np.testing.assert_array_equal(joined['n_atoms'], [2, 1, 2, 1])

    def test_parity(self) -> None:
        spoilt = prediction()
        spoilt.energies[:] += [2.0, -3.0]
        arrays = parity_arrays([compare(frames(), spoilt), compare(frames(), spoilt)])
        assert set(arrays) == {'energy_reference', 'energy_predicted', 'forces_reference', 'forces_predicted'}
        np.testing.assert_array_equal(arrays['energy_reference'], [-5.0, -2.0] * 2)
        np.testing.assert_array_equal(arrays['energy_predicted'], [-4.0, -5.0] * 2)
        assert arrays['forces_reference'].shape == arrays['forces_predicted'].shape == (18,)
        with_stress = parity_arrays([compare(frames(stress=True), prediction())])
        np.testing.assert_array_equal(with_stress['stress_reference'], np.tile(np.arange(6.0), 2))
