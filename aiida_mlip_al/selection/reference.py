"""Reference energies of the elements (E0s)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np


def fit_atomic_energies(symbols: Sequence[Sequence[str]], energies: Sequence[float]) -> dict[str, float]:
    """Return an energy for each element, eV.

    The energy of a labelled isolated atom is taken as it is. What is left is fitted by least squares to the energies of the
    other frames, energy = sum over atoms of the element's energy; where the compositions do not determine the solution (all
    frames of one molecule, say) it is the one of least norm, which shares the energy in proportion to the atoms' counts.

    :param symbols: chemical symbols of every frame's atoms.
    :param energies: (N,), eV.
    :raises ValueError: if there is no frame.
    """
    if not len(symbols):
        raise ValueError('Reference energies need at least one labelled frame.')
    isolated: dict[str, float] = {}
    for atoms, energy in zip(symbols, energies, strict=True):
        if len(atoms) == 1:
            isolated[atoms[0]] = min(float(energy), isolated.get(atoms[0], np.inf))
    fitted = sorted({symbol for atoms in symbols for symbol in atoms} - set(isolated))
    if fitted:
        rows, rest = [], []
        for atoms, energy in zip(symbols, energies, strict=True):
            counts = Counter(atoms)
            rows.append([counts[symbol] for symbol in fitted])
            rest.append(energy - sum(isolated[symbol] * counts[symbol] for symbol in isolated))
        solution = np.linalg.lstsq(np.array(rows, dtype=float), np.array(rest, dtype=float), rcond=None)[0]
        isolated.update(zip(fitted, map(float, solution), strict=True))
    return dict(sorted(isolated.items()))
