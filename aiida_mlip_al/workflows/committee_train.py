"""CommitteeTrainWorkChain: a committee of models that differ by seed."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import ExitCode, if_, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.functions import fit_reference_energies, member_seeds
from aiida_mlip_al.data import DatasetData, ModelData

from .mace_train import MaceTrainBaseWorkChain
from .pool import Pool


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse a committee of fewer members than it must have."""
    if inputs['members'].value < 1:
        return f'`members` is {inputs["members"].value}, but a committee needs at least one.'
    if not 1 <= inputs['min_members'].value <= inputs['members'].value:
        return (
            f'`min_members` is {inputs["min_members"].value}, but must lie between 1 and '
            f'`members` ({inputs["members"].value}).'
        )
    return None


class CommitteeTrainWorkChain(Pool):
    """Train the members side by side; go on with those that succeed, if they are enough."""

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
            'max_concurrent', valid_type=int, non_db=True, default=2, help='Members that train at the same time.'
        )
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
        spec.inputs.validator = validate_inputs
        spec.outline(
            cls.setup,
            if_(cls.should_fit_reference_energies)(cls.fit_reference_energies),
            cls.draw_seeds,
            while_(cls.should_run_members)(cls.run_members, cls.inspect_members),
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
        spec.exit_code(
            401,
            'ERROR_TOO_FEW_MEMBERS',
            message='Only {good} of {members} members were trained, and at least {needed} are needed; the last failed with: '
            '{message}',
        )

    def setup(self) -> None:
        """Begin with nobody trained."""
        self.ctx.waiting = [f'member_{index:02d}' for index in range(self.inputs.members.value)]
        self.ctx.running = {}
        self.ctx.good = 0
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
        return bool(self.ctx.waiting or self.ctx.running)

    def run_members(self) -> None:
        """Submit the next members, as many as may train at the same time, and wait until one has ended."""
        while self.ctx.waiting and len(self.ctx.running) < self.inputs.max_concurrent:
            name = self.ctx.waiting.pop(0)
            inputs = AttributeDict(self.exposed_inputs(MaceTrainBaseWorkChain, 'mace'))
            inputs.train.datasets = self.inputs.datasets
            inputs.train.seed = self.ctx.seeds[name]
            inputs.train.reference_energies = self.ctx.reference_energies
            initial = self.inputs.get('previous', {}).get(name, self.inputs.get('foundation_model'))
            if initial is not None:
                inputs.train.initial_model = initial
            inputs.metadata.call_link_label = name
            node = self.submit(MaceTrainBaseWorkChain, **inputs)
            self.report(f'training {name} <{node.pk}>')
            self.ctx.running[node.pk] = name
        self.wait_for_any(self.ctx.running)

    def inspect_members(self) -> None:
        """Keep the good members; remember why another failed."""
        for node in self.ended(self.ctx.running):
            name = self.ctx.running.pop(node.pk)
            if node.is_finished_ok:
                self.ctx.good += 1
                self.out(f'committee.{name}', node.outputs.model)
                self.out(f'reports.{name}', node.outputs.report)
                self.out(f'metrics.{name}', node.outputs.metrics)
            else:
                self.ctx.message = node.exit_message or f'{node.process_state}'
                self.report(f'{name} <{node.pk}> failed: {self.ctx.message}')

    def results(self) -> ExitCode | None:
        """Refuse a committee that is too small."""
        needed = self.inputs.min_members.value
        if self.ctx.good < needed:
            return self.exit_codes.ERROR_TOO_FEW_MEMBERS.format(
                good=self.ctx.good, members=self.inputs.members.value, needed=needed, message=self.ctx.message
            )
        return None
