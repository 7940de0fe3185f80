"""Reference energies of the elements (E0s)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from aiida_mlip_al.sampling.checks import min_distance

_ALONE = 6.0  # Å between an atom and its image


def fit_atomic_energies(frames: Sequence[Atoms], energies: Sequence[float]) -> dict[str, float]:
    """Return an energy for each element, eV.

    The energy of a labelled isolated atom, one without an image of itself within 6 Å, is taken as it is. What is left is fitted by
    least squares to the energies of the other frames, energy = sum over atoms of the element's energy; where the compositions do
    not determine the solution (all frames of one molecule, say) it is the one of least norm, which shares the energy in
    proportion to the atoms' counts.

    :param frames: N labelled frames.
    :param energies: (N,), eV.
    :raises ValueError: if there is no frame.
    """
    if not len(frames):
        raise ValueError('Reference energies need at least one labelled frame.')
    isolated: dict[str, float] = {}
    for atoms, energy in zip(frames, energies, strict=True):
        if len(atoms) == 1 and min_distance(atoms, _ALONE) >= _ALONE:
            (symbol,) = atoms.symbols
            isolated[symbol] = min(float(energy), isolated.get(symbol, np.inf))
    fitted = sorted({symbol for atoms in frames for symbol in atoms.symbols} - set(isolated))
    if fitted:
        rows, rest = [], []
        for atoms, energy in zip(frames, energies, strict=True):
            counts = Counter(atoms.symbols)
            rows.append([counts[symbol] for symbol in fitted])
            rest.append(energy - sum(isolated[symbol] * counts[symbol] for symbol in isolated))
        solution = np.linalg.lstsq(np.array(rows, dtype=float), np.array(rest, dtype=float), rcond=None)[0]
        isolated.update(zip(fitted, map(float, solution), strict=True))
    return dict(sorted(isolated.items()))
