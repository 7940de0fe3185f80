"""LabelCalculation: a batch of structures labelled by any ASE calculator in one job."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from ase.io import write

from aiida_mlip_al.data import DatasetData, LabelData
from aiida_mlip_al.data.frame import atoms_of
from aiida_mlip_al.data.stored import attributes_of

from .base import RunnerCalculation
from .many_nodes import ManyNodes

CALCULATOR_KEYS = {'calculator', 'arguments', 'max_force', 'min_distance_fraction', 'timeout_s', 'periodic', 'theory'}


def validate_calculator(node: orm.Dict, _: Any = None) -> str | None:
    """Refuse a calculator that is not given as `module:Class` with keyword arguments."""
    settings = node.get_dict()
    unknown = sorted(set(settings) - CALCULATOR_KEYS)
    if unknown:
        return f'The calculator has the unknown key `{unknown[0]}`; it knows {", ".join(sorted(CALCULATOR_KEYS))}.'
    path = settings.get('calculator')
    if not isinstance(path, str) or path.count(':') != 1 or not all(path.split(':')):
        return f'`calculator` is `{path}`, but must be an import path such as `tblite.ase:TBLite`.'
    if not isinstance(settings.get('arguments', {}), dict):
        return '`arguments` must be a mapping of keyword arguments for the calculator.'
    for key in ('max_force', 'min_distance_fraction', 'timeout_s'):
        value = settings.get(key)
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            return f'`{key}` is {value}, but must be a positive number.'
    periodic = settings.get('periodic')
    if periodic is not None and not (
        isinstance(periodic, list | tuple) and len(periodic) == 3 and all(isinstance(axis, bool) for axis in periodic)
    ):
        return f'`periodic` is {periodic}, but must be three booleans, such as [true, true, false] for a slab.'
    return None


class LabelCalculation(ManyNodes, RunnerCalculation):
    """Energy, forces and stress of every structure; each is flushed as it comes, so a killed job keeps what it finished."""

    RUNNER = 'label'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.input_namespace(
            'structures',
            valid_type=orm.StructureData,
            dynamic=True,
            help='The structures; their labels get the same names.',
        )
        spec.input(
            'calculator',
            valid_type=orm.Dict,
            validator=validate_calculator,
            help='`calculator` (`module:Class`), `arguments`; `max_force` (eV/Å) and `min_distance_fraction` (of the sum of '
            'covalent radii) beyond which a structure is rejected; `timeout_s` for each; `periodic` (three booleans), if the '
            'pbc of the structures claims too many directions: the stress is masked across the others; `theory`, a name for '
            'people.',
        )
        spec.input_namespace(
            'files',
            valid_type=orm.SinglefileData,
            dynamic=True,
            required=False,
            help='Files that the calculator reads, such as a teacher model; put in the job under their own names.',
        )
        spec.output_namespace(
            'labels', valid_type=LabelData, dynamic=True, help='The label of each accepted structure.'
        )
        spec.output(
            'dataset', valid_type=DatasetData, required=False, help='The accepted structures with their labels.'
        )
        spec.output('report', valid_type=orm.Dict, help='Counts, rejections with their reasons, wall and core time.')
        spec.exit_code(
            320,
            'ERROR_ALL_REJECTED',
            message='No structure of the batch got a label: {reasons}',
            invalidates_cache=True,
        )

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Write all structures as one file."""
        structures = self.inputs.structures
        attributes = attributes_of(structures)
        with folder.open('structures.extxyz', 'w') as handle:
            for name in sorted(structures):
                atoms = atoms_of(structures[name], attributes[name])
                write(handle, atoms, format='extxyz', columns=['symbols', 'positions'])
        return [(node.uuid, node.filename, node.filename) for node in self.inputs.get('files', {}).values()]

    def job_settings(self) -> dict[str, Any]:
        """Return the calculator and the limits."""
        settings = self.inputs.calculator.get_dict()
        settings.pop('theory', None)
        defaults = {
            'arguments': {},
            'max_force': 50.0,
            'min_distance_fraction': 0.5,
            'timeout_s': None,
            'periodic': None,
        }
        return {**defaults, **settings}

    def retrieved_files(self) -> list[Any]:
        """Return the labels and the record of every structure."""
        return ['labels.extxyz', 'label.jsonl']
