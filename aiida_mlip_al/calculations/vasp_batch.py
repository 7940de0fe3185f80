"""VaspBatchCalculation: single points by VASP, one after the other in one job."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec

from aiida_mlip_al.config.vasp import VaspSettings
from aiida_mlip_al.data import DatasetData, LabelData
from aiida_mlip_al.data.vasp_result import label_incar

from .vasp_files import make_kpoints, write_inputs
from .vasp_functions import problem_of, sorted_atoms

STDOUT = 'vasp_output'
RECORD = 'runs.txt'
# AiiDA puts the command between these two; what the user prepends and appends to it is then done for each structure.
BEFORE = """for _run in {runs}; do
_before=${{_run#*:}}; _run=${{_run%%:*}}
cd "$_run" || continue
if [ -n "$_before" ]; then mv "../$_before/WAVECAR" . 2>/dev/null; fi
_began=$(date +%s.%N)"""
AFTER = f"""echo "$_run $? $_began $(date +%s.%N)" >> ../{RECORD}
cd ..
done
rm -f */WAVECAR */CHGCAR */CHG"""


class VaspBatchCalculation(CalcJob):
    """One folder for each structure, VASP run in one after the other; a failure costs only its own structure."""

    CACHE_VERSION = 1

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.input_namespace(
            'structures',
            valid_type=orm.StructureData,
            dynamic=True,
            help='The structures; their labels get the same names.',
        )
        spec.input('theory', valid_type=orm.Dict, help='The level of theory, with the identity of its POTCARs.')
        spec.input(
            'settings', valid_type=orm.Dict, help='`max_force` (eV/Å), `min_distance_fraction`, `reuse_wavefunctions` …'
        )
        spec.input_namespace('potentials', valid_type=orm.Data, dynamic=True, help='The POTCAR of each element.')
        options = spec.inputs['metadata']['options']
        options['parser_name'].default = 'mlip_al.vasp_batch'
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        spec.output_namespace(
            'labels', valid_type=LabelData, dynamic=True, help='The label of each accepted structure.'
        )
        spec.output(
            'dataset', valid_type=DatasetData, required=False, help='The accepted structures with their labels.'
        )
        spec.output(
            'report',
            valid_type=orm.Dict,
            help='Counts, rejections; `failed`: what a run by itself may cure; wall and core time.',
        )
        spec.exit_code(
            400,
            'ERROR_INTERRUPTED',
            'The job was stopped before its end; what it had finished is kept.',
            invalidates_cache=True,
        )

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write a folder for each structure that VASP can compute."""
        settings = VaspSettings(**self.inputs.settings.get_dict())
        structures = computable(self.inputs.structures, settings)
        before = neighbours(structures) if settings.reuse_wavefunctions else {}
        level = self.inputs.theory.get_dict()
        incar = {**label_incar(level), 'lwave': settings.reuse_wavefunctions}
        numbers = {name: f'{number:03d}' for number, name in enumerate(structures)}
        for name, structure in structures.items():
            path = Path(folder.get_abs_path(numbers[name]))
            path.mkdir()
            grouped = orm.StructureData(ase=sorted_atoms(structure))
            kpoints = make_kpoints(grouped, level.get('kpoint_spacing'))
            write_inputs(path, grouped, level, incar, kpoints, self.inputs.potentials)
        code = CodeInfo()
        code.code_uuid = self.inputs.code.uuid
        code.stdout_name, code.join_files = STDOUT, True
        calcinfo = CalcInfo()
        calcinfo.codes_info = [code]
        runs = ' '.join(f'{numbers[name]}:{numbers.get(before.get(name, ""), "")}' for name in structures)
        calcinfo.prepend_text, calcinfo.append_text = BEFORE.format(runs=runs), AFTER
        calcinfo.provenance_exclude_list = [f'{number}/POTCAR' for number in numbers.values()]
        calcinfo.retrieve_list = [RECORD, *((f'*/{name}', '.', 2) for name in ('vasprun.xml', STDOUT))]
        calcinfo.skip_submit = not structures
        return calcinfo


def computable(structures: Any, settings: VaspSettings) -> dict[str, orm.StructureData]:
    """Return the structures that VASP should compute, in the order of their folders: along each trajectory."""
    chosen = {name: node for name, node in structures.items() if problem_of(node, settings) is None}
    return dict(sorted(chosen.items(), key=lambda item: (*_place(item[1]), item[0])))


def neighbours(structures: dict[str, orm.StructureData]) -> dict[str, str]:
    """Return for each structure the one before it of the same trajectory and with the same atoms, if there is one."""
    before: dict[str, str] = {}
    names = list(structures)
    for earlier, name in pairwise(names):
        one, other = structures[earlier], structures[name]
        same = _place(one)[0] == _place(other)[0] != '' and one.get_formula('count') == other.get_formula('count')
        if same:
            before[name] = earlier
    return before


def _place(structure: orm.StructureData) -> tuple[str, int]:
    """Return the UUID of the trajectory that a frame is from, and its place there."""
    origin = structure.base.attributes.get('origin', {})
    return (origin.get('parent_uuid', ''), int(origin.get('index') or 0)) if 'walker' in origin else ('', 0)
