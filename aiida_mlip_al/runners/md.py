"""Molecular dynamics with one ASE calculator, walker after walker.

In: md.json, structures.extxyz. Out: walker_00.xyz, walker_00.jsonl, …, md.status.json.
If it is continued also in: the files of the walkers; those that have ended are left as they are.
"""

from __future__ import annotations

from typing import Any

import calculator as calculators
import numpy as np
import status as runner
from ase import Atoms
from dynamics import Settings
from frames import read_structures
from walker import Left, NonFiniteError, Observation, read_walkers, run_walker


class Guard:
    """Passes an ASE calculator's results on to the dynamics, unless they are not finite or not converged.

    :param calculator: the ASE calculator.
    """

    def __init__(self, calculator: Any) -> None:
        self._calculator = calculator

    def get_potential_energy(self, atoms: Atoms, force_consistent: bool = False) -> float:
        """Return the energy in eV that the forces are derivatives of.

        :param atoms: the structure.
        :param force_consistent: makes no difference.
        """
        return calculators.free_energy(self._calculator, self._calculator.get_potential_energy(atoms))

    def get_forces(self, atoms: Atoms) -> np.ndarray:
        """Return forces (n, 3) in eV/Å.

        :param atoms: the structure.
        :raises NonFiniteError: if positions or forces are not finite.
        :raises RuntimeError: if the calculation did not converge.
        """
        if not np.isfinite(atoms.positions).all():
            raise NonFiniteError('a position is not finite.')
        watch = calculators.ConvergenceWatch(self._calculator)
        forces = np.array(self._calculator.get_forces(atoms), dtype=float)
        complaint = watch.complaint()
        if complaint:
            raise RuntimeError(complaint)
        if not np.isfinite(forces).all():
            raise NonFiniteError('a force is not finite.')
        return forces

    def get_stress(self, atoms: Atoms) -> np.ndarray:
        """Return the stress (6,) in eV/Å³.

        :param atoms: the structure.
        """
        return np.array(self._calculator.get_stress(atoms), dtype=float)


def simulate(config: runner.Config, status: dict[str, Any]) -> None:
    """Run every walker of md.json.

    :param config: `calculator`, `arguments`, `dynamics`, `walkers`, `continued` from their files.
    :param status: receives `n_walkers` done and the calculator's version.
    """
    unknown = set(config) - {'calculator', 'arguments', 'dynamics', 'walkers', 'continued'}
    if unknown:
        raise ValueError(f'md.json has unknown keys: {", ".join(sorted(unknown))}.')
    structures = read_structures('structures.extxyz')
    settings = Settings.from_dict(config.get('dynamics', {}))
    walkers = read_walkers(config.get('walkers', []), structures)
    calculator = calculators.build(config)
    status['versions'].update(calculators.package_version(config['calculator']))
    status['n_walkers'] = 0
    for number, walker in enumerate(walkers):
        left = Left.read(number) if config.get('continued') else Left()
        if not left.ended:
            going, atoms = left.go_on(walker, structures[walker.structure])
            atoms.calc = Guard(calculator)
            run_walker(number, going, atoms, settings, _observe, left=left)
            calculator = calculators.build(config)
        status['n_walkers'] += 1


def _observe(atoms: Atoms) -> Observation:
    return Observation(float(atoms.get_potential_energy()), atoms.get_forces(apply_constraint=False))


if __name__ == '__main__':
    runner.run(simulate)
