"""Parser of VaspBatchCalculation."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode
from aiida.parsers import Parser

from aiida_mlip_al.calculations.vasp_batch import RECORD, computable
from aiida_mlip_al.calculations.vasp_functions import read_runs
from aiida_mlip_al.config.vasp import VaspSettings
from aiida_mlip_al.data.labelling import label_outputs
from aiida_mlip_al.data.vasp_result import FAILURES, VaspRun
from aiida_mlip_al.data.vasprun import read_vasprun


class VaspBatchParser(Parser):
    """Labels, the shard, and the report; a killed job gives what it had finished."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Read the vasprun.xml of every structure whose run came to an end, good or bad."""
        inputs = self.node.inputs
        structures = dict(inputs.structures.items())
        settings = VaspSettings(**inputs.settings.get_dict())
        folders = {name: f'{number:03d}' for number, name in enumerate(computable(structures, settings))}
        times = self.read_times()
        runs = {}
        for name, folder in folders.items():
            content = self.read(f'{folder}/vasprun.xml') if folder in times else None
            if content:
                runs[name] = VaspRun.from_vasprun(read_vasprun(content))
        labels, rejected, theory = read_runs(structures, runs, {}, inputs.theory.get_dict(), settings)
        unreached = {name for name, folder in folders.items() if folder not in times}
        failed = {
            name: item.reason for name, item in rejected.items() if item.reason in FAILURES and name not in unreached
        }
        final = {name: item for name, item in rejected.items() if name not in failed and name not in unreached}
        wall_s = sum(times.values())
        outputs = label_outputs(len(structures), labels, final, theory, wall_s, wall_s * self.cores)
        outputs['report']['failed'] = failed
        for name, output in outputs.items():
            self.out(name, output)
        return self.exit_codes.ERROR_INTERRUPTED if unreached else None

    def read(self, name: str) -> bytes | None:
        """Return a retrieved file, or None."""
        try:
            return self.retrieved.base.repository.get_object_content(name, mode='rb')
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_times(self) -> dict[str, float]:
        """Return the wall time of every run that came to an end, s, by its folder."""
        times = {}
        for line in (self.read(RECORD) or b'').decode().splitlines():
            words = line.split()
            if len(words) == 4:
                times[words[0]] = float(words[3]) - float(words[2])
        return times

    @property
    def cores(self) -> int:
        """How many processes the job had."""
        resources = self.node.get_option('resources') or {}
        total = resources.get('tot_num_mpiprocs')
        return int(total or resources.get('num_machines', 1) * (resources.get('num_mpiprocs_per_machine') or 1))
