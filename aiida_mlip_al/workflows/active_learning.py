"""ActiveLearningWorkChain: seed, label, then train, explore, select and label until there is nothing left to learn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder, WorkChain, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.caching import USE_CACHE
from aiida_mlip_al.calculations.functions import assess_labels, record_iteration, select_frames
from aiida_mlip_al.calculations.mace_train import validate_parameters
from aiida_mlip_al.calculations.properties import PropertiesCalculation
from aiida_mlip_al.calculations.seed_functions import round_seed
from aiida_mlip_al.config import make_config
from aiida_mlip_al.data import DatasetData, ModelData
from aiida_mlip_al.data.frame import atoms_of, formula_of
from aiida_mlip_al.sampling.base import stream
from aiida_mlip_al.sampling.spread import by_system
from aiida_mlip_al.sampling.walkers import ExploreSettings
from aiida_mlip_al.selection.settings import validate_seed_rounds, validate_select, validate_stop

from .builder import Inputs, make_builder
from .committee_train import CommitteeTrainWorkChain
from .evaluate import EvaluateBaseWorkChain
from .explore import ExploreWorkChain, exploration_settings
from .explore_engines import given_engine
from .label import LabelWorkChain, late_jobs
from .perturb_and_sample import PerturbAndSampleWorkChain
from .run_inputs import trains, validate_inputs, validates
from .submit_once import SubmitOnce


class ActiveLearningWorkChain(SubmitOnce, WorkChain):
    """The loop. Every iteration's results are attached as they come, so nothing is lost if a later one fails."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input_namespace(
            'structures', valid_type=orm.StructureData, dynamic=True, help='What the potential is for.'
        )
        spec.input('seed', valid_type=orm.Int, help='Fixes every random choice of the run.')
        spec.input_namespace(
            'datasets',
            valid_type=DatasetData,
            dynamic=True,
            required=False,
            help='Labelled frames to begin with, by shard.',
        )
        spec.input_namespace(
            'committee',
            valid_type=ModelData,
            dynamic=True,
            required=False,
            help='A committee to begin with (warm start).',
        )
        spec.input(
            'reference_energies',
            valid_type=orm.Dict,
            required=False,
            help='Isolated-atom energies, eV; fitted otherwise.',
        )
        spec.expose_inputs(
            PerturbAndSampleWorkChain,
            namespace='seeding',
            exclude=('structures', 'seed', 'label'),
            namespace_options={'required': False, 'populate_defaults': False, 'help': 'How the first frames are made.'},
        )
        spec.expose_inputs(
            PerturbAndSampleWorkChain,
            namespace='test',
            exclude=('structures', 'label'),
            namespace_options={
                'required': False,
                'populate_defaults': False,
                'help': 'How test frames are made: labelled, never trained on.',
            },
        )
        for namespace in ('seeding', 'test'):
            # These relations are checked by the child, when its structures are there.
            spec.inputs[namespace].validator = None
        spec.expose_inputs(
            LabelWorkChain,
            namespace='label',
            exclude=('structures', 'computed', 'earlier'),
            namespace_options={'help': 'How structures are labelled.'},
        )
        spec.expose_inputs(
            CommitteeTrainWorkChain,
            namespace='train',
            exclude=('datasets', 'previous', 'seed', 'reference_energies'),
            namespace_options={'help': 'How a committee is trained.'},
        )
        spec.expose_inputs(
            ExploreWorkChain,
            namespace='explore',
            exclude=('structures', 'committee', 'uncertainty', 'seed', 'history', 'known'),
            namespace_options={'help': 'How the committee explores.'},
        )
        for namespace in ('label', 'train', 'explore'):
            spec.inputs[namespace].validator = None
        spec.input(
            'seed_rounds',
            valid_type=orm.Dict,
            required=False,
            validator=lambda node, _: validate_seed_rounds(node.get_dict()) if node is not None else None,
            help='Seed again until a committee trained on the seeds alone is good enough; once without it.',
        )
        spec.expose_inputs(
            EvaluateBaseWorkChain,
            namespace='evaluate',
            exclude=('evaluate.committee', 'evaluate.datasets', 'evaluate.uncertainty'),
            namespace_options={'help': 'How the committee is evaluated on the labelled frames.'},
        )
        spec.expose_inputs(
            PropertiesCalculation,
            namespace='properties',
            include=('code', 'metadata', 'settings'),
            namespace_options={
                'required': False,
                'populate_defaults': False,
                'help': 'Which properties of a committee are compared with those of the one before, to stop.',
            },
        )
        spec.input(
            'select',
            valid_type=orm.Dict,
            validator=lambda node, _: validate_select(node.get_dict()),
            help='Trust levels, budget, choice of frames.',
        )
        spec.input(
            'stop',
            valid_type=orm.Dict,
            validator=lambda node, _: validate_stop(node.get_dict()),
            help='When the loop ends.',
        )
        spec.input(
            'warm_start',
            valid_type=orm.Bool,
            default=lambda: orm.Bool(True),
            help='Whether each committee starts from the one before; the final one never does.',
        )
        spec.input(
            'final',
            valid_type=orm.Dict,
            required=False,
            validator=lambda node, _: validate_parameters(node) if node is not None else None,
            help="Parameters of the final committee's training; those of `train` without it.",
        )
        spec.input(
            USE_CACHE,
            valid_type=bool,
            is_metadata=True,
            required=False,
            help='Whether results of equal jobs of earlier runs are taken; as the profile says without it.',
        )
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            while_(cls.should_seed)(
                cls.run_seed,
                cls.inspect_seed,
                cls.run_label_seeds,
                cls.inspect_label_seeds,
                if_(cls.should_assess_seeds)(
                    cls.run_seed_train,
                    cls.inspect_seed_train,
                    cls.run_seed_evaluation,
                    cls.inspect_seed_evaluation,
                ),
            ),
            while_(cls.should_iterate)(
                cls.run_train,
                cls.inspect_train,
                cls.run_explore,
                cls.inspect_explore,
                if_(cls.should_take_late)(cls.wait_for_late, cls.inspect_late),
                cls.select_frames,
                if_(cls.should_label)(cls.run_label, cls.inspect_label),
                cls.record_iteration,
            ),
            if_(cls.should_take_late)(cls.wait_for_late, cls.inspect_late),
            cls.run_final,
            cls.inspect_final,
            cls.run_final_evaluation,
            cls.inspect_final_evaluation,
            cls.results,
        )
        spec.output_namespace(
            'datasets', valid_type=DatasetData, dynamic=True, help='All shards: an iteration adds one.'
        )
        spec.output_namespace('iterations', dynamic=True, help='What each iteration made, `iteration_01` and so on.')
        spec.output_namespace(
            'final', dynamic=True, help='The committee trained from scratch on everything, and its errors.'
        )
        spec.output(
            'history', valid_type=orm.Dict, required=False, help='The learning history and why the run stopped.'
        )
        spec.output(
            'reference_energies', valid_type=orm.Dict, required=False, help='The reference energies in use, eV.'
        )
        spec.exit_code(401, 'ERROR_SEEDING_FAILED', message='Making structures failed: {message}')
        spec.exit_code(402, 'ERROR_LABEL_FAILED', message='Labelling failed: {message}')
        spec.exit_code(403, 'ERROR_TRAIN_FAILED', message='Training failed: {message}')
        spec.exit_code(404, 'ERROR_EXPLORE_FAILED', message='Exploration failed: {message}')
        spec.exit_code(405, 'ERROR_EVALUATE_FAILED', message='Evaluating the committee failed: {message}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        structures: Sequence[orm.StructureData],
        protocol: str = 'balanced',
        overrides: dict[str, Any] | None = None,
        folder: str | Path = '.',
    ) -> ProcessBuilder:
        """Return a builder with the protocol's numbers and what differs from them.

        :param structures: what the potential is for; stored if they are not yet.
        :param protocol: quickstart, fast, balanced or stringent.
        :param overrides: the same keys as an input file, such as ``{'labels': {'ase': {'calculator': …}}, 'codes': …}``.
        :param folder: where relative paths in the overrides start.
        :raises ConfigError: one sentence on the first mistake.
        """
        references = [str(structure.store().pk) for structure in structures]
        config = make_config({**(overrides or {}), 'protocol': protocol, 'structures': references})
        return make_builder(cls, Inputs(config, folder).run())

    # ------------------------------------------------------------------------------------------------------------ seeding

    def setup(self) -> None:
        """Begin with what is given."""
        self.ctx.datasets = dict(self.inputs.get('datasets', {}))
        self.ctx.committee = dict(self.inputs.get('committee', {}))
        self.ctx.reference_energies = self.inputs.get('reference_energies')
        self.ctx.history = None
        self.ctx.stop_reason = None
        self.ctx.iteration = 0
        self.ctx.seed_round = 0
        self.ctx.seeds_suffice = True
        self.ctx.labelled_seeds = []
        self.ctx.uncertainty = None
        self.ctx.labelled = self.ctx.new_labels = self.ctx.late = self.ctx.came_late = None
        self.ctx.chosen = []
        self.ctx.starts = [(node.pk, formula_of(node)) for _, node in sorted(self.inputs.structures.items())]
        for name, dataset in self.ctx.datasets.items():
            self.out(f'datasets.{name}', dataset)

    def should_seed(self) -> bool:
        """Seed if there is a way to make frames, and again while the seeds do not suffice."""
        if self.ctx.seed_round == 0:
            return any(namespace in self.inputs for namespace in ('seeding', 'test'))
        return not self.ctx.seeds_suffice

    def run_seed(self) -> None:
        """Make the first frames and, once, the test frames, side by side."""
        self.ctx.seed_round += 1
        again = self.ctx.seed_round > 1
        self.ctx.seeded = [
            name for name in ('seeding', 'test') if name in self.inputs and not (again and name == 'test')
        ]
        for namespace in self.ctx.seeded:
            inputs = AttributeDict(self.exposed_inputs(PerturbAndSampleWorkChain, namespace))
            inputs.structures = dict(self.inputs.structures)
            if namespace == 'seeding':
                self.ctx.seed = round_seed(self.ctx.seed) if again else self.inputs.seed
                inputs.seed = self.ctx.seed
            label = self.round_label(namespace)
            inputs.metadata.call_link_label = label
            node = self.submit(PerturbAndSampleWorkChain, **inputs)
            self.report(f'{label}: making structures <{node.pk}>')
            self.to_context(**{label: node})

    def round_label(self, name: str) -> str:
        """Return a name, numbered from the second round on."""
        return name if self.ctx.seed_round == 1 else f'{name}_{self.ctx.seed_round:02d}'

    def inspect_seed(self) -> ExitCode | None:
        """Go on with the frames."""
        for namespace in self.ctx.seeded:
            node = self.ctx[self.round_label(namespace)]
            if not node.is_finished_ok:
                return self.exit_codes.ERROR_SEEDING_FAILED.format(message=describe(node))
        return None

    def run_label_seeds(self) -> None:
        """Label the first frames and the test frames."""
        for namespace in self.ctx.seeded:
            outputs = self.ctx[self.round_label(namespace)].outputs
            computed = dict(outputs.computed.items()) if 'computed' in outputs else {}
            label = self.round_label(f'label_{namespace}')
            self.to_context(**{label: self.submit_label(dict(outputs.frames.items()), label, computed=computed)})

    def inspect_label_seeds(self) -> ExitCode | None:
        """Keep the shards."""
        self.ctx.seeds_suffice = True
        for namespace in self.ctx.seeded:
            shard = self.round_label('seeds' if namespace == 'seeding' else namespace)
            node = self.ctx[self.round_label(f'label_{namespace}')]
            self.ctx.labelled_seeds.append(node)
            failed = self.keep_labels(node, shard)
            if failed is not None:
                return failed
        if not validates(self.ctx.datasets):
            return self.exit_codes.ERROR_LABEL_FAILED.format(
                message='no frame for validation got a label, which training needs: give more `seed` frames, or raise '
                '`seed_validation_fraction`'
            )
        return None

    def should_assess_seeds(self) -> bool:
        """Assess the seeds if there may be another round."""
        rounds = self.inputs.get('seed_rounds')
        return rounds is not None and 'seeding' in self.ctx.seeded and self.ctx.seed_round < rounds['max_rounds']

    def run_seed_train(self) -> None:
        """Train a committee on the seeds."""
        previous = self.ctx.committee if self.inputs.warm_start.value else {}
        self.submit_train(f'seeding_{self.ctx.seed_round:02d}_train', previous)

    def inspect_seed_train(self) -> ExitCode | None:
        """Go on with the good members."""
        return self.keep_committee(self.ctx[f'seeding_{self.ctx.seed_round:02d}_train'])

    def run_seed_evaluation(self) -> None:
        """Evaluate the committee of the seeds."""
        self.submit_evaluate(f'seeding_{self.ctx.seed_round:02d}_evaluate')

    def inspect_seed_evaluation(self) -> ExitCode | None:
        """Decide whether the seeds suffice."""
        node = self.ctx[f'seeding_{self.ctx.seed_round:02d}_evaluate']
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_EVALUATE_FAILED.format(message=describe(node))
        error, target = seed_error(node.outputs.errors), self.inputs.seed_rounds['target_force_error']
        self.ctx.seeds_suffice = error <= target
        self.report(f'seeds of round {self.ctx.seed_round}: force MAE {error:.3f} eV/Å, asked for {target} eV/Å')
        return None

    # ----------------------------------------------------------------------------------------------------------- the loop

    def should_iterate(self) -> bool:
        """Go on until there is a reason to stop."""
        return self.ctx.stop_reason is None

    @property
    def name(self) -> str:
        """The current iteration's name."""
        return f'iteration_{self.ctx.iteration:02d}'

    def run_train(self) -> None:
        """Train the committee, each member from its predecessor if there is one."""
        self.ctx.iteration += 1
        warm = self.inputs.warm_start.value or self.ctx.iteration == 1
        previous = self.ctx.committee if warm else {}
        self.submit_train(f'{self.name}_train', previous)

    def inspect_train(self) -> ExitCode | None:
        """Go on with the good members."""
        failed = self.keep_committee(self.ctx[f'{self.name}_train'])
        if failed is not None:
            return failed
        for member, model in self.ctx.committee.items():
            self.out(f'iterations.{self.name}.committee.{member}', model)
        if self.ctx.uncertainty is not None:
            self.out(f'iterations.{self.name}.uncertainty', self.ctx.uncertainty)
        return None

    def run_explore(self) -> None:
        """Explore with the committee, evaluate it on all labelled frames, and compute what it predicts, side by side."""
        self.submit_evaluate(f'{self.name}_evaluate')
        if 'properties' in self.inputs:
            self.submit_properties(f'{self.name}_properties')
        inputs = AttributeDict(self.exposed_inputs(ExploreWorkChain, 'explore'))
        inputs.committee = self.ctx.committee
        if self.ctx.uncertainty is not None:
            inputs.uncertainty = self.ctx.uncertainty
        inputs.seed = self.inputs.seed
        settings = exploration_settings(inputs)
        if isinstance(settings, ExploreSettings):
            inputs.structures = self.choose_starts(settings)
        else:
            inputs.known = {**self.ctx.datasets, **self.chosen_in_vain()}
        if self.ctx.history is not None:
            inputs.history = self.ctx.history
        inputs.metadata.call_link_label = f'{self.name}_explore'
        node = self.submit(ExploreWorkChain, **inputs)
        self.report(f'{self.name}: exploring <{node.pk}>')
        self.to_context(**{f'{self.name}_explore': node})

    def chosen_in_vain(self) -> dict[str, orm.StructureData]:
        """Return the frames that were chosen and have no label, or none yet: a pool is not asked for them again."""
        labelled = {pk for pk, _ in self.ctx.starts}
        in_vain = {number: pk for number, pk in enumerate(self.ctx.chosen) if pk not in labelled}
        return {f'chosen_{number:04d}': orm.load_node(pk) for number, pk in in_vain.items()}

    def choose_starts(self, settings: ExploreSettings) -> dict[str, orm.StructureData]:
        """Return structures for the walkers of each system to start from, drawn from the given and the labelled ones.

        Those that cannot be run, such as isolated atoms, are passed over where there are others.
        """
        rng = np.random.default_rng(stream(self.inputs.seed.value, 'starts', self.ctx.iteration))
        engine, rows = given_engine(self.inputs.explore), []
        for own, members in by_system(settings, {row: formula for row, (_, formula) in enumerate(self.ctx.starts)}):
            drawn = [members[index] for index in rng.permutation(len(members))]
            fitting = (row for row in drawn if not engine.misfit(own, atoms_of(orm.load_node(self.ctx.starts[row][0]))))
            rows += sorted(list(islice(fitting, own.walkers)) or drawn[: own.walkers])
        return {f'start_{index:02d}': orm.load_node(self.ctx.starts[row][0]) for index, row in enumerate(rows)}

    def inspect_explore(self) -> ExitCode | None:
        """Go on with the frames explored and the errors measured."""
        evaluation, exploration = self.ctx[f'{self.name}_evaluate'], self.ctx[f'{self.name}_explore']
        if not evaluation.is_finished_ok:
            return self.exit_codes.ERROR_EVALUATE_FAILED.format(message=describe(evaluation))
        self.out(f'iterations.{self.name}.errors', evaluation.outputs.errors)
        if not exploration.is_finished_ok:
            return self.exit_codes.ERROR_EXPLORE_FAILED.format(message=describe(exploration))
        for walker, deviation in exploration.outputs.deviations.items():
            self.out(f'iterations.{self.name}.deviations.{walker}', deviation)
        return None

    def should_take_late(self) -> bool:
        """Take the labels that were still on their way when their labelling ended."""
        return self.ctx.late is not None

    def wait_for_late(self) -> None:
        """Wait for them; training and exploration have given them time."""
        self.to_context(late_labels=orm.load_node(self.ctx.late))

    def inspect_late(self) -> None:
        """Keep their shard, and measure again how wrong the committee was that had asked for them."""
        node, self.ctx.late = self.ctx.late_labels, None
        if not node.is_finished_ok:
            self.report(f'late labels: {describe(node)}')
        self.keep_shard(node, f'{self.ctx.labelled}_late')
        if 'dataset' in node.outputs:
            self.ctx.came_late = node
            self.assess_labels(late=node.outputs.dataset)
            self.ctx.late_errors = self.ctx.new_labels

    def select_frames(self) -> None:
        """Decide the fate of every explored frame."""
        evaluated = self.ctx[f'{self.name}_evaluate'].outputs.deviations
        exploration = self.ctx[f'{self.name}_explore'].outputs
        optional: dict[str, Any] = {split: evaluated[split] for split in ('train', 'validation') if split in evaluated}
        if self.ctx.new_labels is not None:
            optional['new_labels'] = self.ctx.new_labels
        if self.ctx.came_late is not None:
            optional['late'] = self.ctx.came_late.outputs.dataset
        if self.ctx.history is not None:
            optional['history'] = self.ctx.history
        result = select_frames(
            self.inputs.select,
            self.inputs.seed,
            trajectories=dict(exploration.trajectories.items()),
            deviations=dict(exploration.deviations.items()),
            **optional,
        )
        self.ctx.selection, self.ctx.frames = result['selection'], dict(result.get('frames', {}))
        self.ctx.chosen += [frame.pk for frame in self.ctx.frames.values()]
        self.ctx.new_labels = None
        self.out(f'iterations.{self.name}.selection', self.ctx.selection)
        counts = ', '.join(f'{count} {verdict}' for verdict, count in self.ctx.selection.counts.items() if count)
        self.report(f'{self.name}: {counts}')

    def should_label(self) -> bool:
        """Label if anything was chosen."""
        return bool(self.ctx.frames)

    def run_label(self) -> None:
        """Label the chosen frames."""
        label = f'{self.name}_label'
        self.to_context(**{label: self.submit_label(self.ctx.frames, label, to_the_last=False)})

    def inspect_label(self) -> ExitCode | None:
        """Keep the shard, measure how wrong the committee was, and send somebody to wait for late labels."""
        node = self.ctx[f'{self.name}_label']
        failed = self.keep_labels(node, self.name)
        if failed is not None:
            return failed
        self.ctx.labelled = self.name
        if 'dataset' in node.outputs:
            self.out(f'iterations.{self.name}.dataset', node.outputs.dataset)
            self.assess_labels()
        late = [name for names in late_jobs(node.pk).values() for name in names]
        if late:
            structures = {name: node.inputs.structures[name] for name in late}
            self.ctx.late = self.submit_label(structures, f'{self.name}_late', earlier=node.pk).pk
        return None

    def assess_labels(self, **late: DatasetData) -> None:
        """Compare labels with what the committee had predicted that asked for them; those that came late with all others."""
        name = self.ctx.labelled
        labelled, exploration = self.ctx[f'{name}_label'].outputs, self.ctx[f'{name}_explore'].outputs
        datasets = {'label': labelled.dataset} if 'dataset' in labelled else {}
        self.ctx.new_labels = assess_labels(
            self.ctx.selection,
            datasets={**datasets, **late},
            trajectories=dict(exploration.trajectories.items()),
            deviations=dict(exploration.deviations.items()),
        )['new_labels']
        self.out(f'iterations.{name}.{"late" if late else "new"}_labels', self.ctx.new_labels)

    def record_iteration(self) -> None:
        """Write the learning history and decide whether to go on."""
        evaluation, exploration = self.ctx[f'{self.name}_evaluate'], self.ctx[f'{self.name}_explore']
        optional: dict[str, Any] = {}
        if self.ctx.history is not None:
            optional['history'] = self.ctx.history
        if self.ctx.new_labels is not None:
            optional['new_labels'] = self.ctx.new_labels
        if self.ctx.came_late is not None:
            optional['late'] = self.ctx.came_late.outputs.dataset
            optional['late_labels'] = self.ctx.late_errors
        predicted = self.ctx.get(f'{self.name}_properties')
        if predicted is not None and 'properties' in predicted.outputs:
            optional['properties'] = predicted.outputs.properties
            self.out(f'iterations.{self.name}.properties', predicted.outputs.properties)
        self.ctx.history = record_iteration(
            self.inputs.stop,
            self.ctx.selection,
            evaluation.outputs.errors,
            deviations=dict(exploration.outputs.deviations.items()),
            reports=self.reports_of_iteration(),
            **optional,
        )['history']
        self.ctx.came_late = None
        self.out(f'iterations.{self.name}.history', self.ctx.history)
        self.ctx.stop_reason = self.ctx.history['stop_reason']
        row = self.ctx.history['rows'][-1]
        self.report(
            f'{self.name}: {row["n_labels"]} labels, accurate fraction {row["accurate_fraction"]:.2f}'
            + (f'; stopping: {self.ctx.history["stop_sentence"]}' if self.ctx.stop_reason else '')
        )

    def reports_of_iteration(self) -> dict[str, dict[str, orm.Dict]]:
        """Return what the jobs since the last iteration cost, by stage and job."""
        nodes = {'label': [self.ctx.came_late] if self.ctx.came_late is not None else []}
        if self.ctx.frames:
            nodes['label'].append(self.ctx[f'{self.name}_label'])
        if self.ctx.iteration == 1:
            nodes['label_seeds'] = self.ctx.labelled_seeds
        if f'{self.name}_properties' in self.ctx:
            nodes['properties'] = [self.ctx[f'{self.name}_properties']]
        return {
            'train': dict(self.ctx[f'{self.name}_train'].outputs.reports.items()),
            'explore': dict(self.ctx[f'{self.name}_explore'].outputs.reports.items()),
            **{
                stage: found
                for stage, jobs in nodes.items()
                if (
                    found := {
                        f'job_{i:02d}': node.outputs.report for i, node in enumerate(jobs) if 'report' in node.outputs
                    }
                )
            },
        }

    # -------------------------------------------------------------------------------------------------------------- final

    def run_final(self) -> None:
        """Train a committee from scratch on everything."""
        self.submit_train('final_train', {}, self.inputs.get('final'))

    def inspect_final(self) -> ExitCode | None:
        """Keep the final committee."""
        failed = self.keep_committee(self.ctx.final_train)
        if failed is not None:
            return failed
        for member, model in self.ctx.committee.items():
            self.out(f'final.committee.{member}', model)
        if self.ctx.uncertainty is not None:
            self.out('final.uncertainty', self.ctx.uncertainty)
        return None

    def run_final_evaluation(self) -> None:
        """Evaluate the final committee."""
        self.submit_evaluate('final_evaluate')

    def inspect_final_evaluation(self) -> ExitCode | None:
        """Keep the final errors."""
        node = self.ctx.final_evaluate
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_EVALUATE_FAILED.format(message=describe(node))
        self.out('final.errors', node.outputs.errors)
        for kind in ('deviations', 'parity'):
            for split, data in node.outputs[kind].items():
                self.out(f'final.{kind}.{split}', data)
        return None

    def results(self) -> None:
        """Attach the history."""
        self.out('history', self.ctx.history)
        self.out('reference_energies', self.ctx.reference_energies)
        self.report(f'stopped after {self.ctx.iteration} iterations: {self.ctx.stop_reason}')

    # ----------------------------------------------------------------------------------------------------- what stages share

    def submit_label(
        self,
        frames: dict[str, orm.StructureData],
        label: str,
        *,
        computed: dict[str, orm.TrajectoryData] | None = None,
        earlier: int | None = None,
        to_the_last: bool = True,
    ) -> orm.WorkChainNode:
        """Submit the labelling of frames.

        :param computed: dynamics whose frames have their labels already.
        :param earlier: PK of the labelling that left these frames in flight.
        :param to_the_last: whether it ends only when every frame has its label or is given up.
        """
        inputs = AttributeDict(self.exposed_inputs(LabelWorkChain, 'label'))
        inputs.structures = frames
        inputs.computed = computed or {}
        if earlier is not None:
            inputs.earlier = earlier
        if to_the_last:
            inputs.pop('min_label_fraction', None)
        inputs.metadata.call_link_label = label
        node = self.submit(LabelWorkChain, **inputs)
        self.report(f'{label}: {len(frames)} structures <{node.pk}>')
        return node

    def keep_labels(self, node: orm.WorkChainNode, shard: str) -> ExitCode | None:
        """Keep the labels, also those of a labelling that lost too much."""
        self.keep_shard(node, shard)
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_LABEL_FAILED.format(message=describe(node))
        return None

    def keep_shard(self, node: orm.WorkChainNode, shard: str) -> None:
        """Attach a shard, and remember where walkers may start."""
        if 'dataset' not in node.outputs:
            return
        self.ctx.datasets[shard] = node.outputs.dataset
        self.out(f'datasets.{shard}', node.outputs.dataset)
        if shard != 'test':
            structures = node.inputs.structures
            self.ctx.starts += [
                (structures[name].pk, formula_of(structures[name])) for name in sorted(node.outputs.labels)
            ]

    def submit_train(self, label: str, previous: dict[str, ModelData], parameters: orm.Dict | None = None) -> None:
        """Submit the training of a committee on all shards."""
        inputs = AttributeDict(self.exposed_inputs(CommitteeTrainWorkChain, 'train'))
        inputs.datasets = {name: node for name, node in self.ctx.datasets.items() if trains(node)}
        inputs.seed = self.inputs.seed
        if previous:
            inputs.previous = previous
        if self.ctx.reference_energies is not None:
            inputs.reference_energies = self.ctx.reference_energies
        if parameters is not None:
            inputs.mace.train.parameters = parameters
        inputs.metadata.call_link_label = label
        node = self.submit(CommitteeTrainWorkChain, **inputs)
        self.report(f'{label} <{node.pk}>')
        self.to_context(**{label: node})

    def keep_committee(self, node: orm.WorkChainNode) -> ExitCode | None:
        """Go on with a committee, and with the reference energies of the first one."""
        if not node.is_finished_ok:
            return self.exit_codes.ERROR_TRAIN_FAILED.format(message=describe(node))
        self.ctx.committee = dict(node.outputs.committee.items())
        self.ctx.uncertainty = node.outputs.uncertainty if 'uncertainty' in node.outputs else None
        if self.ctx.reference_energies is None:
            self.ctx.reference_energies = node.outputs.reference_energies
        return None

    def submit_evaluate(self, label: str) -> None:
        """Submit the evaluation of the current committee on all shards."""
        inputs = AttributeDict(self.exposed_inputs(EvaluateBaseWorkChain, 'evaluate'))
        inputs.evaluate.committee = self.ctx.committee
        if self.ctx.uncertainty is not None:
            inputs.evaluate.uncertainty = self.ctx.uncertainty
        inputs.evaluate.datasets = self.ctx.datasets
        inputs.metadata.call_link_label = label
        self.to_context(**{label: self.submit(EvaluateBaseWorkChain, **inputs)})

    def submit_properties(self, label: str) -> None:
        """Submit the properties of the given structures by the current committee."""
        inputs = AttributeDict(self.exposed_inputs(PropertiesCalculation, 'properties'))
        inputs.committee, inputs.seed = self.ctx.committee, self.inputs.seed
        inputs.structures = dict(self.inputs.structures)
        inputs.metadata.call_link_label = label
        self.to_context(**{label: self.submit(PropertiesCalculation, **inputs)})


def seed_error(errors: orm.Dict) -> float:
    """Return the force MAE (eV/Å) of a committee on the validation frames, or on the training frames if there are none."""
    measured = errors.get_dict()
    return float((measured.get('validation') or measured['train'])['force_mae'])


def describe(node: orm.ProcessNode) -> str:
    """Return why a process failed, with its PK."""
    return f'<{node.pk}> {node.exit_message or node.process_state}'
