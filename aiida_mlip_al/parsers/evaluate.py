"""Parser of EvaluateCalculation."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode

from aiida_mlip_al.data import DeviationData
from aiida_mlip_al.data.extxyz import SPLITS
from aiida_mlip_al.selection.errors import FrameErrors, compare, mean_errors, parity_arrays

from .base import RunnerParser


class EvaluateParser(RunnerParser):
    """Compare the committee with the labels, split by split."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved arrays."""
        status = self.read_status()
        failed = self.failure(status)
        if failed is not None:
            return failed
        wanted = self.node.inputs.settings.get_dict().get('splits', list(SPLITS))
        comparisons: dict[str, list[FrameErrors]] = {}
        for name, dataset in sorted(self.node.inputs.datasets.items()):
            frames = [frame for frame in dataset.iterate() if frame.info['split'] in wanted]
            if not frames:
                continue
            prediction = self.read_prediction(name)
            if prediction is None:
                return self.exit_codes.ERROR_NO_RESULTS.format(message=f'evaluation_{name}.npz is missing or cut.')
            if not prediction.is_finite():
                return self.exit_codes.ERROR_NONFINITE_PREDICTION.format(name=name)
            if len(prediction) != len(frames):
                return self.exit_codes.ERROR_NO_RESULTS.format(
                    message=f'{name} has {len(frames)} frames, but {len(prediction)} were evaluated.'
                )
            distances = self.read_array(name, 'mahalanobis')
            for split in wanted:
                rows = [row for row, frame in enumerate(frames) if frame.info['split'] == split]
                if rows:
                    comparison = compare([frames[row] for row in rows], prediction.take(rows))
                    if distances is not None:
                        comparison.arrays['mahalanobis'] = distances[rows]
                    comparisons.setdefault(split, []).append(comparison)

        errors: dict[str, Any] = {'wall_s': status.get('wall_s', 0.0), 'core_s': status.get('cpu_s', 0.0)}
        deviations, parity = {}, {}
        for split, parts in comparisons.items():
            errors[split] = mean_errors(parts)
            deviations[split] = DeviationData.from_arrays(FrameErrors.join(parts))
            node = orm.ArrayData()
            for name, array in parity_arrays(parts).items():
                node.set_array(name, array)
            parity[split] = node
        self.out('errors', orm.Dict(errors))
        self.out('deviations', deviations)
        self.out('parity', parity)
        return None
