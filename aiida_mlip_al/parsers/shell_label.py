"""Parser of ShellLabelCalculation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser

from aiida_mlip_al.calculations.shell_input import make_input
from aiida_mlip_al.config.shell import ShellSettings
from aiida_mlip_al.data import LabelData
from aiida_mlip_al.data.labelling import (
    Rejection,
    Theory,
    content_hashes,
    fingerprint,
    label_outputs,
    label_structure,
)

from .shell_output import JobOutput, read_labels


class ShellLabelParser(Parser):
    """Labels, the shard, and the report; a killed job gives what it had finished."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved files; a program may fail with exit status 0, and print to stderr without failing."""
        inputs = self.node.inputs
        settings = ShellSettings(**inputs.settings.get_dict())
        template = inputs.template.get_content() if 'template' in inputs else None
        structures: dict[str, orm.StructureData] = dict(sorted(inputs.structures.items()))
        atoms = {name: node.get_ase() for name, node in structures.items()}
        rejected = make_input(atoms, settings, template)[1]
        given = {name: atoms[name] for name in structures if name not in rejected}
        job = JobOutput(*(self.read_file(name) for name in (settings.output.filename, 'stdout', 'stderr', 'status')))
        theory = self.theory(settings, template)

        labels: dict[str, LabelData] = {}
        single = template is not None or settings.input.format is not None
        for name, result in (read_labels(job, given, settings, single) if given else {}).items():
            if isinstance(result, Rejection):
                rejected[name] = result
            else:
                labels[name] = label_structure(structures[name], *result, theory, settings.periodic)

        core_s = round(job.wall_s * self.cores, 3)
        outputs = label_outputs(len(structures), labels, dict(sorted(rejected.items())), theory, job.wall_s, core_s)
        outputs['report']['exit_status'] = job.exit_status
        for label, output in outputs.items():
            self.out(label, output)
        report = outputs['report'].get_dict()
        if report['n_unfinished']:
            return self.failure(job)
        if not labels:
            described = ', '.join(f'{count} {reason}' for reason, count in sorted(report['reasons'].items()))
            return self.exit_codes.ERROR_ALL_REJECTED.format(reasons=described)
        return None

    def theory(self, settings: ShellSettings, template: str | None) -> Theory:
        """Return name and fingerprint of this job's level of theory."""
        inputs = self.node.inputs
        arguments = inputs.arguments.get_list() if 'arguments' in inputs else []
        files = dict(inputs.nodes.items()) if 'nodes' in inputs else {}
        before = self.node.get_option('prepend_text') or ''
        return theory_of(settings, inputs.code, arguments, files, template, before)

    def read_file(self, name: str) -> bytes | None:
        """Return a retrieved file, or None if it is not there."""
        repository = self.retrieved.base.repository
        return repository.get_object_content(name, mode='rb') if name in repository.list_object_names() else None

    @property
    def cores(self) -> int:
        """How many cores the job held."""
        given = self.node.get_option('resources')
        on_each = given.get('num_mpiprocs_per_machine') or self.node.computer.get_default_mpiprocs_per_machine() or 1
        processes = given.get('tot_num_mpiprocs') or given.get('num_machines', 1) * on_each
        return int(processes * (given.get('num_cores_per_mpiproc') or 1))

    def failure(self, job: JobOutput) -> ExitCode:
        """Return why structures were not reached; the scheduler's own verdict stands where there is one."""
        if not job.started:
            return self.exit_codes.ERROR_NOT_STARTED.format(message=job.failure())
        if job.exit_status is not None:
            return self.exit_codes.ERROR_PROGRAM_FAILED.format(message=job.failure())
        if self.node.exit_status:
            return ExitCode(self.node.exit_status, self.node.exit_message, invalidates_cache=True)
        return self.exit_codes.ERROR_INTERRUPTED


def theory_of(
    settings: ShellSettings,
    code: orm.AbstractCode,
    arguments: Sequence[str],
    files: Mapping[str, orm.SinglefileData],
    template: str | None = None,
    prepend_text: str = '',
) -> Theory:
    """Return the level of theory's name for people and its fingerprint.

    The fingerprint is of the program (its path, its content or image if it has one, and the commands before it, such as the
    modules that are loaded; only its name if the settings give a ``version``), the arguments, the input's format and template,
    the content of every file, and which numbers are read from the output.

    :param files: what the program reads besides its input.
    :param prepend_text: commands before the program that the job's options give.
    """
    executable = PurePath(str(code.get_executable()))
    program = {
        'executable': str(executable),
        'content': code.base.repository.hash(),
        'image': code.base.attributes.get('image_name', None),
        'before': [code.prepend_text, prepend_text],
    }
    if settings.version is not None:
        program = {'executable': executable.name, 'version': settings.version}
    fixed = {
        'program': program,
        'arguments': list(arguments),
        'input': [settings.input.format, settings.input.arguments, template],
        'files': content_hashes(files),
        'output': [settings.output.format, settings.keys],
    }
    return Theory(settings.theory or ' '.join([executable.name, *arguments]), fingerprint(fixed))
