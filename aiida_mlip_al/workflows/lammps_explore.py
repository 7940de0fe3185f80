"""LammpsExploreWorkChain: one walker in LAMMPS, continued where an interruption left it."""

from __future__ import annotations

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, WorkChain, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.base import OUT_OF_MEMORY, with_memory
from aiida_mlip_al.calculations.lammps_explore import LammpsExploreCalculation
from aiida_mlip_al.calculations.lammps_functions import join_walker
from aiida_mlip_al.parsers.lammps_explore import INTERRUPTED, WALKER

from .submit_once import SubmitOnce

IN_VAIN = 2


class LammpsExploreWorkChain(SubmitOnce, WorkChain):
    """A walker may be interrupted by time limits, nodes and users; it goes on from its last restart file."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.expose_inputs(LammpsExploreCalculation, namespace='lammps', namespace_options={'help': 'The walker.'})
        spec.input(
            'max_restarts',
            valid_type=int,
            non_db=True,
            default=10,
            help='How often an interrupted walker is continued.',
        )
        spec.outline(
            cls.setup,
            while_(cls.should_run)(cls.run_part, cls.inspect_part),
            if_(cls.was_interrupted)(cls.join),
            cls.results,
        )
        spec.expose_outputs(LammpsExploreCalculation, exclude=('remote_folder', 'retrieved', 'restart'))
        spec.outputs['report'].required = False
        spec.exit_code(401, 'ERROR_NO_FRAMES', message='The walker left no frame: {message}')

    def setup(self) -> None:
        """Begin at the start."""
        self.ctx.parts = []
        self.ctx.restart = None
        self.ctx.in_vain = 0
        self.ctx.memory = 1
        self.ctx.goes_on = True

    def should_run(self) -> bool:
        """Go on until the walker has ended, or continuing it is in vain."""
        return bool(self.ctx.goes_on)

    def run_part(self) -> None:
        """Begin the walker, or continue it from the last restart file."""
        inputs = AttributeDict(self.exposed_inputs(LammpsExploreCalculation, 'lammps'))
        if self.ctx.restart is not None:
            inputs.files = {**inputs.files, 'restart': self.ctx.restart}
        inputs.metadata.options = with_memory(inputs.metadata.get('options', {}), self.ctx.memory)
        label = f'part_{len(self.ctx.parts):02d}'
        inputs.metadata.call_link_label = label
        node = self.submit(LammpsExploreCalculation, **inputs)
        self.report(f'{label} <{node.pk}>')
        self.to_context(**{label: node})
        self.ctx.parts.append(label)

    def inspect_part(self) -> None:
        """Continue an interrupted walker."""
        node = self.ctx[self.ctx.parts[-1]]
        interrupted = 'report' not in node.outputs or bool(set(node.outputs.report['ends']) & set(INTERRUPTED))
        if not interrupted:
            self.ctx.goes_on = False
            return
        if node.exit_status == OUT_OF_MEMORY:
            self.ctx.memory = 2
        before = step_of(self.ctx.restart)
        if 'restart' in node.outputs:
            self.ctx.restart = node.outputs.restart
        self.ctx.in_vain = 0 if step_of(self.ctx.restart) > before else self.ctx.in_vain + 1
        self.ctx.goes_on = self.ctx.in_vain < IN_VAIN and len(self.ctx.parts) <= self.inputs.max_restarts
        where = 'its start' if self.ctx.restart is None else f'step {step_of(self.ctx.restart)}'
        action = f'Continuing from {where}.' if self.ctx.goes_on else 'It is not continued again.'
        self.report(f'<{node.pk}> was interrupted: {node.exit_message or node.process_state}. {action}')

    def was_interrupted(self) -> bool:
        """Join what several parts left."""
        return len(self.ctx.parts) > 1

    def join(self) -> None:
        """Make one walker of the parts."""
        joined: dict[str, dict[str, orm.Data]] = {}
        for label in self.ctx.parts:
            node = self.ctx[label]
            if 'report' not in node.outputs:
                continue
            joined.setdefault('reports', {})[label] = node.outputs.report
            for kind in ('trajectories', 'deviations'):
                if kind in node.outputs:
                    joined.setdefault(kind, {})[label] = node.outputs[kind][WALKER]
            if 'thermo' in node.outputs:
                joined.setdefault('thermo', {})[label] = node.outputs.thermo
            if 'restart' in node.inputs.files:
                joined.setdefault('restarts', {})[label] = node.inputs.files.restart
        self.ctx.joined = join_walker(**joined) if joined else {}

    def results(self) -> ExitCode | None:
        """Attach the walker."""
        if self.was_interrupted():
            outputs = self.ctx.joined
            for kind, name in (('trajectories', 'trajectory'), ('deviations', 'deviation')):
                if name in outputs:
                    self.out(f'{kind}.{WALKER}', outputs[name])
            for name in ('thermo', 'report'):
                if name in outputs:
                    self.out(name, outputs[name])
        else:
            node = self.ctx[self.ctx.parts[0]]
            self.out_many(self.exposed_outputs(node, LammpsExploreCalculation))
        if 'trajectories' not in self.outputs:
            last = self.ctx[self.ctx.parts[-1]]
            return self.exit_codes.ERROR_NO_FRAMES.format(message=last.exit_message or str(last.process_state))
        return None


def step_of(restart: orm.SinglefileData | None) -> int:
    """Return the step of a restart file; that of the start without one."""
    return 0 if restart is None else int(restart.base.attributes.get('step'))
