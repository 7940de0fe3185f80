"""A committee on frames, evaluated again where that can cure it."""

from __future__ import annotations

from typing import ClassVar

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import BaseRestartWorkChain, CalcJob, ProcessHandlerReport, process_handler, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.base import INTERRUPTED, OUT_OF_MEMORY, with_memory
from aiida_mlip_al.calculations.deviate import DeviateCalculation
from aiida_mlip_al.calculations.evaluate import EvaluateCalculation
from aiida_mlip_al.calculations.functions import halve_batch_size

from .parts import fullest
from .submit_once import SubmitOnce

MAX_RESTARTS = 2


class EvaluationRestarts(SubmitOnce, BaseRestartWorkChain):
    """Evaluate: again after a time limit, a lost node or a cancellation, in smaller batches without memory."""

    _process_class: type[CalcJob]
    namespace: ClassVar[str]

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.expose_inputs(cls._process_class, namespace=cls.namespace, namespace_options={'help': 'The evaluation.'})
        spec.expose_outputs(cls._process_class, exclude=('remote_folder', 'retrieved'))
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
        )
        spec.exit_code(321, 'ERROR_UNCURABLE', message='The committee could not be evaluated: {message}')

    def setup(self) -> None:
        """Take the inputs of the first evaluation."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(self._process_class, self.namespace))

    @process_handler(priority=300)
    def handle_out_of_memory(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Evaluate once more, in batches of half the size and with twice the memory."""
        if calculation.exit_status != OUT_OF_MEMORY or self.ctx.get('smaller'):
            return None
        self.ctx.smaller = True
        self.ctx.inputs.settings = halve_batch_size(self.ctx.inputs.settings)
        self.ctx.inputs.metadata.options = with_memory(self.ctx.inputs.metadata.get('options', {}), 2)
        batch_size = self.ctx.inputs.settings['batch_size']
        self.report(f'<{calculation.pk}> ran out of memory. Evaluating again in batches of {batch_size}.')
        return ProcessHandlerReport(do_break=True)

    @process_handler(priority=200)
    def handle_interrupted(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Evaluate again, a few times, what a time limit, a lost node or somebody ended."""
        if calculation.exit_status not in INTERRUPTED or self.ctx.iteration > MAX_RESTARTS:
            return None
        self.report(f'<{calculation.pk}> was interrupted: {calculation.exit_message} Evaluating again.')
        return ProcessHandlerReport(do_break=True)

    @process_handler(priority=100)
    def handle_uncurable(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Stop with the reason, for what is left would fail the same way again; keep what was evaluated."""
        if calculation.is_finished_ok:
            return None
        self.out_many(self.exposed_outputs(fullest(self.ctx.children), self._process_class))
        message = f'<{calculation.pk}> {calculation.exit_message}'
        return ProcessHandlerReport(exit_code=self.exit_codes.ERROR_UNCURABLE.format(message=message))


class EvaluateBaseWorkChain(EvaluationRestarts):
    """A committee on labelled datasets."""

    _process_class = EvaluateCalculation
    namespace = 'evaluate'


class DeviateBaseWorkChain(EvaluationRestarts):
    """A committee on the frames of trajectories; those of an evaluation that cannot be cured are kept."""

    _process_class = DeviateCalculation
    namespace = 'deviate'
