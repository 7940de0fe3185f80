"""EvaluateBaseWorkChain: a committee on labelled datasets, evaluated again where that can cure it."""

from __future__ import annotations

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import BaseRestartWorkChain, ProcessHandlerReport, process_handler, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.base import INTERRUPTED, with_memory
from aiida_mlip_al.calculations.evaluate import EvaluateCalculation
from aiida_mlip_al.calculations.functions import halve_batch_size

from .submit_once import SubmitOnce

MAX_RESTARTS = 2


class EvaluateBaseWorkChain(SubmitOnce, BaseRestartWorkChain):
    """Evaluate: again after a time limit, a lost node or a cancellation, in smaller batches without memory."""

    _process_class = EvaluateCalculation

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.expose_inputs(EvaluateCalculation, namespace='evaluate', namespace_options={'help': 'The evaluation.'})
        spec.expose_outputs(EvaluateCalculation, exclude=('remote_folder', 'retrieved'))
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
        )
        spec.exit_code(321, 'ERROR_UNCURABLE', message='The committee could not be evaluated: {message}')

    def setup(self) -> None:
        """Take the inputs of the first evaluation."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(EvaluateCalculation, 'evaluate'))

    @process_handler(priority=300, exit_codes=[EvaluateCalculation.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY])
    def handle_out_of_memory(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Evaluate once more, in batches of half the size and with twice the memory."""
        if self.ctx.get('smaller'):
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
        """Stop with the reason: what is left would fail the same way again."""
        if calculation.is_finished_ok:
            return None
        message = f'<{calculation.pk}> {calculation.exit_message}'
        return ProcessHandlerReport(exit_code=self.exit_codes.ERROR_UNCURABLE.format(message=message))
