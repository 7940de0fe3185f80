"""From a structure to LAMMPS' frame of reference, and back.

LAMMPS wants a cell whose matrix is lower triangular, at right angles along directions that are not periodic, with all atoms in
it: a structure is rotated, its free directions get a box of their own, and what comes back is rotated into its own frame.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.geometry import complete_cell, wrap_positions
from ase.io.lammpsdata import write_lammps_data
from numpy.typing import NDArray

PADDING = 5.0
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """The box of a structure of n atoms.

    :param atoms: the structure; which directions are free says its pbc.
    """

    atoms: Atoms

    @property
    def species(self) -> list[str]:
        """The elements in the order of LAMMPS' atom types."""
        return sorted(set(self.atoms.get_chemical_symbols()))

    @property
    def boundary(self) -> str:
        """The arguments of the command `boundary`: periodic, or as wide as the atoms and at least the box."""
        return ' '.join('p' if periodic else 'm' for periodic in self.atoms.pbc)

    @cached_property
    def _cell(self) -> Array:
        """(3, 3) in the structure's frame: a box of the atoms' extent along free directions."""
        pbc = self.atoms.pbc
        cell: Array = complete_cell(np.where(pbc[:, None], self.atoms.cell.array, 0.0))
        # Only at right angles to the others is a free direction allowed: complete_cell makes unit vectors.
        extent = np.ptp(self.atoms.positions @ cell[~pbc].T, axis=0)
        cell[~pbc] *= (extent + 2 * PADDING)[:, None]
        return cell

    @cached_property
    def _origin(self) -> Array:
        """(3,) the box's corner in the structure's frame, Å."""
        free = self._cell[~self.atoms.pbc]
        directions = free / np.linalg.norm(free, axis=1)[:, None]
        lowest = (self.atoms.positions @ directions.T).min(axis=0) - PADDING
        return np.asarray(lowest @ directions)

    @cached_property
    def _prism(self) -> Prism:
        return Prism(self._cell, pbc=self.atoms.pbc)

    @property
    def cell(self) -> Array:
        """(3, 3) in LAMMPS' frame, Å: the first vector along x, the second in the plane of x and y."""
        return np.asarray(self._prism.cell)

    @property
    def unambiguous_distance(self) -> float:
        """Å, up to which images are told apart vector by vector: half the least height of a skewed cell; any of another."""
        if not self._prism.is_skewed():
            return np.inf
        return float(0.5 / np.linalg.norm(np.linalg.inv(self.cell)[:, self.atoms.pbc], axis=0).max())

    def data(self, skewed: bool) -> str:
        """Return the text that `read_data` reads: box, masses and atoms, numbered as in the structure.

        :param skewed: write tilt factors also if they are zero, so that they may change.
        """
        atoms = Atoms(self.atoms.numbers, self.atoms.positions - self._origin, cell=self._cell, pbc=self.atoms.pbc)
        handle = io.StringIO()
        write_lammps_data(handle, atoms, specorder=self.species, masses=True, prismobj=self._prism, force_skew=skewed)
        return handle.getvalue()

    def vectors_back(self, vectors: Array) -> Array:
        """Rotate vectors (..., 3), such as forces and velocities, into the structure's frame."""
        return np.asarray(vectors @ self._prism.rot_mat.T)

    def cells_back(self, cells: Array) -> Array:
        """Return cells (F, 3, 3) in the structure's frame; the structure's own vectors along free directions.

        LAMMPS takes other vectors of the same lattice when a box gets too skewed; here the structure's are continued.
        """
        free = ~self.atoms.pbc
        continued, before = [], self._prism.cell
        for cell in np.where(free[:, None], self._prism.cell, cells):
            vectors = np.round(before @ np.linalg.inv(cell))
            same_lattice = np.isfinite(vectors).all() and abs(abs(np.linalg.det(vectors)) - 1) < 1e-6
            before = vectors @ cell if same_lattice else cell
            continued.append(before)
        restored = self.vectors_back(np.reshape(continued, (-1, 3, 3)))
        restored[:, free] = self.atoms.cell.array[free]
        return restored

    def positions_back(self, positions: Array, origins: Array, cells: Array | None = None) -> Array:
        """Return positions (F, n, 3) in the structure's frame, Å.

        :param origins: (F, 3) of LAMMPS' box. It moves with the box along periodic directions, where a cell begins at zero.
        :param cells: (F, 3, 3) in the structure's frame, to wrap the positions into; None leaves them where they moved to.
        """
        shift = np.where(self.atoms.pbc, origins, 0.0)
        restored = self.vectors_back(positions - shift[:, None]) + self._origin
        if cells is None:
            return restored
        frames = zip(restored, cells, strict=True)
        return np.array([wrap_positions(frame, cell, pbc=self.atoms.pbc) for frame, cell in frames])
