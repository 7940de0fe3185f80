"""Phonon displacements: mean square displacements that are known, scans, windows, seeds and refusals."""

import json
from functools import cache

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_mlip_al.sampling import RejectionLimitError, SeedResult
from aiida_mlip_al.sampling.base import parse_parameters
from aiida_mlip_al.sampling.force_constants import (
    ForceConstantsParameters,
    HarmonicCrystal,
    displaced_supercells,
    force_constants,
)
from aiida_mlip_al.sampling.normal_modes import normal_modes
from aiida_mlip_al.sampling.phonon_displacements import PhononParameters, PhononStep, phonon_displacements

SPRING = 5.0


def emt_forces(atoms: Atoms) -> np.ndarray:
    atoms = atoms.copy()
    atoms.calc = EMT()
    return np.asarray(atoms.get_forces())


@cache
def copper() -> HarmonicCrystal:
    atoms = bulk('Cu')
    parameters = ForceConstantsParameters(supercell=(3, 3, 3))
    plan = displaced_supercells(atoms, parameters)
    return force_constants(atoms, parameters, [emt_forces(f) for f in plan.displaced], emt_forces(plan.equilibrium))


def einstein(n: int = 2, cubic: bool = False) -> HarmonicCrystal:
    """Every atom on a spring of its own."""
    cells = bulk('Al', cubic=cubic).repeat((n, n, n))
    ordered = cells[np.arange(len(cells)).reshape(n**3, -1).T.ravel()]
    constants = SPRING * np.einsum('ij,xy->ijxy', np.eye(len(cells)), np.eye(3))
    return HarmonicCrystal(ordered, constants, n * np.eye(3, dtype=int))


def sample(crystal: HarmonicCrystal, seed: int = 1, **values: object) -> SeedResult:
    values.setdefault('min_distance_fraction', 0)
    return phonon_displacements(crystal, parse_parameters('phonon_displacements', PhononParameters, values), seed)


def moved(crystal: HarmonicCrystal, result: SeedResult) -> np.ndarray:
    """(copies, N, 3)."""
    return np.array([frame.positions - crystal.supercell.positions for frame in result.frames])


def mean_square(crystal: HarmonicCrystal, result: SeedResult) -> float:
    return float((moved(crystal, result) ** 2).sum(axis=2).mean())


def omega() -> float:
    """Angular frequency of the Einstein crystal, 1/s."""
    return float(np.sqrt(SPRING * units._e / 1e-20 / (bulk('Al').get_masses()[0] * units._amu)))


class TestEinsteinCrystal:
    """All modes have sqrt(k/m), so that everything about them is known."""

    @pytest.mark.parametrize(
        ('statistics', 'temperature'), [('classical', 500.0), ('quantum', 500.0), ('quantum', 20.0), ('quantum', 0.0)]
    )
    def test_mean_square_displacement(self, statistics: str, temperature: float) -> None:
        if statistics == 'classical':
            expected = 3 * units.kB * temperature / SPRING
        else:
            quantum = units._hbar * omega() / units._e
            expected = (
                3 * quantum / (2 * SPRING) / np.tanh(np.float64(quantum) / (2 * units.kB * max(temperature, 1e-3)))
            )
        crystal = einstein()
        values = {'statistics': statistics, 'temperature': temperature}
        modes = normal_modes(crystal)
        np.testing.assert_allclose(modes.mean_square_displacements(temperature, statistics), expected, rtol=1e-6)
        result = sample(crystal, **values, copies=800)
        assert mean_square(crystal, result) == pytest.approx(expected, rel=0.03)
        displacements = moved(crystal, result)
        np.testing.assert_allclose((displacements**2).mean(axis=(0, 1)), expected / 3, rtol=0.06)
        np.testing.assert_allclose(displacements.mean(axis=0), 0, atol=5 * np.sqrt(expected / 3 / 800))

    @pytest.mark.parametrize(
        ('scan', 'ratio', 'kurtosis'), [('gaussian', 1.0, 3.0), ('uniform', 1 / 3, 1.8), ('time', 1 / 2, 1.5)]
    )
    def test_scans_have_their_own_amplitudes(self, scan: str, ratio: float, kurtosis: float) -> None:
        """In one atom's crystal each direction is one mode: its distribution is the scan's."""
        crystal = einstein(1)
        result = sample(crystal, scan=scan, temperature=400, statistics='classical', copies=3000, seed=3)
        displacements = moved(crystal, result)[:, 0]
        assert displacements.var() / (units.kB * 400 / SPRING) == pytest.approx(ratio, rel=0.04)
        assert np.mean(displacements**4) / np.mean(displacements**2) ** 2 == pytest.approx(kurtosis, rel=0.05)
        largest = np.sqrt(units.kB * 400 / SPRING)
        if scan == 'gaussian':
            assert np.abs(displacements).max() > 3 * largest
        else:
            assert 0.99 * largest < np.abs(displacements).max() <= largest * (1 + 1e-9)

    def test_time_goes_on_by_the_step(self) -> None:
        crystal = einstein()
        frames = moved(crystal, sample(crystal, scan='time', time_step_fs=7.5, copies=5))
        phases = np.cos(omega() * 7.5e-15 * np.arange(5))
        np.testing.assert_allclose(frames, frames[0] * phases[:, None, None], atol=1e-9)
        default = moved(crystal, sample(crystal, scan='time', copies=2))
        np.testing.assert_allclose(default[1], frames[0] * np.cos(omega() * 1e-13), atol=1e-9)

    def test_equidistant_goes_along_one_mode(self) -> None:
        crystal = einstein(1)
        values = {'scan': 'equidistant', 'modes': [2], 'statistics': 'classical', 'temperature': 100}
        steps = moved(crystal, sample(crystal, **values, copies=5))[:, 0]
        largest = np.sqrt(units.kB * 100 / SPRING)
        np.testing.assert_allclose(steps[:, 1], largest * np.array([-1, -0.5, 0, 0.5, 1]), atol=1e-12)
        np.testing.assert_allclose(steps[:, [0, 2]], 0, atol=1e-12)
        assert moved(crystal, sample(crystal, **values, copies=1))[0, 0, 1] == pytest.approx(largest)
        with pytest.raises(ValueError, match="scan 'equidistant' goes along one mode, but 24 are chosen"):
            sample(einstein(), scan='equidistant')


class TestCopper:
    @pytest.mark.parametrize('statistics', ['quantum', 'classical'])
    def test_mean_square_displacement_is_the_analytic_one(self, statistics: str) -> None:
        modes = normal_modes(copper())
        expected = modes.select(modes.frequencies > 0.1).mean_square_displacements(300, statistics).mean()
        result = sample(copper(), statistics=statistics, copies=1000)
        assert mean_square(copper(), result) == pytest.approx(expected, rel=0.03)
        assert 0.05 < np.sqrt(expected) < 0.2

    def test_centre_of_mass_stays(self) -> None:
        displacements = moved(copper(), sample(copper()))
        np.testing.assert_allclose(displacements.mean(axis=1), 0, atol=1e-12)
        assert np.abs(displacements).max() > 0.1

    def test_cell_and_atoms_stay(self) -> None:
        for frame in sample(copper(), copies=2).frames:
            np.testing.assert_array_equal(frame.cell.array, copper().supercell.cell.array)
            np.testing.assert_array_equal(frame.numbers, copper().supercell.numbers)
            assert frame.info == {}

    def test_windows_and_mode_numbers_add_up(self) -> None:
        """The same random numbers are projected on the modes, so parts add up to the whole, frame by frame."""
        whole = moved(copper(), sample(copper()))
        low = moved(copper(), sample(copper(), frequency_window_THz=[0.1, 4.0]))
        high = moved(copper(), sample(copper(), frequency_window_THz=[4.0, None]))
        np.testing.assert_allclose(low + high, whole, atol=1e-9)
        assert min((low**2).mean(), (high**2).mean()) > 0.2 * (whole**2).mean()
        longitudinal = moved(copper(), sample(copper(), modes=[3]))
        transverse = moved(copper(), sample(copper(), modes=[1, 2]))
        np.testing.assert_allclose(longitudinal + transverse, whole, atol=1e-9)
        assert (transverse**2).mean() > (longitudinal**2).mean() > 0

    def test_uniform_scan_is_a_third(self) -> None:
        modes = normal_modes(copper())
        expected = modes.select(modes.frequencies > 0.1).mean_square_displacements(300, 'quantum').mean()
        assert mean_square(copper(), sample(copper(), scan='uniform', copies=1000)) == pytest.approx(
            expected / 3, rel=0.04
        )

    def test_one_atom_cell_has_no_modes_at_gamma(self) -> None:
        with pytest.raises(ValueError, match=r'no mode is left .* go from -?0\.00 to 0\.00 THz; change'):
            sample(copper(), mesh='gamma')

    def test_mesh_of_the_supercell_is_the_commensurate_one(self) -> None:
        assert sample(copper(), mesh=[3, 3, 3], copies=3).frames == sample(copper(), copies=3).frames
        with pytest.raises(ValueError, match=r'mesh \[2, 2, 2\] does not fit into the supercell'):
            sample(copper(), mesh=[2, 2, 2])


class TestSeeds:
    def test_more_copies_keep_the_first(self) -> None:
        few, many = sample(copper(), copies=3, seed=7), sample(copper(), copies=9, seed=7)
        assert many.frames[:3] == few.frames
        assert sample(copper(), copies=3, seed=8).frames[0] != few.frames[0]
        assert few.frames[0] != few.frames[1]

    def test_each_temperature_has_its_copies_and_its_record_makes_them_again(self) -> None:
        result = sample(copper(), copies=2, temperature=[100, 600, 900])
        temperatures = [record['parameters']['temperature'] for record in result.records]
        assert temperatures == [100, 100, 600, 600, 900, 900]
        assert [record['copy'] for record in result.records] == [0, 1] * 3
        assert PhononStep(copies=2, temperature=[100, 600, 900]).expected_frames(4) == 4 * len(result.frames)
        assert result.frames[:4] == sample(copper(), copies=2, temperature=[100, 600]).frames
        record = json.loads(json.dumps(result.records[3]))
        again = phonon_displacements(copper(), PhononParameters(**record['parameters']), record['seed'])
        assert again.frames[record['copy']] == result.frames[3]
        spread = [np.std(frames) for frames in moved(copper(), result).reshape(3, -1)]
        assert spread[0] < spread[1] < spread[2]
        # Not the same displacements, only larger.
        cold, hot = moved(copper(), result)[[0, 2]].reshape(2, -1)
        assert abs(np.corrcoef(cold, hot)[0, 1]) < 0.5

    def test_rejected_draws_shift_nothing_and_are_counted(self) -> None:
        free = sample(copper(), copies=30)
        farthest = np.linalg.norm(moved(copper(), free), axis=2).max(axis=1)
        limit = float(np.median(farthest))
        kept = sample(copper(), copies=30, max_distance=limit)
        same = [a == b for a, b in zip(free.frames, kept.frames, strict=True)]
        assert same == [record['attempt'] == 0 for record in kept.records]
        assert same == list(farthest <= limit)
        assert kept.rejected == {'too_far': sum(record['attempt'] for record in kept.records)}
        assert np.linalg.norm(moved(copper(), kept), axis=2).max() <= limit

    def test_close_atoms_are_drawn_again(self) -> None:
        result = sample(copper(), copies=20, temperature=1200, min_distance_fraction=0.75)
        assert result.rejected == {'too_close': sum(record['attempt'] for record in result.records)}
        assert result.rejected['too_close'] > 0

    def test_hopeless_limits_are_an_error(self) -> None:
        with pytest.raises(RejectionLimitError, match=r'no attempt out of 4 .*too_far: 4'):
            sample(copper(), max_distance=1e-3, max_attempts=4)
        # A scan in time draws nothing, so a second attempt would be the same.
        with pytest.raises(RejectionLimitError, match=r'copy 0: no attempt out of 1 .*too_far: 1'):
            sample(copper(), scan='time', max_distance=1e-3)


class TestImaginaryModes:
    def unstable(self) -> HarmonicCrystal:
        """Wrong sign for y alone: mode 1 of every q point."""
        crystal = einstein()
        constants = crystal.force_constants.copy()
        constants[..., 1, 1] *= -0.25
        return HarmonicCrystal(crystal.supercell, constants, crystal.matrix)

    def test_they_are_refused_with_the_lowest_frequency(self) -> None:
        lowest = omega() / 2 / (2 * np.pi * 1e12)
        with pytest.raises(
            ValueError, match=rf'imaginary modes, the lowest of {lowest:.2f}i THz at q \[0.0, 0.0, 0.0\]'
        ):
            sample(self.unstable())

    def test_also_those_of_q_points_that_are_not_sampled(self) -> None:
        """Two cells: k(Γ) = 1 + 2, k(X) = 1 - 2."""
        atoms = Atoms('Al', cell=[3, 3, 3], pbc=True).repeat((2, 1, 1))
        constants = np.einsum('ij,xy->ijxy', [[1.0, 2.0], [2.0, 1.0]], np.eye(3))
        crystal = HarmonicCrystal(atoms, constants, np.diag([2, 1, 1]))
        with pytest.raises(ValueError, match=r'imaginary modes, the lowest of \d\.\d\di THz at q \[0.5, 0.0, 0.0\]'):
            sample(crystal, mesh='gamma')
        assert mean_square(crystal, sample(crystal, mesh='gamma', allow_imaginary=True)) > 0

    def test_allowed_they_stay_undisplaced(self) -> None:
        displacements = moved(self.unstable(), sample(self.unstable(), allow_imaginary=True))
        np.testing.assert_allclose(displacements[..., 1], 0, atol=1e-12)
        stable = moved(einstein(), sample(einstein()))
        np.testing.assert_allclose(displacements[..., [0, 2]], stable[..., [0, 2]], atol=1e-12)


def test_gamma_moves_all_cells_alike() -> None:
    crystal = einstein(2, cubic=True)
    displacements = moved(crystal, sample(crystal, mesh='gamma', copies=200)).reshape(200, 4, 8, 3)
    np.testing.assert_allclose(displacements, displacements[:, :, :1].repeat(8, axis=2), atol=1e-12)
    expected = normal_modes(crystal, 'gamma').mean_square_displacements(300, 'quantum').mean()
    np.testing.assert_allclose(expected, normal_modes(crystal).mean_square_displacements(300, 'quantum').mean())
    assert (displacements**2).sum(axis=-1).mean() == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'temperature': -1}, "'temperature' .*greater than or equal to 0"),
        ({'temperature': []}, "'temperature'"),
        ({'temperature': 0, 'statistics': 'classical'}, 'classical oscillators are at rest at 0 K'),
        ({'temperature': [300, 0], 'statistics': 'classical'}, 'classical oscillators are at rest at 0 K'),
        ({'frequency_window_THz': [4, 2]}, "'frequency_window_THz' must end above its beginning, got 4 to 2"),
        ({'frequency_window_THz': [0, 2]}, "'frequency_window_THz' should be greater than 0"),
        ({'time_step_fs': 10}, "'time_step_fs' goes with scan 'time', not with 'gaussian'"),
        ({'modes': [0]}, "'modes' should be greater than or equal to 1"),
        ({'mesh': 'full'}, "'mesh'"),
        ({'scan': 'random'}, "'scan' should be 'gaussian', 'uniform', 'time' or 'equidistant', got 'random'"),
        ({'supercell': [2, 2, 2], 'min_image_distance': 8}, "give 'supercell' or 'min_image_distance', not both"),
        ({'calculator': 'EMT'}, "'calculator' must read 'module:name'"),
        ({'arguments': {}}, "'arguments' need a 'calculator'"),
        ({'time_step': 1}, "unknown key 'time_step', allowed are .*time_step_fs"),
    ],
)
def test_bad_parameters_are_refused(values: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=f'phonon_displacements: {sentence}'):
        parse_parameters('phonon_displacements', PhononStep, values)


def test_modes_and_windows_must_exist_in_the_crystal() -> None:
    with pytest.raises(ValueError, match="'modes' go from 1 to 3 in this crystal, got 4"):
        sample(copper(), modes=[1, 4])
    with pytest.raises(
        ValueError, match=r"no mode is left to displace, .* to \d\.\d\d THz; change 'frequency_window_THz'"
    ):
        sample(copper(), frequency_window_THz=[50, None])


def test_step_knows_its_own_part_and_that_of_the_force_constants() -> None:
    step = parse_parameters('phonon_displacements', PhononStep, {'supercell': [2, 2, 1], 'displacement': 0.02})
    assert step.force_constants == {
        'supercell': [2, 2, 1],
        'displacement': 0.02,
        'max_atoms': 500,
        'max_residual_force': 0.1,
    }
    assert ForceConstantsParameters(**step.force_constants).supercell == (2, 2, 1)
    assert all(field.description for field in PhononStep.model_fields.values())
