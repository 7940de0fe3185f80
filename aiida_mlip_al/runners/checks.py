"""What is physically acceptable: distances, forces and temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from neighbours import distances
from scipy.special import gammainccinv

_ODDS = 1e-9


@dataclass(frozen=True)
class DistanceLimit:
    """Two atoms, counted from 0, whose nearest images stay at least min and at most max Å apart; None: no limit."""

    pair: tuple[int, int]
    min: float = 0.0
    max: float | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DistanceLimit:
        """Make a limit from JSON.

        :param values: `pair`, and `min`, `max` or both.
        :raises ValueError: for other keys and pairs that are none.
        """
        pair = tuple(values.get('pair', ()))
        if len(set(pair)) != 2 or not all(isinstance(atom, int) and atom >= 0 for atom in pair):
            raise ValueError(f'pair of a distance limit must be two atoms, counted from 0, not {values.get("pair")!r}.')
        if set(values) - {'pair', 'min', 'max'}:
            raise ValueError(f'a distance limit has the keys pair, min, max, not {", ".join(sorted(values))}.')
        return cls(pair, values.get('min') or 0.0, values.get('max'))

    def complaint(self, atoms: Atoms) -> str | None:
        """Return None, or a sentence on the two atoms if they are outside the limits.

        :param atoms: the structure; positions in Å.
        """
        first, second = self.pair
        distance = float(atoms.get_distance(first, second, mic=True))
        if distance < self.min:
            limit = f'less than the {self.min:g}'
        elif self.max is not None and distance > self.max:
            limit = f'more than the {self.max:g}'
        else:
            return None
        return f'{_name(atoms, first)} and {_name(atoms, second)} are {distance:.3f} Å apart, {limit} Å allowed.'


def check_pairs(limits: Sequence[DistanceLimit], atoms: Atoms) -> None:
    """Refuse limits on atoms that a structure does not have.

    :param limits: the limits.
    :param atoms: the structure.
    :raises ValueError: if a pair is beyond its number of atoms.
    """
    for limit in limits:
        if max(limit.pair) >= len(atoms):
            raise ValueError(
                f'a distance limit is on the atoms {limit.pair[0]} and {limit.pair[1]}, but {atoms.get_chemical_formula()} '
                f'has the atoms 0 to {len(atoms) - 1}.'
            )


def too_close(atoms: Atoms, fraction: float) -> str | None:
    """Look for two atoms nearer than a fraction of the sum of their covalent radii, periodic images included.

    :param atoms: the structure; positions in Å.
    :param fraction: fraction of the sum of ASE's covalent radii; 0 switches the check off.
    :returns: None, or a sentence on the worst pair.
    """
    if fraction <= 0 or len(atoms) == 0:
        return None
    radii = covalent_radii[atoms.numbers]
    first, second, distance = distances(atoms, 2 * fraction * radii.max())
    if len(distance) == 0:
        return None
    ratio = distance / (radii[first] + radii[second])
    worst = int(np.argmin(ratio))
    if ratio[worst] >= fraction:
        return None
    names = [_name(atoms, index) for index in (first[worst], second[worst])]
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


def _name(atoms: Atoms, index: int) -> str:
    return f'{chemical_symbols[atoms.numbers[index]]}{index}'
