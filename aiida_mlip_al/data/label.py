"""LabelData: energy, forces and stress of one structure at one level of theory."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.orm import ArrayData
from ase import Atoms, units

from .extxyz import (
    ENERGY_KEY,
    FORCES_KEY,
    SPLITS,
    STRESS_AXES_KEY,
    check_labelled,
    labelled_atoms,
    stress_of,
)


class LabelData(ArrayData):
    """The label of one structure, with the structure's own numbers, so that it can be read without its neighbours.

    Attributes: ``energy`` (eV), ``energy_per_atom`` (eV), ``max_force`` (eV/Å), ``pressure_GPa`` (None without the stress of
    three directions), ``stress_axes`` (which cell vectors the stress is of, ``[true, true, false]`` for a slab), ``n_atoms``,
    ``formula``, ``elements``, ``theory``, ``theory_hash``, ``split``, ``temperature_K`` of the dynamics that the structure came
    from, if any, and ``energy_extrapolated``: the energy at zero smearing, eV, of labels by VASP (``e_0_energy``). No potential is
    trained on that one, because forces and stress are not its derivatives.
    """

    @classmethod
    def from_ase(
        cls,
        frame: Atoms,
        theory: str,
        theory_hash: str,
        split: str = 'train',
        energy_extrapolated: float | None = None,
    ) -> LabelData:
        """Build an unstored label from a frame that carries ``REF_energy``, ``REF_forces`` and, perhaps, ``REF_stress``.

        :param energy_extrapolated: the energy at zero smearing, eV; kept beside the label if it is a number.
        :raises ValueError: if the label is missing, misshapen or not finite, or the split is unknown.
        """
        check_labelled(frame, f'The structure {frame.get_chemical_formula()}')
        if split not in SPLITS:
            raise ValueError(f'The split `{split}` is none of {", ".join(SPLITS)}.')
        forces = np.asarray(frame.arrays[FORCES_KEY], dtype=float)
        stress = stress_of(frame)
        node = cls()
        node.set_array('numbers', frame.numbers)
        node.set_array('positions', frame.positions)
        node.set_array('cell', frame.cell.array)
        node.set_array('pbc', frame.pbc)
        node.set_array('forces', forces)
        if stress is not None:
            node.set_array('stress', np.asarray(stress, dtype=float))
        energy = float(frame.info[ENERGY_KEY])
        axes = [bool(axis) for axis in frame.info.get(STRESS_AXES_KEY, frame.pbc)]
        attributes: dict[str, Any] = {
            'energy': energy,
            'energy_per_atom': energy / len(frame),
            'max_force': float(np.linalg.norm(forces, axis=1).max()),
            'pressure_GPa': None if stress is None or not all(axes) else float(-np.mean(stress[:3]) / units.GPa),
            'stress_axes': None if stress is None else axes,
            'n_atoms': len(frame),
            'formula': frame.get_chemical_formula(),
            'elements': sorted(set(frame.get_chemical_symbols())),
            'theory': theory,
            'theory_hash': theory_hash,
            'split': split,
            'temperature_K': frame.info.get('temperature_K'),
            'energy_extrapolated': None
            if energy_extrapolated is None or not np.isfinite(energy_extrapolated)
            else float(energy_extrapolated),
        }
        node.base.attributes.set_many(attributes)
        return node

    @property
    def energy(self) -> float:
        """The energy whose derivatives the forces are, eV."""
        return self.base.attributes.get('energy')

    @property
    def energy_extrapolated(self) -> float | None:
        """The energy at zero smearing, eV; None if the engine gives none."""
        return self.base.attributes.get('energy_extrapolated', None)

    @property
    def forces(self) -> np.ndarray:
        """(n_atoms, 3), eV/Å."""
        return self.get_array('forces')

    @property
    def stress(self) -> np.ndarray | None:
        """Voigt order xx yy zz yz xz xy, eV/Å³, ASE's sign; None if the label has none.

        Components that involve a direction without periodicity are zero, see ``stress_axes``; training does not see such a
        stress. Its volume is that of the cell, vacuum included.
        """
        return self.get_array('stress') if 'stress' in self.get_arraynames() else None

    @property
    def stress_axes(self) -> list[bool] | None:
        """Which cell vectors the stress is of; None without stress."""
        return self.base.attributes.get('stress_axes', None)

    @property
    def theory_hash(self) -> str:
        """Fingerprint of everything that fixes the level of theory."""
        return self.base.attributes.get('theory_hash')

    @property
    def split(self) -> str:
        """``train``, ``validation`` or ``test``: decided once."""
        return self.base.attributes.get('split')

    def to_ase(self) -> Atoms:
        """Return the structure with its label under the ``REF_`` keys and its ``split``."""
        atoms = Atoms(
            numbers=self.get_array('numbers'),
            positions=self.get_array('positions'),
            cell=self.get_array('cell'),
            pbc=self.get_array('pbc'),
        )
        temperature = self.base.attributes.get('temperature_K')
        info = {} if temperature is None else {'temperature_K': temperature}
        return labelled_atoms(atoms, self.energy, self.forces, self.stress, self.stress_axes, split=self.split, **info)
