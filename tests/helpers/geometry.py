"""Which frame a frame is."""

from __future__ import annotations

import numpy as np
from ase import Atoms


def geometry(atoms: Atoms) -> tuple[bytes, ...]:
    """Return elements, periodic directions, positions and cell, to 1e-6 Å, as what can be looked up and compared."""
    places = (np.round(array, 6) + 0.0 for array in (atoms.positions, atoms.cell.array))
    return (atoms.numbers.tobytes(), atoms.pbc.tobytes(), *(array.tobytes() for array in places))
