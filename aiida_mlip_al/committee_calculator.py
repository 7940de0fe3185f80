"""A committee of MACE models as an ASE calculator that says how much its members disagree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from aiida_mlip_al.lmp_mace.runner_modules import Committee, deviation


class CommitteeCalculator(Calculator):
    """The mean of a committee's members: energy (eV), forces (eV/Å) and, for cells periodic in three directions, stress (eV/Å³).

    ``results`` also has ``force_deviation`` (n_atoms,), ``max_force_deviation``, ``mean_force_deviation``,
    ``min_force_deviation`` (eV/Å) and ``energy_deviation_per_atom`` (eV/atom): those that the run itself selects by. With
    one member they are left out.

    :param paths: `.model` files, read at once. They are pickles: opening one runs code.
    :param dtype: float64 or float32.
    :param device: cpu, cuda or cuda:<index>.
    """

    implemented_properties: ClassVar[list[str]] = ['energy', 'free_energy', 'forces', 'stress']

    def __init__(self, paths: Sequence[str | Path], dtype: str = 'float64', device: str = 'cpu') -> None:
        super().__init__()
        self.committee = Committee(paths, dtype=dtype, device=device)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ('energy',),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate every member on the structure."""
        super().calculate(atoms, list(properties), list(system_changes))
        structure = self.atoms
        self.committee.check_elements([structure])
        periodic = bool(structure.pbc.all())
        prediction = self.committee.predict([structure], stress=periodic)
        forces = prediction.forces
        results: dict[str, Any] = {'energy': float(prediction.energies.mean()), 'forces': forces.mean(axis=0)}
        results['free_energy'] = results['energy']
        if periodic and prediction.stresses is not None:
            results['stress'] = prediction.stresses[:, 0].mean(axis=0)
        if len(self.committee) > 1:
            said = deviation(prediction.energies[:, 0], forces)
            difference = forces - forces.mean(axis=0)
            results |= {
                'force_deviation': np.sqrt(np.mean(np.sum(difference**2, axis=2), axis=0)),
                'max_force_deviation': said.max_force,
                'mean_force_deviation': said.mean_force,
                'min_force_deviation': said.min_force,
                'energy_deviation_per_atom': said.energy_per_atom,
            }
        self.results = results
