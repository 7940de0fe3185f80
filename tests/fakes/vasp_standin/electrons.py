"""The self-consistency cycle as seen from outside: how many steps it takes, and what comes out where it was cut short."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .inputs import Array, Incar

STEPS = 12
"""Electronic steps of a well-behaved system with ALGO = Normal and AMIX = 0.4; half as many with orbitals to begin with."""
ENTROPY = 1.0
"""Electronic entropy of an ion: T S = ENTROPY * SIGMA."""


@dataclass
class Electrons:
    """Converged or not, the electronic ground state of one frame.

    :param free_energies: eV after each electronic step; the last one is TOTEN.
    :param entropy: T S in eV, so that ``e_wo_entrp = TOTEN + T S``.
    :param extrapolation: how far ``e_0_energy``, the energy at zero smearing, lies above TOTEN, eV: T S / (N + 2) with Methfessel
        and Paxton's order N = ISMEAR, T S / 2 with Gauss and Fermi.
    :param forces: (n, 3), eV/Å.
    :param stress: (3, 3) in eV/Å³, ASE's sign.
    """

    free_energies: list[float]
    entropy: float
    extrapolation: float
    forces: Array
    stress: Array
    converged: bool


def steps_needed(incar: Incar, difficulty: float) -> float:
    """Return the electronic steps to convergence: a smaller AMIX helps, ALGO = All and Damped need 25 at most.

    :param difficulty: steps with ALGO = Normal and AMIX = 0.4; infinite: nothing helps.
    """
    if math.isinf(difficulty):
        return difficulty
    needed = difficulty * min(1.0, incar.real('AMIX', 0.4) / 0.4)
    if incar.get('ALGO', 'Normal')[0].upper() in 'AD':
        needed = min(needed, 25)
    return max(incar.integer('NELMIN', 2), math.ceil(needed))


def converge(
    incar: Incar, needed: float, free_energy: float, forces: Array, stress: Array, rng: np.random.Generator
) -> Electrons:
    """Go through the electronic steps; where NELM is too small the results are far off: 0.5 eV an ion, 1 eV/Å, 10 GPa.

    :param free_energy: the ground state's, eV; forces (n, 3) and stress (3, 3) likewise.
    """
    nelm = incar.integer('NELM', 60)
    steps, converged = int(min(needed, nelm)), needed <= nelm
    if not converged:
        free_energy += 0.5 * len(forces)
        forces = forces + rng.normal(size=forces.shape)
        stress = stress + 0.06 * np.eye(3)
    energies = [free_energy + 100.0 * 0.1**step for step in range(1, steps)] + [free_energy]
    order = incar.integer('ISMEAR', 1)
    entropy = ENTROPY * incar.real('SIGMA', 0.2) * len(forces) if order != -5 else 0.0
    return Electrons(energies, entropy, entropy / (max(order, 0) + 2), forces, stress, converged)
