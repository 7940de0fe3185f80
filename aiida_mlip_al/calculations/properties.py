"""PropertiesCalculation: what a committee predicts for structures, to be compared with what another one does."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from ase.io import write

from aiida_mlip_al.data import ModelData

from .base import RunnerCalculation, copy_models, device_of, model_files, validate_committee

KEYS = {'dtype', 'equation_of_state', 'frequencies', 'dynamics'}


def validate_settings(node: orm.Dict, _: Any = None) -> str | None:
    """Refuse unknown settings, and a job that would compute nothing."""
    settings = node.get_dict()
    unknown = sorted(set(settings) - KEYS)
    if unknown:
        return f'`settings` has the unknown key `{unknown[0]}`; allowed are {", ".join(sorted(KEYS))}.'
    if not any(settings.get(key) for key in KEYS - {'dtype'}):
        return '`settings` asks for nothing: give `equation_of_state`, `frequencies` or `dynamics`.'
    return None


class PropertiesCalculation(RunnerCalculation):
    """Equation of state, harmonic frequencies, energy drift and pair distances by the mean of a committee."""

    RUNNER = 'properties'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.input_namespace(
            'committee', valid_type=ModelData, dynamic=True, validator=validate_committee, help='The models, by name.'
        )
        spec.input_namespace('structures', valid_type=orm.StructureData, dynamic=True, help='The structures, by name.')
        spec.input(
            'settings',
            valid_type=orm.Dict,
            validator=validate_settings,
            help='What to compute: `equation_of_state` and `frequencies` (true or false), `dynamics` (`temperature_K`, `steps`, '
            '`timestep_fs`); `dtype` (float64).',
        )
        spec.input('seed', valid_type=orm.Int, help='Fixes the velocities and the thermostat of the dynamics.')
        spec.output(
            'properties',
            valid_type=orm.Dict,
            help='By structure: `volume` (Å³/atom), `bulk_modulus` (GPa), `equation_of_state`, `frequencies` (THz), `drift` '
            '(meV/atom/ps), `temperature_K`, `rdf`; null where one could not be computed.',
        )
        spec.output('report', valid_type=orm.Dict, help='Times, and why a property of a structure has no value.')

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Write all structures as one file, and copy the models."""
        with folder.open('structures.extxyz', 'w') as handle:
            for _, structure in sorted(self.inputs.structures.items()):
                write(handle, structure.get_ase(), format='extxyz', columns=['symbols', 'positions'])
        return copy_models(self.inputs.committee)

    def job_settings(self) -> dict[str, Any]:
        """Return the models and what to compute with them."""
        settings = self.inputs.settings.get_dict()
        dynamics = settings.get('dynamics')
        return {
            'models': model_files(self.inputs.committee),
            'device': device_of(self.inputs.code),
            **settings,
            'dynamics': None if dynamics is None else {**dynamics, 'seed': self.inputs.seed.value},
        }

    def retrieved_files(self) -> list[Any]:
        """Return the record of every structure."""
        return ['properties.jsonl']
