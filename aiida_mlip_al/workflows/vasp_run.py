"""VaspWorkChain: that of aiida-vasp, whose VASP is taken from the cache as the run says."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import Process
from aiida.plugins import WorkflowFactory

from aiida_mlip_al.calculations.caching import caching_of

BASE = WorkflowFactory('vasp.v2.vasp')


class VaspWorkChain(BASE):  # type: ignore[misc, valid-type]
    """Run VASP on one structure, and mend what goes wrong."""

    @classmethod
    def build_process_type(cls) -> str:
        """Return aiida-vasp's, so that queries for its work chain find this one, and its plugin alone can load the node."""
        return str(BASE.build_process_type())

    def submit(self, process: type[Process], inputs: dict[str, Any] | None = None, **kwargs: Any) -> orm.ProcessNode:
        """Submit VASP."""
        with caching_of(self.node):
            return super().submit(process, inputs, **kwargs)  # type: ignore[no-any-return]
