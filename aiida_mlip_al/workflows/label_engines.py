"""The engines that label: what LabelWorkChain needs to know of each, and nothing more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiida import orm
from aiida.common import AttributeDict
from aiida.common.links import LinkType
from aiida.engine import CalcJob, Process
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.label import LabelCalculation
from aiida_mlip_al.calculations.shell_label import ShellLabelCalculation

from .pool_label import PoolLabelWorkChain
from .vasp_label import VaspLabelWorkChain

REASONS = {
    CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY.status: 'out_of_memory',
    CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME.status: 'time_limit',
    CalcJob.exit_codes.ERROR_SCHEDULER_NODE_FAILURE.status: 'node_failure',
}


@dataclass
class LabelOutcome:
    """What a finished process gave: labels and rejections by structure name, and the structures that it never got to.

    ``collected`` has its shard and its report, if it made them; ``reason`` says in a word why it left structures, ``curable``
    whether sending those again can help, ``why`` in a sentence why the first structure got no label.
    """

    labels: dict[str, orm.Data] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    message: str = ''
    reason: str = 'not_reached'
    curable: bool = True
    collected: dict[str, orm.Data] = field(default_factory=dict)
    why: str = ''


class LabelEngine(ABC):
    """One way to label. The input namespace that is given names the engine."""

    name: ClassVar[str]
    process: ClassVar[type[Process]]
    sequential: ClassVar[bool] = True
    """Whether a process labels one structure after another, so that the first one that it left is where it ended."""

    @classmethod
    @abstractmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Add the engine's input namespace to a work chain."""

    @classmethod
    @abstractmethod
    def batches(cls, names: Sequence[str], batch_size: int) -> list[list[str]]:
        """Divide the structures into what one process labels."""

    @classmethod
    @abstractmethod
    def inputs(cls, exposed: AttributeDict, structures: Mapping[str, orm.StructureData]) -> AttributeDict:
        """Return the inputs of one process."""

    @classmethod
    @abstractmethod
    def outcome(cls, node: orm.ProcessNode, names: Sequence[str]) -> LabelOutcome:
        """Read a finished process."""


class BatchLabelEngine(LabelEngine):
    """A process that takes a namespace of structures and gives ``labels``, ``dataset`` and ``report``."""

    help: ClassVar[str]
    hopeless: ClassVar[str | None] = None
    """Label of the exit code of a job that could not even begin, so that another one is in vain."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Expose the batch job."""
        spec.expose_inputs(
            cls.process,
            namespace=cls.name,
            exclude=('structures',),
            namespace_options={'required': False, 'populate_defaults': False, 'help': cls.help},
        )

    @classmethod
    def batches(cls, names: Sequence[str], batch_size: int) -> list[list[str]]:
        """Cut the structures into equal batches of at most ``batch_size``."""
        n_batches = -(-len(names) // batch_size)
        return [list(names[index::n_batches]) for index in range(n_batches)]

    @classmethod
    def inputs(cls, exposed: AttributeDict, structures: Mapping[str, orm.StructureData]) -> AttributeDict:
        """Add the structures."""
        exposed.structures = dict(structures)
        return exposed

    @classmethod
    def outcome(cls, node: orm.ProcessNode, names: Sequence[str]) -> LabelOutcome:
        """Read labels and rejections; what is neither was not reached, unless the job could not even begin."""
        reason = REASONS.get(node.exit_status, 'not_reached')
        curable = cls.hopeless is None or node.exit_status != cls.process.exit_codes[cls.hopeless].status
        outputs = node.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN)).nested()
        if 'report' not in outputs:
            message = node.exit_message or str(node.process_state)
            return LabelOutcome(unfinished=list(names), message=message, reason=reason, curable=curable, why=message)
        labels, message = dict(outputs.get('labels', {})), node.exit_message or ''
        rejections = outputs['report']['rejected']
        rejected = {item['structure']: item['reason'] for item in rejections}
        why = rejections[0]['message'] if rejections else message
        unfinished = [name for name in names if name not in labels and name not in rejected]
        collected = {name: outputs[name] for name in ('dataset', 'report') if name in outputs}
        return LabelOutcome(labels, rejected, unfinished, message, reason, curable, collected, why)


class AseLabelEngine(BatchLabelEngine):
    """Any ASE calculator."""

    name = 'ase'
    process = LabelCalculation
    help = 'Label with an ASE calculator.'
    hopeless = 'ERROR_RUNNER_FAILED'


class ShellLabelEngine(BatchLabelEngine):
    """Any executable."""

    name = 'shell'
    process = ShellLabelCalculation
    help = 'Label with any executable, through aiida-shell.'
    hopeless = 'ERROR_NOT_STARTED'


class VaspLabelEngine(BatchLabelEngine):
    """VASP."""

    name = 'vasp'
    process = VaspLabelWorkChain
    sequential = False
    help = 'Label with VASP, through aiida-vasp.'


class PoolLabelEngine(BatchLabelEngine):
    """Labels that exist."""

    name = 'pool'
    process = PoolLabelWorkChain
    sequential = False
    help = 'Labels that data sets have: of frames that an exploration chose from them.'

    @classmethod
    def batches(cls, names: Sequence[str], batch_size: int) -> list[list[str]]:
        """Look all up at once: each time the data sets are read as a whole."""
        return [list(names)] if names else []


LABEL_ENGINES: dict[str, type[LabelEngine]] = {
    engine.name: engine for engine in (AseLabelEngine, ShellLabelEngine, VaspLabelEngine, PoolLabelEngine)
}


def engine_given(inputs: Mapping[str, Any], engines: Mapping[str, Any], stage: str) -> str | None:
    """Return a sentence if not exactly one engine's namespace is given."""
    given = [name for name in engines if inputs.get(name)]
    if len(given) != 1:
        return f'Give one engine to {stage} with ({", ".join(engines)}); {len(given)} are given.'
    return None
