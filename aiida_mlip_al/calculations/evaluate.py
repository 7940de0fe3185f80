"""EvaluateCalculation: a committee on labelled datasets, in batched passes."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_al.data import DatasetData, DeviationData, ModelData
from aiida_mlip_al.data.extxyz import SPLITS

from .base import RunnerCalculation, copy_models, device_of, model_files, validate_committee
from .uncertainty import add_uncertainty, uncertainty_files, uncertainty_problem, uncertainty_settings

DEFAULT_BATCH_SIZE = 16


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse an uncertainty that does not go with the committee."""
    return uncertainty_problem(inputs.get('committee', {}), inputs.get('uncertainty'))


class EvaluateCalculation(RunnerCalculation):
    """Per-frame deviations and errors, parity data, and mean errors of the committee's mean and of every member."""

    RUNNER = 'evaluate'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.input_namespace(
            'committee', valid_type=ModelData, dynamic=True, validator=validate_committee, help='The models, by name.'
        )
        spec.input_namespace('datasets', valid_type=DatasetData, dynamic=True, help='The labelled frames, by shard.')
        spec.input(
            'settings',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            help=f'`dtype` (float64), `batch_size` ({DEFAULT_BATCH_SIZE}), `splits`: which of train, validation and test '
            'to evaluate (all), `descriptors` of the frames: features or gradient (none).',
        )
        add_uncertainty(spec)
        spec.inputs.validator = validate_inputs
        for name, what in (('deviations', DeviationData), ('parity', orm.ArrayData)):
            spec.output_namespace(name, valid_type=what, dynamic=True, help='One for each split.')
        spec.exit_code(
            311,
            'ERROR_NONFINITE_PREDICTION',
            message='A model predicts an energy or a force that is not finite on `{name}`.',
            invalidates_cache=True,
        )
        spec.output('errors', valid_type=orm.Dict, help='Mean errors by split, by member and by temperature.')

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Copy the shards, the models and their uncertainty."""
        datasets = self.inputs.datasets
        shards = [(datasets[name].uuid, datasets[name].filename, f'{name}.xyz') for name in sorted(datasets)]
        return copy_models(self.inputs.committee) + uncertainty_files(self.inputs) + shards

    def job_settings(self) -> dict[str, Any]:
        """Return the models, the shards and the passes."""
        settings = self.inputs.settings.get_dict()
        return {
            'models': model_files(self.inputs.committee),
            'dtype': settings.get('dtype', 'float64'),
            'device': device_of(self.inputs.code),
            'batch_size': settings.get('batch_size', DEFAULT_BATCH_SIZE),
            'datasets': {name: f'{name}.xyz' for name in sorted(self.inputs.datasets)},
            'splits': settings.get('splits', list(SPLITS)),
            'descriptors': settings.get('descriptors'),
            **uncertainty_settings(self.inputs),
        }

    def retrieved_files(self) -> list[Any]:
        """Return the arrays."""
        return [('evaluation_*.npz', '.', 0)]
