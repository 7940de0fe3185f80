"""A run of water in the database as a real one leaves it, built by hand: no process runs, so it is there in a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType
from ase import Atoms
from ase.build import molecule

from aiida_mlip_al.data import DatasetData, DeviationData, FrameData, LabelData, ModelData, SelectionData
from aiida_mlip_al.data.uncertainty import UncertaintyData
from aiida_mlip_al.selection.measure import MEASURES, MeasureName
from aiida_mlip_al.selection.verdict import Verdict

MODULES = {
    'ActiveLearningWorkChain': 'aiida.workflows:mlip_al.active_learning',
    'LabelWorkChain': 'aiida.workflows:mlip_al.label',
}
ATOMS = molecule('H2O')


class StoredRun:
    """Builds a run step by step, and keeps what it built by name.

    :param computer: of the jobs.
    :param label: of the run.
    :param frames: explored in each iteration.
    :param chosen: of them, labelled.
    :param n_test: test frames.
    :param n_parity: test frames that the errors are of, if not those.
    :param models: content of the members.
    :param measure: what is compared with the levels; if it is not the largest force deviation, ten times that.
    :param uncertain: whether the only model has an uncertainty.
    """

    def __init__(
        self,
        computer: orm.Computer,
        *,
        label: str = 'water',
        frames: int = 24,
        chosen: int = 4,
        n_test: int = 5,
        n_parity: int | None = None,
        models: list[bytes] | None = None,
        measure: MeasureName = 'max',
        uncertain: bool = False,
    ) -> None:
        self.computer, self.frames, self.chosen, self.n_test = computer, frames, chosen, n_test
        self.models = models or ([b'one'] if uncertain else [b'one', b'two'])
        self.measure, self.uncertain = measure, uncertain
        self.uncertainty: dict[str, orm.Data] = {}
        self.n_parity = n_parity
        self.rng = np.random.default_rng(0)
        self.datasets: dict[str, DatasetData] = {}
        self.committee: dict[str, ModelData] = {}
        self.made: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        inputs = {
            'structures__water': orm.StructureData(ase=ATOMS),
            'seed': orm.Int(1),
            'stop': orm.Dict({'max_iterations': 3, 'max_labels': 100}),
            'select': orm.Dict({'tolerance': 0.3, 'measure': measure}),
            'label__ase__calculator': orm.Dict({'calculator': 'tblite.ase:TBLite', 'arguments': {}}),
            'train__members': orm.Int(len(self.models)),
            'train__mace__train__parameters': orm.Dict({'r_max': 4.0}),
            'explore__settings': orm.Dict({'walkers': 1}),
        }
        if uncertain:
            inputs['train__uncertainty__settings'] = orm.Dict({})
        self.node = self.process(orm.WorkChainNode, 'ActiveLearningWorkChain', None, '', inputs, state='waiting')
        self.node.label = label

    # ---------------------------------------------------------------------------------------------------------- the steps

    def seed(self) -> None:
        """Make and label the first frames and the test frames."""
        for name, shard, size, split in (('seeding', 'seeds', 4, 'train'), ('test', 'test', self.n_test, 'test')):
            maker = self.process(orm.CalcFunctionNode, 'seed_frames', self.node, name, {'structure': self.structure()})
            made = {
                f'frame_{k:03d}': self.create(
                    FrameData.from_ase(self.moved(), split, kind='rattle'), maker, f'frames__{k}'
                )
                for k in range(size)
            }
            self.label(made, f'label_{name}', shard, split)

    def train_and_evaluate(self, name: str) -> None:
        """Train a committee and measure it."""
        final = name == 'final'
        chain = self.process(orm.WorkChainNode, 'CommitteeTrainWorkChain', self.node, f'{name}_train', {})
        self.committee = {}
        for member, content in enumerate(self.models):
            job = self.process(
                orm.CalcJobNode, 'MaceTrainCalculation', chain, f'member_{member:02d}', dict(self.shards())
            )
            model = ModelData.from_bytes(
                content, elements=['H', 'O'], seed=member, trained_on=8, errors={'force_mae': 0.1}, r_max=4.0
            )
            self.committee[f'member_{member:02d}'] = self.create(model, job, 'model')
            self.create(orm.Dict({'core_s': 10.0}), job, 'report')
        if self.uncertain:
            job = self.process(orm.CalcJobNode, 'UncertaintyCalculation', chain, 'uncertainty', {'model': model})
            made = UncertaintyData.from_bytes(b'', model_sha256='', n_train=8)
            self.uncertainty = {'uncertainty': self.create(made, job, 'uncertainty')}
        where = 'final' if final else f'iterations__{name}'
        for member, model in self.committee.items():
            self.give(model, self.node, f'{where}__committee__{member}')
        self.evaluate(f'{name}_evaluate', where, 0.02 if final else 0.2 / (len(self.rows) + 1))

    def evaluate(self, name: str, where: str, force_mae: float) -> None:
        """Measure a committee whose errors are given, eV/Å."""
        inputs = {**self.predictor(), **self.shards()}
        given = {f'evaluate__{key}': node for key, node in inputs.items()}
        chain = self.process(orm.WorkChainNode, 'EvaluateBaseWorkChain', self.node, name, given)
        job = self.process(orm.CalcJobNode, 'EvaluateCalculation', chain, 'iteration_01', inputs)
        n_train = sum(shard.splits['train'] for shard in self.datasets.values())
        measured = {'energy_mae': force_mae / 40, 'force_mae': force_mae, 'force_rmse': 1.4 * force_mae}
        members = [{'force_mae': force_mae * factor, 'energy_mae': 0.001} for factor in (1.1, 1.2)]
        errors = {
            'train': {**measured, 'n_frames': n_train},
            'test': {**measured, 'n_frames': self.n_test, 'members': members, 'by_temperature': []},
        }
        made = self.give(self.create(orm.Dict(errors), job, 'errors'), chain, 'errors')
        self.made[f'{name}_errors'] = self.give(made, self.node, f'{where}__errors')
        n = self.n_parity or self.n_test
        deviations = self.deviation(n, force_mae, n_atoms=np.full(n, 3.0), temperature_K=np.full(n, 300.0))
        self.give(self.create(deviations, job, 'deviations__test'), chain, 'deviations__test')
        parity = orm.ArrayData()
        for kind, size in (('energy', n), ('forces', 9 * n)):
            reference = self.rng.normal(size=size)
            parity.set_array(f'{kind}_reference', reference)
            parity.set_array(f'{kind}_predicted', reference + self.rng.laplace(scale=force_mae, size=size))
        self.give(self.create(parity, job, 'parity__test'), chain, 'parity__test')
        self.made[name] = chain

    def iterate(self, until: str = 'record') -> None:
        """Do an iteration, or a part of it.

        :param until: ``train``, ``select`` or ``record``.
        """
        number = len(self.rows) + 1
        name = f'iteration_{number:02d}'
        self.train_and_evaluate(name)
        if until == 'train':
            return
        chain = self.process(orm.WorkChainNode, 'ExploreWorkChain', self.node, f'{name}_explore', {})
        job = self.process(
            orm.CalcJobNode,
            'ExploreCalculation',
            chain,
            'job_00',
            {'structures__start_00': self.structure(), **self.predictor()},
        )
        trajectory = self.create(self.trajectory(), job, 'trajectories__walker_00')
        values = np.sort(self.rng.lognormal(np.log(0.1), 0.8, self.frames))
        deviation = self.create(
            self.deviation(self.frames, 0.1, max_force_deviation=values), job, 'deviations__walker_00'
        )
        self.give(deviation, self.node, f'iterations__{name}__deviations__walker_00')
        choice = self.process(
            orm.CalcFunctionNode,
            'select_frames',
            self.node,
            'CALL',
            {'trajectories__walker_00': trajectory, 'deviations__walker_00': deviation},
        )
        ranks = np.full(self.frames, -1)
        ranks[-self.chosen :] = np.arange(self.chosen)
        verdicts = np.full(self.frames, Verdict.ACCURATE.code)
        verdicts[-self.chosen :] = Verdict.SELECTED.code
        selection = SelectionData.from_arrays(
            {
                'trajectory': np.zeros(self.frames, dtype=int),
                'frame': np.arange(self.frames),
                'verdict': verdicts,
                'rank': ranks,
                'max_force_deviation': values,
                **self.measured(values),
            },
            ['walker_00'],
            {'lower': 0.09, 'upper': 1.0, 'method': 'fixed', 'measure': self.measure},
        )
        self.made['selection'] = self.give(
            self.create(selection, choice, 'selection'), self.node, f'iterations__{name}__selection'
        )
        frames = {
            f'frame_{rank:03d}': self.create(
                FrameData.from_ase(
                    self.moved(),
                    kind='explore',
                    parent_uuid=trajectory.uuid,
                    index=rank,
                    time_fs=1.0,
                    trajectory='walker_00',
                    max_force_deviation=float(values[rank - self.chosen]),
                ),
                choice,
                f'frames__frame_{rank:03d}',
            )
            for rank in range(self.chosen)
        }
        self.made['frames'] = frames
        if until == 'select':
            return
        self.label(frames, f'{name}_label', name, 'train')
        self.record(name, choice, values[-self.chosen :])

    def record(self, name: str, choice: Any, deviation: np.ndarray) -> None:
        """Compare the new labels with what was predicted, and write the history."""
        assess = self.process(orm.CalcFunctionNode, 'assess_labels', self.node, 'CALL', {})
        new = self.deviation(
            self.chosen,
            0.1,
            max_force_deviation=deviation,
            rank=np.arange(self.chosen, dtype=float),
            max_force_error=2 * deviation,
        )
        self.give(self.create(new, assess, 'new_labels'), self.node, f'iterations__{name}__new_labels')
        self.rows.append(
            {
                'iteration': len(self.rows) + 1,
                'accurate_fraction': 0.8,
                'new_label_force_mae': 0.3,
                'new_label_energy_mae': 0.01,
                'new_label_force_rmse': 0.4,
                'stops': {'finished': 1},
            }
        )
        recorder = self.process(orm.CalcFunctionNode, 'record_iteration', self.node, 'CALL', {})
        history = self.create(orm.Dict({'rows': self.rows, 'stop_reason': None}), recorder, 'history')
        self.give(history, self.node, f'iterations__{name}__history')

    def finish(self) -> None:
        """Train the final committee and end."""
        self.train_and_evaluate('final')
        self.set_state(self.node, 'finished', 0)

    # ------------------------------------------------------------------------------------------------------------ labelling

    def label(self, frames: Mapping[str, FrameData], name: str, shard: str | None, split: str) -> None:
        """Label frames in one job.

        :param shard: of the run; None: the run had ended when the labels came.
        """
        inputs = {f'structures__{key}': frame for key, frame in frames.items()}
        chain = self.process(orm.WorkChainNode, 'LabelWorkChain', self.node, name, inputs)
        job = self.process(orm.CalcJobNode, 'LabelCalculation', chain, 'batch_000', inputs)
        labelled = []
        for key, frame in frames.items():
            atoms = frame.to_ase()
            atoms.info['REF_energy'] = float(self.rng.normal(-100))
            atoms.arrays['REF_forces'] = self.rng.normal(size=(len(atoms), 3))
            label = self.create(LabelData.from_ase(atoms, 'GFN2-xTB', 'hash', split), job, f'labels__{key}')
            self.give(label, chain, f'labels__{key}')
            labelled.append(atoms)
            atoms.info.update(name=key, split=split)
            self.made[f'{name}_{key}'] = label
        rejected = [{'structure': 'frame_999', 'reason': 'unconverged', 'message': 'SCF not converged'}]
        self.create(orm.Dict({'core_s': 5.0, 'rejected': rejected if name == 'label_test' else []}), job, 'report')
        dataset = self.create(DatasetData.from_ase(labelled, 'GFN2-xTB', 'hash'), job, 'dataset')
        self.give(dataset, chain, 'dataset')
        if shard is not None:
            self.datasets[shard] = self.give(dataset, self.node, f'datasets__{shard}')

    # ---------------------------------------------------------------------------------------------------------- single nodes

    def process(
        self, kind: type, name: str, parent: Any, label: str, inputs: Mapping[str, orm.Data], state: str = 'finished'
    ) -> Any:
        """Store a process with its inputs, called by another one."""
        job = kind is orm.CalcJobNode
        node = kind(computer=self.computer) if job else kind()
        if job:
            node.set_option('resources', {'num_machines': 1})
            node.set_option('scheduler_stderr', '_scheduler-stderr.txt')
        node.process_type = MODULES.get(name, f'aiida.calculations:mlip_al.{name}')
        node.base.attributes.set('process_label', name)
        work = kind is orm.WorkChainNode
        for link, data in inputs.items():
            kind_of_link = LinkType.INPUT_WORK if work else LinkType.INPUT_CALC
            node.base.links.add_incoming(data if data.is_stored else data.store(), kind_of_link, link)
        if parent is not None:
            node.base.links.add_incoming(parent, LinkType.CALL_WORK if work else LinkType.CALL_CALC, label)
        self.set_state(node, state, 0 if state == 'finished' else None)
        return node.store()

    @staticmethod
    def set_state(node: Any, state: str, exit_status: int | None, **attributes: Any) -> None:
        """Set how a process stands."""
        changed = {'process_state': state, **attributes}
        if exit_status is not None:
            changed['exit_status'] = exit_status
        node.base.attributes.set_many(changed)

    @staticmethod
    def create(data: Any, creator: Any, label: str) -> Any:
        """Store what a process made."""
        data.base.links.add_incoming(creator, LinkType.CREATE, label)
        return data.store()

    @staticmethod
    def give(data: Any, chain: Any, label: str) -> Any:
        """Let a work chain return something."""
        data.base.links.add_incoming(chain, LinkType.RETURN, label)
        return data

    def predictor(self) -> dict[str, orm.Data]:
        """Return the models as inputs of a job, with the uncertainty of one."""
        return {**{f'committee__{name}': model for name, model in self.committee.items()}, **self.uncertainty}

    def measured(self, deviation: np.ndarray) -> dict[str, np.ndarray]:
        """Return the array of the measure, if it is another one than the largest force deviation."""
        return {} if self.measure == 'max' else {MEASURES[self.measure].column: 10 * deviation}

    def shards(self) -> dict[str, orm.Data]:
        """Return the shards as inputs."""
        return {f'datasets__{name}': shard for name, shard in self.datasets.items()}

    def structure(self) -> orm.StructureData:
        """Return the structure that the user gave."""
        return self.node.inputs.structures.water

    def moved(self) -> Atoms:
        """Return a molecule that nobody has seen before."""
        atoms = ATOMS.copy()
        atoms.positions += self.rng.normal(scale=0.03, size=atoms.positions.shape)
        return atoms

    def trajectory(self) -> orm.TrajectoryData:
        """Return explored frames."""
        node = orm.TrajectoryData()
        positions = ATOMS.positions + self.rng.normal(scale=0.1, size=(self.frames, len(ATOMS), 3))
        node.set_trajectory(
            symbols=ATOMS.get_chemical_symbols(),
            positions=positions,
            cells=np.tile(np.eye(3) * 10, (self.frames, 1, 1)),
            pbc=[False, False, False],
        )
        return node

    def deviation(self, n: int, size: float, **arrays: np.ndarray) -> DeviationData:
        """Return deviations of the given size, with further arrays."""
        values = self.rng.lognormal(np.log(size), 0.5, n)
        required = dict.fromkeys(DeviationData.REQUIRED, values)
        found = {**required, **arrays}
        return DeviationData.from_arrays({**found, **self.measured(found['max_force_deviation'])})
