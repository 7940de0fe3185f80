"""ExploreCalculation: molecular dynamics with a committee of models that watches its own disagreement."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_al.data import DeviationData, ModelData

from .base import copy_models, device_of, model_files, validate_committee
from .md import DynamicsCalculation


class ExploreCalculation(DynamicsCalculation):
    """The first model drives; all are evaluated every ``check_interval`` steps, in one batched pass over the walkers."""

    RUNNER = 'explore'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.input_namespace(
            'committee', valid_type=ModelData, dynamic=True, validator=validate_committee, help='The models, by name.'
        )
        spec.input(
            'check',
            valid_type=orm.Dict,
            help='`check_interval` (steps), `upper` (eV/Å; a walker beyond it stops; null: never), `dtype`.',
        )
        spec.output_namespace('deviations', valid_type=DeviationData, dynamic=True, help='One for each walker.')

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Add the models."""
        return super().job_files(folder) + copy_models(self.inputs.committee)

    def job_settings(self) -> dict[str, Any]:
        """Add the models and the checks."""
        check = self.inputs.check.get_dict()
        return {
            **super().job_settings(),
            'models': model_files(self.inputs.committee),
            'dtype': check.get('dtype', 'float32'),
            'device': device_of(self.inputs.code),
            'check_interval': check.get('check_interval', 10),
            'levels': {'upper': check.get('upper')},
            'descriptors': True,
        }
