"""CheckCalculation: what a code's Python has."""

from __future__ import annotations

from typing import Any

from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from .base import RunnerCalculation


class CheckCalculation(RunnerCalculation):
    """A job of a second that answers with versions and the GPU that it sees."""

    RUNNER = 'check'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.inputs['metadata']['disable_cache'].default = True

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Return nothing: there is nothing to copy."""
        return []

    def job_settings(self) -> dict[str, Any]:
        """Return the packages to look for."""
        return {'packages': {'ase': 'ase', 'torch': 'torch', 'mace': 'mace-torch'}}

    def retrieved_files(self) -> list[Any]:
        """Return the answer."""
        return ['check.json']
