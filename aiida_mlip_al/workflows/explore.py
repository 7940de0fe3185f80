"""ExploreWorkChain: molecular dynamics with a committee."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.explore import ExploreCalculation
from aiida_mlip_al.calculations.functions import plan_dynamics
from aiida_mlip_al.data import DeviationData, ModelData
from aiida_mlip_al.sampling.walkers import validate_dynamics

from .label_engines import engine_given
from .pool import Pool

EXPLORE_ENGINES = {'ase': ExploreCalculation}


def validate_settings(node: orm.Dict, _: Any = None) -> str | None:
    """Refuse exploration settings that cannot be run."""
    return validate_dynamics(node.get_dict())


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse inputs without structures, without models or without exactly one engine."""
    if not inputs.get('structures'):
        return 'There is no structure to start from.'
    if not inputs.get('committee'):
        return 'There is no model to explore with.'
    return engine_given(inputs, EXPLORE_ENGINES, 'explore')


class ExploreWorkChain(Pool):
    """Walkers over temperatures and pressures; every frame comes with the committee's deviation."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input_namespace('structures', valid_type=orm.StructureData, dynamic=True, help='Where walkers start.')
        spec.input_namespace('committee', valid_type=ModelData, dynamic=True, help='The models; the first one drives.')
        spec.input(
            'settings', valid_type=orm.Dict, validator=validate_settings, help='Conditions, length, checks, limits.'
        )
        spec.input('seed', valid_type=orm.Int, help="The walkers' own seeds are drawn from it.")
        spec.input(
            'history', valid_type=orm.Dict, required=False, help='Of the loop: another iteration draws other seeds.'
        )
        spec.input('max_concurrent', valid_type=int, non_db=True, default=2, help='Jobs in flight at the same time.')
        spec.expose_inputs(
            ExploreCalculation,
            namespace='ase',
            include=('code', 'metadata'),
            namespace_options={'required': False, 'populate_defaults': False, 'help': 'Explore with ASE.'},
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.plan,
            while_(cls.should_run_jobs)(cls.run_jobs, cls.inspect_jobs),
            cls.results,
        )
        spec.output_namespace('trajectories', valid_type=orm.TrajectoryData, dynamic=True, help='One for each walker.')
        spec.output_namespace('deviations', valid_type=DeviationData, dynamic=True, help='One for each walker.')
        spec.output_namespace('reports', valid_type=orm.Dict, dynamic=True, help='One for each job.')
        spec.exit_code(401, 'ERROR_NO_FRAMES', message='No walker left a frame; the last job said: {message}')

    def plan(self) -> None:
        """Divide the walkers over jobs and give each its condition, start and seed."""
        history = {'history': self.inputs.history} if 'history' in self.inputs else {}
        plan = plan_dynamics(self.inputs.settings, self.inputs.seed, structures=dict(self.inputs.structures), **history)
        self.ctx.dynamics, self.ctx.check, self.ctx.walkers = plan['dynamics'], plan['check'], plan['walkers']
        self.ctx.queue = sorted(plan['walkers'])
        self.ctx.running = {}
        self.ctx.n_frames = 0
        self.ctx.message = ''

    def should_run_jobs(self) -> bool:
        """Go on until every job is done."""
        return bool(self.ctx.queue or self.ctx.running)

    def run_jobs(self) -> None:
        """Submit the next jobs, as many as may be in flight, and wait until one has ended."""
        while self.ctx.queue and len(self.ctx.running) < self.inputs.max_concurrent:
            label = self.ctx.queue.pop(0)
            walkers = self.ctx.walkers[label]
            starts = {walker['structure'] for walker in walkers.get_list()}
            inputs = AttributeDict(self.exposed_inputs(ExploreCalculation, 'ase'))
            inputs.committee = dict(self.inputs.committee)
            inputs.structures = {name: self.inputs.structures[name] for name in sorted(starts)}
            inputs.dynamics, inputs.check, inputs.walkers = self.ctx.dynamics, self.ctx.check, walkers
            inputs.metadata.call_link_label = label
            node = self.submit(ExploreCalculation, **inputs)
            self.report(f'exploring with {len(walkers)} walkers <{node.pk}>')
            self.ctx.running[node.pk] = label
        self.wait_for_any(self.ctx.running)

    def inspect_jobs(self) -> None:
        """Keep every frame that was written, whatever became of the job."""
        for node in self.ended(self.ctx.running):
            label = self.ctx.running.pop(node.pk)
            if not node.is_finished_ok:
                self.ctx.message = node.exit_message or str(node.process_state)
                self.report(f'<{node.pk}> did not come to its end: {self.ctx.message}')
            if 'report' in node.outputs:
                self.ctx.n_frames += node.outputs.report['n_frames']
                self.out(f'reports.{label}', node.outputs.report)
            for kind in ('trajectories', 'deviations'):
                if kind in node.outputs:
                    for name, data in node.outputs[kind].items():
                        self.out(f'{kind}.{label}_{name}', data)

    def results(self) -> ExitCode | None:
        """Say how much was seen."""
        self.report(f'{self.ctx.n_frames} frames explored')
        if not self.ctx.n_frames:
            return self.exit_codes.ERROR_NO_FRAMES.format(message=self.ctx.message)
        return None
