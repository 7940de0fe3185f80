"""Parser of ExploreCalculation."""

from __future__ import annotations

import numpy as np

from aiida_mlip_al.data import DeviationData
from aiida_mlip_al.selection.measure import MEASURED

from .md import MdParser, Walker

COLUMNS = (
    'step',
    'time_fs',
    'temperature_K',
    'energy',
    'max_force',
    'max_force_deviation',
    'mean_force_deviation',
    'min_force_deviation',
    'energy_deviation_per_atom',
)


def deviation_of(walker: Walker) -> DeviationData:
    """Return a walker's per-frame deviations and conditions."""
    arrays = {name: np.array([record[name] for record in walker.records], dtype=float) for name in COLUMNS}
    arrays['step'] = arrays['step'].astype(int)
    arrays['target_temperature_K'] = np.array(
        [record.get('target_temperature_K') or np.nan for record in walker.records], dtype=float
    )
    for name in ('bias_energy', *MEASURED):
        if name in walker.records[0]:
            arrays[name] = np.array([record[name] for record in walker.records], dtype=float)
    if walker.records[0].get('descriptor') is not None:
        arrays['descriptors'] = np.array([record['descriptor'] for record in walker.records], dtype=np.float32)
    reason = walker.end['end'] if walker.end else 'killed'
    return DeviationData.from_arrays(arrays, stopped_early=reason != 'finished', stop_reason=reason)


class ExploreParser(MdParser):
    """Trajectories and deviations."""

    def emit(self, walkers: dict[str, Walker]) -> None:
        """Attach the deviations beside the trajectories."""
        super().emit(walkers)
        self.out('deviations', {name: deviation_of(walker) for name, walker in walkers.items()})
