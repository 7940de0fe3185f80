"""DeviationData: a committee's disagreement on every frame of a trajectory or a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida.common.exceptions import ValidationError
from aiida.orm import ArrayData

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class DeviationData(ArrayData):
    """Per-frame arrays of equal length N.

    Always there: ``max_force_deviation``, ``mean_force_deviation``, ``min_force_deviation`` (eV/Å; the deviation of atom i is
    sqrt(mean over members of |F_i^k - mean F_i|^2), as DeePMD's ``model_devi``) and ``energy_deviation_per_atom`` (eV).
    From a committee also ``percentile_force_deviation`` (95th over the atoms, eV/Å) and ``relative_force_deviation``
    (largest deviation / (|mean F_i| + 0.2 eV/Å)).
    Of a trajectory also ``step``, ``time_fs``, ``temperature_K``, ``energy``, ``max_force`` and, if it was biased,
    ``bias_energy`` (eV); of a labelled dataset also ``max_force_error``, ``force_mae`` (eV/Å), ``energy_error_per_atom`` (eV);
    ``descriptors`` (N, D) where asked for.

    Attributes: ``n_frames``, ``max`` (eV/Å), ``quantiles`` of the maximum force deviation, ``stopped_early`` and
    ``stop_reason`` of a trajectory.
    """

    REQUIRED = ('max_force_deviation', 'mean_force_deviation', 'min_force_deviation', 'energy_deviation_per_atom')

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], **attributes: Any) -> DeviationData:
        """Build an unstored node from per-frame arrays.

        :raises ValueError: if a required array is missing or the lengths differ.
        """
        node = cls()
        for name, array in arrays.items():
            node.set_array(name, np.asarray(array))
        node._check_arrays()
        deviation = np.asarray(arrays['max_force_deviation'], dtype=float)
        finite = deviation[np.isfinite(deviation)]
        node.base.attributes.set_many(
            {
                'n_frames': len(deviation),
                'max': float(finite.max()) if len(finite) else None,
                'quantiles': {f'{q:.2f}': float(np.quantile(finite, q)) for q in QUANTILES} if len(finite) else {},
                **attributes,
            }
        )
        return node

    def _check_arrays(self) -> None:
        names = set(self.get_arraynames())
        missing = [name for name in self.REQUIRED if name not in names]
        if missing:
            raise ValueError(f'A deviation needs the array `{missing[0]}`.')
        lengths = {name: len(self.get_array(name)) for name in sorted(names)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f'The arrays of a deviation must have one row a frame, but their lengths are {lengths}.')

    def _validate(self) -> bool:
        super()._validate()
        try:
            self._check_arrays()
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return True

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.base.attributes.get('n_frames')

    @property
    def max_force_deviation(self) -> np.ndarray:
        """(N,), eV/Å: the largest over the atoms of a frame."""
        return self.get_array('max_force_deviation')

    def get(self, name: str) -> np.ndarray | None:
        """Return a per-frame array, or None if this node does not have it."""
        return self.get_array(name) if name in self.get_arraynames() else None
