"""ExploreWorkChain: molecular dynamics with a committee, or a look at frames that exist."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec
from aiida_shell import ShellJob

from aiida_mlip_al.calculations.deviate import DeviateCalculation
from aiida_mlip_al.data import DatasetData, DeviationData, ModelData, UncertaintyData
from aiida_mlip_al.lammps.settings import LammpsExploreSettings
from aiida_mlip_al.sampling.pool import PoolSettings
from aiida_mlip_al.sampling.walkers import ExploreSettings

from .evaluate import DeviateBaseWorkChain
from .explore_engines import EXPLORE_ENGINES, ExploreEngine, given_engine
from .label_engines import engine_given
from .parts import continued, fullest, n_frames_of, part_label, should_go_on
from .pool import Pool

LAMMPS_NEEDS_MEMBERS = 'LAMMPS explores with committees: use the engine `ase` with one model and its uncertainty.'


def validate_exploration(inputs: Any) -> str | None:
    """Refuse settings that the engine cannot run; also for the work chain that wraps this one."""
    wrong = engine_given(inputs, EXPLORE_ENGINES, 'explore')
    if wrong is not None:
        return wrong
    try:
        settings = exploration_settings(inputs)
    except ValueError as error:
        return str(error)
    if (settings.bias is not None) != ('bias' in inputs):
        return 'Give both or neither of the settings `bias` and the file `bias`.'
    if inputs.get('pool'):
        return None if inputs['pool'].get('frames') else 'There is no frame to choose from: give `pool.frames`.'
    if is_native(settings) and not (inputs.get('convert') and inputs.get('deviate')):
        return (
            'A native LAMMPS has one model in a format of its own: give `convert`, which makes it, and `deviate`, which '
            'evaluates the committee after the run.'
        )
    return None


def exploration_settings(inputs: Any) -> ExploreSettings | PoolSettings:
    """Return the checked settings of the engine that is given.

    :raises ValueError: one sentence on the first mistake.
    """
    return given_engine(inputs).parse(inputs['settings'])


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse inputs without structures, without models or without exactly one engine."""
    if not inputs.get('structures') and not inputs.get('pool'):
        return 'There is no structure to start from.'
    if not inputs.get('committee'):
        return 'There is no model to explore with.'
    if 'uncertainty' in inputs and inputs.get('lammps'):
        return LAMMPS_NEEDS_MEMBERS
    wrong = validate_exploration(inputs)
    if wrong is None and inputs.get('convert') and len(inputs['committee']) < 2:
        return 'There is one model: a native LAMMPS needs a committee of two or more, to say how far they differ.'
    return wrong


def is_native(settings: Any) -> bool:
    """Return whether a LAMMPS explores that has one model and cannot check the deviation in the run."""
    return isinstance(settings, LammpsExploreSettings) and not settings.in_run


class ExploreWorkChain(Pool):
    """Walkers over temperatures and pressures, or frames of a pool; each frame comes with the committee's deviation."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input_namespace(
            'structures', valid_type=orm.StructureData, dynamic=True, required=False, help='Where walkers start.'
        )
        spec.input_namespace('committee', valid_type=ModelData, dynamic=True, help='The models; the first one drives.')
        spec.input(
            'uncertainty',
            valid_type=UncertaintyData,
            required=False,
            help='Of the only model: with it, that model stands for a committee (engine ase).',
        )
        spec.input('settings', valid_type=orm.Dict, help='Conditions, length, checks, limits.')
        spec.input('seed', valid_type=orm.Int, help="The walkers' own seeds are drawn from it.")
        spec.input(
            'history', valid_type=orm.Dict, required=False, help='Of the loop: another iteration draws other seeds.'
        )
        spec.input(
            'bias', valid_type=orm.SinglefileData, required=False, help='Input file of the bias of the settings.'
        )
        spec.input_namespace(
            'known',
            valid_type=(DatasetData, orm.StructureData),
            dynamic=True,
            required=False,
            help='Of the loop: frames of a pool that are among these are not looked at.',
        )
        spec.input('max_concurrent', valid_type=int, non_db=True, default=2, help='Jobs in flight at the same time.')
        for engine in EXPLORE_ENGINES.values():
            engine.define(spec)
        native = {'required': False, 'populate_defaults': False}
        spec.expose_inputs(
            ShellJob,
            namespace='convert',
            include=('code', 'arguments', 'filenames', 'outputs', 'metadata'),
            namespace_options={**native, 'help': 'For a native LAMMPS: makes of `{model}` what it reads.'},
        )
        convert = spec.inputs['convert']
        convert['arguments'].help = 'Of the program; `{model}` is the name of the model.'
        convert['filenames'].help = 'What the model is called in the job.'
        convert['outputs'].help = 'The file that LAMMPS reads.'
        spec.expose_inputs(
            DeviateCalculation,
            namespace='deviate',
            include=('code', 'settings', 'metadata'),
            namespace_options={**native, 'help': 'For a native LAMMPS: evaluates the committee on its frames.'},
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.plan,
            if_(cls.should_convert)(cls.run_conversion, cls.inspect_conversion),
            while_(cls.should_run_jobs)(cls.run_jobs, cls.inspect_jobs),
            if_(cls.should_deviate)(cls.run_deviate, cls.inspect_deviate),
            cls.results,
        )
        spec.output_namespace('trajectories', valid_type=orm.TrajectoryData, dynamic=True, help='One for each walker.')
        spec.output_namespace('deviations', valid_type=DeviationData, dynamic=True, help='One for each walker.')
        spec.output_namespace('thermo', valid_type=orm.ArrayData, dynamic=True, help="LAMMPS' own columns, by job.")
        spec.output_namespace('reports', valid_type=orm.Dict, dynamic=True, help='One for each job.')
        spec.exit_code(401, 'ERROR_NO_FRAMES', message='No walker left a frame; the last job said: {message}')
        spec.exit_code(402, 'ERROR_CONVERSION_FAILED', message='The model could not be converted for LAMMPS: {message}')
        spec.exit_code(403, 'ERROR_DEVIATE_FAILED', message='The committee could not be evaluated: {message}')

    @property
    def engine(self) -> type[ExploreEngine]:
        """The engine whose namespace is given."""
        return given_engine(self.inputs)

    def plan(self) -> None:
        """Divide the walkers over jobs and give each its condition, start and seed."""
        settings = self.engine.parse(self.inputs.settings)
        optional: dict[str, Any] = {}
        if 'history' in self.inputs:
            optional['history'] = self.inputs.history
        iteration = len(self.inputs.history['rows']) + 1 if 'history' in self.inputs else 1
        if settings.bias is not None and iteration >= settings.bias.start_iteration:
            optional['bias'] = self.inputs.bias
        if self.inputs.get('known'):
            optional['known'] = dict(self.inputs.known)
        self.ctx.plan = self.engine.plan(self.inputs, optional)
        self.ctx.native = is_native(settings)
        self.ctx.queue = sorted(self.ctx.plan.get('walkers', {}))
        self.ctx.running = {}
        self.ctx.parts = {}
        self.ctx.trajectories = {}
        self.ctx.n_frames = 0
        refused = self.ctx.plan['refused'].get_dict() if 'refused' in self.ctx.plan else {}
        for name, why in refused.items():
            self.report(f'no walker starts from {name}: {why}')
        self.ctx.message = next(iter(refused.values()), '')
        if 'report' in self.ctx.plan:
            self.out('reports.pool', self.ctx.plan['report'])
            self.ctx.message = 'all frames of the pool are labelled already, or were chosen before.'

    def should_convert(self) -> bool:
        """Convert a model, and evaluate the committee afterwards, if LAMMPS has one model."""
        return bool(self.ctx.native and self.ctx.queue)

    def run_conversion(self) -> None:
        """Make of the first model what LAMMPS reads."""
        inputs = AttributeDict(self.exposed_inputs(ShellJob, 'convert'))
        inputs.nodes = {'model': self.inputs.committee[min(self.inputs.committee)]}
        inputs.metadata.call_link_label = 'convert'
        node = self.submit(ShellJob, **inputs)
        self.report(f'converting a model for LAMMPS <{node.pk}>')
        self.to_context(conversion=node)

    def inspect_conversion(self) -> ExitCode | None:
        """Go on with the converted model."""
        node = self.ctx.conversion
        wanted = self.inputs.convert.outputs.get_list()
        made = node.base.links.get_outgoing(node_class=orm.SinglefileData).all_nodes()
        converted = next((output for output in made if output.filename in wanted), None)
        # A program may warn: that it ended well is what counts.
        ended_well = node.exit_status in (0, ShellJob.exit_codes.ERROR_STDERR_NOT_EMPTY.status)
        if converted is None or not ended_well:
            message = f'<{node.pk}> {node.exit_message or node.process_state}'
            return self.exit_codes.ERROR_CONVERSION_FAILED.format(message=message)
        self.ctx.plan['converted'] = converted
        return None

    def should_run_jobs(self) -> bool:
        """Go on until every job is done."""
        return bool(self.ctx.queue or self.ctx.running)

    def run_jobs(self) -> None:
        """Submit the next jobs, as many as may be in flight, and wait until one has ended."""
        while self.ctx.queue and len(self.ctx.running) < self.inputs.max_concurrent:
            label = self.ctx.queue.pop(0)
            exposed = AttributeDict(self.exposed_inputs(self.engine.job, self.engine.name))
            inputs = self.engine.inputs(self.inputs, exposed, self.ctx.plan, label)
            inputs.metadata.call_link_label = label
            node = self.submit(self.engine.process, **continued(inputs, self.parts_of(label)))
            self.report(f'exploring: {label} <{node.pk}>')
            self.ctx.running[node.pk] = label
        self.wait_for_any(self.ctx.running)

    def inspect_jobs(self) -> None:
        """Keep every frame that was written, whatever became of the job; continue one that was interrupted."""
        for last in self.ended(self.ctx.running):
            label = self.ctx.running.pop(last.pk)
            if not last.is_finished_ok:
                self.ctx.message = last.exit_message or str(last.process_state)
                self.report(f'<{last.pk}> did not come to its end: {self.ctx.message}')
            *before, _ = parts = [*self.parts_of(label), last]
            self.ctx.parts[label] = [part.pk for part in parts]
            if 'report' in last.outputs:
                self.out(f'reports.{part_label(label, len(before))}', last.outputs.report)
            if should_go_on(parts):
                self.ctx.queue.insert(0, label)
                continue
            node = fullest(parts)
            self.ctx.n_frames += n_frames_of(node)
            if 'thermo' in node.outputs:
                self.out(f'thermo.{label}', node.outputs.thermo)
            for kind in ('trajectories', 'deviations'):
                if kind in node.outputs:
                    for name, data in node.outputs[kind].items():
                        self.keep(kind, f'{label}_{name}', data)

    def parts_of(self, label: str) -> list[orm.ProcessNode]:
        """Return the parts of a job of the plan that have ended."""
        return [orm.load_node(pk) for pk in self.ctx.parts.get(label, [])]

    def keep(self, kind: str, name: str, data: orm.Data) -> None:
        """Attach a walker's output, unless the committee is still to be evaluated on it."""
        if self.ctx.native:
            self.ctx.trajectories[name] = data
        else:
            self.out(f'{kind}.{name}', data)

    def should_deviate(self) -> bool:
        """Evaluate the committee if the walkers did not, and there is something to evaluate."""
        return bool(self.ctx.trajectories)

    def run_deviate(self) -> None:
        """Evaluate the committee on all walkers' frames, in one job."""
        inputs = AttributeDict(self.exposed_inputs(DeviateCalculation, 'deviate'))
        inputs.committee = dict(self.inputs.committee)
        inputs.trajectories = self.ctx.trajectories
        node = self.submit(DeviateBaseWorkChain, deviate=inputs, metadata={'call_link_label': 'deviate'})
        self.report(f'evaluating the committee on {len(self.ctx.trajectories)} trajectories <{node.pk}>')
        self.to_context(deviate=node)

    def inspect_deviate(self) -> ExitCode | None:
        """Attach deviations, and the trajectories with the committee's mean."""
        node = self.ctx.deviate
        for kind in ('trajectories', 'deviations'):
            if kind in node.outputs:
                for name, data in node.outputs[kind].items():
                    self.out(f'{kind}.{name}', data)
        if 'report' in node.outputs:
            self.out('reports.deviate', node.outputs.report)
        if not node.is_finished_ok:
            message = f'<{node.pk}> {node.exit_message or node.process_state}'
            return self.exit_codes.ERROR_DEVIATE_FAILED.format(message=message)
        return None

    def results(self) -> ExitCode | None:
        """Say how much was seen."""
        self.report(f'{self.ctx.n_frames} frames explored')
        if not self.ctx.n_frames:
            return self.exit_codes.ERROR_NO_FRAMES.format(message=self.ctx.message)
        return None
