"""Normal modes of a crystal at chosen q points, as real displacements of its supercell, and their thermal amplitudes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import units
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import null_space

from aiida_mlip_al.sampling.base import Matrix
from aiida_mlip_al.sampling.force_constants import HarmonicCrystal

Statistics = Literal['quantum', 'classical']
Mesh = Literal['commensurate', 'gamma'] | Sequence[int]
Complex = NDArray[np.complex128]

#: THz for one unit of angular frequency, sqrt(eV / (amu Å²)).
THZ = units.second / (2 * np.pi * 1e12)
HBAR = units._hbar * units.J * units.second
DEGENERACY_THZ = 1e-4


@dataclass(frozen=True)
class NormalModes:
    """M real modes of a supercell of N atoms; a q point and its negative share two modes for each band.

    :param frequencies: (M,) THz, negative where imaginary.
    :param bands: (M,) 1-based number of the mode among those of its q point, by frequency.
    :param qpoints: (M, 3) in reciprocal vectors of the unit cell.
    :param vectors: (M, 3N) orthonormal, displacements times the square root of the mass.
    :param masses: (N,) amu.
    :param share: supercells for each q point; 1 when all commensurate q points are there. The q points stand for the
        whole zone, so the fewer they are, the more each counts.
    """

    frequencies: Matrix
    bands: NDArray[np.int_]
    qpoints: Matrix
    vectors: Matrix
    masses: Matrix
    share: float

    def select(self, chosen: ArrayLike) -> NormalModes:
        """Modes of a mask or of indices, each with its amplitude unchanged.

        :param chosen: (M,) booleans, or indices.
        """
        index = np.asarray(chosen)
        return NormalModes(
            self.frequencies[index],
            self.bands[index],
            self.qpoints[index],
            self.vectors[index],
            self.masses,
            self.share,
        )

    def displacements(self, coordinates: ArrayLike) -> Matrix:
        """Superpose the modes.

        :param coordinates: (M,) amplitude of each mode, Å amu^½.
        :returns: (N, 3), Å.
        """
        moved = (np.asarray(coordinates) @ self.vectors).reshape(-1, 3)
        return np.asarray(np.sqrt(self.share / self.masses)[:, None] * moved)

    def mean_square_displacements(self, temperature: float, statistics: Statistics) -> Matrix:
        """Analytic thermal mean square displacement of every atom, summed over x, y and z.

        :param temperature: K.
        :param statistics: see :func:`thermal_amplitudes`.
        :returns: (N,) Å².
        """
        variance = thermal_amplitudes(self.frequencies, temperature, statistics) ** 2
        squares = (variance @ self.vectors**2).reshape(-1, 3).sum(axis=1)
        return np.asarray(self.share / self.masses * squares)


def thermal_amplitudes(frequencies: ArrayLike, temperature: float, statistics: Statistics) -> Matrix:
    """Root mean square coordinate of harmonic oscillators.

    Classical sqrt(kT) / ω; quantum sqrt(ħ/2ω · coth(ħω/2kT)), the zero point included (Born and Huang, Dynamical Theory
    of Crystal Lattices, 1954).

    :param frequencies: (M,) THz, positive.
    :param temperature: K, not negative.
    :param statistics: ``quantum`` or ``classical``.
    :returns: (M,) Å amu^½.
    """
    omega = np.asarray(frequencies, dtype=float) / THZ
    thermal = units.kB * temperature
    if statistics == 'classical':
        return np.asarray(np.sqrt(thermal) / omega)
    with np.errstate(divide='ignore'):
        return np.asarray(np.sqrt(HBAR / (2 * omega) / np.tanh(HBAR * omega / (2 * np.float64(thermal)))))


def normal_modes(crystal: HarmonicCrystal, mesh: Mesh = 'commensurate') -> NormalModes:
    """Modes at the q points of a mesh.

    Signs, phases and bases of degenerate modes are fixed by the crystal alone, whatever the eigensolver returns.

    :param crystal: with its force constants.
    :param mesh: ``commensurate`` for all q points that fit into the supercell, ``gamma`` for (0, 0, 0) alone, or the
        divisions of a Γ-centred mesh.
    :raises ValueError: a q point of the mesh does not fit into the supercell.
    """
    qpoints = mesh_points(crystal.matrix, mesh)
    n_atoms, n_cells = len(crystal.supercell), crystal.n_cells
    masses = crystal.supercell.get_masses()
    # Rows of the dynamical matrix: one image of every atom of the unit cell.
    rows = np.arange(0, n_atoms, n_cells)
    weights = np.sqrt(masses[rows][:, None] * masses[None, :])
    coupling = crystal.force_constants[rows].transpose(0, 2, 1, 3) / weights[:, None, :, None]
    points = crystal.lattice_points
    modes: list[tuple[Matrix, Matrix]] = []
    kept = _one_of_each_pair(qpoints, n_cells)
    for q, self_conjugate in kept:
        phases = np.exp(2j * np.pi * points @ q)
        folded = (coupling * phases[:, None]).reshape(len(rows), 3, len(rows), n_cells, 3).sum(axis=3)
        dynamical = folded.reshape(3 * len(rows), 3 * len(rows))
        dynamical = (dynamical + dynamical.conj().T) / 2
        squares, vectors = np.linalg.eigh(dynamical.real if self_conjugate else dynamical)
        frequencies = np.sign(squares) * np.sqrt(np.abs(squares)) * THZ
        basis = _canonical(vectors.T, frequencies).reshape(-1, len(rows), 1, 3)
        waves = (basis * phases.reshape(1, len(rows), n_cells, 1)).reshape(len(basis), 3 * n_atoms)
        waves /= np.sqrt(n_cells)
        parts = [waves.real] if self_conjugate else [np.sqrt(2) * waves.real, np.sqrt(2) * waves.imag]
        modes += [(frequencies, part) for part in parts]
    repeats = [1 if self_conjugate else 2 for _, self_conjugate in kept]
    n_bands = 3 * len(rows)
    return NormalModes(
        frequencies=np.concatenate([frequencies for frequencies, _ in modes]),
        bands=np.tile(np.arange(1, n_bands + 1), len(modes)),
        qpoints=np.repeat(np.array([q for q, _ in kept]), np.array(repeats) * n_bands, axis=0),
        vectors=np.concatenate([part for _, part in modes]),
        masses=masses,
        share=n_cells / len(qpoints),
    )


def mesh_points(matrix: NDArray[np.int_], mesh: Mesh) -> Matrix:
    """q points of a mesh, each of which makes whole waves in the supercell.

    :param matrix: (3, 3), see :class:`HarmonicCrystal`.
    :param mesh: see :func:`normal_modes`.
    :returns: (n, 3) in reciprocal vectors of the unit cell, from 0 to below 1, in ascending order.
    :raises ValueError: a point does not fit into the supercell.
    """
    if mesh == 'gamma':
        return np.zeros((1, 3))
    if mesh == 'commensurate':
        from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

        # Vectors are columns in phonopy.
        points = np.asarray(get_commensurate_points(matrix.T), dtype=float)
    else:
        points = np.array(list(np.ndindex(*mesh))) / np.array(mesh)
        waves = points @ matrix.T
        bad = np.flatnonzero(np.abs(waves - np.rint(waves)).max(axis=1) > 1e-9)
        if len(bad):
            msg = (
                f'phonon_displacements: the q point {np.round(points[bad[0]], 4).tolist()} of the mesh {list(mesh)} does not '
                f"fit into the supercell {matrix.tolist()}; use divisors of its repetitions, or 'commensurate'"
            )
            raise ValueError(msg)
    cells = abs(round(np.linalg.det(matrix)))
    integers = np.unique(np.rint(points * cells).astype(int) % cells, axis=0)
    return np.asarray(integers / cells)


def _one_of_each_pair(qpoints: Matrix, cells: int) -> list[tuple[Matrix, bool]]:
    """The first of each q and -q, and whether the two are the same point."""
    pairs = []
    for q in qpoints:
        index = np.rint(q * cells).astype(int)
        opposite = -index % cells
        if tuple(index) <= tuple(opposite):
            pairs.append((q, bool(np.array_equal(index, opposite))))
    return pairs


def _canonical(vectors: Complex, frequencies: Matrix) -> Complex:
    """Basis of each degenerate set that depends on nothing but the space it spans.

    The component with the largest part in the set leads, real and positive; then the next in what remains.

    :param vectors: (n, n) eigenvectors as rows.
    :param frequencies: (n,) ascending, THz.
    """
    basis = []
    for degenerate in np.split(vectors, np.flatnonzero(np.diff(frequencies) > DEGENERACY_THZ) + 1):
        rest = degenerate
        while len(rest):
            weights = (np.abs(rest) ** 2).sum(axis=0)
            pivot = int(np.argmax(weights > weights.max() * (1 - 1e-4)))
            lead = rest[:, pivot].conj() / np.sqrt(weights[pivot])
            basis.append(lead @ rest)
            rest = null_space(lead.conj()[None]).T @ rest
    return np.array(basis)
