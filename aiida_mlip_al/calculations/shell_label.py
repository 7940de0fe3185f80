"""ShellLabelCalculation: structures labelled by any executable, through aiida-shell."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida_shell import ShellJob
from pydantic import ValidationError

from aiida_mlip_al.config.errors import sentence
from aiida_mlip_al.config.shell import RESERVED_NAMES, ShellSettings
from aiida_mlip_al.data import DatasetData, LabelData

from .shell_input import make_input

INTERRUPTED = 'The job was stopped before its end (time limit, node or user); what it had finished is kept.'


def validate_settings(node: orm.Dict, _: Any = None) -> str | None:
    """Refuse unknown or wrong settings."""
    try:
        ShellSettings(**node.get_dict())
    except ValidationError as error:
        return sentence(ShellSettings, error)
    return None


def validate_inputs(inputs: Any, context: Any) -> str | None:
    """Refuse two files of one name in the job, and what would hide the program's exit status."""
    settings = ShellSettings(**(inputs['settings'].get_dict() if 'settings' in inputs else {}))
    taken = {settings.input.filename, settings.output.filename, *RESERVED_NAMES}
    for node in inputs.get('nodes', {}).values():
        if node.filename in taken:
            return f'The file name `{node.filename}` is taken in the job: rename that file.'
        taken.add(node.filename)
    if inputs.get('metadata', {}).get('options', {}).get('append_text'):
        return 'Put the `append_text` on the code: here it would hide the exit status of the program.'
    return CalcJob.spec().inputs.validator(inputs, context)


class ShellLabelCalculation(ShellJob):
    """A ShellJob whose input file is made of structures and whose outputs are labels, the same as LabelCalculation's."""

    CACHE_VERSION = 1

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        for name in ('filenames', 'outputs', 'parser'):
            del spec.inputs[name]
        spec.inputs['code'].help = 'The program.'
        spec.inputs['arguments'].help = 'Its arguments; `{key}` is the name of that file of `nodes`.'
        spec.inputs['nodes'].help = 'Files that it reads; put in the job under their own names.'
        spec.inputs['nodes'].valid_type = orm.SinglefileData
        spec.input_namespace(
            'structures',
            valid_type=orm.StructureData,
            dynamic=True,
            help='The structures; their labels get the same names. One, if the input is of one structure.',
        )
        spec.input(
            'settings',
            valid_type=orm.Dict,
            validator=validate_settings,
            default=lambda: orm.Dict({}),
            help='`input`, `stdin`, `output`, `keys`, `unconverged`, `max_force` (eV/Å), `min_distance_fraction`, `periodic`, '
            '`theory` and `version`, as in an input file.',
        )
        spec.input(
            'template',
            valid_type=orm.SinglefileData,
            required=False,
            help='Input of one structure with Jinja placeholders.',
        )
        spec.inputs.validator = validate_inputs
        options = spec.inputs['metadata']['options']
        options['parser_name'].default = 'mlip_al.shell_label'
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['environment_variables'].default = lambda: {'OMP_NUM_THREADS': '1'}
        spec.outputs.dynamic = False
        spec.output_namespace(
            'labels', valid_type=LabelData, dynamic=True, help='The label of each accepted structure.'
        )
        spec.output(
            'dataset', valid_type=DatasetData, required=False, help='The accepted structures with their labels.'
        )
        spec.output('report', valid_type=orm.Dict, help='Counts, rejections with their reasons, wall and core time.')
        # Those of aiida-shell's parser, which is not the one that reads this job.
        for label in set(ShellJob.spec().exit_codes) - set(CalcJob.spec().exit_codes):
            del spec.exit_codes[label]
        for status, label, message in (
            (310, 'ERROR_NOT_STARTED', 'The program cannot be started: {message}'),
            (320, 'ERROR_ALL_REJECTED', 'No structure of the batch got a label: {reasons}'),
            (400, 'ERROR_INTERRUPTED', INTERRUPTED),
            (401, 'ERROR_PROGRAM_FAILED', 'Not all structures were reached: {message}'),
        ):
            spec.exit_code(status, label, message, invalidates_cache=True)

    def _build_process_label(self) -> str:
        return type(self).__name__

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Let aiida-shell lay out the job, and add the structures; without any that is worth computing nothing is run."""
        settings = ShellSettings(**self.inputs.settings.get_dict())
        template = self.inputs.template.get_content() if 'template' in self.inputs else None
        calcinfo = super().prepare_for_submission(folder)
        structures = {name: node.get_ase() for name, node in self.inputs.structures.items()}
        content, _ = make_input(structures, settings, template)
        if content is None:
            calcinfo.skip_submit = True
        else:
            with folder.open(settings.input.filename, 'wb') as handle:
                handle.write(content)
        if settings.stdin:
            calcinfo.codes_info[0].stdin_name = settings.input.filename
        calcinfo.prepend_text = '_began=$(date +%s.%N)'
        calcinfo.append_text = f'echo "$? $_began $(date +%s.%N)" > {self.FILENAME_STATUS}'
        calcinfo.retrieve_list = list(dict.fromkeys([*calcinfo.retrieve_temporary_list, settings.output.filename]))
        calcinfo.retrieve_temporary_list = []
        return calcinfo
