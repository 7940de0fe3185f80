"""UncertaintyCalculation: how far the training frames fix the last layer of one model, so that it can stand for a committee."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_al.data import DatasetData, ModelData
from aiida_mlip_al.data.uncertainty import UncertaintyData

from .base import RunnerCalculation, device_of

UNCERTAINTY = UncertaintyData.FILENAME
SETTINGS = {'samples', 'seed', 'regularisation', 'batch_size'}


def validate_settings(node: orm.Dict, _: Any = None) -> str | None:
    """Refuse unknown keys and numbers out of range."""
    settings = node.get_dict()
    unknown = sorted(set(settings) - SETTINGS)
    if unknown:
        return f'`{unknown[0]}` is not a setting of an uncertainty: choose from {", ".join(sorted(SETTINGS))}.'
    samples, regularisation = settings.get('samples'), settings.get('regularisation')
    if samples is not None and not (isinstance(samples, int) and samples >= 2):
        return f'`samples` is {samples}, but must be a whole number of at least 2, or null for the exact variance.'
    if regularisation is not None and not (isinstance(regularisation, (int, float)) and regularisation > 0):
        return f'`regularisation` is {regularisation}, but must be a positive number, or null for the likeliest.'
    return None


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse datasets without frames to learn from or to calibrate with."""
    for split in ('train', 'validation'):
        if not any(dataset.splits.get(split, 0) for dataset in inputs['datasets'].values()):
            return (
                f'No frame of the datasets has the split `{split}`, and an uncertainty needs both train and validation.'
            )
    return None


def uncertainty_problem(committee: Mapping[str, ModelData], uncertainty: UncertaintyData | None) -> str | None:
    """Return why an uncertainty does not go with a committee, or None.

    :param committee: the models.
    :param uncertainty: of the only one of them; None: there is none.
    """
    if uncertainty is None:
        return None
    if len(committee) != 1:
        return f'`uncertainty` makes of one model a committee, but `committee` has {len(committee)}: give one.'
    (model,) = committee.values()
    if model.base.attributes.get('sha256') != uncertainty.model_sha256:
        return '`uncertainty` is about another model: give the one that was made from the model in `committee`.'
    return None


def add_uncertainty(spec: CalcJobProcessSpec) -> None:
    """Add the input to a job that takes a committee."""
    spec.input(
        'uncertainty',
        valid_type=UncertaintyData,
        required=False,
        help='Of the only model in `committee`: it stands for a committee, whose mean is the model.',
    )


def uncertainty_files(inputs: Any) -> list[tuple[str, str, str]]:
    """Return the copy list of the uncertainty, empty without one.

    :param inputs: of a job that takes a committee.
    """
    if 'uncertainty' not in inputs:
        return []
    return [(inputs.uncertainty.uuid, inputs.uncertainty.filename, UNCERTAINTY)]


def uncertainty_settings(inputs: Any) -> dict[str, str]:
    """Return what the runner reads about the uncertainty, empty without one.

    :param inputs: of a job that takes a committee.
    """
    return {'uncertainty': UNCERTAINTY} if 'uncertainty' in inputs else {}


class UncertaintyCalculation(RunnerCalculation):
    """The covariance of the last layer's features over the training frames, calibrated on the validation frames."""

    RUNNER = 'uncertainty'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.input('model', valid_type=ModelData, help='The model.')
        spec.input_namespace(
            'datasets', valid_type=DatasetData, dynamic=True, help='What it was trained on, with validation frames.'
        )
        spec.input(
            'settings',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            validator=validate_settings,
            help='`samples`: virtual members beside the model (16; null: as many as make the variance exact), `seed` of their '
            'random directions (0), `regularisation` in units of the mean eigenvalue of the covariance (null: the likeliest), '
            '`batch_size` (16).',
        )
        spec.inputs.validator = validate_inputs
        spec.output('uncertainty', valid_type=UncertaintyData, help='What explorations and evaluations take.')
        spec.output('report', valid_type=orm.Dict, help='Frames, regularisation, scale, wall and core time.')

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Copy the model and the shards."""
        datasets = self.inputs.datasets
        return [
            (self.inputs.model.uuid, self.inputs.model.filename, 'model_00.model'),
            *((datasets[name].uuid, datasets[name].filename, f'{name}.xyz') for name in sorted(datasets)),
        ]

    def job_settings(self) -> dict[str, Any]:
        """Return the model, the shards and the settings."""
        return {
            'model': 'model_00.model',
            'datasets': {name: f'{name}.xyz' for name in sorted(self.inputs.datasets)},
            'device': device_of(self.inputs.code),
            **self.inputs.settings.get_dict(),
        }

    def retrieved_files(self) -> list[Any]:
        """Return the arrays."""
        return [UNCERTAINTY]
