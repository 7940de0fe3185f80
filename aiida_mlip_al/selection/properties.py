"""Whether two committees predict the same properties."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .settings import PropertyGate

Properties = Mapping[str, Any]


@dataclass(frozen=True)
class Agreement:
    """One property of one structure, by two committees.

    :param structure: its name.
    :param name: the property, as its tolerance is called.
    :param value: the change, or for the drift the drift itself; nan where a committee has no number for it.
    :param text: in words, with the tolerance.
    :param holds: whether it is within the tolerance.
    """

    structure: str
    name: str
    value: float
    text: str
    holds: bool


def properties_agree(previous: Properties, current: Properties, gate: PropertyGate) -> list[Agreement]:
    """Compare what two committees predict, property by property.

    :param previous: by structure, as the property job gives them; of the committee before.
    :param current: the same of the present committee.
    :param gate: the tolerances.
    :returns: one for each property asked for that either committee's structure has; a structure that only one of them has is
        left out.
    """
    return [
        check
        for structure in sorted(set(previous) & set(current))
        for name, tolerance in gate.tolerances.items()
        for check in _compare(structure, name, tolerance, previous[structure], current[structure])
    ]


def _compare(structure: str, name: str, tolerance: float, before: Properties, now: Properties) -> Iterator[Agreement]:
    if name not in now and name not in before:
        return
    old, new = before.get(name), now.get(name)
    if new is None or (old is None and name != 'drift'):
        yield Agreement(structure, name, math.nan, f'{name} of {structure} could not be computed', False)
        return
    value = CHANGES[name](old, new)
    what = 'is' if name == 'drift' else 'changed by'
    text = f'{name} of {structure} {what} {_shown(name, value)} (at most {_shown(name, tolerance)} asked for)'
    yield Agreement(structure, name, value, text, value <= tolerance)


def _shown(name: str, value: float) -> str:
    return f'{value:.3g} {UNITS[name]}' if name in UNITS else f'{100 * value:.3g} %'


def relative_change(previous: float, current: float) -> float:
    """Return |current / previous - 1|."""
    return abs(current / previous - 1)


def frequency_change(previous: ArrayLike, current: ArrayLike) -> float:
    """Return the root-mean-square difference of two lists of frequencies, sorted; infinite if their lengths differ.

    :param previous: (3N,) THz, imaginary ones negative.
    :param current: the same.
    """
    old, new = np.sort(np.asarray(previous, dtype=float)), np.sort(np.asarray(current, dtype=float))
    if old.shape != new.shape:
        return math.inf
    return float(np.sqrt(np.mean((new - old) ** 2)))


def distance_change(previous: Properties, current: Properties) -> float:
    """Return how much two radial distribution functions differ: Σ|g' - g| / Σ(g' + g), from 0 to 1.

    :param previous: `g`, (n,), on a grid of distances that both have.
    :param current: the same.
    """
    old, new = np.asarray(previous['g'], dtype=float), np.asarray(current['g'], dtype=float)
    if old.shape != new.shape:
        return math.inf
    total = float(np.sum(old + new))
    return float(np.sum(np.abs(new - old))) / total if total else 0.0


def size_of_the_present(_: float | None, current: float) -> float:
    """Return |current|: a drift is to be small, whatever it was before."""
    return abs(current)


#: How two values of a property are compared, by its name.
CHANGES: dict[str, Callable[[Any, Any], float]] = {
    'volume': relative_change,
    'bulk_modulus': relative_change,
    'frequencies': frequency_change,
    'rdf': distance_change,
    'drift': size_of_the_present,
}
#: What only some structures have, by property: of how many atoms at least, in how many periodic directions.
NEEDS = {'volume': (1, 3), 'bulk_modulus': (1, 3), 'rdf': (2, 0), 'drift': (2, 0)}
#: Units of the changes that are not relative.
UNITS = {'frequencies': 'THz', 'drift': 'meV/atom/ps'}
