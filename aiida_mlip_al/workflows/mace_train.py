"""MaceTrainBaseWorkChain: one MACE training, restarted where that can cure it."""

from __future__ import annotations

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import BaseRestartWorkChain, ProcessHandlerReport, process_handler, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.base import INTERRUPTED, with_memory
from aiida_mlip_al.calculations.functions import halve_batches, soften_training
from aiida_mlip_al.calculations.mace_train import MaceTrainCalculation

from .submit_once import SubmitOnce

ERRORS = MaceTrainCalculation.exit_codes


class MaceTrainBaseWorkChain(SubmitOnce, BaseRestartWorkChain):
    """Train one model: continue after a time limit, train more gently after a NaN, in smaller batches without memory."""

    _process_class = MaceTrainCalculation

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.expose_inputs(MaceTrainCalculation, namespace='train', namespace_options={'help': 'The training.'})
        spec.expose_outputs(MaceTrainCalculation)
        spec.inputs['max_iterations'].default = lambda: orm.Int(3)
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            cls.results,
        )
        spec.exit_code(
            321, 'ERROR_UNCURABLE', message='The training failed in a way that running it again does not cure.'
        )

    def setup(self) -> None:
        """Take the inputs of the first training."""
        super().setup()
        self.ctx.inputs = AttributeDict(self.exposed_inputs(MaceTrainCalculation, 'train'))

    def report_handled(self, calculation: orm.CalcJobNode, action: str) -> None:
        """Say what failed and what is done about it."""
        self.report(f'<{calculation.pk}> failed with {calculation.exit_status}: {calculation.exit_message} {action}.')

    @process_handler(
        priority=400,
        exit_codes=[
            ERRORS.ERROR_MISSING_ELEMENT,
            ERRORS.ERROR_BAD_KEYS,
            ERRORS.ERROR_BAD_ARGUMENTS,
        ],
    )
    def handle_uncurable(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport:
        """Stop at once: the same job would fail the same way."""
        self.report_handled(calculation, 'Running it again does not cure this')
        return ProcessHandlerReport(True, self.exit_codes.ERROR_UNCURABLE)

    @process_handler(priority=350, exit_codes=[ERRORS.ERROR_OUT_OF_MEMORY, ERRORS.ERROR_SCHEDULER_OUT_OF_MEMORY])
    def handle_out_of_memory(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport:
        """Train once more from the start, with batches of half the size and, on the host, twice the memory."""
        if self.ctx.get('smaller'):
            self.report_handled(calculation, 'Smaller batches did not cure this')
            return ProcessHandlerReport(True, self.exit_codes.ERROR_UNCURABLE)
        self.ctx.smaller = True
        self.ctx.inputs.parameters = halve_batches(self.ctx.inputs.parameters)
        self.ctx.inputs.metadata.options = with_memory(self.ctx.inputs.metadata.get('options', {}), 2)
        self.ctx.inputs.pop('parent_folder', None)
        self.report_handled(calculation, f'Training again with batches of {self.ctx.inputs.parameters["batch_size"]}')
        return ProcessHandlerReport(True)

    @process_handler(priority=300, exit_codes=[ERRORS.ERROR_NONFINITE_LOSS, ERRORS.ERROR_NONFINITE_MODEL])
    def handle_nonfinite(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport:
        """Train again from the start with half the learning rate and another seed."""
        gentler = soften_training(self.ctx.inputs.parameters, self.ctx.inputs.seed)
        self.ctx.inputs.parameters = gentler['parameters']
        self.ctx.inputs.seed = gentler['seed']
        self.ctx.inputs.pop('parent_folder', None)
        self.report_handled(
            calculation, f'Training again with lr {self.ctx.inputs.parameters["lr"]} and seed {gentler["seed"].value}'
        )
        return ProcessHandlerReport(True)

    @process_handler(priority=200)
    def handle_interrupted(self, calculation: orm.CalcJobNode) -> ProcessHandlerReport | None:
        """Continue from the last checkpoint, if the interrupted job wrote one."""
        if calculation.exit_status not in INTERRUPTED:
            return None
        has_checkpoint = 'metrics' in calculation.outputs and 'remote_folder' in calculation.outputs
        if has_checkpoint:
            self.ctx.inputs.parent_folder = calculation.outputs.remote_folder
        self.report_handled(calculation, 'Continuing from its checkpoint' if has_checkpoint else 'Starting again')
        return ProcessHandlerReport(True)
