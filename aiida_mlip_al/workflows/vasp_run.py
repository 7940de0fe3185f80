"""VaspWorkChain: that of aiida-vasp, whose VASP is taken from the cache as the run says."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import Process
from aiida.plugins import WorkflowFactory

from aiida_mlip_al.calculations.caching import caching_of


class VaspWorkChain(WorkflowFactory('vasp.v2.vasp')):  # type: ignore[misc]
    """Run VASP on one structure, and mend what goes wrong."""

    def submit(self, process: type[Process], inputs: dict[str, Any] | None = None, **kwargs: Any) -> orm.ProcessNode:
        """Submit VASP."""
        with caching_of(self.node):
            return super().submit(process, inputs, **kwargs)  # type: ignore[no-any-return]
