"""Explorations and labels of frames that exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import WorkflowFactory
from ase import Atoms
from ase.build import molecule
from ase.io import write
from helpers.geometry import geometry
from helpers.time_limit import terminated_when

from aiida_mlip_al.calculations.pool_functions import plan_pool
from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.data import DatasetData, FrameData, ModelData
from aiida_mlip_al.data.extxyz import dump_frames, labelled_atoms
from aiida_mlip_al.data.pool import frames_of, trajectories_of
from aiida_mlip_al.workflows.active_learning import ActiveLearningWorkChain
from aiida_mlip_al.workflows.builder import load_pool
from aiida_mlip_al.workflows.explore import ExploreWorkChain


def labelled(count: int, seed: int = 0, split: str = 'train', theory: str = 'PBE') -> DatasetData:
    """Water in random shapes, each with a label of its own."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(count):
        atoms = molecule('H2O')
        atoms.positions += rng.normal(scale=0.05, size=(3, 3))
        forces = rng.normal(size=(3, 3))
        frames.append(labelled_atoms(atoms, -500.0 - number, forces, split=split, temperature_K=300.0))
    return DatasetData.from_ase(frames, theory, theory).store()


def beginning(theory: str = 'PBE') -> DatasetData:
    """Four frames, one of them held out."""
    frames = labelled(4, seed=100, theory=theory).get_ase_list()
    frames[3].info['split'] = 'validation'
    return DatasetData.from_ase(frames, theory, theory).store()


@pytest.fixture
def committee(tmp_path: Path) -> dict[str, ModelData]:
    """Two models of hydrogen and oxygen."""
    from helpers.tiny_mace import write_committee

    paths = write_committee(tmp_path, ['H', 'O'], 2)
    return {f'member_{i:02d}': ModelData.from_path(path, elements=['H', 'O']).store() for i, path in enumerate(paths)}


@pytest.fixture
def overrides(python_code: Any) -> Callable[..., dict[str, Any]]:
    """Return a factory of a run that chooses from a pool: ``overrides(frames=[…], datasets=[…])``."""

    def make(frames: list[Any], datasets: list[Any], **others: Any) -> dict[str, Any]:
        return {
            'labels': {'pool': {}},
            'explore': {'pool': {'frames': frames}},
            'datasets': [node.pk for node in datasets],
            'codes': {'default': python_code.full_label},
            **others,
        }

    return make


def builder(values: dict[str, Any], folder: Path | str = '.') -> Any:
    structures = [orm.StructureData(ase=molecule('H2O'))]
    return ActiveLearningWorkChain.get_builder_from_protocol(structures, 'quickstart', values, folder)


@pytest.mark.slow
def test_the_committee_looks_at_all_frames_but_the_known(python_code: Any, committee: dict[str, ModelData]) -> None:
    dataset = labelled(7)
    frames = dataset.get_ase_list()
    (unlabelled,) = trajectories_of(enumerate(labelled(3, seed=1).get_ase_list()))
    results, node = run_get_node(
        ExploreWorkChain,
        committee=committee,
        settings=orm.Dict({'frames_per_job': 6}),
        seed=5,
        pool={'code': python_code, 'frames': {'pool_00': dataset, 'pool_01': unlabelled.store()}},
        known={'given': DatasetData.from_ase(frames[:1], 'PBE', 'pbe'), 'chosen_0000': FrameData.from_ase(frames[3])},
    )
    assert node.exit_status == 0
    names = ['job_00_pool_00_00', 'job_00_pool_01_00', 'job_01_pool_01_00']
    assert sorted(results['trajectories']) == sorted(results['deviations']) == names
    first, *others = (results['trajectories'][name] for name in names)
    seen = [geometry(frame) for frame in frames_of(first)]
    assert seen == [geometry(frames[row]) for row in (1, 2, 4, 5, 6)]
    assert first.get_stepids().tolist() == [1, 2, 4, 5, 6]
    assert [node.numsteps for node in others] == [1, 2]
    deviation = results['deviations'][names[0]]
    assert (deviation.max_force_deviation > 0).all()
    assert set(deviation.get_array('target_temperature_K')) == {300.0}
    assert deviation.get_array('descriptors').shape[0] == 5
    assert results['reports']['pool']['n_left'] == 8
    jobs = [child for child in node.called if child.process_label == 'DeviateBaseWorkChain']
    assert len(jobs) == 2


@pytest.mark.slow
def test_a_look_at_frames_that_a_time_limit_ended_is_sent_again(
    python_code: Any, committee: dict[str, ModelData]
) -> None:
    with terminated_when('evaluate', lambda folder: True) as stopped:
        results, node = run_get_node(
            ExploreWorkChain,
            committee=committee,
            settings=orm.Dict({'frames_per_job': 3}),
            seed=5,
            pool={'code': python_code, 'frames': {'pool_00': labelled(6)}},
        )
    assert len(stopped) == 1
    assert node.exit_status == 0, node.exit_message
    assert sum(deviation.n_frames for deviation in results['deviations'].values()) == 6
    attempts = [
        job.exit_status
        for child in node.called_descendants
        for job in child.called
        if job.process_label == 'DeviateCalculation'
    ]
    assert sorted(attempts) == [0, 0, 400]


def test_a_pool_of_known_frames_says_so(python_code: Any) -> None:
    dataset = labelled(2)
    _, node = run_get_node(
        ExploreWorkChain,
        committee={f'member_{i:02d}': ModelData.from_bytes(b'%d' % i, elements=['H', 'O']) for i in range(2)},
        settings=orm.Dict({}),
        seed=5,
        pool={'code': python_code, 'frames': {'pool_00': dataset}},
        known={'given': dataset},
    )
    assert node.exit_status == 401
    assert 'all frames of the pool are labelled already' in node.exit_message


@pytest.mark.parametrize(
    ('settings', 'frames', 'sentence'),
    [({'steps': 5}, True, 'steps'), ({}, False, 'There is no frame to choose from: give `pool.frames`.')],
)
def test_bad_pools_are_refused(python_code: Any, settings: dict[str, Any], frames: bool, sentence: str) -> None:
    pool = {'code': python_code, **({'frames': {'pool_00': labelled(2)}} if frames else {})}
    committee = {f'member_{i:02d}': ModelData.from_bytes(b'%d' % i, elements=['H', 'O']) for i in range(2)}
    with pytest.raises(ValueError, match=sentence):
        instantiate_process(
            get_manager().get_runner(),
            ExploreWorkChain,
            committee=committee,
            settings=orm.Dict(settings),
            seed=5,
            pool=pool,
        )


def test_labels_of_a_pool_through_the_label_work_chain() -> None:
    dataset, strange = labelled(4), FrameData.from_ase(molecule('H2O'))
    structures = {f'frame_{row:03d}': FrameData.from_ase(frame) for row, frame in enumerate(dataset.iterate())}
    inputs = {'pool': {'frames': {'pool_00': dataset}}, 'max_failed_fraction': orm.Float(0.3)}
    results, node = run_get_node(
        WorkflowFactory('mlip_al.label'), structures={**structures, 'strange': strange}, **inputs
    )
    assert node.exit_status == 0
    assert sorted(results['labels']) == sorted(structures)
    np.testing.assert_allclose(
        [results['labels'][name].energy for name in sorted(structures)], [-500, -501, -502, -503]
    )
    assert results['report']['reasons'] == {'unknown': 1}
    assert len(node.called) == 1
    _, lost = run_get_node(WorkflowFactory('mlip_al.label'), structures={'strange': strange}, **inputs)
    assert lost.exit_status == 401
    assert '1 of 1 structures got no label (1 unknown)' in lost.exit_message


def test_files_and_nodes_are_pools(overrides: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    begin, pool = beginning(), labelled(5, seed=1)
    write(tmp_path / 'md.traj', [molecule('H2O'), molecule('H2')])
    labels = {'ase': {'calculator': 'ase.calculators.emt:EMT'}}
    made = builder(overrides([pool.pk, 'md.traj'], [begin], labels=labels), tmp_path)
    nodes = made.explore.pool.frames
    assert [type(nodes[name]) for name in sorted(nodes)] == [DatasetData, orm.TrajectoryData, orm.TrajectoryData]
    assert ActiveLearningWorkChain.spec().inputs.validate(made._inputs(prune=True)) is None
    with pytest.raises(ConfigError, match='`labels.pool` needs labelled frames: import the files'):
        builder(overrides([pool.pk, 'md.traj'], [begin]), tmp_path)
    with pytest.raises(ConfigError, match='no dataset or trajectory node `12345` and no file'):
        builder(overrides([12345], [begin]), tmp_path)
    write(tmp_path / 'salt.xyz', molecule('NaCl'))
    with pytest.raises(ConfigError, match='The pool has frames with Cl, which none of the `structures` has'):
        builder(overrides(['salt.xyz'], [begin], labels=labels), tmp_path)


def test_test_frames_of_a_file_are_not_learned_from(tmp_path: Path) -> None:
    frames = [*labelled(2).iterate(), *labelled(3, seed=1, split='test').iterate()]
    (tmp_path / 'labels.xyz').write_bytes(dump_frames(frames))
    nodes = load_pool(['labels.xyz'], tmp_path)
    assert [nodes[name].numsteps for name in sorted(nodes)] == [2, 3]
    plan = plan_pool(orm.Dict({}), orm.Int(0), frames=nodes)
    assert plan['report']['n_left'] == 2
    (trajectory,) = plan['walkers']['job_00'].values()
    assert [geometry(frame) for frame in frames_of(trajectory)] == [geometry(frame) for frame in frames[:2]]


def test_labels_of_a_pool_and_of_the_beginning_are_of_one_level(overrides: Callable[..., dict[str, Any]]) -> None:
    begin, pool = labelled(3), labelled(5, seed=1, theory='SCAN')
    with pytest.raises(
        ConfigError, match=f'Dataset {pool.pk} was labelled with `SCAN` .*Dataset {begin.pk} with `PBE`'
    ):
        builder(overrides([pool.pk], [begin]))
    made = builder(overrides([pool.pk], [beginning('SCAN')]))
    made.datasets = {'given_00': begin}
    wrong = ActiveLearningWorkChain.spec().inputs.validate(made._inputs(prune=True))
    assert 'labels of different levels of theory cannot be mixed' in str(wrong)


@pytest.mark.parametrize(('split', 'missing'), [('train', 'for validation'), ('validation', 'to train on')])
def test_a_beginning_that_cannot_be_trained_on_is_refused(
    overrides: Callable[..., dict[str, Any]], split: str, missing: str
) -> None:
    made = builder(overrides([labelled(4).pk], [labelled(3, seed=1, split=split)]))
    wrong = ActiveLearningWorkChain.spec().inputs.validate(made._inputs(prune=True))
    assert f'There is no frame {missing} to begin with' in str(wrong)


def test_a_pool_of_which_nothing_is_left_is_refused(overrides: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    begin, tested = beginning(), labelled(3, split='test')
    with pytest.raises(ConfigError, match='There is nothing to choose from: of the 4 frames of the pool each is in'):
        builder(overrides([begin.pk], [begin]))
    (tmp_path / 'labels.xyz').write_bytes(dump_frames(tested.iterate()))
    for pool in (str(tested.pk), 'labels.xyz'):
        labels = {'ase': {'calculator': 'ase.calculators.emt:EMT'}}
        with pytest.raises(ConfigError, match='There is nothing to choose from: of the 3 frames'):
            builder(overrides([pool], [begin], labels=labels), tmp_path)


def test_elements_that_the_first_models_do_not_know_are_refused(overrides: Callable[..., dict[str, Any]]) -> None:
    peroxide, hydrogen = (
        DatasetData.from_ase([labelled_atoms(atoms, -1.0, np.zeros((len(atoms), 3)))], 'PBE', 'PBE').store()
        for atoms in (molecule('H2O2'), molecule('H2'))
    )
    held_out = labelled_atoms(Atoms('H', [[0, 0, 0]]), -1.0, np.zeros((1, 3)), split='validation')
    begin = DatasetData.from_ase([*hydrogen.iterate(), held_out], 'PBE', 'PBE').store()
    with pytest.raises(
        ConfigError, match='The pool has frames with O, and no frame to learn from in `datasets` has it'
    ):
        builder(overrides([peroxide.pk], [begin]))
    builder(overrides([peroxide.pk], [begin, labelled(1)]))
    builder(overrides([peroxide.pk], [begin], reference_energies={'H': -1.0, 'O': -2.0}))


def test_frames_of_a_pool_are_as_periodic_as_the_choice_needs(overrides: Callable[..., dict[str, Any]]) -> None:
    in_a_box, molecules = labelled(4, seed=1).get_ase_list(), labelled(4, seed=2)
    for frame in in_a_box:
        frame.cell, frame.pbc = [9, 9, 9], True
    periodic = DatasetData.from_ase(in_a_box, 'PBE', 'PBE').store()

    def problem(pool: DatasetData, pbc: bool, **select: Any) -> str:
        made = builder(overrides([pool.pk], [beginning()], select=select))
        made.structures = {'water': orm.StructureData(ase=Atoms('OH2', cell=[9, 9, 9], pbc=pbc))}
        return str(ActiveLearningWorkChain.spec().inputs.validate(made._inputs(prune=True)))

    stress, rmsd = {'measure': 'stress', 'lower': 1e-5}, {'diversity': 'rmsd', 'min_rmsd': 0.1}
    assert 'frames of a pool, that are periodic in three directions' in problem(molecules, True, **stress)
    assert 'compares molecules' in problem(periodic, False, **rmsd)
    assert problem(periodic, True, **stress) == problem(molecules, False, **rmsd) == 'None'


@pytest.mark.parametrize('temperature', ['hot', np.array([300.0, 310.0]), np.inf])
def test_a_temperature_that_is_no_number_is_refused(tmp_path: Path, temperature: Any) -> None:
    frames = [molecule('H2O') for _ in range(3)]
    frames[0].info['temperature_K'], frames[1].info['temperature_K'] = 300.0, temperature
    write(tmp_path / 'hot.xyz', frames)
    with pytest.raises(
        ConfigError, match=r'hot.xyz: Frame 1 has the temperature `.*`: give `temperature_K` as one number'
    ):
        load_pool(['hot.xyz'], tmp_path)


def test_symbols_that_are_no_elements_are_refused(tmp_path: Path) -> None:
    node = orm.TrajectoryData()
    node.set_trajectory(symbols=['O', 'H1', 'H2'], positions=molecule('H2O').positions[None], pbc=[False] * 3)
    pk = node.store().pk
    with pytest.raises(ConfigError, match=f'Node {pk} has atoms called H1, which is no element'):
        load_pool([str(pk)], tmp_path)


def test_all_describe_the_frames_of_a_pool_alike(overrides: Callable[..., dict[str, Any]]) -> None:
    made = builder(overrides([labelled(4).pk], [beginning()], select={'descriptors': 'gradient'}))
    validate = ActiveLearningWorkChain.spec().inputs.validate
    assert made.explore.pool.settings['descriptors'] == 'gradient'
    assert validate(made._inputs(prune=True)) is None
    made.explore.pool.settings = orm.Dict({})
    assert 'say so in `explore.pool.settings`, too' in str(validate(made._inputs(prune=True)))


def test_what_was_chosen_in_vain_is_not_looked_at_again(overrides: Callable[..., dict[str, Any]]) -> None:
    run = instantiate_process(get_manager().get_runner(), builder(overrides([labelled(4).pk], [beginning()])))
    run.setup()
    frames = [FrameData.from_ase(molecule('H2O')).store() for _ in range(3)]
    run.ctx.chosen = [frame.pk for frame in frames]
    run.ctx.starts.append((frames[1].pk, 'H2O'))
    assert {name: node.pk for name, node in run.chosen_in_vain().items()} == {
        'chosen_0000': frames[0].pk,
        'chosen_0002': frames[2].pk,
    }
