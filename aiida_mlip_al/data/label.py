"""LabelData: energy, forces and stress of one structure at one level of theory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida.orm import ArrayData
from aiida.orm.nodes.caching import NodeCaching
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


class LabelCaching(NodeCaching):
    """Hash the file by its key in the repository, which is a hash; AiiDA first asks whether the file exists."""

    def get_objects_to_hash(self) -> dict[str, Any]:
        """Return what is hashed."""
        attributes = self._node.base.attributes.all
        return {'class': str(type(self._node)), 'attributes': attributes, 'files': self._node.base.repository.metadata}


class LabelData(ArrayData):
    """The label of one structure, with the structure's own numbers, so that it can be read without its neighbours.

    All arrays are in one file: AiiDA asks its repository about every file of a node several times when it stores it.

    Attributes: ``energy`` (eV), ``energy_per_atom`` (eV), ``max_force`` (eV/Å), ``pressure_GPa`` (None without the stress of
    three directions), ``stress_axes`` (which cell vectors the stress is of, ``[true, true, false]`` for a slab), ``n_atoms``,
    ``formula``, ``elements``, ``theory``, ``theory_hash``, ``split``, ``temperature_K`` of the dynamics that the structure came
    from, if any, and ``energy_extrapolated``: the energy at zero smearing, eV, of labels by VASP (``e_0_energy``). No potential is
    trained on that one, because forces and stress are not its derivatives.
    """

    FILENAME = 'label.npz'
    _CLS_NODE_CACHING = LabelCaching
    _cached_arrays: dict[str, np.ndarray]

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
        arrays = {
            'numbers': frame.numbers,
            'positions': frame.positions,
            'cell': frame.cell.array,
            'pbc': frame.pbc,
            'forces': forces,
        }
        if stress is not None:
            arrays['stress'] = np.asarray(stress, dtype=float)
        node = cls()
        node._set_arrays(arrays)
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

    def set_array(self, name: str, array: np.ndarray) -> None:
        """Add an array, or replace it.

        :raises TypeError: if it is not a NumPy array.
        """
        if not isinstance(array, np.ndarray):
            raise TypeError(f'`{name}` must be a NumPy array.')
        self._validate_array_name(name)
        self._set_arrays({**self._load_arrays(), name: array})

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, read at once."""
        if not self.is_stored:
            return self._load_arrays()
        if not self._cached_arrays:
            self._cached_arrays = self._load_arrays()
        return self._cached_arrays

    def get_array(self, name: str | None = None) -> np.ndarray:
        """Return an array.

        :raises KeyError: if there is none of this name.
        """
        arrays = self.arrays
        if name is None or name not in arrays:
            raise KeyError(f'A label has no array `{name}`, but {", ".join(arrays)}.')
        return arrays[name]

    def _set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        buffer.seek(0)
        self.base.repository.put_object_from_filelike(buffer, self.FILENAME)
        self.base.attributes.set_many(
            {f'{self.array_prefix}{name}': list(array.shape) for name, array in arrays.items()}
        )

    def _load_arrays(self) -> dict[str, np.ndarray]:
        if not self._is_one_file:
            return {name: super(LabelData, self).get_array(name) for name in super()._arraynames_from_files()}
        with self._open_arrays() as arrays:
            return dict(arrays)

    def _arraynames_from_files(self) -> list[str]:
        if not self._is_one_file:
            return super()._arraynames_from_files()
        with self._open_arrays() as arrays:
            return list(arrays)

    @property
    def _is_one_file(self) -> bool:
        """Not one file for each array, as in a label of an archive, or of AiiDA's own methods."""
        return self.FILENAME in self.base.repository.list_object_names()

    def _open_arrays(self) -> Any:
        content = self.base.repository.get_object_content(self.FILENAME, mode='rb')
        return np.load(io.BytesIO(content), allow_pickle=False)

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
        arrays = self.arrays
        atoms = Atoms(**{name: arrays[name] for name in ('numbers', 'positions', 'cell', 'pbc')})
        temperature = self.base.attributes.get('temperature_K')
        info = {} if temperature is None else {'temperature_K': temperature}
        numbers = (self.energy, arrays['forces'], arrays.get('stress'), self.stress_axes)
        return labelled_atoms(atoms, *numbers, split=self.split, **info)
