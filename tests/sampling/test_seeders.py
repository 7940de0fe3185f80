"""Each seeder against known answers."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.spacegroup import crystal

from aiida_mlip_al.sampling import SEEDERS, RejectionLimitError


def salt() -> Atoms:
    return bulk('NaCl', 'rocksalt', a=5.64, cubic=True)


def layer() -> Atoms:
    atoms = graphene(vacuum=10)
    atoms.positions[1, 2] += 0.3
    return atoms


def dry_ice() -> Atoms:
    made = crystal(
        ['C', 'O'], basis=[(0, 0, 0), (0.1187,) * 3], spacegroup=205, cellpar=[5.624, 5.624, 5.624, 90, 90, 90]
    )
    return Atoms(made.symbols, positions=made.positions, cell=made.cell, pbc=True)


REQUIRED = {'volume_scan': {'quantity': 'volume'}, 'substitution': {'swap_fraction': 0.5}}


@pytest.mark.parametrize('name', sorted(SEEDERS))
def test_every_seeder_makes_clean_frames_with_one_record_each(name: str) -> None:
    make = dry_ice if name == 'molecular_clusters' else salt
    atoms = make()
    atoms.info['REF_energy'] = -1.0
    atoms.arrays['REF_forces'] = np.zeros((len(atoms), 3))
    atoms.set_velocities(np.ones((len(atoms), 3)))
    atoms.set_constraint(FixAtoms([0]))
    atoms.set_tags(range(len(atoms)))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    before = atoms.copy()
    parameters = REQUIRED.get(name, {})
    result = SEEDERS[name]([atoms, make()], parameters, seed=5)

    assert atoms == before
    assert len(result.frames) == len(result.records) > 0
    for frame, record in zip(result.frames, result.records, strict=True):
        assert set(frame.arrays) <= {'numbers', 'positions', 'tags'}
        assert frame.info == {}
        assert frame.calc is None
        assert frame.constraints == []
        assert (record['seeder'], record['seed'], record['parent']) == (name, 5, None)
        assert set(record['parameters']) == set(SEEDERS[name].parameters.model_fields)
    again = SEEDERS[name]([atoms, make()], parameters, seed=5)
    assert again.frames == result.frames
    assert again.records == result.records


@pytest.mark.parametrize('name', sorted(SEEDERS))
def test_no_structures_give_no_frames(name: str) -> None:
    assert SEEDERS[name]([], REQUIRED.get(name)).frames == []


def test_input_passes_structures_on() -> None:
    result = SEEDERS['input']([salt(), layer()])
    assert result.frames == [salt(), layer()]
    assert [record['source'] for record in result.records] == [0, 1]


class TestSupercell:
    def test_diagonal_matrix(self) -> None:
        (frame,) = SEEDERS['supercell']([salt()], {'matrix': [1, 2, 3]}).frames
        assert len(frame) == 48
        np.testing.assert_allclose(frame.cell.lengths(), [5.64, 11.28, 16.92])

    def test_full_matrix_makes_the_cubic_cell(self) -> None:
        primitive = bulk('NaCl', 'rocksalt', a=5.64)
        (frame,) = SEEDERS['supercell']([primitive], {'matrix': [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]}).frames
        np.testing.assert_allclose(frame.cell.array, np.eye(3) * 5.64, atol=1e-12)
        assert Counter(frame.symbols) == {'Na': 4, 'Cl': 4}

    def test_image_distance_repeats_periodic_directions_only(self) -> None:
        (solid, sheet, mol) = SEEDERS['supercell']([salt(), layer(), molecule('H2O')], {'min_image_distance': 9}).frames
        assert len(solid) == 8 * 2**3
        assert len(sheet) == 2 * 4**2
        assert sheet.cell.lengths()[2] == layer().cell.lengths()[2]
        assert mol == molecule('H2O')

    def test_default_is_ten_angstrom(self) -> None:
        assert len(SEEDERS['supercell']([bulk('Cu', a=3.61)]).frames[0]) == 64

    def test_periodic_overrides_pbc(self) -> None:
        atoms = layer()
        atoms.pbc = True
        parameters = {'min_image_distance': 21, 'periodic': [True, True, False], 'max_atoms': 1000}
        assert SEEDERS['supercell']([atoms], parameters).frames[0].cell[2, 2] == atoms.cell[2, 2]

    def test_too_many_atoms_is_refused(self) -> None:
        with pytest.raises(ValueError, match="supercell: structure 1: 27 cells of 8 atoms exceed 'max_atoms' 100"):
            SEEDERS['supercell']([bulk('Cu'), salt()], {'matrix': [3, 3, 3], 'max_atoms': 100})

    @pytest.mark.parametrize(
        'matrix', [[1, 1, 2], [[1, 0, 0], [0, 1, 0], [1, 0, 1]], [[1, 0, 1], [0, 1, 0], [0, 0, 1]]]
    )
    def test_matrix_must_leave_the_vacuum_alone(self, matrix: list) -> None:
        with pytest.raises(ValueError, match='a direction that is not periodic'):
            SEEDERS['supercell']([layer()], {'matrix': matrix})


class TestVolumeScan:
    def test_volumes_are_the_factors(self) -> None:
        factors = [0.9, 1.0, 1.1]
        result = SEEDERS['volume_scan']([salt()], {'quantity': 'volume', 'factors': factors})
        np.testing.assert_allclose([f.get_volume() / salt().get_volume() for f in result.frames], factors)
        for frame in result.frames:
            np.testing.assert_allclose(frame.get_scaled_positions(), salt().get_scaled_positions(), atol=1e-12)
        assert [record['copy'] for record in result.records] == [0, 1, 2]

    def test_lengths_are_the_factors(self) -> None:
        result = SEEDERS['volume_scan']([salt()], {'quantity': 'length', 'factors': [0.9]})
        assert result.frames[0].get_volume() / salt().get_volume() == pytest.approx(0.729)
        np.testing.assert_allclose(np.array(result.records[0]['deformation']), 0.9 * np.eye(3), atol=1e-12)

    def test_slab_is_stretched_in_its_plane(self) -> None:
        (frame,) = SEEDERS['volume_scan']([layer()], {'quantity': 'length', 'factors': [1.05]}).frames
        np.testing.assert_allclose(frame.cell.array[:2], layer().cell.array[:2] * 1.05, atol=1e-12)
        np.testing.assert_array_equal(frame.cell.array[2], layer().cell.array[2])
        np.testing.assert_array_equal(frame.positions[:, 2], layer().positions[:, 2])

    def test_slab_has_no_volume(self) -> None:
        with pytest.raises(ValueError, match="use quantity 'length'"):
            SEEDERS['volume_scan']([layer()], {'quantity': 'volume'})

    def test_quantity_must_be_said(self) -> None:
        with pytest.raises(ValueError, match="volume_scan: 'quantity' is required"):
            SEEDERS['volume_scan']([salt()], {'factors': [0.9]})

    def test_factor_that_fuses_atoms_is_an_error(self) -> None:
        with pytest.raises(RejectionLimitError, match=r'structure 0, copy 1: no attempt out of 1 .* \(too_close: 1\)'):
            SEEDERS['volume_scan']([salt()], {'quantity': 'length', 'factors': [1, 0.3]})


class TestLatticePerturbation:
    @pytest.fixture(scope='class')
    def strains(self) -> np.ndarray:
        result = SEEDERS['lattice_perturbation']([salt()], {'copies': 2000, 'min_distance_fraction': 0}, seed=1)
        for frame, record in zip(result.frames[:20], result.records[:20], strict=True):
            deformation = np.array(record['deformation'])
            np.testing.assert_allclose(frame.cell.array, salt().cell.array @ deformation, atol=1e-12)
            np.testing.assert_allclose(frame.get_scaled_positions(), salt().get_scaled_positions(), atol=1e-12)
            assert frame.get_volume() / salt().get_volume() == pytest.approx(np.linalg.det(deformation), rel=1e-12)
        return np.array([record['deformation'] for record in result.records]) - np.eye(3)

    def test_strain_is_symmetric_and_in_range(self, strains: np.ndarray) -> None:
        np.testing.assert_allclose(strains, strains.transpose(0, 2, 1), atol=0)
        diagonal = strains[:, range(3), range(3)]
        shear = strains[:, [0, 0, 1], [1, 2, 2]]
        for values, limit in ((diagonal, 0.06), (shear, 0.03)):
            assert 0.99 * limit < np.abs(values).max() <= limit + 1e-12
            np.testing.assert_allclose(values.std(axis=0), limit / np.sqrt(3), rtol=0.05)
            np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.05 * limit)
        correlation = np.corrcoef(np.hstack([diagonal, shear]).T)
        np.testing.assert_allclose(correlation, np.eye(6), atol=0.08)

    def test_shear_can_be_set(self) -> None:
        result = SEEDERS['lattice_perturbation']([salt()], {'shear_fraction': 0, 'cell_fraction': 0.1})
        strains = np.array([record['deformation'] for record in result.records])
        np.testing.assert_array_equal(strains[:, [0, 0, 1], [1, 2, 2]], 0)
        assert np.ptp(strains[:, 0, 0]) > 0

    def test_atom_distance_is_the_rms_length(self) -> None:
        parameters = {'cell_fraction': 0, 'atom_distance': 0.1, 'copies': 500, 'min_distance_fraction': 0}
        frames = SEEDERS['lattice_perturbation']([salt()], parameters).frames
        moved = np.array([frame.positions - salt().positions for frame in frames])
        assert np.sqrt((moved**2).sum(axis=2).mean()) == pytest.approx(0.1, rel=0.02)
        assert all(np.array_equal(frame.cell.array, salt().cell.array) for frame in frames)

    def test_layer_keeps_vacuum_and_heights_to_the_bit(self) -> None:
        frames = SEEDERS['lattice_perturbation']([layer()], {'copies': 50}).frames
        for frame in frames:
            np.testing.assert_array_equal(frame.cell.array[2], layer().cell.array[2])
            np.testing.assert_array_equal(frame.cell.array[:2, 2], 0)
            np.testing.assert_array_equal(frame.positions[:, 2], layer().positions[:, 2])
            np.testing.assert_allclose(frame.get_scaled_positions(), layer().get_scaled_positions(), atol=1e-12)
        assert np.std([frame.cell.lengths()[0] for frame in frames]) > 0.01
        assert np.std([frame.cell.angles()[2] for frame in frames]) > 0.1

    def test_wire_keeps_two_vectors_to_the_bit(self) -> None:
        atoms = Atoms('C', cell=[3, 12, 12], pbc=[True, False, False])
        for frame in SEEDERS['lattice_perturbation']([atoms]).frames:
            np.testing.assert_array_equal(frame.cell.array[1:], atoms.cell.array[1:])
            np.testing.assert_array_equal(frame.cell.array[0, 1:], 0)
            assert 0 < abs(frame.cell[0, 0] - 3) <= 0.18

    def test_molecule_is_refused(self) -> None:
        with pytest.raises(
            ValueError, match='lattice_perturbation: structure 1: the structure has no periodic direction'
        ):
            SEEDERS['lattice_perturbation']([salt(), molecule('H2O')])

    def test_unperturbed_comes_first_and_shifts_nothing(self) -> None:
        plain = SEEDERS['lattice_perturbation']([salt()], {'copies': 3})
        more = SEEDERS['lattice_perturbation']([salt()], {'copies': 3, 'include_unperturbed': True})
        assert more.frames[0] == salt()
        assert (more.records[0]['copy'], more.records[0]['deformation']) == (None, None)
        assert more.frames[1:] == plain.frames

    def test_skewed_cells_are_drawn_again(self) -> None:
        parameters = {'angle_range': [88, 92], 'copies': 30}
        result = SEEDERS['lattice_perturbation']([salt()], parameters)
        angles = np.array([frame.cell.angles() for frame in result.frames])
        assert len(angles) == 30
        assert np.all(np.abs(angles - 90) <= 2)
        assert result.rejected == {'skewed_cell': sum(record['attempt'] for record in result.records)}
        assert result.rejected['skewed_cell'] > 0

    def test_only_periodic_angles_are_checked(self) -> None:
        result = SEEDERS['lattice_perturbation']([layer()], {'angle_range': [100, 140]})
        assert result.rejected == {}


class TestRattle:
    def test_displacements_are_normal_per_component(self) -> None:
        frames = SEEDERS['rattle']([salt()], {'copies': 1000, 'stdev': 0.08, 'min_distance_fraction': 0}, seed=2).frames
        moved = np.array([frame.positions - salt().positions for frame in frames])
        assert moved.std() == pytest.approx(0.08, rel=0.01)
        assert abs(moved.mean()) < 0.002
        assert np.mean(moved**4) / np.mean(moved**2) ** 2 == pytest.approx(3.0, abs=0.1)
        assert all(np.array_equal(frame.cell.array, salt().cell.array) for frame in frames)

    def test_more_copies_keep_the_first_and_seeds_differ(self) -> None:
        few = SEEDERS['rattle']([salt(), layer()], {'copies': 3}, seed=4)
        many = SEEDERS['rattle']([salt(), layer()], {'copies': 9}, seed=4)
        assert many.frames[:3] == few.frames[:3]
        assert many.frames[9:12] == few.frames[3:]
        other = SEEDERS['rattle']([salt(), layer()], {'copies': 3}, seed=5)
        assert all(a != b for a, b in zip(few.frames, other.frames, strict=True))
        assert not np.allclose(few.frames[0].positions, few.frames[1].positions)

    def test_retry_does_not_shift_the_neighbours(self) -> None:
        loose = {'copies': 40, 'stdev': 0.12, 'min_distance_fraction': 0.0}
        tight = loose | {'min_distance_fraction': 0.8}
        water = molecule('H2O')
        free = SEEDERS['rattle']([water], loose)
        kept = SEEDERS['rattle']([water], tight)
        same = [a == b for a, b in zip(free.frames, kept.frames, strict=True)]
        assert same == [record['attempt'] == 0 for record in kept.records]
        assert 0 < sum(same) < 40
        assert kept.rejected == {'too_close': sum(record['attempt'] for record in kept.records)}

    def test_hopeless_rattle_is_an_error(self) -> None:
        with pytest.raises(
            RejectionLimitError, match=r'rattle: structure 0, copy 0: no attempt out of 7 .*too_close: 7'
        ):
            SEEDERS['rattle']([Atoms('H2')], {'stdev': 1e-3, 'max_attempts': 7})

    def test_negative_seed_is_refused(self) -> None:
        with pytest.raises(ValueError, match='rattle: the seed must be a non-negative integer, got -1'):
            SEEDERS['rattle']([salt()], seed=-1)


def test_isolated_atoms_are_one_for_each_element() -> None:
    result = SEEDERS['isolated_atoms']([molecule('H2O'), molecule('CH3OH'), salt()], {'box': 12})
    assert [frame.get_chemical_formula() for frame in result.frames] == ['H', 'C', 'O', 'Na', 'Cl']
    assert [record['source'] for record in result.records] == [0, 1, 0, 2, 2]
    for frame in result.frames:
        assert not frame.pbc.any()
        np.testing.assert_array_equal(frame.cell.array, 12 * np.eye(3))
        np.testing.assert_array_equal(frame.positions, [[6, 6, 6]])
