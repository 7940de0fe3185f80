"""Normal modes against phonopy and against crystals whose phonons are known."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from aiida_mlip_al.sampling.force_constants import (
    ForceConstantsParameters,
    HarmonicCrystal,
    displaced_supercells,
    force_constants,
)
from aiida_mlip_al.sampling.normal_modes import THZ, _canonical, mesh_points, normal_modes, thermal_amplitudes

SKEWED = ((1, 1, 0), (0, 2, 1), (1, 0, 2))
pytestmark = pytest.mark.filterwarnings('ignore:.*Point group symmetries')


def emt_forces(atoms: Atoms) -> np.ndarray:
    atoms = atoms.copy()
    atoms.calc = EMT()
    return np.asarray(atoms.get_forces())


def copper(supercell: object, cubic: bool = False) -> HarmonicCrystal:
    atoms = bulk('Cu', cubic=cubic)
    parameters = ForceConstantsParameters(supercell=supercell)
    plan = displaced_supercells(atoms, parameters)
    return force_constants(atoms, parameters, [emt_forces(f) for f in plan.displaced], emt_forces(plan.equilibrium))


def phonopy_of(crystal: HarmonicCrystal, atoms: Atoms) -> Phonopy:
    unit = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        positions=atoms.positions,
        cell=atoms.cell.array,
        masses=atoms.get_masses(),
    )
    phonopy = Phonopy(unit, supercell_matrix=crystal.matrix.T, primitive_matrix=np.eye(3))
    phonopy.force_constants = crystal.force_constants
    return phonopy


def chain(n_cells: int, spring: float = 2.0, transverse: float = 0.5) -> HarmonicCrystal:
    """A ring of carbon atoms along x, with springs to both neighbours."""
    atoms = Atoms('C', cell=[2, 0, 0], pbc=[True, False, False]).repeat((n_cells, 1, 1))
    constants = np.zeros((n_cells, n_cells, 3, 3))
    block = np.diag([spring, transverse, transverse])
    for i in range(n_cells):
        for j in ((i + 1) % n_cells, (i - 1) % n_cells):
            constants[i, i] += block
            constants[i, j] -= block
    return HarmonicCrystal(atoms, constants, np.diag([n_cells, 1, 1]))


@pytest.mark.parametrize('n_cells', [3, 4, 7])
def test_dispersion_of_the_chain(n_cells: int) -> None:
    """ω = 2 sqrt(k/m) |sin(πq)|, and waves exp(2πiqn) that are orthonormal once made real."""
    crystal = chain(n_cells)
    modes = normal_modes(crystal)
    assert modes.vectors.shape == (3 * n_cells, 3 * n_cells)
    along = modes.bands == 3
    q = modes.qpoints[along][:, 0]
    np.testing.assert_allclose(np.sort(np.unique(q)), np.arange(n_cells // 2 + 1) / n_cells)
    mass = crystal.supercell.get_masses()[0]
    expected = 2 * np.sqrt(2.0 / mass) * np.abs(np.sin(np.pi * q)) * THZ
    np.testing.assert_allclose(modes.frequencies[along], expected, atol=1e-6)
    for vector, point in zip(modes.vectors[along & (modes.frequencies > 1)], q[q > 0], strict=True):
        x = vector.reshape(n_cells, 3)
        np.testing.assert_allclose(x[:, 1:], 0, atol=1e-9)
        # Second difference of a plane wave: -4 sin²(πq) times itself.
        np.testing.assert_allclose(
            np.roll(x, 1, axis=0) + np.roll(x, -1, axis=0) - 2 * x, -4 * np.sin(np.pi * point) ** 2 * x, atol=1e-9
        )


@pytest.mark.parametrize(
    ('supercell', 'cubic'), [([3, 3, 3], False), ([2, 2, 1], True), (SKEWED, False), (SKEWED, True)]
)
def test_modes_diagonalise_the_supercell_and_agree_with_phonopy(supercell: object, cubic: bool) -> None:
    crystal = copper(supercell, cubic)
    modes = normal_modes(crystal)
    n = 3 * len(crystal.supercell)
    np.testing.assert_allclose(modes.vectors @ modes.vectors.T, np.eye(n), atol=1e-10)
    mass = np.repeat(crystal.supercell.get_masses(), 3)
    dynamical = crystal.force_constants.transpose(0, 2, 1, 3).reshape(n, n) / np.sqrt(np.outer(mass, mass))
    squares = np.sign(modes.frequencies) * (modes.frequencies / THZ) ** 2
    np.testing.assert_allclose(dynamical @ modes.vectors.T, modes.vectors.T * squares, atol=1e-7)

    phonopy = phonopy_of(crystal, bulk('Cu', cubic=cubic))
    phonopy.run_qpoints(modes.qpoints)
    theirs = np.array(phonopy.qpoints.frequencies)[np.arange(n), modes.bands - 1]
    np.testing.assert_allclose(modes.frequencies, theirs, atol=2e-6)
    assert modes.frequencies.max() == pytest.approx(7.0, abs=1.5), 'THz, as in copper'


@pytest.mark.parametrize('mesh', ['commensurate', 'gamma', [2, 2, 1], [4, 2, 2]])
def test_quantum_mean_square_displacements_are_phonopys_of_the_same_mesh(mesh: object) -> None:
    crystal = copper([4, 2, 2], cubic=True)
    modes = normal_modes(crystal, mesh)
    size = {'commensurate': [4, 2, 2], 'gamma': [1, 1, 1]}.get(str(mesh), mesh)
    phonopy = phonopy_of(crystal, bulk('Cu', cubic=True))
    phonopy.run_mesh(size, is_gamma_center=True, with_eigenvectors=True, is_mesh_symmetry=False)
    phonopy.run_thermal_displacements(temperatures=[300.0], freq_min=0.1)
    theirs = phonopy.thermal_displacements.thermal_displacements[0].reshape(-1, 3).sum(axis=1)
    ours = modes.select(modes.frequencies > 0.1).mean_square_displacements(300.0, 'quantum')
    np.testing.assert_allclose(ours, np.repeat(theirs, crystal.n_cells), rtol=1e-5)


def test_classical_mean_square_displacements_are_the_inverse_of_the_force_constants() -> None:
    """<u u> = kT Φ⁻¹, without its three translations."""
    crystal = copper(SKEWED, cubic=True)
    modes = normal_modes(crystal)
    n = 3 * len(crystal.supercell)
    inverse = np.linalg.pinv(crystal.force_constants.transpose(0, 2, 1, 3).reshape(n, n), rcond=1e-6, hermitian=True)
    expected = units.kB * 450 * inverse.diagonal().reshape(-1, 3).sum(axis=1)
    ours = modes.select(modes.frequencies > 0.1).mean_square_displacements(450, 'classical')
    np.testing.assert_allclose(ours, expected, rtol=1e-8)


def test_mesh_in_a_larger_supercell_keeps_the_amplitudes() -> None:
    """At Γ all cells move as the unit cell alone would."""
    alone, crystal = copper([1, 1, 1], cubic=True), copper([2, 2, 2], cubic=True)
    modes = normal_modes(crystal, 'gamma')
    assert modes.vectors.shape == (12, 96)
    assert normal_modes(alone).share == 1
    assert modes.share == 8
    moved = modes.displacements(np.eye(12)[7]).reshape(4, 8, 3)
    np.testing.assert_allclose(moved, moved[:, :1].repeat(8, axis=1), atol=1e-12)
    # One unit of a mode of the unit cell: sum of m u² over its atoms is 1.
    assert np.sum(bulk('Cu').get_masses()[0] * moved[:, 0] ** 2) == pytest.approx(1.0)


@pytest.mark.parametrize(
    'matrix', [np.diag([2, 3, 4]), np.array(SKEWED), np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])]
)
def test_commensurate_points_make_whole_waves(matrix: np.ndarray) -> None:
    points = mesh_points(matrix, 'commensurate')
    assert len(points) == len(np.unique(points, axis=0)) == round(np.linalg.det(matrix))
    waves = points @ matrix.T
    np.testing.assert_allclose(waves, np.rint(waves), atol=1e-9)
    assert np.all((points >= 0) & (points < 1))


def test_mesh_that_does_not_fit_the_supercell_is_refused() -> None:
    assert len(mesh_points(np.diag([4, 2, 1]), [2, 2, 1])) == 4
    with pytest.raises(
        ValueError, match=r'q point \[0.0, 0.3333, 0.0\] of the mesh \[1, 3, 1\] does not fit into the super'
    ):
        mesh_points(np.diag([3, 2, 1]), [1, 3, 1])
    # Of a matrix and its transpose, each takes another mesh.
    matrix = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 1]])
    assert (
        mesh_points(matrix.T, [2, 1, 1]).tolist()
        == mesh_points(matrix.T, 'commensurate').tolist()
        == [[0, 0, 0], [0.5, 0, 0]]
    )
    assert mesh_points(matrix, 'commensurate').tolist() == [[0, 0, 0], [0.5, 0.5, 0]]
    with pytest.raises(ValueError, match='does not fit'):
        mesh_points(matrix, [2, 1, 1])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_basis_does_not_depend_on_the_eigensolver(number: int) -> None:
    """Any rotation within degenerate sets, and any phase, gives the same basis of the same sets."""
    rng = np.random.default_rng(number)
    unitary = np.linalg.qr(rng.normal(size=(7, 7)) + 1j * rng.normal(size=(7, 7)))[0]
    frequencies = np.array([1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 4.0])
    turned = unitary.copy()
    for block in (slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 7)):
        n = block.stop - block.start
        turn = np.linalg.qr(rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)))[0]
        turned[block] = turn @ unitary[block]
    basis = _canonical(unitary, frequencies)
    np.testing.assert_allclose(_canonical(turned, frequencies), basis, atol=1e-8)
    np.testing.assert_allclose(basis @ basis.conj().T, np.eye(7), atol=1e-10)
    np.testing.assert_allclose(
        (basis.conj().T * frequencies) @ basis, (unitary.conj().T * frequencies) @ unitary, atol=1e-10
    )


def test_amplitudes_of_one_oscillator() -> None:
    frequency, omega = 5.0, 2 * np.pi * 5e12
    joule = units._amu * 1e-20
    assert thermal_amplitudes([frequency], 0, 'quantum')[0] ** 2 == pytest.approx(units._hbar / (2 * omega) / joule)
    assert thermal_amplitudes([frequency], 300, 'classical')[0] ** 2 == pytest.approx(units._k * 300 / omega**2 / joule)
    occupation = 1 / (np.exp(units._hbar * omega / (units._k * 300)) - 1)
    assert thermal_amplitudes([frequency], 300, 'quantum')[0] ** 2 == pytest.approx(
        units._hbar / omega * (occupation + 0.5) / joule
    )
    assert thermal_amplitudes([frequency], 1e5, 'quantum') == pytest.approx(
        thermal_amplitudes([frequency], 1e5, 'classical'), rel=1e-6
    )
    assert thermal_amplitudes([frequency], 0, 'classical')[0] == 0
