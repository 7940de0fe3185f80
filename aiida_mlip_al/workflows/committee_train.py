"""CommitteeTrainWorkChain: a committee of models that differ by seed."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.base import INTERRUPTED
from aiida_mlip_al.calculations.functions import fit_reference_energies, member_seeds
from aiida_mlip_al.calculations.mace_train_pack import MaceTrainPackCalculation
from aiida_mlip_al.calculations.uncertainty import UncertaintyCalculation
from aiida_mlip_al.data import DatasetData, ModelData, UncertaintyData

from .mace_train import MaceTrainBaseWorkChain
from .pool import Pool


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse datasets without a frame to learn from, and a committee of fewer members than it must have."""
    datasets = inputs.get('datasets') or {}
    for split in ('train', 'validation'):
        if datasets and not any(node.splits.get(split) for node in datasets.values()):
            return f'No frame of the datasets has the split `{split}`, and training needs both train and validation.'
    if inputs['members'].value < 1:
        return f'`members` is {inputs["members"].value}, but a committee needs at least one.'
    if not 1 <= inputs['min_members'].value <= inputs['members'].value:
        return (
            f'`min_members` is {inputs["min_members"].value}, but must lie between 1 and '
            f'`members` ({inputs["members"].value}).'
        )
    if 'uncertainty' in inputs and inputs['members'].value != 1:
        return '`uncertainty` makes of one model a committee: set `members` to 1.'
    for name in ('members_per_job', 'max_concurrent'):
        if inputs[name] < 1:
            return f'`{name}` is {inputs[name]}, but must be at least 1.'
    return None


class CommitteeTrainWorkChain(Pool):
    """Train the members side by side; go on with those that succeed, if they are enough.

    Several members in one job are a pack. Those that a time limit cut short continue as a pack; one that failed in another way
    is trained by itself, where a failure can be cured.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input_namespace(
            'datasets', valid_type=DatasetData, dynamic=True, help='Shards with train and validation frames.'
        )
        spec.input('members', valid_type=orm.Int, help='Number of models.')
        spec.input(
            'min_members',
            valid_type=orm.Int,
            default=lambda: orm.Int(2),
            help='The committee goes on with at least this many good members.',
        )
        spec.input('seed', valid_type=orm.Int, help="The members' own seeds are drawn from it.")
        spec.input(
            'reference_energies',
            valid_type=orm.Dict,
            required=False,
            help="Energy of every element's isolated atom, eV; fitted to the datasets if not given.",
        )
        spec.input_namespace(
            'previous',
            valid_type=ModelData,
            dynamic=True,
            required=False,
            help='An earlier committee: `member_NN` starts from its own predecessor.',
        )
        spec.input(
            'foundation_model', valid_type=ModelData, required=False, help='Every member is fine-tuned from this model.'
        )
        spec.input(
            'members_per_job', valid_type=int, non_db=True, default=1, help='Members that one job trains side by side.'
        )
        spec.input('max_concurrent', valid_type=int, non_db=True, default=2, help='Jobs in flight at the same time.')
        spec.expose_inputs(
            MaceTrainBaseWorkChain,
            namespace='mace',
            exclude=(
                'train.datasets',
                'train.seed',
                'train.reference_energies',
                'train.initial_model',
                'train.parent_folder',
            ),
            namespace_options={'help': 'How each member is trained.'},
        )
        # The relations between these inputs are checked by each member, when all of them are there.
        spec.inputs['mace']['train'].validator = None
        spec.expose_inputs(
            UncertaintyCalculation,
            namespace='uncertainty',
            include=('code', 'settings', 'metadata'),
            namespace_options={
                'required': False,
                'populate_defaults': False,
                'help': 'Makes of one model a committee.',
            },
        )
        # Its datasets are added later, and are those of the training.
        spec.inputs['uncertainty'].validator = None
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            if_(cls.should_fit_reference_energies)(cls.fit_reference_energies),
            cls.draw_seeds,
            while_(cls.should_run_members)(cls.run_members, cls.inspect_members),
            if_(cls.should_find_uncertainty)(cls.run_uncertainty, cls.inspect_uncertainty),
            cls.results,
        )
        spec.output_namespace(
            'committee', valid_type=ModelData, dynamic=True, help='The good members, `member_00` and so on.'
        )
        spec.output_namespace(
            'reports', valid_type=orm.Dict, dynamic=True, help="What each member's training cost and reached."
        )
        spec.output_namespace('metrics', valid_type=orm.ArrayData, dynamic=True, help="Each member's learning curve.")
        spec.output('reference_energies', valid_type=orm.Dict, help='The reference energies in use, eV.')
        spec.output(
            'uncertainty',
            valid_type=UncertaintyData,
            required=False,
            help='With the only model it stands for a committee.',
        )
        spec.exit_code(
            401,
            'ERROR_TOO_FEW_MEMBERS',
            message='Only {good} of {members} members were trained, and at least {needed} are needed; the last failed with: '
            '{message}',
        )
        spec.exit_code(402, 'ERROR_UNCERTAINTY_FAILED', message='The model has no uncertainty: {message}')

    def setup(self) -> None:
        """Begin with nobody trained."""
        self.ctx.queue = cut(
            [f'member_{index:02d}' for index in range(self.inputs.members.value)], self.inputs.members_per_job
        )
        self.ctx.packs = 0
        self.ctx.attempts = {}
        self.ctx.folders = {}
        self.ctx.running = {}
        self.ctx.models = {}
        self.ctx.message = ''
        self.ctx.reference_energies = self.inputs.get('reference_energies')

    def should_fit_reference_energies(self) -> bool:
        """Fit them unless they are given."""
        return self.ctx.reference_energies is None

    def fit_reference_energies(self) -> None:
        """Take isolated atoms' energies where the datasets have them, else a least-squares fit."""
        self.ctx.reference_energies = fit_reference_energies(**self.inputs.datasets)

    def draw_seeds(self) -> None:
        """Give each member a seed of its own."""
        self.ctx.seeds = member_seeds(self.inputs.seed, self.inputs.members)
        self.out('reference_energies', self.ctx.reference_energies)

    def should_run_members(self) -> bool:
        """Go on until everybody is trained."""
        return bool(self.ctx.queue or self.ctx.running)

    def run_members(self) -> None:
        """Submit the next members, as many jobs as may be in flight, and wait until one has ended."""
        while self.ctx.queue and len(self.ctx.running) < self.inputs.max_concurrent:
            names = self.ctx.queue.pop(0)
            node = self.submit_member(*names) if len(names) == 1 else self.submit_pack(names)
            self.report(f'training {", ".join(names)} <{node.pk}>')
            self.ctx.running[node.pk] = names
        self.wait_for_any(self.ctx.running)

    def submit_member(self, name: str) -> orm.ProcessNode:
        """Train a member by itself."""
        inputs = AttributeDict(self.exposed_inputs(MaceTrainBaseWorkChain, 'mace'))
        inputs.train.datasets = self.inputs.datasets
        inputs.train.seed = self.ctx.seeds[name]
        inputs.train.reference_energies = self.ctx.reference_energies
        models = self.initial_models([name])
        if models:
            inputs.train.initial_model = models[name]
        if name in self.ctx.folders:
            inputs.train.parent_folder = self.ctx.folders[name]
        inputs.metadata.call_link_label = name
        return self.submit(MaceTrainBaseWorkChain, **inputs)

    def submit_pack(self, names: list[str]) -> orm.ProcessNode:
        """Train several members in one job."""
        inputs = AttributeDict(self.exposed_inputs(MaceTrainBaseWorkChain, 'mace')).train
        inputs.datasets = self.inputs.datasets
        inputs.reference_energies = self.ctx.reference_energies
        inputs.seeds = {name: self.ctx.seeds[name] for name in names}
        inputs.initial_models = self.initial_models(names)
        inputs.parent_folders = {name: self.ctx.folders[name] for name in names if name in self.ctx.folders}
        # A pack has a parser of its own.
        inputs.metadata.options.pop('parser_name', None)
        inputs.metadata.call_link_label = f'pack_{self.ctx.packs:02d}'
        self.ctx.packs += 1
        return self.submit(MaceTrainPackCalculation, **inputs)

    def initial_models(self, names: list[str]) -> dict[str, ModelData]:
        """Return what members start from; nothing for who starts from scratch."""
        previous, foundation = self.inputs.get('previous', {}), self.inputs.get('foundation_model')
        models = {name: previous.get(name, foundation) for name in names}
        return {name: model for name, model in models.items() if model is not None}

    def inspect_members(self) -> None:
        """Keep the good members; remember why another failed."""
        for node in self.ended(self.ctx.running):
            names = self.ctx.running.pop(node.pk)
            if isinstance(node, orm.CalcJobNode):
                self.inspect_pack(node, names)
            elif node.is_finished_ok:
                self.keep(names[0], node.outputs.model, node.outputs.report, node.outputs.metrics)
            else:
                self.give_up(names, node)

    def inspect_pack(self, node: orm.CalcJobNode, names: list[str]) -> None:
        """Keep the good members of a pack, and queue the others once more."""
        good = dict(node.outputs.committee.items()) if 'committee' in node.outputs else {}
        for name, model in good.items():
            self.keep(name, model, node.outputs.reports[name], node.outputs.metrics[name])
        left = [name for name in names if name not in good]
        if left and not node.is_finished:
            self.give_up(left, node)
        elif left:
            self.queue_again(left, node)

    def queue_again(self, names: list[str], node: orm.CalcJobNode) -> None:
        """Queue members that a pack left without a model: together if it was cut short, else each by itself."""
        if 'folders' in node.outputs:
            self.ctx.folders.update(node.outputs.folders.items())
        # A pack of which nothing came back has no failures: what became of it became of all.
        failures = node.outputs.failures.get_dict() if 'failures' in node.outputs else {}
        statuses = {name: failures[name]['status'] if name in failures else node.exit_status for name in names}
        for name in names:
            why = failures[name]['message'] if name in failures else node.exit_message
            self.report(f'{name} <{node.pk}> has no model yet: {why}')
            self.ctx.attempts[name] = self.ctx.attempts.get(name, 0) + 1
        cut_short = [name for name in names if statuses[name] in INTERRUPTED]
        worn_out = [name for name in cut_short if self.ctx.attempts[name] >= self.inputs.mace.max_iterations.value]
        if worn_out:
            self.give_up(worn_out, node)
        together = [name for name in cut_short if name not in worn_out]
        alone = [name for name in names if name not in cut_short]
        self.ctx.queue += [*cut(together, self.inputs.members_per_job), *cut(alone, 1)]

    def keep(self, name: str, model: ModelData, report: orm.Dict, metrics: orm.ArrayData) -> None:
        """Attach a good member."""
        self.ctx.models[name] = model
        self.out(f'committee.{name}', model)
        self.out(f'reports.{name}', report)
        self.out(f'metrics.{name}', metrics)

    def give_up(self, names: list[str], node: orm.ProcessNode) -> None:
        """Go on without members, and remember why."""
        self.ctx.message = node.exit_message or f'{node.process_state}'
        self.report(f'{", ".join(names)} <{node.pk}> failed: {self.ctx.message}')

    def should_find_uncertainty(self) -> bool:
        """Find out how sure the only model is, if it was trained and this is asked for."""
        return 'uncertainty' in self.inputs and bool(self.ctx.models)

    def run_uncertainty(self) -> None:
        """Look at what the model has learned from."""
        inputs = AttributeDict(self.exposed_inputs(UncertaintyCalculation, 'uncertainty'))
        (inputs.model,) = self.ctx.models.values()
        inputs.datasets = self.inputs.datasets
        inputs.metadata.call_link_label = 'uncertainty'
        self.to_context(uncertainty=self.submit(UncertaintyCalculation, **inputs))

    def inspect_uncertainty(self) -> ExitCode | None:
        """Keep it."""
        node = self.ctx.uncertainty
        if not node.is_finished_ok:
            message = f'<{node.pk}> {node.exit_message or node.process_state}'
            return self.exit_codes.ERROR_UNCERTAINTY_FAILED.format(message=message)
        self.out('uncertainty', node.outputs.uncertainty)
        self.out('reports.uncertainty', node.outputs.report)
        return None

    def results(self) -> ExitCode | None:
        """Refuse a committee that is too small."""
        needed, good = self.inputs.min_members.value, len(self.ctx.models)
        if good < needed:
            return self.exit_codes.ERROR_TOO_FEW_MEMBERS.format(
                good=good, members=self.inputs.members.value, needed=needed, message=self.ctx.message
            )
        return None


def cut(names: list[str], size: int) -> list[list[str]]:
    """Cut a list into parts of a size; the last may be smaller."""
    return [names[start : start + size] for start in range(0, len(names), size)]
