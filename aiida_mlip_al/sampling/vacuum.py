"""Vacuum: the empty layers that separate a slab, a wire or a molecule from its own periodic images."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

DEFAULT_GAP = 8.0


def empty_layers(atoms: Atoms) -> NDArray[np.float64]:
    """Thickness of the widest empty layer across each periodic cell vector.

    A layer lies between two planes that the other periodic vectors span, its thickness is measured along their normal, and
    no atom's centre is in it. The periodic images count: in a crystal of one atom it is the distance of the lattice planes.

    :param atoms: structure of n atoms with linearly independent periodic cell vectors.
    :returns: (3,) Å; 0 where the structure is not periodic.
    """
    layers = np.zeros(3)
    axes = np.flatnonzero(atoms.pbc)
    if len(axes) == 0 or len(atoms) == 0:
        return layers
    normals = np.linalg.pinv(atoms.cell.array[axes])
    fractions = np.sort(atoms.positions @ normals % 1.0, axis=0)
    widest = np.diff(fractions, axis=0, append=fractions[:1] + 1.0).max(axis=0)
    layers[axes] = widest / np.linalg.norm(normals, axis=0)
    return layers


def vacuum_axes(atoms: Atoms, gap: float = DEFAULT_GAP) -> NDArray[np.bool_]:
    """Which cell vectors lead through vacuum although the structure says that it is periodic along them.

    Plane-wave codes and many file formats know three periodic directions only, so that slabs and wires come back with all of
    them.

    :param atoms: structure of n atoms with linearly independent periodic cell vectors.
    :param gap: an empty layer wider than this is vacuum, Å. Layers of van der Waals crystals are 3 to 7 Å apart.
    :returns: (3,) mask.
    """
    return np.asarray(empty_layers(atoms) > gap)


def vacuum_warning(atoms: Atoms, gap: float = DEFAULT_GAP) -> str | None:
    """One sentence on the vacuum of a structure that says that it is periodic along it, or None if there is none.

    :param atoms: structure of n atoms with linearly independent periodic cell vectors.
    :param gap: an empty layer wider than this is vacuum, Å.
    """
    layers = empty_layers(atoms)
    found = [f'{name} ({layer:.1f} Å empty)' for name, layer in zip('abc', layers, strict=True) if layer > gap]
    if not found:
        return None
    subject = 'the cell vector {} leads' if len(found) == 1 else 'the cell vectors {} lead'
    return (
        f'{subject.format(" and ".join(found))} through vacuum and {"counts" if len(found) == 1 else "count"} as not periodic; '
        "set the structure's pbc, or 'periodic', to say which directions are periodic"
    )
