"""LabelWorkChain: energy, forces and stress for a set of structures."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.base import with_memory
from aiida_mlip_al.calculations.functions import collect_labels
from aiida_mlip_al.calculations.many_nodes import ManyNodes, nodes_of
from aiida_mlip_al.calculations.vasp_functions import frames_in, read_vasp_md
from aiida_mlip_al.data import DatasetData, LabelData
from aiida_mlip_al.data.stored import load_nodes
from aiida_mlip_al.data.vasp_result import theory_of

from .label_engines import LABEL_ENGINES, LabelEngine, LabelOutcome, engine_given
from .pool import Pool

LATE = 'late'


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse inputs without structures or without exactly one engine."""
    if not inputs.get('structures'):
        return 'There is no structure to label.'
    for name in ('batch_size', 'max_concurrent'):
        if inputs[name] < 1:
            return f'`{name}` is {inputs[name]}, but must be at least 1.'
    fraction = inputs.get('min_label_fraction')
    if fraction is not None and not 0 < fraction.value <= 1:
        return f'`min_label_fraction` is {fraction.value}, but must lie above 0 and not above 1.'
    return engine_given(inputs, LABEL_ENGINES, 'label') or validate_computed(inputs)


def validate_computed(inputs: Any) -> str | None:
    """Refuse trajectories that are not of the level of theory and version of VASP of the labels."""
    trajectories = inputs.get('computed') or {}
    if trajectories and 'vasp' not in inputs:
        return 'Trajectories in `computed` go with labels by VASP.'
    hashes = {name: node.base.attributes.get('theory_hash', None) for name, node in trajectories.items()}
    for name, node in trajectories.items():
        theory = theory_of(inputs['vasp']['theory'].get_dict(), node.base.attributes.get('version', None))
        if hashes[name] != theory.fingerprint:
            return f'The trajectory `{name}` in `computed` is not of the level of theory of the labels.'
    if len(set(hashes.values())) > 1:
        return 'The trajectories in `computed` are of several versions of VASP.'
    return None


class LabelWorkChain(ManyNodes, Pool):
    """Label in batches; send what an interrupted job did not reach again; fail only when too many are lost.

    With a ``min_label_fraction`` below 1 it ends while the last jobs are still running: its extra ``late`` tells which, and
    another one, given its PK as ``earlier``, waits for them.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input_namespace('structures', valid_type=orm.StructureData, dynamic=True, help='What to label, by name.')
        for engine in LABEL_ENGINES.values():
            engine.define(spec)
        spec.input_namespace(
            'computed',
            valid_type=orm.TrajectoryData,
            dynamic=True,
            required=False,
            help='Dynamics by VASP at the level of theory of the labels: a structure that is a frame of it is not computed again.',
        )
        spec.input('batch_size', valid_type=int, non_db=True, default=20, help='Structures in one job.')
        spec.input('max_concurrent', valid_type=int, non_db=True, default=2, help='Jobs in flight at the same time.')
        spec.input(
            'max_attempts',
            valid_type=int,
            non_db=True,
            default=3,
            help='How often in a row structures may be sent in vain.',
        )
        spec.input(
            'max_failed_fraction',
            valid_type=orm.Float,
            default=lambda: orm.Float(0.3),
            help='The work chain fails when a larger fraction of the structures gets no label.',
        )
        spec.input(
            'min_label_fraction',
            valid_type=orm.Float,
            required=False,
            help='When all are sent and so many have a label, those still in flight are left to a later work chain; never '
            'without it.',
        )
        spec.input(
            'earlier',
            valid_type=int,
            non_db=True,
            required=False,
            help='PK of a labelling that left jobs in flight: their structures are waited for, not sent again.',
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.should_run_batches)(cls.run_batches, cls.inspect_batches),
            if_(cls.should_collect)(cls.collect),
            cls.results,
        )
        spec.output_namespace('labels', valid_type=LabelData, dynamic=True, help='One for each accepted structure.')
        spec.output(
            'dataset', valid_type=DatasetData, required=False, help='The shard: the accepted structures, labelled.'
        )
        spec.output(
            'report', valid_type=orm.Dict, required=False, help='Labelled, rejected and why, wall and core time.'
        )
        spec.exit_code(
            401,
            'ERROR_TOO_MANY_FAILED',
            message='{failed} of {total} structures got no label ({reasons}), more than the fraction {allowed} that is '
            'allowed; of the first: {why}.',
        )

    @property
    def engine(self) -> type[LabelEngine]:
        """The engine whose namespace is given."""
        return next(engine for name, engine in LABEL_ENGINES.items() if name in self.inputs)

    def setup(self) -> None:
        """Queue everything once."""
        self.ctx.running = {}
        self.ctx.finished = {}
        self.ctx.n_labelled = 0
        self.ctx.reasons = {}
        self.ctx.why = ''
        self.ctx.sent = 0
        known = self.take_computed() if self.inputs.get('computed') else set()
        late = late_jobs(self.inputs.earlier) if 'earlier' in self.inputs else {}
        for index, (pk, names) in enumerate(sorted(late.items())):
            self.ctx.running[pk] = (f'late_{index:03d}', names, 1, 1)
            known.update(names)
        self.ctx.known = sorted(known)
        self.ctx.queue = [(number, 1, 1) for number in range(len(self.batches))]

    @cached_property
    def batches(self) -> list[list[str]]:
        """Names of the structures that nothing else labels, as they are sent at first; made again, for they fill checkpoints."""
        left = sorted(set(self.inputs.structures) - set(self.ctx.known))
        return self.engine.batches(left, self.inputs.batch_size)

    def take_computed(self) -> set[str]:
        """Label the structures that dynamics has computed already, and return their names."""
        structures, trajectories = dict(self.inputs.structures), dict(self.inputs.computed)
        known = sorted(frames_in(structures, trajectories))
        if known:
            _, node = read_vasp_md.run_get_node(
                self.inputs.vasp.theory,
                self.inputs.vasp.settings,
                structures={name: structures[name] for name in known},
                trajectories=trajectories,
            )
            self.take('computed', self.engine.outcome(node, known))
            self.report(f'{self.ctx.n_labelled} labels are those of the dynamics')
        return set(known)

    def should_run_batches(self) -> bool:
        """Go on until everything is done, or enough of it and the rest is on its way."""
        if self.ctx.queue or 'min_label_fraction' not in self.inputs:
            return bool(self.ctx.queue or self.ctx.running)
        enough = self.ctx.n_labelled >= self.inputs.min_label_fraction.value * len(self.inputs.structures)
        return bool(self.ctx.running) and not enough

    def run_batches(self) -> None:
        """Submit the next jobs, as many as may be in flight, and wait until one has ended."""
        while self.ctx.queue and len(self.ctx.running) < self.inputs.max_concurrent:
            queued, attempt, memory = self.ctx.queue.pop(0)
            batch = self.batches[queued] if isinstance(queued, int) else queued
            exposed = AttributeDict(self.exposed_inputs(self.engine.process, self.engine.name))
            inputs = self.engine.inputs(exposed, nodes_of(self.inputs.structures, batch))
            if 'options' in inputs.metadata:
                inputs.metadata.options = with_memory(inputs.metadata.options, memory)
            label = f'batch_{self.ctx.sent:03d}'
            inputs.metadata.call_link_label = label
            node = self.submit(self.engine.process, **inputs)
            self.report(f'labelling {len(batch)} structures <{node.pk}>, attempt {attempt}')
            self.ctx.sent += 1
            self.ctx.running[node.pk] = (label, batch, attempt, memory)
        self.wait_for_any(self.ctx.running)

    def inspect_batches(self) -> None:
        """Attach labels as they come; queue again what was not reached."""
        for node in self.ended(self.ctx.running):
            label, batch, attempt, memory = self.ctx.running.pop(node.pk)
            outcome = self.engine.outcome(node, batch)
            self.take(label, outcome)
            if outcome.unfinished:
                self.report(f'<{node.pk}> left {len(outcome.unfinished)} structures: {outcome.message}')
                self.send_again(outcome, attempt, memory)

    def send_again(self, outcome: LabelOutcome, attempt: int, memory: int) -> None:
        """Queue what a job left, less what it seems to have failed at: the structure at which job after job has ended.

        Without it the others get one more chance; if that is in vain too, it was not the structure.

        :param outcome: of the job.
        :param attempt: how often in a row nothing came back, this job included if nothing did.
        :param memory: times what was asked for at first; doubled once when it was not enough.
        """
        # With every job that labels something fewer are left, so only the others count.
        in_vain = 0 if outcome.labels else attempt
        too_little_memory = outcome.reason == 'out_of_memory'
        if not outcome.curable or in_vain > self.inputs.max_attempts:
            self.give_up(outcome.unfinished, outcome.reason)
        elif memory > 1 if too_little_memory else in_vain == self.inputs.max_attempts:
            suspects = outcome.unfinished[:1] if self.engine.sequential else outcome.unfinished
            self.give_up(suspects, outcome.reason)
            others = outcome.unfinished[len(suspects) :]
            if others:
                self.ctx.queue.append((others, self.inputs.max_attempts + 1, memory))
        else:
            self.ctx.queue.append((outcome.unfinished, in_vain + 1, 2 if too_little_memory else memory))

    def give_up(self, names: list[str], reason: str) -> None:
        """Count structures that get no label."""
        self.report(f'given up ({reason}): {", ".join(names)}')
        self.ctx.reasons[reason] = self.ctx.reasons.get(reason, 0) + len(names)

    def take(self, label: str, outcome: LabelOutcome) -> None:
        """Attach labels and count rejections."""
        for name, data in outcome.labels.items():
            self.out(f'labels.{name}', data)
        self.ctx.n_labelled += len(outcome.labels)
        self.ctx.why = self.ctx.get('why') or ' '.join(outcome.why.split()).rstrip('.')
        for reason in outcome.rejected.values():
            self.ctx.reasons[reason] = self.ctx.reasons.get(reason, 0) + 1
        if outcome.collected:
            # Nodes would be in every checkpoint.
            self.ctx.finished[label] = {name: data.pk for name, data in outcome.collected.items()}

    def should_collect(self) -> bool:
        """Collect unless nothing came back at all."""
        return bool(self.ctx.finished)

    def collect(self) -> None:
        """Make one shard and one report of all batches."""
        finished: dict[str, dict[str, int]] = self.ctx.finished
        nodes = load_nodes(pk for made in finished.values() for pk in made.values())
        if len(finished) == 1:
            collected = {name: nodes[pk] for made in finished.values() for name, pk in made.items()}
        else:
            datasets, reports = (
                {label: nodes[made[name]] for label, made in finished.items() if name in made}
                for name in ('dataset', 'report')
            )
            collected = collect_labels(datasets=datasets, reports=reports)
        for name, data in collected.items():
            self.out(name, data)

    def results(self) -> ExitCode | None:
        """Say what was labelled; refuse too many failures."""
        total = len(self.inputs.structures)
        late = {str(pk): names for pk, (_, names, _, _) in self.ctx.running.items()}
        self.node.base.extras.set(LATE, late)
        n_late = sum(map(len, late.values()))
        failed = total - self.ctx.n_labelled - n_late
        reasons = (
            ', '.join(f'{count} {reason}' for reason, count in sorted(self.ctx.reasons.items())) or 'no reason known'
        )
        self.report(
            f'{self.ctx.n_labelled} of {total} structures labelled'
            + (f'; {reasons}' if failed else '')
            + (f'; {n_late} are still in flight' if late else '')
        )
        if failed > self.inputs.max_failed_fraction.value * total:
            return self.exit_codes.ERROR_TOO_MANY_FAILED.format(
                failed=failed,
                total=total,
                reasons=reasons,
                allowed=self.inputs.max_failed_fraction.value,
                why=self.ctx.get('why') or 'nothing is known',
            )
        return None

    def kill(self, msg_text: str | None = None, force_kill: bool = False) -> Any:
        """Kill the work chain, the jobs that it sent, and those of an earlier one that it waits for."""
        if not self.has_terminated() and self.runner.controller is not None:
            ours = {child.pk for child in self.node.called}
            for pk in set(self.ctx.get('running', {})) - ours:
                self.runner.controller.kill_process(pk, msg_text=f'Killed by <{self.node.pk}>, which waits for it')
        return super().kill(msg_text, force_kill)


def late_jobs(labelling: int) -> dict[int, list[str]]:
    """Return the names of the structures in each job that a finished labelling left in flight.

    :param labelling: PK of the LabelWorkChain.
    """
    extras = orm.load_node(labelling).base.extras
    return {int(pk): names for pk, names in extras.get(LATE, {}).items()}
