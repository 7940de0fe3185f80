"""The stand-in as a code of VASP, its faults and its log, for the tests of labels and dynamics by VASP."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiida import orm

from aiida_mlip_al.config.vasp import VaspLabels
from aiida_mlip_al.workflows.vasp_theory import vasp_inputs, vasp_level

STANDIN = Path(__file__).parents[1] / 'fakes' / 'vasp_standin' / 'vasp_std'
INCAR = {'encut': 300, 'ediff': 1e-6, 'ismear': 1, 'sigma': 0.1, 'algo': 'normal'}


class StandIn:
    """A code that runs the stand-in, with a potential family, rules of what goes wrong, and the log of all calls."""

    def __init__(self, code: orm.InstalledCode, family: str, folder: Path) -> None:
        self.code, self.family, self.folder = code, family, folder

    @property
    def options(self) -> dict[str, Any]:
        """Scheduler options that tell the stand-in where its files are."""
        environment = {
            'OMP_NUM_THREADS': '1',
            'VASP_STANDIN_PYTHON': sys.executable,
            'VASP_STANDIN_LOG': str(self.folder / 'calls.jsonl'),
            'VASP_STANDIN_FAULTS': str(self.folder / 'faults.json'),
        }
        return {
            'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
            'max_wallclock_seconds': 600,
            'environment_variables': environment,
            'withmpi': False,
        }

    def faults(self, *rules: dict[str, Any]) -> None:
        """Say which calls go wrong."""
        (self.folder / 'faults.json').write_text(json.dumps(rules))

    def calls(self) -> list[dict[str, Any]]:
        """Return the log."""
        path = self.folder / 'calls.jsonl'
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def labels(self, elements: Sequence[str], **changes: Any) -> VaspLabels:
        """Return a section `vasp` of an input file."""
        values = {'code': self.code.full_label, 'incar': INCAR, 'kpoint_spacing': 0.5, 'potential_family': self.family}
        return VaspLabels(**{**values, **changes})

    def inputs(self, elements: Sequence[str], **changes: Any) -> dict[str, Any]:
        """Return the inputs of the label engine `vasp`."""
        labels = self.labels(elements, **changes)
        return {'code': self.code, 'options': self.options, **vasp_inputs(vasp_level(labels, elements), labels)}
