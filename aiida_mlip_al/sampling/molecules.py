"""Molecules of a structure: atoms joined by covalent bonds, across the periodic boundaries too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import first_neighbors, neighbor_list
from numpy.typing import NDArray

from aiida_mlip_al.sampling.base import Matrix
from aiida_mlip_al.sampling.cells import periodic_axes

Integers = NDArray[np.int_]

DEFAULT_CUTOFF_SCALE = 1.2
FACE_TOLERANCE = 1e-9


class InfiniteNetworkError(ValueError):
    """Covalent bonds join an atom to its own periodic image, so that there is no molecule to cut out."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """One molecule of k atoms.

    :param indices: (k,) its atoms in the structure, ascending.
    :param images: (k, 3) whole cell vectors to add to each of these atoms to make the molecule whole, with its centre
        of mass in the cell.
    :param bonds: (b, 2) pairs of bonded atoms, numbered as in the structure.
    :param composition: chemical formula in Hill order.
    :param center_of_mass: (3,) of the whole molecule, Å.
    """

    indices: Integers
    images: Integers
    bonds: Integers
    composition: str
    center_of_mass: Matrix

    def whole(self, atoms: Atoms) -> Matrix:
        """Positions of the molecule's atoms, not torn apart by the periodic boundaries.

        :param atoms: the structure that the molecule was found in, or another one with the same image of every atom.
        :returns: (k, 3), Å.
        """
        return np.asarray(atoms.positions[self.indices] + self.images @ atoms.cell.array)


def find_molecules(
    atoms: Atoms, cutoff_scale: float = DEFAULT_CUTOFF_SCALE, where: str = 'the structure'
) -> list[Molecule]:
    """Molecules, ordered by their first atoms.

    Two atoms are bonded when they are closer than the scaled sum of their covalent radii (Cordero et al. 2008, as
    tabulated in ASE). Take the equilibrium structure: thermal motion breaks and closes bonds by this measure. Any
    translation, and any wrapping of atoms into the cell, gives the same molecules.

    :param atoms: structure of n atoms; its pbc decides which bonds cross the boundaries.
    :param cutoff_scale: factor on the sum of the radii.
    :param where: begin of an error message.
    :raises InfiniteNetworkError: bonds lead from an atom to its own image, as in salts, metals and framework solids.
    :raises ValueError: the structure has no atoms, or a periodic cell vector is missing.
    """
    if len(atoms) == 0:
        raise ValueError(f'{where}: there are no atoms to find molecules among; leave the structure out')
    axes = periodic_axes(atoms, tuple(atoms.pbc.tolist()), where)
    first, second, shifts = neighbor_list('ijS', atoms, cutoff_scale * covalent_radii[atoms.numbers])
    ranges = first_neighbors(len(atoms), first)
    images = np.zeros((len(atoms), 3), dtype=int)
    found = np.zeros(len(atoms), dtype=bool)
    molecules = []
    for root in range(len(atoms)):
        if found[root]:
            continue
        found[root] = True
        members = [root]
        for atom in members:  # grows while it is read: a breadth-first search
            for bond in range(ranges[atom], ranges[atom + 1]):
                neighbor, image = second[bond], images[atom] + shifts[bond]
                if not found[neighbor]:
                    found[neighbor] = True
                    images[neighbor] = image
                    members.append(int(neighbor))
                elif np.any(images[neighbor] != image):
                    vector = (image - images[neighbor]).tolist()
                    msg = (
                        f'{where}: covalent bonds join atom {neighbor} ({atoms.symbols[neighbor]}) to its own image '
                        f"{vector} cells away, an infinite network without molecules; lower 'cutoff_scale' "
                        f'({cutoff_scale:g}) if atoms count as bonded that are not, or leave the step out'
                    )
                    raise InfiniteNetworkError(msg)
        indices = np.sort(members)
        pairs = np.concatenate([np.arange(ranges[atom], ranges[atom + 1]) for atom in indices])
        bonds = np.stack([first[pairs], second[pairs]], axis=1)
        molecules.append(_centered(atoms, indices, images[indices], bonds[bonds[:, 0] < bonds[:, 1]], axes))
    return molecules


def _centered(atoms: Atoms, indices: Integers, images: Integers, bonds: Integers, axes: NDArray[np.bool_]) -> Molecule:
    """Molecule with its centre of mass moved into the cell by whole periodic vectors."""
    whole = atoms.positions[indices] + images @ atoms.cell.array
    center = np.average(whole, axis=0, weights=atoms.get_masses()[indices])
    outside = np.where(axes, np.floor(atoms.cell.scaled_positions(center) + FACE_TOLERANCE), 0).astype(int)
    formula = atoms.symbols[indices].get_chemical_formula()
    return Molecule(indices, images - outside, bonds, formula, center - outside @ atoms.cell.array)
