"""Seeder ``substitution``: exchange elements, or put other ones in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Annotated

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from aiida_mlip_al.sampling.base import Draw, SeedResult, StepParameters, sample_copies
from aiida_mlip_al.sampling.checks import TOO_CLOSE, too_close

DEFAULT_COPIES = 10


def _known(symbol: str) -> str:
    if atomic_numbers.get(symbol, 0) < 1:
        raise ValueError(f"has the unknown element '{symbol}'")
    return symbol


Element = Annotated[str, AfterValidator(_known)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class SubstitutionParameters(StepParameters):
    """Give exactly one of ``map``, ``swap_fraction`` and ``concentrations``."""

    map: dict[Element, Element | dict[Element, Fraction]] | None = Field(
        default=None,
        min_length=1,
        description='new element for each old one, such as {Si: Ge}, or the fractions of its atoms that become others, '
        'such as {Si: {Ge: 0.25}}',
    )
    swap_fraction: float | None = Field(
        default=None, gt=0, le=1, description='fraction of the atoms that change places with an atom of another element'
    )
    concentrations: dict[Element, Fraction] | None = Field(
        default=None,
        min_length=1,
        description='fraction of each element, such as {Si: 0.5, Ge: 0.5}, on all the sites that these elements have; '
        'the sum must be 1',
    )
    copies: int | None = Field(
        default=None,
        ge=1,
        description=f'structures made from each incoming structure; left out, {DEFAULT_COPIES}, '
        'or 1 for a map that leaves nothing to chance',
    )
    min_distance_fraction: float = Field(
        default=0.6,
        ge=0,
        lt=1,
        description='reject when two atoms are closer than this fraction of their covalent radii sum',
    )
    max_attempts: int = Field(default=100, ge=1, description='draws for one copy before the step gives up')

    @model_validator(mode='after')
    def _check(self) -> SubstitutionParameters:
        given = [name for name in ('map', 'swap_fraction', 'concentrations') if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of 'map', 'swap_fraction' and 'concentrations', got {' and '.join(given) or 'none'}"
            )
        for old, fractions in self.fractions.items():
            if old in fractions:
                raise ValueError(f"'map' replaces {old} by itself")
            if sum(fractions.values()) > 1 + 1e-6:
                raise ValueError(f"'map' replaces more than all {old}: the fractions add up to more than 1")
        if self.concentrations is not None and not isclose(sum(self.concentrations.values()), 1, abs_tol=1e-6):
            raise ValueError(f"'concentrations' must add up to 1, got {sum(self.concentrations.values()):g}")
        if not self.random and self.copies not in (None, 1):
            raise ValueError("'map' leaves nothing to chance, so that all 'copies' would be the same; ask for 1")
        return self

    @property
    def n_copies(self) -> int:
        """``copies`` or what they are if left out."""
        return self.copies or (DEFAULT_COPIES if self.random else 1)

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        return incoming * self.n_copies

    @property
    def fractions(self) -> dict[str, dict[str, float]]:
        """``map`` with a fraction for every new element."""
        return {old: {new: 1.0} if isinstance(new, str) else dict(new) for old, new in (self.map or {}).items()}

    @property
    def new_elements(self) -> set[str]:
        """Elements that the step may bring in."""
        return {new for fractions in self.fractions.values() for new in fractions} | set(self.concentrations or {})

    @property
    def random(self) -> bool:
        """Whether two copies can differ."""
        return self.map is None or any(1.0 not in new.values() for new in self.fractions.values())


def substitution(structures: Sequence[Atoms], parameters: SubstitutionParameters, seed: int) -> SeedResult:
    """Change which element sits on which site; cell and sites stay as they are.

    Numbers of atoms are fractions rounded by largest remainder, the same in every copy; the sites are random.

    :param structures: incoming structures.
    :param parameters: see the model.
    :param seed: of every random number.
    :raises ValueError: a structure lacks an element that is to be replaced, has too few atoms for a fraction, or too few
        elements to swap.
    :raises RejectionLimitError: the new elements are too large for the sites in every attempt.
    """

    def substitute(atoms: Atoms, draw: Draw) -> tuple[Atoms, None]:
        if parameters.swap_fraction is not None:
            _swap(atoms, parameters.swap_fraction, draw)
        elif parameters.concentrations is not None:
            _mix(atoms, parameters.concentrations, draw)
        else:
            _replace(atoms, parameters.fractions, draw)
        return atoms, None

    return sample_copies(
        'substitution',
        structures,
        parameters,
        seed,
        substitute,
        copies=parameters.n_copies,
        max_attempts=parameters.max_attempts if parameters.random else 1,
        rejection=lambda frame: TOO_CLOSE if too_close(frame, parameters.min_distance_fraction) else None,
    )


def _replace(atoms: Atoms, fractions: Mapping[str, Mapping[str, float]], draw: Draw) -> None:
    numbers = atoms.numbers.copy()
    for old, new in fractions.items():
        sites = np.flatnonzero(atoms.numbers == atomic_numbers[old])
        if len(sites) == 0:
            msg = f'{draw.where}: there is no {old} to replace in {atoms.get_chemical_formula()}'
            raise ValueError(msg)
        occupants = _occupants(new, len(sites), draw.where)
        numbers[draw.rng.permutation(sites)[: len(occupants)]] = occupants
    atoms.numbers[:] = numbers


def _mix(atoms: Atoms, concentrations: Mapping[str, float], draw: Draw) -> None:
    sites = np.flatnonzero(np.isin(atoms.numbers, [atomic_numbers[symbol] for symbol in concentrations]))
    if len(sites) == 0:
        msg = f'{draw.where}: none of {", ".join(concentrations)} is in {atoms.get_chemical_formula()}'
        raise ValueError(msg)
    atoms.numbers[sites] = draw.rng.permutation(_occupants(concentrations, len(sites), draw.where))


def _occupants(fractions: Mapping[str, float], n_sites: int, where: str) -> NDArray[np.int64]:
    """Atomic numbers of the new atoms on n sites, by largest remainder; sites may be left as they are.

    :raises ValueError: an element would get no site.
    """
    shares = np.array([*fractions.values(), max(0.0, 1.0 - sum(fractions.values()))]) * n_sites
    counts = np.floor(shares + 1e-9).astype(int)
    largest = np.argsort(counts - shares, kind='stable')[: n_sites - counts.sum()]
    counts[largest] += 1
    for symbol, count in zip(fractions, counts, strict=False):
        if count == 0:
            msg = (
                f'{where}: {n_sites} sites are too few for a fraction {fractions[symbol]:g} of {symbol}; '
                'use a larger supercell'
            )
            raise ValueError(msg)
    return np.repeat([atomic_numbers[symbol] for symbol in fractions], counts[:-1])


def _swap(atoms: Atoms, fraction: float, draw: Draw) -> None:
    n, numbers = len(atoms), atoms.numbers
    n_swaps = max(1, round(fraction * n / 2))
    possible = min(n // 2, n - int(np.bincount(numbers).max(initial=0)))
    if n_swaps > possible:
        msg = (
            f"{draw.where}: a 'swap_fraction' of {fraction:g} means {n_swaps} swaps, but {atoms.get_chemical_formula()} "
            f'has {possible} pairs of different elements'
        )
        raise ValueError(msg)
    # 2 m atoms of which at most m are the same element: sorted by element, atom i and atom i + m always differ.
    order = draw.rng.permutation(n)
    rank = np.array([np.count_nonzero(numbers[order[:i]] == numbers[order[i]]) for i in range(n)])
    chosen = order[rank < n_swaps][: 2 * n_swaps]
    chosen = chosen[np.argsort(numbers[chosen], kind='stable')]
    first, second = chosen[:n_swaps], chosen[n_swaps:]
    atoms.positions[[*first, *second]] = atoms.positions[[*second, *first]]
