"""PerturbAndSampleWorkChain: structures to begin with, by chains of seeding steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.label import validate_calculator
from aiida_mlip_al.calculations.md import MdCalculation
from aiida_mlip_al.calculations.seed_functions import hold_out, seed_frames, split_chain
from aiida_mlip_al.data import FrameData
from aiida_mlip_al.sampling import SEEDERS, job_positions, parse_steps, validate_steps
from aiida_mlip_al.sampling.base import stream
from aiida_mlip_al.selection.splits import missing_validation, validate_split

from .label import LabelWorkChain
from .parts import continued, fullest, should_go_on
from .pool import Pool
from .seed_stages import reason, reuse_problem, stage_of, vasp_level_of


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
    """Refuse inputs without structures, and steps that need a job without a calculator or a code."""
    if not inputs.get('structures'):
        return 'There is no structure to start from.'
    if inputs['max_concurrent'] < 1:
        return f'`max_concurrent` is {inputs["max_concurrent"]}, but must be at least 1.'
    for name, chain in inputs['chains'].items():
        steps = parse_steps(chain.get_list())
        for position in job_positions(chain.get_list()):
            step, parameters = steps[position]
            level = vasp_level_of(chain.get_list()[position])
            if level is not None:
                known = sorted(inputs.get('vasp', {}))
                if level not in known:
                    given = f'there is {", ".join(f"`{name}`" for name in known)}' if known else 'there is none'
                    return (
                        f'chain `{name}`, step `{step}`: there is no level of theory of VASP named `{level}` ({given}).'
                    )
                missing = sorted({'code', 'theory'} - set(inputs['vasp'][level]))
                if missing:
                    return f'The level of theory `{level}` has no `{missing[0]}`: give `vasp.{level}.{missing[0]}`.'
                continue
            if 'ase' not in inputs or 'code' not in inputs['ase']:
                return f'chain `{name}` has the step `{step}`: give the code that runs it as `ase.code`.'
            if parameters.calculator is None and 'calculator' not in inputs['ase']:  # type: ignore[attr-defined]
                return (
                    f'chain `{name}`, step `{step}`: name a calculator in the step, or one for all as `ase.calculator`.'
                )
    return reuse_problem(inputs['chains'], inputs.get('vasp', {}), inputs['label']) if 'label' in inputs else None


class PerturbAndSampleWorkChain(Pool):
    """Run every chain from the same structures; frames of all chains together are the result, labelled if it is said how."""

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
            help='`name` of the split of all frames, or `validation_fraction`, at least one of two or more unless it is 0.',
        )
        spec.input(
            'max_concurrent',
            valid_type=int,
            non_db=True,
            default=2,
            help='Jobs (MD, relaxations), walkers by VASP or structures with phonons in flight at the same time.',
        )
        spec.expose_inputs(
            MdCalculation,
            namespace='ase',
            include=('code', 'metadata', 'calculator', 'files'),
            namespace_options={
                'required': False,
                'populate_defaults': False,
                'help': 'How the steps that need a job run: MD, relaxation, phonons.',
            },
        )
        spec.inputs['ase']['calculator'].required = False
        spec.inputs['ase']['calculator'].validator = lambda node, _: (
            validate_calculator(node) if node is not None else None
        )
        spec.input_namespace(
            'vasp',
            valid_type=orm.Data,
            dynamic=True,
            required=False,
            help='Levels of theory of VASP by name, for `{md: {vasp: NAME}}`: each has `code`, `theory` (as '
            '`vasp_theory.vasp_level` makes it), and if wanted `options` of the scheduler as Dict and `max_restarts`.',
        )
        spec.expose_inputs(
            LabelWorkChain,
            namespace='label',
            exclude=('structures', 'computed'),
            namespace_options={
                'required': False,
                'populate_defaults': False,
                'help': 'How the frames are labelled; they are not without it.',
            },
        )
        spec.inputs['label'].validator = None
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.should_run_segment)(
                cls.run_segment,
                while_(cls.should_run_jobs)(cls.run_jobs, cls.inspect_jobs),
                cls.inspect_segment,
            ),
            cls.collect_frames,
            if_(cls.should_label)(cls.run_label, cls.inspect_label),
        )
        spec.output_namespace('frames', valid_type=FrameData, dynamic=True, help='The frames, by chain and number.')
        spec.output_namespace(
            'computed',
            valid_type=orm.TrajectoryData,
            dynamic=True,
            help='Trajectories whose energies, forces and stress are labels (`reuse_labels`), for LabelWorkChain.',
        )
        spec.output_namespace(
            'rejected', valid_type=orm.Dict, dynamic=True, help='Draws rejected, by reason, by chain.'
        )
        spec.expose_outputs(LabelWorkChain, namespace_options={'required': False})
        spec.exit_code(401, 'ERROR_STEP_FAILED', message='Chain `{chain}` could not go on: {message}')
        spec.exit_code(402, 'ERROR_LABEL_FAILED', message='Labelling failed: {message}')

    def setup(self) -> None:
        """Divide every chain into segments."""
        self.ctx.segments = {name: self.segments_of(chain) for name, chain in self.inputs.chains.items()}
        self.ctx.current = {name: dict(self.inputs.structures) for name in self.inputs.chains}
        self.ctx.kept = {name: [] for name in self.inputs.chains}
        self.ctx.references = {name: {} for name in self.inputs.chains}
        self.ctx.computed = {}
        self.ctx.labels = []
        self.ctx.failure = None

    def segments_of(self, chain: orm.List) -> list[orm.Dict]:
        """Return the segments of a chain in order."""
        segments = split_chain(chain, self.inputs.seed)
        return [segments[name] for name in sorted(segments)]

    def should_run_segment(self) -> bool:
        """Go on until every chain is at its end."""
        return self.ctx.failure is None and any(self.ctx.segments.values())

    def run_segment(self) -> None:
        """Run the next segment of every chain: pure steps at once; the jobs of the others are queued."""
        self.ctx.queue, self.ctx.running, self.ctx.ended = [], {}, {}
        for name, segments in self.ctx.segments.items():
            if not segments:
                continue
            if 'chain' in segments[0].get_dict():
                self.run_steps(name, segments.pop(0))
            else:
                self.queue_stage(name, segments[0])

    def run_steps(self, name: str, segment: orm.Dict) -> None:
        """Run pure steps."""
        inputs: dict[str, Any] = {'structures': self.ctx.current[name]}
        if self.ctx.references[name] and uses_references(segment):
            inputs['references'] = self.ctx.references[name]
        result, node = seed_frames.run_get_node(segment, self.inputs.split, **inputs)
        if not node.is_finished_ok:
            self.ctx.failure = (name, node.exit_message)
            return
        self.ctx.current[name] = dict(result['frames'])
        self.ctx.kept[name] += [frame for _, frame in sorted(dict(result.get('kept', {})).items())]
        self.ctx.references[name] = {}
        self.out(f'rejected.{name}', result['rejected'])

    def queue_stage(self, name: str, segment: orm.Dict) -> None:
        """Queue the processes of a step."""
        stage = stage_of(segment)
        submissions = stage.submissions(self.engine_of(segment), segment, self.ctx.current[name])
        for part, inputs in submissions.items():
            label = self.free_label(f'{stage.name}_{name}' if part == stage.name else f'{stage.name}_{name}_{part}')
            self.ctx.labels.append(label)
            inputs['metadata'] = {**inputs.get('metadata', {}), 'call_link_label': label}
            self.ctx.queue.append((name, part, inputs))
        self.ctx.ended[name] = {part: [] for part in submissions}

    def should_run_jobs(self) -> bool:
        """Go on until the steps of all chains are done."""
        return bool(self.ctx.queue or self.ctx.running)

    def run_jobs(self) -> None:
        """Submit the next processes, as many as may be in flight, and wait until one has ended."""
        while self.ctx.queue and len(self.ctx.running) < self.inputs.max_concurrent:
            name, part, inputs = self.ctx.queue.pop(0)
            stage = stage_of(self.ctx.segments[name][0])
            node = self.submit(stage.process, **continued(inputs, self.ctx.ended[name][part]))
            self.report(f'chain {name}: {stage.name} <{node.pk}>')
            self.ctx.running[node.pk] = (name, part, inputs)
        self.wait_for_any(self.ctx.running)

    def inspect_jobs(self) -> None:
        """Keep what has ended until the step of its chain is done; continue what can go on."""
        for node in self.ended(self.ctx.running):
            name, part, inputs = self.ctx.running.pop(node.pk)
            self.ctx.ended[name][part].append(node)
            if should_go_on(self.ctx.ended[name][part]):
                self.report(f'chain {name}: <{node.pk}> is continued: {reason(node)}')
                self.ctx.queue.insert(0, (name, part, inputs))

    def engine_of(self, segment: orm.Dict) -> AttributeDict:
        """Return how a step with jobs runs."""
        level = vasp_level_of(segment.get_dict())
        if level is not None:
            return AttributeDict(self.inputs.vasp[level])
        engine = AttributeDict(self.exposed_inputs(MdCalculation, 'ase'))
        # Each process has a parser of its own.
        engine.get('metadata', {}).get('options', {}).pop('parser_name', None)
        return engine

    def free_label(self, label: str) -> str:
        """Return a label for a process, numbered if the chain has had this step already."""
        names = (label, *(f'{label}_{count:02d}' for count in range(2, 100)))
        return next(name for name in names if name not in self.ctx.labels)

    def inspect_segment(self) -> None:
        """Take the frames that the jobs gave."""
        for name, ended in self.ctx.ended.items():
            nodes = {part: fullest(jobs) for part, jobs in ended.items()}
            segment = self.ctx.segments[name].pop(0)
            outcome = stage_of(segment).outcome(
                nodes,
                segment,
                self.inputs.split,
                self.ctx.current[name],
                self.ctx.references[name],
            )
            for note in outcome.notes:
                self.report(f'chain {name}: {note}')
            if outcome.problem is not None:
                self.ctx.failure = (name, outcome.problem)
                continue
            self.ctx.current[name], self.ctx.references[name] = outcome.frames, outcome.references
            for trajectory in outcome.computed:
                self.keep_computed(trajectory)

    def keep_computed(self, trajectory: orm.TrajectoryData) -> None:
        """Keep a trajectory that has labels; if VASP was exchanged meanwhile, only those of the version that came first."""
        computed = self.ctx.computed
        hashes = [node.base.attributes.get('theory_hash', None) for node in (trajectory, *computed.values())]
        if hashes[0] is not None and len(set(hashes)) == 1:
            computed[f'trajectory_{len(computed):02d}'] = trajectory

    def collect_frames(self) -> ExitCode | None:
        """Attach the frames of all chains."""
        if self.ctx.failure is not None:
            chain, message = self.ctx.failure
            return self.exit_codes.ERROR_STEP_FAILED.format(chain=chain, message=message)
        self.ctx.frames = {}
        for name in self.inputs.chains:
            kept = {f'kept_{index:03d}': frame for index, frame in enumerate(self.ctx.kept[name])}
            for label, frame in {**kept, **self.ctx.current[name]}.items():
                self.ctx.frames[f'{name}_{label}'] = frame
        self.hold_out()
        for name, frame in self.ctx.frames.items():
            self.out(f'frames.{name}', frame)
        for name, trajectory in self.ctx.computed.items():
            self.out(f'computed.{name}', trajectory)
        self.report(f'{len(self.ctx.frames)} frames')
        return None

    def hold_out(self) -> None:
        """Hold out a frame for validation where chance has held out none."""
        names = sorted(name for name, frame in self.ctx.frames.items() if len(frame.sites) > 1 or any(frame.pbc))
        splits = [self.ctx.frames[name].split for name in names]
        rng = np.random.default_rng(stream(self.inputs.seed.value, 'hold_out'))
        index = missing_validation(splits, self.inputs.split.get_dict(), rng)
        if index is not None:
            self.ctx.frames[names[index]] = hold_out(self.ctx.frames[names[index]])

    def should_label(self) -> bool:
        """Label if it is said how."""
        return 'label' in self.inputs

    def run_label(self) -> None:
        """Label all frames."""
        inputs = AttributeDict(self.exposed_inputs(LabelWorkChain, 'label'))
        inputs.structures = self.ctx.frames
        inputs.computed = self.ctx.computed
        inputs.metadata.call_link_label = 'label'
        node = self.submit(LabelWorkChain, **inputs)
        self.report(f'labelling {len(self.ctx.frames)} frames <{node.pk}>')
        self.to_context(label=node)

    def inspect_label(self) -> ExitCode | None:
        """Attach the labels, also those of a labelling that lost too much."""
        node = self.ctx.label
        self.out_many(self.exposed_outputs(node, LabelWorkChain))
        return None if node.is_finished_ok else self.exit_codes.ERROR_LABEL_FAILED.format(message=reason(node))


def uses_references(segment: orm.Dict) -> bool:
    """Return whether a pure step of a segment asks for the equilibrium structures."""
    names = [name for name, _ in parse_steps(segment['chain'])[segment['start'] : segment['stop']]]
    return any(SEEDERS[name].uses_references for name in names)
