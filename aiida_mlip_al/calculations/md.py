"""MdCalculation: molecular dynamics with one calculator, the seeds' way to begin."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida.common import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from ase.io import write

from .base import RunnerCalculation
from .label import validate_calculator


def validate_walkers(inputs: Any, _: Any = None) -> str | None:
    """Refuse walkers that have no structure to start from."""
    if 'walkers' not in inputs or 'structures' not in inputs:
        return None
    walkers, structures = inputs['walkers'].get_list(), inputs['structures']
    if not walkers:
        return 'There is no walker: give at least one in `walkers`.'
    for index, walker in enumerate(walkers):
        name = walker.get('structure')
        if name not in structures:
            return (
                f'Walker {index} starts from `{name}`, which is none of the structures {", ".join(sorted(structures))}.'
            )
    return None


class DynamicsCalculation(RunnerCalculation):
    """What the two MD jobs share: structures, dynamics, walkers, and one trajectory for each walker."""

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.input_namespace('structures', valid_type=orm.StructureData, dynamic=True, help='Where the walkers start.')
        spec.input(
            'dynamics',
            valid_type=orm.Dict,
            help='`ensemble` (nve, nvt, npt), `timestep_fs`, `steps`, `equilibration` (steps not recorded), `stride`, '
            'thermostat, barostat and limits.',
        )
        spec.input(
            'walkers',
            valid_type=orm.List,
            help='One mapping a walker: `structure` (name), `temperature_K` and `pressure_GPa` (a number, or [start, end]), '
            '`seed`.',
        )
        spec.input(
            'parent_folder',
            valid_type=orm.RemoteData,
            required=False,
            help='Folder of the same job, which was interrupted: its walkers go on where they were.',
        )
        spec.inputs.validator = validate_walkers
        spec.output_namespace('trajectories', valid_type=orm.TrajectoryData, dynamic=True, help='One for each walker.')
        spec.output('report', valid_type=orm.Dict, help='Why each walker stopped, wall and core time.')

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Add what the interrupted job had written."""
        calcinfo = super().prepare_for_submission(folder)
        if 'parent_folder' in self.inputs:
            parent = self.inputs.parent_folder
            patterns = [item if isinstance(item, str) else item[0] for item in self.retrieved_files()]
            calcinfo.remote_copy_list = [
                (parent.computer.uuid, str(PurePosixPath(parent.get_remote_path(), pattern)), '.')
                for pattern in patterns
            ]
        return calcinfo

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Write the starting structures as one file."""
        structures = self.inputs.structures
        with folder.open('structures.extxyz', 'w') as handle:
            for name in sorted(structures):
                write(handle, structures[name].get_ase(), format='extxyz', columns=['symbols', 'positions'])
        return []

    def job_settings(self) -> dict[str, Any]:
        """Return the dynamics and the walkers, structures counted as in the file."""
        order = {name: index for index, name in enumerate(sorted(self.inputs.structures))}
        walkers = [{**walker, 'structure': order[walker['structure']]} for walker in self.inputs.walkers.get_list()]
        continued = 'parent_folder' in self.inputs
        return {'dynamics': self.inputs.dynamics.get_dict(), 'walkers': walkers, 'continued': continued}

    def retrieved_files(self) -> list[Any]:
        """Return the trajectories and their per-frame records."""
        return [('walker_*', '.', 0)]


class MdCalculation(DynamicsCalculation):
    """MD of one or several walkers with any ASE calculator."""

    RUNNER = 'md'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
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

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Add the calculator's files."""
        files = self.inputs.get('files', {}).values()
        return super().job_files(folder) + [(node.uuid, node.filename, node.filename) for node in files]

    def job_settings(self) -> dict[str, Any]:
        """Add the calculator."""
        settings = self.inputs.calculator.get_dict()
        return {
            'calculator': settings['calculator'],
            'arguments': settings.get('arguments', {}),
            **super().job_settings(),
        }
