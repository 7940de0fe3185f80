"""RunnerCalculation: a job that runs one of the package's runners with the plain Python of its code."""

from __future__ import annotations

import json
import zlib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from aiida import orm
from aiida.common import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec

# Exit codes of a job that a time limit, a lost node or somebody ended, which may not come again: ERROR_INTERRUPTED of ours, and
# AiiDA's ERROR_SCHEDULER_OUT_OF_WALLTIME and ERROR_SCHEDULER_NODE_FAILURE.
INTERRUPTED = frozenset({400, 120, 140})
OUT_OF_MEMORY = CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY.status
RUNNERS = Path(__file__).parents[1] / 'runners'


def runner_sources() -> dict[str, str]:
    """Return the text of every runner by file name."""
    return {path.name: path.read_text() for path in sorted(RUNNERS.glob('*.py'))}


def source_version(*folders: Path) -> int:
    """Return a number that changes whenever a program does, so that the cache never returns an older one's result.

    :param folders: with the program's sources; the runners are always counted.
    """
    sources = runner_sources()
    sources.update(
        {
            str(path.relative_to(folder.parent)): path.read_text()
            for folder in folders
            for path in sorted(folder.glob('*.py'))
        }
    )
    return zlib.crc32(json.dumps(sources, sort_keys=True).encode())


def define_exit_codes(spec: CalcJobProcessSpec) -> None:
    """Add what can become of any job of ours."""
    spec.exit_code(300, 'ERROR_NO_RESULTS', message='The job left no results: {message}', invalidates_cache=True)
    spec.exit_code(310, 'ERROR_RUNNER_FAILED', message='The runner stopped: {message}', invalidates_cache=True)
    spec.exit_code(
        400,
        'ERROR_INTERRUPTED',
        message='The job was stopped before its end (time limit, node or user); what it had finished is kept.',
        invalidates_cache=True,
    )


class RunnerCalculation(CalcJob):
    """Run ``python runners/NAME.py NAME.json`` in the job's folder.

    The runners are copied into the job, so the cluster's Python needs ASE, and MACE or a calculator, and never this plugin;
    and the program that made a result is stored with it.
    """

    RUNNER: ClassVar[str]
    CACHE_VERSION = source_version()

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        options = spec.inputs['metadata']['options']
        options['parser_name'].default = f'mlip_al.{cls.RUNNER}'
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['withmpi'].default = False
        options['environment_variables'].default = lambda: {'OMP_NUM_THREADS': '1'}
        spec.inputs['code'].help = 'A Python that has what the job needs: ASE, and mace-torch or the calculator.'
        define_exit_codes(spec)

    @abstractmethod
    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Write this job's small files into ``folder`` and return the large ones as (node uuid, file in it, name in the job)."""

    @abstractmethod
    def job_settings(self) -> dict[str, Any]:
        """Return what the runner reads from its JSON file."""

    @abstractmethod
    def retrieved_files(self) -> list[Any]:
        """Return the retrieve list."""

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Lay out the job's folder."""
        runners = folder.get_subfolder('runners', create=True)
        for name, text in runner_sources().items():
            with runners.open(name, 'w') as handle:
                handle.write(text)
        large_files = self.job_files(folder)
        with folder.open(f'{self.RUNNER}.json', 'w') as handle:
            json.dump(self.job_settings(), handle, indent=2)

        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [f'runners/{self.RUNNER}.py', f'{self.RUNNER}.json']
        codeinfo.stdout_name = f'{self.RUNNER}.out'
        codeinfo.join_files = True

        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        calcinfo.local_copy_list = large_files
        calcinfo.provenance_exclude_list = [f'runners/{name}' for name in ('__pycache__',)]
        calcinfo.retrieve_list = [f'{self.RUNNER}.out', f'{self.RUNNER}.status.json', *self.retrieved_files()]
        return calcinfo


def with_memory(options: Mapping[str, Any], times: int) -> dict[str, Any]:
    """Return a job's options with so many times the memory, where they ask for any."""
    if 'max_memory_kb' not in options:
        return dict(options)
    return {**options, 'max_memory_kb': times * options['max_memory_kb']}


def device_of(code: orm.AbstractCode) -> str:
    """Return the torch device of a code: its extra ``device``, as `aiida-mlip-al setup codes` sets it, or ``cpu``."""
    return code.base.extras.get('device', 'cpu')


def copy_models(models: dict[str, orm.SinglefileData]) -> list[tuple[str, str, str]]:
    """Return the copy list that puts a committee into the job as ``model_00.model`` and so on, in the order of the names."""
    return [
        (models[name].uuid, models[name].filename, f'model_{index:02d}.model')
        for index, name in enumerate(sorted(models))
    ]


def model_files(models: dict[str, orm.SinglefileData]) -> list[str]:
    """Return the committee's file names in the job."""
    return [target for _, _, target in copy_models(models)]


def validate_committee(models: Any, _: Any = None) -> str | None:
    """Refuse a committee whose members do not know the same elements."""
    elements = {tuple(model.elements) for model in models.values()}
    if len(elements) > 1:
        return f'The models of a committee must know the same elements, but these know {sorted(map(list, elements))}.'
    return None
