"""What is physically acceptable: distances, forces and temperatures."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list
from scipy.special import gammainccinv

_ALL_PAIRS_UP_TO = 500  # atoms without periodic images: all pairs are faster than a cell list
_ODDS = 1e-9


def too_close(atoms: Atoms, fraction: float) -> str | None:
    """Look for two atoms nearer than a fraction of the sum of their covalent radii, periodic images included.

    :param atoms: the structure; positions in Å.
    :param fraction: fraction of the sum of ASE's covalent radii; 0 switches the check off.
    :returns: None, or a sentence on the worst pair.
    """
    if fraction <= 0 or len(atoms) == 0:
        return None
    radii = covalent_radii[atoms.numbers]
    if atoms.pbc.any() or len(atoms) > _ALL_PAIRS_UP_TO:
        first, second, distance = neighbor_list('ijd', atoms, fraction * radii)
    else:
        first, second = np.triu_indices(len(atoms), 1)
        separation = atoms.positions[first] - atoms.positions[second]
        distance = np.sqrt(np.einsum('ij,ij->i', separation, separation))
    if len(distance) == 0:
        return None
    ratio = distance / (radii[first] + radii[second])
    worst = int(np.argmin(ratio))
    if ratio[worst] >= fraction:
        return None
    names = [f'{chemical_symbols[atoms.numbers[i]]}{i}' for i in (first[worst], second[worst])]
    return f'{names[0]} and {names[1]} are {distance[worst]:.3f} Å apart, {ratio[worst]:.2f} of their covalent radii.'


def largest_force(forces: np.ndarray) -> float:
    """Return the largest force on an atom.

    :param forces: (n, 3) in eV/Å.
    :returns: the largest vector norm in eV/Å; NaN if any component is NaN.
    """
    return float(np.sqrt(np.einsum('ij,ij->i', forces, forces).max()))


def temperature_limit(target_K: float, factor: float, n_degrees: int) -> float:
    """Return the instantaneous temperature above which a trajectory has left its ensemble.

    In the canonical ensemble the temperature of f degrees of freedom is T chi²(f)/f, so that a few atoms fluctuate
    far above T. The limit is therefore never below the temperature that is exceeded with a probability of 1e-9.

    :param target_K: the target temperature in K.
    :param factor: the limit for many atoms, in units of the target.
    :param n_degrees: number of degrees of freedom.
    :returns: the limit in K.
    """
    improbable = 2 * gammainccinv(n_degrees / 2, _ODDS) / n_degrees
    return target_K * max(factor, float(improbable))
