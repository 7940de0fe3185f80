"""PerturbAndSampleWorkChain: structures to begin with, by chains of seeding steps."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, WorkChain, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.functions import plan_md, seed_frames, split_chain, trajectory_frames
from aiida_mlip_al.calculations.label import validate_calculator
from aiida_mlip_al.calculations.md import MdCalculation
from aiida_mlip_al.data import FrameData
from aiida_mlip_al.sampling import job_positions, parse_steps, validate_steps
from aiida_mlip_al.selection.splits import validate_split


def validate_chains(chains: Any, _: Any = None) -> str | None:
    """Refuse a chain with an unknown step or a wrong parameter."""
    if not chains:
        return 'There is no chain of steps.'
    for name, chain in chains.items():
        message = validate_steps(chain.get_list())
        if message:
            return f'chain `{name}`: {message}'
    return None


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse inputs without structures, and MD without a calculator or a code."""
    if not inputs.get('structures'):
        return 'There is no structure to start from.'
    for name, chain in inputs['chains'].items():
        steps = parse_steps(chain.get_list())
        for position in job_positions(chain.get_list()):
            if 'md' not in inputs or 'code' not in inputs['md']:
                return f'chain `{name}` has an md step: give the code that runs it as `md.code`.'
            if steps[position][1].calculator is None and 'calculator' not in inputs['md']:  # type: ignore[attr-defined]
                return (
                    f'chain `{name}` has an md step without a calculator: name one in the step or as `md.calculator`.'
                )
    return None


class PerturbAndSampleWorkChain(WorkChain):
    """Run every chain from the same structures; frames of all chains together are the result."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input_namespace(
            'structures', valid_type=orm.StructureData, dynamic=True, help='What every chain starts from.'
        )
        spec.input_namespace(
            'chains',
            valid_type=orm.List,
            dynamic=True,
            validator=validate_chains,
            help='By name, lists of steps such as `[{"rattle": {"copies": 10}}]`; each step works on what the one before made.',
        )
        spec.input('seed', valid_type=orm.Int, help='Fixes every random choice.')
        spec.input(
            'split',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({'validation_fraction': 0.0}),
            validator=lambda node, _: validate_split(node.get_dict()),
            help='`name` of the split of all frames, or `validation_fraction`.',
        )
        spec.expose_inputs(
            MdCalculation,
            namespace='md',
            include=('code', 'metadata', 'calculator', 'files'),
            namespace_options={'required': False, 'populate_defaults': False, 'help': 'How md steps run.'},
        )
        spec.inputs['md']['calculator'].required = False
        spec.inputs['md']['calculator'].validator = lambda node, _: (
            validate_calculator(node) if node is not None else None
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.should_run_segment)(cls.run_segment, cls.inspect_segment),
            cls.results,
        )
        spec.output_namespace('frames', valid_type=FrameData, dynamic=True, help='The frames, by chain and number.')
        spec.output_namespace(
            'rejected', valid_type=orm.Dict, dynamic=True, help='Draws rejected, by reason, by chain.'
        )
        spec.exit_code(401, 'ERROR_STEP_FAILED', message='Chain `{chain}` could not go on: {message}')

    def setup(self) -> None:
        """Divide every chain into segments."""
        self.ctx.segments = {name: self.segments_of(chain) for name, chain in self.inputs.chains.items()}
        self.ctx.current = {name: dict(self.inputs.structures) for name in self.inputs.chains}
        self.ctx.failure = None

    def segments_of(self, chain: orm.List) -> list[orm.Dict]:
        """Return the segments of a chain in order."""
        segments = split_chain(chain, self.inputs.seed)
        return [segments[name] for name in sorted(segments)]

    def should_run_segment(self) -> bool:
        """Go on until every chain is at its end."""
        return self.ctx.failure is None and any(self.ctx.segments.values())

    def run_segment(self) -> None:
        """Run the next segment of every chain: pure steps at once, MD as jobs side by side."""
        self.ctx.running = []
        for name, segments in self.ctx.segments.items():
            if not segments:
                continue
            if 'md' not in segments[0].get_dict():
                self.run_steps(name, segments.pop(0))
            else:
                self.ctx.running.append(name)
                self.submit_md(name, segments[0])

    def run_steps(self, name: str, segment: orm.Dict) -> None:
        """Run pure steps."""
        result, node = seed_frames.run_get_node(segment, self.inputs.split, **self.ctx.current[name])
        if not node.is_finished_ok:
            self.ctx.failure = (name, node.exit_message)
            return
        self.ctx.current[name] = dict(result['frames'])
        self.out(f'rejected.{name}', result['rejected'])

    def submit_md(self, name: str, segment: orm.Dict) -> None:
        """Submit an MD step."""
        plan = plan_md(segment, **self.ctx.current[name])
        inputs = AttributeDict(self.exposed_inputs(MdCalculation, 'md'))
        inputs.calculator = plan.get('calculator', inputs.get('calculator'))
        inputs.structures = self.ctx.current[name]
        inputs.dynamics, inputs.walkers = plan['dynamics'], plan['walkers']
        inputs.metadata.call_link_label = f'md_{name}'
        node = self.submit(MdCalculation, **inputs)
        self.report(f'chain {name}: MD of {len(plan["walkers"])} walkers <{node.pk}>')
        self.to_context(**{f'md_{name}': node})

    def inspect_segment(self) -> None:
        """Take frames out of the trajectories."""
        for name in self.ctx.running:
            node = self.ctx[f'md_{name}']
            segment = self.ctx.segments[name].pop(0)
            if 'trajectories' not in node.outputs:
                self.ctx.failure = (name, f'MD <{node.pk}> left no frames: {node.exit_message}')
                continue
            if not node.is_finished_ok:
                self.report(f'chain {name}: MD <{node.pk}> did not come to its end: {node.exit_message}')
            trajectories = dict(node.outputs.trajectories.items())
            result = trajectory_frames(segment, self.inputs.split, node.inputs.walkers, **trajectories)
            self.ctx.current[name] = dict(result['frames'])

    def results(self) -> ExitCode | None:
        """Attach the frames of all chains."""
        if self.ctx.failure is not None:
            chain, message = self.ctx.failure
            return self.exit_codes.ERROR_STEP_FAILED.format(chain=chain, message=message)
        for name in self.inputs.chains:
            for label, frame in self.ctx.current[name].items():
                self.out(f'frames.{name}_{label}', frame)
        self.report(f'{sum(map(len, self.ctx.current.values()))} frames')
        return None
