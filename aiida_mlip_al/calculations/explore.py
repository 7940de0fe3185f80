"""ExploreCalculation: molecular dynamics with a committee of models that watches its own disagreement."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_mlip_al.data import DeviationData, ModelData

from .base import copy_models, device_of, model_files, validate_committee
from .md import DynamicsCalculation, validate_walkers
from .uncertainty import add_uncertainty, uncertainty_files, uncertainty_problem, uncertainty_settings

BIAS = 'plumed.dat'


def validate_inputs(inputs: Any, context: Any = None) -> str | None:
    """Refuse walkers without a structure, limits on atoms that a structure does not have, and a stranger's uncertainty."""
    complaint = validate_walkers(inputs, context) or uncertainty_problem(
        inputs.get('committee', {}), inputs.get('uncertainty')
    )
    if complaint or 'dynamics' not in inputs or 'structures' not in inputs:
        return complaint
    for limit in inputs['dynamics'].get_dict().get('distance_limits', []):
        for name, structure in inputs['structures'].items():
            n_atoms = len(structure.sites)
            if max(limit['pair']) >= n_atoms:
                return (
                    f'A distance limit is on the atoms {limit["pair"][0]} and {limit["pair"][1]}, but `{name}` has the '
                    f'atoms 0 to {n_atoms - 1}.'
                )
    return None


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
            help='`check_interval` (steps), `upper` (eV/Å; a walker beyond it stops; null: never), `dtype`, `descriptors` '
            '(features or gradient); `uncertainty_bias` (`ratio`, `memory` in steps, `max_force` in eV/Å), which moves the '
            'walkers as `bias` does; `processes`, among which the walkers are divided (1).',
        )
        spec.input(
            'bias',
            valid_type=orm.SinglefileData,
            required=False,
            help='Input of PLUMED, which moves the walkers beside the first model: `bias_energy` in the deviations is its '
            'energy (eV); recorded energies and forces are without it.',
        )
        add_uncertainty(spec)
        spec.inputs.validator = validate_inputs
        spec.output_namespace('deviations', valid_type=DeviationData, dynamic=True, help='One for each walker.')

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Add the models, their uncertainty and the bias."""
        files = super().job_files(folder) + copy_models(self.inputs.committee) + uncertainty_files(self.inputs)
        if 'bias' in self.inputs:
            files.append((self.inputs.bias.uuid, self.inputs.bias.filename, BIAS))
        return files

    def job_settings(self) -> dict[str, Any]:
        """Add the models, the checks and the bias."""
        check = self.inputs.check.get_dict()
        settings = {
            **super().job_settings(),
            'models': model_files(self.inputs.committee),
            'dtype': check.get('dtype', 'float32'),
            'device': device_of(self.inputs.code),
            'check_interval': check.get('check_interval', 10),
            'levels': {'upper': check.get('upper')},
            'descriptors': check.get('descriptors', 'features'),
            **uncertainty_settings(self.inputs),
            **{key: check[key] for key in ('uncertainty_bias', 'processes', 'stress_deviation') if key in check},
        }
        return {**settings, 'bias': BIAS} if 'bias' in self.inputs else settings

    def retrieved_files(self) -> list[Any]:
        """Add what PLUMED writes, in files named after the walkers."""
        written = [('*.walker_*', '.', 0)] if 'bias' in self.inputs else []
        return [*super().retrieved_files(), *written]
