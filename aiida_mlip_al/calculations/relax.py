"""RelaxCalculation: structures relaxed by any ASE calculator in one job, their cells too if asked for."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from ase.io import write

from aiida_mlip_al.sampling.base import parse_parameters
from aiida_mlip_al.sampling.relax import Relaxation
from aiida_mlip_al.sampling.vacuum import vacuum_axes, vacuum_warning

from .base import RunnerCalculation
from .label import validate_calculator

# What the runner does not need: it gets the periodic directions of each structure, and the parser decides what is kept.
NOT_FOR_THE_RUNNER = {'periodic', 'keep_unconverged'}


def validate_settings(node: orm.Dict, _: Any = None) -> str | None:
    """Refuse unknown and wrong settings."""
    try:
        parse_parameters('relax', Relaxation, node.get_dict())
    except ValueError as error:
        return str(error)
    return None


class RelaxCalculation(RunnerCalculation):
    """Relax every structure; each is flushed as it comes, so a killed job keeps what it finished."""

    RUNNER = 'relax'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.input_namespace(
            'structures',
            valid_type=orm.StructureData,
            dynamic=True,
            help='The structures; the relaxed ones get the same names.',
        )
        spec.input(
            'settings',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            validator=validate_settings,
            help='`fmax` (eV/Å), `max_steps`, `optimizer` (FIRE, BFGS, LBFGS), `cell` (none, full, isotropic, or six booleans '
            'for the strains xx yy zz yz xz xy), `pressure_GPa`, `periodic` (three booleans, if pbc claims too many '
            'directions), `min_distance_fraction` of the result, `keep_unconverged`.',
        )
        spec.input(
            'calculator',
            valid_type=orm.Dict,
            validator=validate_calculator,
            help='`calculator` (`module:Class`), `arguments`.',
        )
        spec.input_namespace(
            'files',
            valid_type=orm.SinglefileData,
            dynamic=True,
            required=False,
            help='Files that the calculator reads.',
        )
        spec.output_namespace(
            'structures',
            valid_type=orm.StructureData,
            dynamic=True,
            help='The relaxed structures, atoms in the same order; with `keep_unconverged` also those that are on their way.',
        )
        spec.output(
            'report',
            valid_type=orm.Dict,
            help='Counts, and of each structure steps, energy (eV), largest force (eV/Å) and what went wrong.',
        )
        spec.exit_code(
            320,
            'ERROR_NOT_CONVERGED',
            message='{count} of {total} structures did not relax: {which}',
            invalidates_cache=True,
        )

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Write all structures as one file."""
        with folder.open('structures.extxyz', 'w') as handle:
            for _, structure in sorted(self.inputs.structures.items()):
                write(handle, structure.get_ase(), format='extxyz', columns=['symbols', 'positions'])
        return [(node.uuid, node.filename, node.filename) for node in self.inputs.get('files', {}).values()]

    def job_settings(self) -> dict[str, Any]:
        """Return the settings, the periodic directions of each structure, and the calculator."""
        settings = parse_parameters('relax', Relaxation, self.inputs.settings.get_dict())
        calculator = self.inputs.calculator.get_dict()
        return {
            **settings.model_dump(mode='json', exclude=NOT_FOR_THE_RUNNER),
            'periodic': None if settings.cell == 'none' else self.periodic_directions(settings),
            'calculator': calculator['calculator'],
            'arguments': calculator.get('arguments', {}),
        }

    def periodic_directions(self, settings: Relaxation) -> list[list[bool]]:
        """Return which cell vectors of each structure are periodic: from its pbc, less what ``periodic`` or a vacuum excludes."""
        directions = []
        for name, structure in sorted(self.inputs.structures.items()):
            atoms = structure.get_ase()
            axes = atoms.pbc
            if settings.periodic is not None:
                axes = axes & settings.periodic
            elif atoms.cell.rank == 3 and (message := vacuum_warning(atoms)):
                self.report(f'structure `{name}`: {message}')
                axes = axes & ~vacuum_axes(atoms)
            directions.append([bool(axis) for axis in axes])
        return directions

    def retrieved_files(self) -> list[Any]:
        """Return the relaxed structures and the record of every structure."""
        return ['relaxed.extxyz', 'relax.jsonl']
