"""Which number of a frame is compared with the trust levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

MeasureName = Literal['max', 'mean', 'percentile', 'relative', 'energy', 'stress', 'mahalanobis']


class Measure(NamedTuple):
    """One number for each frame.

    :param column: the array that has it in the nodes of deviations.
    :param title: what it is called where it is shown.
    :param unit: of the number, and so of the levels; empty for a ratio.
    :param formula: of eps_i, the force deviation of atom i, as in :mod:`aiida_mlip_al.selection.deviation`.
    :param source: who uses it.
    """

    column: str
    title: str
    unit: str
    formula: str
    source: str


MEASURES: dict[MeasureName, Measure] = {
    'max': Measure(
        'max_force_deviation',
        'largest force deviation',
        'eV/Å',
        'largest eps_i over the atoms',
        '`max_devi_f` of DeePMD-kit, DP-GEN, SPARC',
    ),
    'mean': Measure(
        'mean_force_deviation',
        'mean force deviation',
        'eV/Å',
        'mean eps_i over the atoms',
        '`avg_devi_f` of DeePMD-kit; `mean_atomic_sd` of aims-PAX',
    ),
    'percentile': Measure(
        'percentile_force_deviation',
        '95th percentile of the force deviation',
        'eV/Å',
        '95th percentile of eps_i over the atoms, interpolated',
        'for large cells',
    ),
    'relative': Measure(
        'relative_force_deviation',
        'largest relative force deviation',
        '',
        'largest eps_i / (|mean F_i| + 0.2 eV/Å)',
        "`--relative` of DeePMD-kit; MACE's MD script",
    ),
    'energy': Measure(
        'energy_deviation_per_atom',
        'energy deviation',
        'eV/atom',
        'standard deviation of the energy / number of atoms',
        'aiida-trains-pot, per atom',
    ),
    'stress': Measure(
        'stress_deviation',
        'largest stress deviation',
        'eV/Å³',
        'largest standard deviation of a component of the stress (periodic in three directions; engine `ase`)',
        'the virial of DP-GEN, as a stress',
    ),
    'mahalanobis': Measure(
        'mahalanobis',
        'largest Mahalanobis distance',
        '',
        "largest Mahalanobis distance of an atom's last-layer features (one model with `uncertainty`)",
        'Lee et al., NeurIPS 2018',
    ),
}


# Every column that a measure is made of.
MEASURED = tuple(measure.column for measure in MEASURES.values())


def measured(name: MeasureName, column: Callable[[str], NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """Return the measure of every frame.

    :param name: of the measure.
    :param column: gives the array of that name, or None if it was not recorded.
    :raises ValueError: it was not recorded.
    """
    values = column(MEASURES[name].column)
    if values is None:
        msg = f"the measure '{name}' needs the array '{MEASURES[name].column}', which was not recorded; choose 'max'"
        raise ValueError(msg)
    return np.asarray(values, dtype=float)
