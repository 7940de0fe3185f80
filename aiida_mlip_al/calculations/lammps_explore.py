"""LammpsExploreCalculation: one walker in LAMMPS, with a committee of models or one of them."""

from __future__ import annotations

from pathlib import Path

from aiida import orm
from aiida.common import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida_lammps.calculations.raw import LammpsRawCalculation

from aiida_mlip_al.data import DeviationData, ModelData
from aiida_mlip_al.lammps.script import FILES
from aiida_mlip_al.lammps.settings import LammpsExploreSettings
from aiida_mlip_al.sampling.base import wrong_parameters

from .base import copy_models, define_exit_codes, source_version, validate_committee

LMP_MACE = Path(__file__).parents[1] / 'lmp_mace'
STATUS = 'lmp-mace.status.json'
STOPPED_RESTART = 'stopped.restart'
KEPT_FILES = (FILES['log'], FILES['deviations'], STATUS, 'walker.colvars.traj', 'plumed.out', 'COLVAR')
PASSING_FILES = (FILES['dump'], FILES['records'], STOPPED_RESTART)


def time_limit(seconds: int | None) -> str:
    """Return when LAMMPS is to end by itself, so that it has time to write its last files: H:MM:SS, or off.

    :param seconds: the job's time limit.
    """
    if not seconds:
        return 'off'
    own = max(seconds // 2, round(0.95 * seconds) - 30)
    return f'{own // 3600}:{own // 60 % 60:02d}:{own % 60:02d}'


class LammpsExploreCalculation(LammpsRawCalculation):
    """A LammpsRawCalculation whose models are nodes and whose outputs are those of ExploreCalculation.

    `script` and the files of the structure come from :func:`~aiida_mlip_al.calculations.lammps_functions.plan_lammps`; the
    models are in the job as `model_00.model` and so on, by the order of their names.
    """

    CACHE_VERSION = source_version(LMP_MACE)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        del spec.outputs['results']
        for name in ('filenames', 'settings'):
            del spec.inputs[name]
        spec.inputs['files'].help = 'The structure; what a continuation, a bias or a native LAMMPS reads besides.'
        spec.input(
            'structure', valid_type=orm.StructureData, help='Where the walker starts; gives the frame of reference.'
        )
        spec.input_namespace(
            'committee', valid_type=ModelData, dynamic=True, validator=validate_committee, help='The models, by name.'
        )
        spec.input(
            'dynamics',
            valid_type=orm.Dict,
            validator=lambda node, _: wrong_parameters('explore', LammpsExploreSettings, node.get_dict()),
            help="The exploration's settings that the script was made of.",
        )
        spec.input('walker', valid_type=orm.Dict, help='`temperature_K`, `pressure_GPa` and `seed` of this walker.')
        options = spec.inputs['metadata']['options']
        options['parser_name'].default = 'mlip_al.lammps_explore'
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['withmpi'].default = False
        options['environment_variables'].default = lambda: {'OMP_NUM_THREADS': '1'}
        spec.inputs['code'].help = 'lmp-mace, or a LAMMPS that has the pair style of the settings.'
        define_exit_codes(spec)
        spec.output_namespace('trajectories', valid_type=orm.TrajectoryData, dynamic=True, help='`walker_00`.')
        spec.output_namespace(
            'deviations', valid_type=DeviationData, dynamic=True, help='`walker_00`, if lmp-mace ran.'
        )
        spec.output('thermo', valid_type=orm.ArrayData, required=False, help="LAMMPS' own columns, one array each.")
        spec.output('report', valid_type=orm.Dict, help='Why the walker stopped, wall and core time.')
        spec.output(
            'restart', valid_type=orm.SinglefileData, required=False, help='Where an interrupted walker goes on.'
        )

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Add the models, the time limit and what is retrieved."""
        calcinfo = super().prepare_for_submission(folder)
        seconds = self.inputs.metadata.options.get('max_wallclock_seconds')
        (codeinfo,) = calcinfo.codes_info
        codeinfo.cmdline_params += ['-log', FILES['log'], '-var', 'time_limit', time_limit(seconds)]
        codeinfo.cmdline_params += self.inputs.dynamics.get_dict().get('arguments', [])
        codeinfo.join_files = True
        calcinfo.local_copy_list = copy_models(self.inputs.committee)
        calcinfo.retrieve_list += list(KEPT_FILES)
        calcinfo.retrieve_temporary_list = [*PASSING_FILES, (FILES['restarts'], '.', 0)]
        return calcinfo
