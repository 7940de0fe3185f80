"""A bias towards structures on whose energy the committee disagrees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from crew import Opinion

_FLOOR = 1e-3  # eV


class UncertaintyBias:
    """The energy -tau * sigma, where sigma is the standard deviation of the members' energies on the structure.

    This is the bias of hyperactive learning (van der Oord et al., npj Comput. Mater. 9, 168 (2023)). Its forces are
    tau * grad sigma. As there, tau is relative: `ratio` times the mean of the model's forces over that of grad sigma, both
    means over atoms and past steps. A step at which an atom would feel more than `max_force` has a smaller tau.

    :param ask: gives what all members say about a structure.
    :param ratio: of the bias force to the model's force.
    :param memory: steps over which the means forget.
    :param max_force: largest bias force on an atom in eV/Å.
    """

    def __init__(self, ask: Callable[[Atoms], Opinion], ratio: float, memory: int, max_force: float) -> None:
        self._ask, self._ratio, self._memory, self._max_force = ask, ratio, memory, max_force
        self._state: np.ndarray | None = None
        self._n_steps = 0
        self._means = np.zeros(2)  # of the model's forces in eV/Å, of the gradient in eV/Å

    def ask(self, atoms: Atoms) -> Opinion:
        """Return what all members say; they are asked once for each new structure.

        :param atoms: the structure.
        """
        state = np.concatenate([atoms.positions, atoms.cell.array])
        if self._state is None or not np.array_equal(state, self._state):
            self._opinion = self._ask(atoms)
            self._state = state
        return self._opinion

    def drive(
        self, step: int, atoms: Atoms, energy: float, forces: np.ndarray, virial: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the energy of the bias alone, the forces of model and bias, and the model's virial.

        :param step: makes no difference.
        :param atoms: the structure.
        :param energy: makes no difference.
        :param forces: of the model, (n, 3) in eV/Å.
        :param virial: of the model, (3, 3) in eV.
        """
        opinion = self.ask(atoms)
        sigma, gradient = energy_deviation(opinion.energies, opinion.forces)
        tau = self._strength(forces, gradient)
        return -tau * sigma, forces + tau * gradient, virial

    def close(self) -> None:
        """Do nothing: there are no files."""

    def _strength(self, forces: np.ndarray, gradient: np.ndarray) -> float:
        self._n_steps = min(self._n_steps + 1, self._memory)
        norms = np.linalg.norm(gradient, axis=1)
        self._means += (np.array([np.linalg.norm(forces, axis=1).mean(), norms.mean()]) - self._means) / self._n_steps
        if not norms.any():
            return 0.0
        return float(min(self._ratio * self._means[0] / self._means[1], self._max_force / norms.max()))


def energy_deviation(energies: np.ndarray, forces: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the standard deviation sigma of the members' energies in eV and its gradient (n, 3) in eV/Å.

    With d_k = E_k - <E>, which sum to zero, and v = <d_k^2>, the gradient of v is 2 <d_k grad E_k> = -2 <d_k F_k>. The root
    is rounded off at zero, where it has no gradient: sigma = sqrt(v + f^2) - f with f = 1 meV, and its gradient is
    -<d_k F_k> / sqrt(v + f^2).

    :param energies: (K,) in eV.
    :param forces: (K, n, 3) in eV/Å.
    """
    differences = energies - energies.mean()
    root = float(np.sqrt(np.mean(differences**2) + _FLOOR**2))
    return root - _FLOOR, -np.einsum('k,kij->ij', differences, forces) / (len(energies) * root)
