"""Monte Carlo rattle: displacements that keep their distance, by hiPhive (Eriksson, Fransson and Erhart 2019)."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from aiida_mlip_al.sampling.base import Draw, RejectionLimitError

# hiPhive never moves an atom farther than this (Å), so that atoms twice as far apart need not be watched.
MAX_DISPLACEMENT = 2.0
# Over this range (Å) of the shortest distance d the chance to accept a move rises, (1 + erf((d - d_min) / width)) / 2.
WIDTH = 0.02


def mc_rattled(atoms: Atoms, stdev: float, min_distance_fraction: float, n_iter: int, draw: Draw) -> Atoms:
    """Displace every atom again and again; a move that ends closer than a least distance is hardly ever accepted.

    The least distance is ``min_distance_fraction`` of the covalent radii sum of the two closest atoms. Displacements grow
    to about ``stdev`` times the root of ``n_iter``, as long as they are small.

    :param atoms: the structure.
    :param stdev: standard deviation of each Cartesian component of one move, Å.
    :param min_distance_fraction: of the covalent radii sum.
    :param n_iter: moves of every atom.
    :param draw: the attempt; hiPhive gets a seed from its generator.
    :raises ValueError: hiPhive is not installed.
    :raises RejectionLimitError: hiPhive found no acceptable move of an atom.
    """
    try:
        from hiphive.structure_generation import generate_mc_rattled_structures
    except ImportError:
        msg = "rattle: 'kind: mc' needs hiPhive; install it with `pip install aiida-mlip-al[hiphive]`"
        raise ValueError(msg) from None
    least = min_distance_fraction * _closest_radii_sum(atoms)
    try:
        (frame,) = generate_mc_rattled_structures(
            atoms,
            1,
            stdev,
            least + 2 * WIDTH,
            width=WIDTH,
            seed=int(draw.rng.integers(2**32)),
            n_iter=n_iter,
            max_disp=MAX_DISPLACEMENT,
            nbr_cutoff=least + 2 * MAX_DISPLACEMENT,
        )
    except Exception as error:  # hiPhive has no exception of its own.
        msg = f"{draw.where}: hiPhive gave up ({error}); take a smaller 'stdev' or 'min_distance_fraction'"
        raise RejectionLimitError(msg) from error
    moved: Atoms = frame
    return moved


def _closest_radii_sum(atoms: Atoms) -> float:
    """Covalent radii sum of the two closest atoms (Å), 0 if no two are closer than twice their radii sum."""
    radii = covalent_radii[atoms.numbers]
    first, second, distance = neighbor_list('ijd', atoms, 2.0 * radii)
    if len(distance) == 0:
        return 0.0
    closest = np.argmin(distance)
    return float(radii[first[closest]] + radii[second[closest]])
