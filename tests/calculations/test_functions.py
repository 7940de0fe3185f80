"""The calcfunctions on hand-made nodes: what comes out, what it remembers, and that equal seeds give equal nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import workfunction
from ase import Atoms
from ase.build import bulk, graphene, molecule

from aiida_mlip_al.calculations import functions, seed_functions
from aiida_mlip_al.data import DatasetData, DeviationData, FrameData, SelectionData
from aiida_mlip_al.selection.verdict import Verdict

Make = Callable[..., Any]


def trajectory_of(frames: list[Atoms], timestep_fs: float = 5.0) -> orm.TrajectoryData:
    node = orm.TrajectoryData()
    node.set_trajectory(
        symbols=frames[0].get_chemical_symbols(),
        positions=np.array([frame.positions for frame in frames]),
        stepids=np.arange(len(frames)),
        cells=np.array([frame.cell.array for frame in frames]),
        times=np.arange(len(frames)) * timestep_fs / 1000.0,
        pbc=[bool(value) for value in frames[0].pbc],
    )
    node.set_array('forces', np.zeros((len(frames), len(frames[0]), 3)))
    node.set_array('energies', np.full(len(frames), -9.0))
    return node


def waters(n: int, seed: int = 0) -> list[Atoms]:
    frames = [molecule('H2O') for _ in range(n)]
    for index, frame in enumerate(frames):
        frame.rattle(0.02, seed=100 * seed + index)
    return frames


def deviation_of(maximum: list[float], stop_reason: str = 'finished', seed: int = 0, **arrays: Any) -> DeviationData:
    values = np.array(maximum)
    n = len(values)
    return DeviationData.from_arrays(
        {
            'max_force_deviation': values,
            'mean_force_deviation': values / 2,
            'min_force_deviation': values / 4,
            'energy_deviation_per_atom': values / 100,
            'max_force': np.ones(n),
            'time_fs': 5.0 * np.arange(n),
            'target_temperature_K': np.full(n, 300.0),
            'descriptors': np.random.default_rng(seed).normal(size=(n, 4)),
            **arrays,
        },
        stop_reason=stop_reason,
    )


@pytest.fixture
def explored() -> dict[str, Any]:
    """Two walkers: five frames of rising deviation, and three of which the last stopped the walker."""
    return {
        'trajectories': {'walker_00': trajectory_of(waters(5)), 'walker_01': trajectory_of(waters(3, seed=1))},
        'deviations': {
            'walker_00': deviation_of([0.01, 0.02, 0.3, 0.4, 5.0]),
            'walker_01': deviation_of([0.05, 0.5, 0.6], 'too_close', seed=1),
        },
    }


SETTINGS = {'lower': 0.1, 'upper': 2.0, 'max_labels': 10, 'audit_fraction': 0.0, 'validation_fraction': 0.0}


def select(explored: dict[str, Any], seed: int = 1, **changes: Any) -> dict[str, Any]:
    further = {
        name: changes.pop(name) for name in ('history', 'train', 'validation', 'new_labels', 'late') if name in changes
    }
    return functions.select_frames(orm.Dict({**SETTINGS, **changes}), orm.Int(seed), **explored, **further)


def test_report_of_batches_has_the_theory_of_those_with_labels() -> None:
    """A batch in which everything failed does not know its program's version, and so has another fingerprint."""
    common = {'n_rejected': 1, 'wall_s': 1.0, 'core_s': 2.0, 'reasons': {}, 'rejected': []}
    failed = orm.Dict({**common, 'n_labelled': 0, 'theory': 'PBE', 'theory_hash': 'none'})
    good = orm.Dict({**common, 'n_labelled': 2, 'theory': 'PBE', 'theory_hash': 'version 6'})
    report = functions.collect_labels(reports={'batch_000': failed, 'batch_001': good})['report'].get_dict()
    assert report['theory_hash'] == 'version 6'
    assert (report['n_labelled'], report['n_rejected'], report['core_s']) == (2, 2, 4.0)


class TestSeedFrames:
    CHAIN = [{'rattle': {'copies': 4, 'stdev': 0.05}}]

    def run(self, split: dict[str, Any], seed: int = 3, **structures: Any) -> dict[str, Any]:
        segment = {'chain': self.CHAIN, 'start': 0, 'stop': 1, 'seed': seed}
        return seed_functions.seed_frames(orm.Dict(segment), orm.Dict(split), structures=structures)

    def test_frames_remember_their_structure(self) -> None:
        water = orm.StructureData(ase=molecule('H2O')).store()
        warm = FrameData.from_ase(molecule('CH4'), temperature_K=600.0).store()
        frames = self.run({'name': 'test'}, a=water, b=warm)['frames']
        assert sorted(frames) == [f'frame_{index:03d}' for index in range(8)]
        first, last = frames['frame_000'], frames['frame_007']
        assert (first.origin['kind'], first.origin['parent_uuid'], first.split) == ('rattle', water.uuid, 'test')
        assert (last.origin['parent_uuid'], last.origin['temperature_K']) == (warm.uuid, 600.0)
        assert last.get_formula() == 'CH4'
        assert first.creator.process_label == 'seed_frames'

    def test_isolated_atoms_are_trained_on(self) -> None:
        segment = {'chain': [{'isolated_atoms': {}}], 'start': 0, 'stop': 1, 'seed': 3}
        structures = {'a': orm.StructureData(ase=molecule('CH3CH2OH')).store()}
        made = seed_functions.seed_frames(
            orm.Dict(segment), orm.Dict({'validation_fraction': 0.9}), structures=structures
        )
        splits = {len(frame.sites): frame.split for kind in ('kept', 'frames') for frame in made[kind].values()}
        assert splits[1] == 'train'
        tested = seed_functions.seed_frames(orm.Dict(segment), orm.Dict({'name': 'test'}), structures=structures)
        assert {frame.split for frame in tested['frames'].values()} == {'test'}

    def test_equal_seeds_give_equal_hashes(self) -> None:
        def hashes(seed: int) -> set[str]:
            water = orm.StructureData(ase=molecule('H2O')).store()
            frames = self.run({'validation_fraction': 0.5}, seed, a=water)['frames']
            return {str(frame.base.caching.get_hash()) for frame in frames.values()}

        assert hashes(3) == hashes(3)
        assert not hashes(3) & hashes(4)

    def test_step_that_cannot_go_on_is_an_exit_code(self) -> None:
        close = Atoms('H2', positions=[[0, 0, 0], [0, 0, 0.05]])
        segment = orm.Dict({'chain': self.CHAIN, 'start': 0, 'stop': 1, 'seed': 1})
        structure = orm.StructureData(ase=close).store()
        _, node = seed_functions.seed_frames.run_get_node(
            segment, orm.Dict({'name': 'train'}), structures={'a': structure}
        )
        assert node.exit_status == 401
        assert 'rattle' in node.exit_message


def test_chain_is_cut_at_its_jobs() -> None:
    chain = [{'rattle': {'copies': 2}}, {'md': {'steps': 10, 'every': 5}}, {'rattle': None}, {'rattle': {'copies': 3}}]
    segments = seed_functions.split_chain(orm.List(chain), orm.Int(5))
    found = [segments[name].get_dict() for name in sorted(segments)]
    assert [set(segment) for segment in found] == [
        {'chain', 'start', 'stop', 'seed'},
        {'md', 'seed'},
        {'chain', 'start', 'stop', 'seed'},
    ]
    assert [(segment['start'], segment['stop']) for segment in (found[0], found[2])] == [(0, 1), (2, 4)]
    assert found[1]['md'] == {'steps': 10, 'every': 5}


def test_frames_out_of_trajectories() -> None:
    trajectories = {'walker_00': trajectory_of(waters(4)), 'walker_01': trajectory_of(waters(4, seed=1))}
    walkers = [
        {'structure': 'a', 'temperature_K': 300.0, 'pressure_GPa': None, 'seed': 11},
        {'structure': 'a', 'temperature_K': [100.0, 300.0], 'pressure_GPa': 1.0, 'seed': 12},
    ]
    segment = orm.Dict({'md': {'frames': 4}, 'seed': 1})
    frames = seed_functions.trajectory_frames(segment, orm.Dict({'name': 'test'}), orm.List(walkers), **trajectories)[
        'frames'
    ]
    assert [frames[name].origin['index'] for name in sorted(frames)] == [1, 3, 1, 3]
    first, last = frames['frame_000'], frames['frame_003']
    np.testing.assert_allclose(
        first.to_ase().positions, trajectories['walker_00'].get_positions()[1], rtol=0, atol=1e-12
    )
    assert first.origin['parent_uuid'] == trajectories['walker_00'].uuid
    assert (first.origin['time_fs'], first.origin['temperature_K'], first.origin['seed']) == (5.0, 300.0, 11)
    assert 'pressure_GPa' not in first.origin
    assert 'temperature_K' not in last.origin, 'a ramp has no one temperature'
    assert (last.origin['pressure_GPa'], last.split) == (1.0, 'test')


def test_structures_that_cannot_be_run_start_no_walker() -> None:
    starts = {'gas': molecule('H2O'), 'atom': Atoms('H', cell=[9, 9, 9]), 'cell': bulk('NaCl', 'rocksalt', a=5.6)}
    structures = {name: FrameData.from_ase(atoms) for name, atoms in starts.items()}
    settings = {
        'steps': 100,
        'walkers': 4,
        'temperature': 300,
        'systems': {'NaCl': {'ensemble': 'npt', 'pressure': 0.0, 'walkers': 1}},
    }
    plan = functions.plan_dynamics(orm.Dict(settings), orm.Int(3), structures=structures)
    places = [walker['structure'] for job in plan['walkers'].values() for walker in job]
    assert sorted(places) == ['cell', 'gas', 'gas', 'gas', 'gas']
    assert plan['refused'].get_dict() == {'atom': 'One atom alone (H) has no temperature: give a supercell.'}
    settings = {'steps': 100, 'ensemble': 'npt', 'pressure': 0.0}
    plan = functions.plan_dynamics(orm.Dict(settings), orm.Int(3), structures=structures)
    assert sorted(plan['refused'].get_dict()) == ['atom', 'gas']


def test_members_keep_their_seeds_when_there_are_more() -> None:
    few, many = (functions.member_seeds(orm.Int(1), orm.Int(members)) for members in (2, 5))
    seeds = {name: node.value for name, node in many.items()}
    assert list(seeds) == [f'member_{index:02d}' for index in range(5)]
    assert len(set(seeds.values())) == 5
    assert all(0 <= seed < 2**31 for seed in seeds.values())
    assert {name: node.value for name, node in few.items()}.items() <= seeds.items()


def test_softer_training() -> None:
    parameters = orm.Dict({'gradient_steps': 10, 'lr': 0.02, 'warm_start': {'lr': 0.004}})
    gentler = functions.soften_training(parameters, orm.Int(7))
    assert gentler['parameters'].get_dict() == {'gradient_steps': 10, 'lr': 0.01, 'warm_start': {'lr': 0.002}}
    assert gentler['seed'].value != 7
    assert functions.soften_training(orm.Dict({}), orm.Int(7))['parameters']['lr'] == 0.005


def test_smaller_batches() -> None:
    parameters = orm.Dict({'batch_size': 5, 'valid_batch_size': 32, 'warm_start': {'batch_size': 8, 'lr': 0.1}})
    halved = {'batch_size': 2, 'valid_batch_size': 16, 'warm_start': {'batch_size': 4, 'lr': 0.1}}
    assert functions.halve_batches(parameters).get_dict() == halved
    assert functions.halve_batches(orm.Dict({'batch_size': 1})).get_dict() == {'batch_size': 1, 'valid_batch_size': 5}


def test_reference_energies_come_from_training_and_validation(make_labelled: Make) -> None:
    frames = [
        make_labelled(0, 'H', split='train'),
        make_labelled(1, 'O', split='test'),
        make_labelled(2, 'O', split='validation'),
    ]
    found = functions.fit_reference_energies(shard=DatasetData.from_ase(frames, 'xtb', 'abc')).get_dict()
    assert found == pytest.approx({'H': frames[0].info['REF_energy'], 'O': frames[2].info['REF_energy']}, rel=1e-12)


def test_batches_become_one_shard_in_the_order_of_names(make_labelled: Make) -> None:
    def batch(*numbers: int) -> DatasetData:
        return DatasetData.from_ase(
            [make_labelled(n, split='train', name=f'frame_{n:03d}') for n in numbers], 'xtb', 'abc'
        )

    def report(labelled: int, rejected: list[dict[str, str]]) -> orm.Dict:
        reasons = {item['reason']: 1 for item in rejected}
        counts = {'n_labelled': labelled, 'n_rejected': len(rejected), 'wall_s': 1.0, 'core_s': 2.0}
        return orm.Dict({**counts, 'reasons': reasons, 'rejected': rejected, 'theory': 'xtb', 'theory_hash': 'abc'})

    rejection = {'structure': 'frame_004', 'reason': 'too_close', 'message': ''}
    collected = functions.collect_labels(
        datasets={'batch_000': batch(0, 2), 'batch_001': batch(1, 3)},
        reports={'batch_000': report(2, []), 'batch_001': report(2, [rejection])},
    )
    assert [frame.info['name'] for frame in collected['dataset'].iterate()] == [f'frame_{n:03d}' for n in range(4)]
    summary = collected['report'].get_dict()
    assert (summary['n_structures'], summary['n_labelled'], summary['n_rejected']) == (5, 4, 1)
    assert (summary['wall_s'], summary['core_s'], summary['reasons']) == (2.0, 4.0, {'too_close': 1})


class TestSelectFrames:
    def test_each_walker_is_a_trajectory_of_its_own(self) -> None:
        """An atom that one walker moved to the right and another to the left is followed from rest in both."""
        rest = Atoms('Ar3', [[0, 0, 0], [0, 4, 0], [0, 0, 4]], cell=[9, 9, 9], pbc=True)
        reference = orm.StructureData(ase=rest).store()
        structures, references = {}, {}
        for index, (walker, moved) in enumerate([(0, 2.2), (0, 4.4), (1, -2.2)]):
            atoms = rest.copy()
            atoms.positions[1] += [moved, 0, 0]
            parent = f'walker-{walker}'
            frame = FrameData.from_ase(atoms, 'train', kind='md', parent_uuid=parent, walker=walker, index=index)
            structures[f'frame_{index:03d}'] = frame
            references[f'frame_{index:03d}'] = reference
        chain = [{'molecular_clusters': {'n_molecules': [2], 'images': False}}]
        segment = {'chain': chain, 'start': 0, 'stop': 1, 'seed': 1}
        results, node = seed_functions.seed_frames.run_get_node(
            orm.Dict(segment), orm.Dict({'name': 'train'}), structures=structures, references=references
        )
        assert node.exit_status == 0, node.exit_message
        distances = [frame.get_ase().get_distance(0, 1) for _, frame in sorted(results['frames'].items())]
        assert distances == pytest.approx([np.hypot(4, 2.2), np.hypot(4, 4.4), np.hypot(4, 2.2)])

    def test_warnings_reach_the_report(self) -> None:
        """A vacuum gap that is found is told where the user looks."""
        sheet = graphene(vacuum=8.0)
        sheet.pbc = True
        structures = {'sheet': orm.StructureData(ase=sheet)}
        segment = {'chain': [{'lattice_perturbation': {'copies': 1}}], 'start': 0, 'stop': 1, 'seed': 1}
        _, node = seed_functions.seed_frames.run_get_node(
            orm.Dict(segment), orm.Dict({'name': 'train'}), structures=structures
        )
        assert node.exit_status == 0, node.exit_message
        assert any('vacuum' in log.message for log in orm.Log.collection.get_logs_for(node))

    def test_fates(self, explored: dict[str, Any]) -> None:
        result = select(explored)
        selection = result['selection']
        assert [verdict.value for verdict in selection.verdicts] == [
            'accurate',
            'accurate',
            'selected',
            'selected',
            'failed',
            'accurate',
            'selected',
            'unphysical',
        ]
        np.testing.assert_array_equal(selection.get_array('trajectory'), [0] * 5 + [1] * 3)
        np.testing.assert_array_equal(selection.get_array('frame'), [0, 1, 2, 3, 4, 0, 1, 2])
        assert selection.thresholds == {'lower': 0.1, 'upper': 2.0, 'method': 'fixed', 'measure': 'max'}

    def test_every_chosen_frame_is_a_node_that_leads_back(self, explored: dict[str, Any]) -> None:
        result = select(explored)
        chosen = result['selection'].chosen()
        assert sorted(chosen) == [('walker_00', 2), ('walker_00', 3), ('walker_01', 1)]
        assert sorted(result['frames']) == ['frame_000', 'frame_001', 'frame_002']
        for rank, (name, row) in enumerate(chosen):
            frame = result['frames'][f'frame_{rank:03d}']
            trajectory, deviation = explored['trajectories'][name], explored['deviations'][name]
            np.testing.assert_allclose(frame.to_ase().positions, trajectory.get_positions()[row], rtol=0, atol=1e-12)
            origin = frame.origin
            assert (origin['parent_uuid'], origin['index'], origin['trajectory']) == (trajectory.uuid, row, name)
            assert origin['max_force_deviation'] == deviation.max_force_deviation[row]
            assert (origin['time_fs'], origin['temperature_K']) == (5.0 * row, 300.0)
            assert (origin['kind'], origin['verdict'], frame.split) == ('explore', 'selected', 'train')

    def test_budgets(self, explored: dict[str, Any]) -> None:
        assert len(select(explored, max_labels=2)['frames']) == 2
        known = {'train': deviation_of([0.1] * 6, seed=5), 'validation': deviation_of([0.1] * 3, seed=6)}
        assert len(select(explored, label_budget=10, **known)['frames']) == 1
        spent = select(explored, label_budget=9, **known)
        assert not spent.get('frames')
        assert spent['selection'].counts['over_budget'] == 3

    def test_labels_that_came_late_are_in_the_budget(self, explored: dict[str, Any], make_labelled: Make) -> None:
        known = {'train': deviation_of([0.1] * 6, seed=5)}
        frames = [make_labelled(n, split=split) for n, split in enumerate(('test', 'validation', 'test', 'train'))]
        late = DatasetData.from_ase(frames, 'xtb', 'abc')
        assert len(select(explored, label_budget=11, **known)['frames']) == 3
        assert len(select(explored, label_budget=10, late=late, **known)['frames']) == 2

    def test_accurate_frames_are_looked_at_too(self, explored: dict[str, Any]) -> None:
        frames = waters(5)
        frames[1].set_distance(0, 1, 0.3)
        explored['trajectories']['walker_00'] = trajectory_of(frames)
        verdicts = select(explored, audit_fraction=1.0)['selection'].verdicts
        assert [verdict.value for verdict in verdicts][:3] == ['audit', 'unphysical', 'selected']

    @pytest.mark.parametrize(
        'rule', [{'moving_average': {}}, {'adaptive_lower': {'number': 1, 'fraction': 0}}], ids=['mean', 'highest']
    )
    def test_unphysical_frames_do_not_move_the_level(self, explored: dict[str, Any], rule: dict[str, Any]) -> None:
        def lower(forces: list[float], last: float) -> float:
            deviation = deviation_of([0.01, 0.02, 0.3, 0.4, last], max_force=np.array(forces))
            explored['deviations'] = {**explored['deviations'], 'walker_00': deviation}
            found = select(explored, lower=None, upper=None, levels=rule)['selection'].thresholds['lower']
            return float(found)

        blown_up = [1.0, 1.0, 1.0, 1.0, 80.0]
        assert lower(blown_up, 188.0) == lower(blown_up, 5.0) <= 0.5
        assert lower([1.0] * 5, 188.0) > 10

    def test_where_all_frames_are_unphysical_there_is_a_level_all_the_same(self, explored: dict[str, Any]) -> None:
        result = select(explored, lower=None, upper=None, levels={'moving_average': {}}, max_force=0.5)
        assert result['selection'].counts['unphysical'] == 8

    def test_frames_of_a_pool_have_no_first_one_to_be_held_against(self, explored: dict[str, Any]) -> None:
        cells = [bulk('NaCl', 'rocksalt', a=5.6 * scale, cubic=True) for scale in (1.0, 1.05, 1.3, 1.0)]
        deviation = deviation_of([0.3, 0.4, 0.5, 0.6])
        for independent, unphysical in ((False, 1), (True, 0)):
            trajectory = trajectory_of(cells)
            trajectory.base.attributes.set('independent', independent)
            pool = {'trajectories': {'pool': trajectory}, 'deviations': {'pool': deviation}}
            assert select(pool)['selection'].counts['unphysical'] == unphysical

    def test_lower_level_is_calibrated_on_validation_and_new_labels(self, explored: dict[str, Any]) -> None:
        """The errors are twice the deviations, so a tolerance of 0.8 is a level of 0.4."""
        deviation = np.linspace(0.1, 1.0, 30)
        pairs = {
            name: deviation_of(list(deviation), seed=seed, max_force_error=2 * deviation)
            for seed, name in enumerate(('validation', 'new_labels'))
        }
        thresholds = select(explored, lower=None, tolerance=0.8, **pairs)['selection'].thresholds
        assert thresholds['method'] == 'conformal'
        assert thresholds['n_pairs'] == 60
        assert thresholds['factor'] == pytest.approx(2.0, rel=1e-9)
        assert thresholds['lower'] == pytest.approx(0.4, rel=1e-9)

    def test_measure_is_compared_with_the_levels(self, explored: dict[str, Any]) -> None:
        """The mean of these deviations is half of their maximum."""
        selection = select(explored, measure='mean', lower=0.18, upper=1.0)['selection']
        assert [verdict.value for verdict in selection.verdicts][2:5] == ['accurate', 'selected', 'failed']
        assert selection.thresholds['measure'] == 'mean'
        np.testing.assert_array_equal(selection.measure, selection.get_array('max_force_deviation') / 2)
        for name, deviation in explored['deviations'].items():
            assert deviation.get_array('mean_force_deviation').max() > 0.18, name
        with pytest.raises(ValueError, match="'percentile' needs the array"):
            select(explored, measure='percentile')

    def test_moving_average_goes_on_with_the_history(self, explored: dict[str, Any]) -> None:
        """Two walkers, in the order of time: 0.01, 0.05, 0.02, 0.5, 0.3, 0.4, 5.0, without the 0.6 of the unphysical frame."""
        rule = {'lower': None, 'upper': None, 'levels': {'moving_average': {'n': 10}}}
        first = select(explored, **rule)['selection'].thresholds
        assert first['recent'] == [0.01, 0.05, 0.02, 0.5, 0.3, 0.4, 5.0]
        history = orm.Dict({'rows': [{'thresholds': first, 'n_labels': 20}]})
        second = select(explored, history=history, **rule)['selection'].thresholds
        assert second['recent'] == [0.3, 0.4, 5.0, *first['recent']]
        assert second['lower'] == pytest.approx(np.mean(second['recent']))
        assert (second['method'], second['measure']) == ('moving_average', 'max')

    def test_labels_just_received_change_the_level(self, explored: dict[str, Any]) -> None:
        deviation = np.linspace(0.1, 1.0, 30)
        held_out = deviation_of(list(deviation), max_force_error=2 * deviation)
        harder = deviation_of(list(deviation), seed=1, max_force_error=8 * deviation)
        rule = {'lower': None, 'tolerance': 0.8}
        alone = select(explored, validation=held_out, **rule)['selection'].thresholds
        with_new = select(explored, validation=held_out, new_labels=harder, **rule)['selection'].thresholds
        assert (alone['lower'], with_new['lower']) == (pytest.approx(0.4), pytest.approx(0.1))

    def test_error_fit_sees_training_frames_too(self, explored: dict[str, Any]) -> None:
        pairs = {
            name: deviation_of([0.1, 0.2], seed=seed, max_force_error=np.array([0.2, error]))
            for seed, (name, error) in enumerate({'train': 0.4, 'validation': 0.8}.items())
        }
        rule = {'lower': None, 'tolerance': 1.0, 'levels': {'error_fit': {}}}
        thresholds = select(explored, **pairs, **rule)['selection'].thresholds
        assert thresholds['lower'] == pytest.approx((2 * 0.02 + 0.08 + 0.16) / (2 * 0.04 + 0.16 + 0.64))

    def test_two_systems_get_their_shares(self) -> None:
        """Methane, explored by two walkers, is farther off than water."""
        methanes = [molecule('CH4') for _ in range(4)]
        for index, frame in enumerate(methanes):
            frame.rattle(0.02, seed=index)
        explored = {
            'trajectories': {
                'walker_00': trajectory_of(methanes),
                'walker_01': trajectory_of(waters(4)),
                'walker_02': trajectory_of(methanes),
            },
            'deviations': {
                'walker_00': deviation_of([0.6, 0.7, 0.8, 0.9]),
                'walker_01': deviation_of([0.2, 0.3, 0.4, 0.5], seed=1),
                'walker_02': deviation_of([0.65, 0.75, 0.85, 0.95], seed=2),
            },
        }

        def chosen(**changes: Any) -> list[str]:
            result = select(explored, diversity='top', max_labels=6, **changes)
            return [frame.get_formula() for _, frame in sorted(result['frames'].items())]

        assert set(chosen()) == {'CH4'}
        for key in ('max_per_system', 'max_per_composition'):
            assert sorted(chosen(**{key: 'fair'})) == ['CH4'] * 3 + ['H2O'] * 3
            assert sorted(chosen(**{key: 1})) == ['CH4', 'H2O']

    def test_supercells_are_one_composition_and_two_systems(self) -> None:
        cell = bulk('NaCl', 'rocksalt', a=5.6)
        explored = {
            'trajectories': {
                'walker_00': trajectory_of([cell] * 3),
                'walker_01': trajectory_of([cell * (2, 1, 1)] * 3),
            },
            'deviations': {
                name: deviation_of([0.5] * 3, seed=seed) for seed, name in enumerate(('walker_00', 'walker_01'))
            },
        }
        assert len(select(explored, max_per_system=1)['frames']) == 2
        assert len(select(explored, max_per_composition=1)['frames']) == 1

    def test_molecules_that_differ(self, explored: dict[str, Any]) -> None:
        """Water without its hydrogen atoms is a single atom: all are alike, and the most uncertain one is kept."""
        result = select(explored, diversity='rmsd')
        assert result['selection'].counts['duplicate'] == 2
        assert [frame.origin['max_force_deviation'] for frame in result['frames'].values()] == [0.5]
        assert len(select(explored, diversity='rmsd', exclude_hydrogen=False, min_rmsd=1e-3)['frames']) == 3

    def test_equal_seeds_give_equal_choices(self, explored: dict[str, Any]) -> None:
        def hash_of(seed: int, **changes: Any) -> str:
            result = select(explored, seed, diversity='random', max_labels=2, **changes)
            return str(result['selection'].base.caching.get_hash())

        assert hash_of(1) == hash_of(1)
        hashes = [hash_of(seed) for seed in range(4)]
        assert len(set(hashes)) > 1
        history = orm.Dict({'rows': [{}]})
        assert [hash_of(seed, history=history) for seed in range(4)] != hashes


class TestAssessment:
    def test_errors_of_the_committee_that_chose(self, explored: dict[str, Any], make_labelled: Make) -> None:
        selection = select(explored)['selection']
        labelled = make_labelled(0, split='train', name='frame_001')
        labelled.arrays['REF_forces'] = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        labelled.info['REF_energy'] = -12.0
        dataset = DatasetData.from_ase([labelled], 'xtb', 'abc')
        found = functions.assess_labels(selection, datasets={'label': dataset}, **explored)['new_labels']
        name, row = selection.chosen()[1]
        assert found.n_frames == 1
        assert found.get_array('rank')[0] == 1
        assert found.get_array('audit')[0] == 0.0
        assert found.max_force_deviation[0] == explored['deviations'][name].max_force_deviation[row]
        assert found.get_array('max_force_error')[0] == pytest.approx(5.0)
        assert found.get_array('force_mae')[0] == pytest.approx(7.0 / 9)
        assert found.get_array('force_mse')[0] == pytest.approx(25.0 / 9)
        assert found.get_array('energy_error_per_atom')[0] == pytest.approx(1.0)

    def test_audited_frames_are_marked(self, explored: dict[str, Any], make_labelled: Make) -> None:
        selection = select(explored, audit_fraction=0.5)['selection']
        ranks = selection.get_array('rank')
        audited = {
            int(rank) for rank, verdict in zip(ranks, selection.verdicts, strict=True) if verdict is Verdict.AUDIT
        }
        assert audited
        chosen = len(selection.chosen())
        frames = [make_labelled(rank, split='train', name=f'frame_{rank:03d}') for rank in range(chosen)]
        dataset = DatasetData.from_ase(frames, 'xtb', 'abc')
        found = functions.assess_labels(selection, datasets={'label': dataset}, **explored)['new_labels']
        assert {int(r) for r, a in zip(found.get_array('rank'), found.get_array('audit'), strict=True) if a} == audited


class TestHistory:
    ERRORS = {
        'train': {'n_frames': 20, 'force_mae': 0.1},
        'validation': {'n_frames': 4, 'force_mae': 0.2},
        'wall_s': 1.0,
        'core_s': 1.0,
    }

    @staticmethod
    def selection(n_accurate: int, n_selected: int) -> SelectionData:
        verdicts = [Verdict.ACCURATE.code] * n_accurate + [Verdict.SELECTED.code] * n_selected
        n = len(verdicts)
        arrays = {
            'trajectory': np.zeros(n, dtype=int),
            'frame': np.arange(n),
            'verdict': np.array(verdicts),
            'rank': np.array([-1] * n_accurate + list(range(n_selected))),
            'max_force_deviation': np.linspace(0.0, 1.0, n),
        }
        return SelectionData.from_arrays(arrays, ['walker_00'], {'lower': 0.1, 'upper': None, 'tolerance': 0.3})

    def record(self, selection: SelectionData, stop: dict[str, Any], **inputs: Any) -> dict[str, Any]:
        return functions.record_iteration(orm.Dict(stop), selection, orm.Dict(self.ERRORS), **inputs)['history']

    def test_row(self) -> None:
        new = deviation_of(
            [0.2, 0.4],
            audit=np.array([0.0, 1.0]),
            max_force_error=np.array([0.1, 0.5]),
            force_mae=np.array([0.1, 0.4]),
            force_mse=np.array([0.04, 0.16]),
            energy_error_per_atom=np.array([0.01, -0.03]),
            n_atoms=np.array([1.0, 2.0]),
        )
        reports = {'train': {'member_00': orm.Dict({'core_s': 3.0}), 'member_01': orm.Dict({'core_s': 4.0})}}
        deviations = {'walker_00': deviation_of([0.1], 'too_close')}
        row = self.record(self.selection(8, 2), {}, new_labels=new, reports=reports, deviations=deviations)['rows'][0]
        assert (row['iteration'], row['n_labels'], row['n_new_labels'], row['n_frames']) == (1, 26, 2, 10)
        assert (row['accurate_fraction'], row['n_candidates']) == (0.8, 2)
        assert row['new_label_force_mae'] == pytest.approx((0.1 + 2 * 0.4) / 3)
        assert row['new_label_force_rmse'] == pytest.approx(((0.04 + 2 * 0.16) / 3) ** 0.5)
        assert row['new_label_energy_mae'] == pytest.approx(0.02)
        assert (row['n_audited'], row['n_audit_wrong']) == (1, 1)
        assert row['core_s'] == {'train': 7.0, 'evaluate': 1.0}
        assert row['core_hours'] == pytest.approx(8.0 / 3600)
        assert (row['validation_force_mae'], row['test_force_mae'], row['n_learned']) == (0.2, None, 24)
        assert row['stops'] == {'too_close': 1}
        assert row['deviation_quantiles']['0.50'] == pytest.approx(0.5)

    def test_a_pool_of_which_every_frame_was_chosen_ends_the_run(self) -> None:
        """Audits are chosen, too."""
        verdicts = [Verdict.SELECTED, Verdict.AUDIT, Verdict.SELECTED, Verdict.ACCURATE]
        selection = SelectionData.from_arrays(
            {
                'trajectory': np.zeros(4, dtype=int),
                'frame': np.arange(4),
                'verdict': np.array([verdict.code for verdict in verdicts]),
                'rank': np.array([0, 2, 1, -1]),
                'max_force_deviation': np.full(4, 0.1),
            },
            ['pool'],
            {'lower': 0.1, 'upper': None},
        )
        for n_left, reason in ((4, None), (3, 'pool_used_up')):
            pool = orm.Dict({'n_left': n_left, 'core_s': 0.0})
            history = self.record(selection, {}, reports={'explore': {'pool': pool}})
            assert (history['rows'][0]['n_left'], history['stop_reason']) == (n_left - 3, reason)
        assert self.record(selection, {})['rows'][0]['n_left'] is None

    def test_rows_add_up_until_there_is_a_reason(self) -> None:
        stop = {'max_iterations': 2, 'accurate_fraction': 0.99}
        first = self.record(self.selection(5, 5), stop)
        assert first['stop_reason'] is None
        second = self.record(self.selection(6, 4), stop, history=first)
        assert [row['iteration'] for row in second['rows']] == [1, 2]
        assert second['rows'][0] == first['rows'][0]
        assert second['stop_reason'] == 'max_iterations'
        assert second['stop_sentence'].startswith(
            '2 of the 2 iterations allowed are done; not met: 60 % of the explored frames'
        )

    def test_time_counts_from_the_start_of_the_run_and_stands_in_no_row(self) -> None:
        @workfunction
        def run(stop: orm.Dict, selection: SelectionData, errors: orm.Dict) -> Any:
            return functions.record_iteration(stop, selection, errors)

        stop = {'max_hours': 1e-9}
        late = run(orm.Dict(stop), self.selection(5, 5), orm.Dict(self.ERRORS))['history']
        assert late['stop_reason'] == 'max_hours'
        alone = self.record(self.selection(5, 5), stop)
        assert alone['stop_reason'] is None
        assert alone['rows'] == late['rows']

    def test_audits_that_come_late_count_in_their_round(self) -> None:
        """Of the first round one audit was right, and the late one was wrong."""

        def audits(*errors: float) -> DeviationData:
            n = len(errors)
            others = {name: np.full(n, 0.1) for name in ('force_mae', 'force_mse', 'energy_error_per_atom')}
            return deviation_of(
                [0.05] * n, audit=np.ones(n), max_force_error=np.array(errors), n_atoms=np.ones(n), **others
            )

        first = self.record(self.selection(9, 1), {}, new_labels=audits(0.1))
        second = self.record(
            self.selection(9, 1), {}, history=first, new_labels=audits(0.1, 0.1), late_labels=audits(0.1, 0.5)
        )
        counts = [[(row['n_audited'], row['n_audit_wrong']) for row in made['rows']] for made in (first, second)]
        assert counts == [[(1, 0)], [(2, 1), (2, 0)]]

    def test_audits_count_only_against_a_tolerance(self) -> None:
        new = deviation_of(
            [0.2, 0.4],
            **{name: np.ones(2) for name in ('audit', 'force_mae', 'force_mse', 'energy_error_per_atom', 'n_atoms')},
            max_force_error=np.array([0.1, 0.5]),
        )
        selection = self.selection(8, 2)
        assert self.record(selection, {}, new_labels=new)['rows'][0]['n_audited'] == 2
        selection = self.selection(8, 2)
        selection.base.attributes.set('thresholds', {'lower': 0.1, 'upper': None})
        row = self.record(selection, {}, new_labels=new)['rows'][0]
        assert (row['n_audited'], row['n_audit_wrong']) == (0, 0)

    def test_properties_are_compared_with_those_before(self) -> None:
        stop = {'accurate_fraction': None, 'properties': {'volume': 0.05}, 'rounds': 1}
        first = self.record(self.selection(5, 5), stop, properties=orm.Dict({'salt': {'volume': 20.0}}))
        assert (first['stop_reason'], first['rows'][0]['properties']) == (None, {'salt': {'volume': 20.0}})
        second = self.record(self.selection(5, 5), stop, history=first, properties=orm.Dict({'salt': {'volume': 20.5}}))
        assert second['stop_reason'] == 'converged'
        assert 'volume of salt changed by 2.5 % (at most 5 % asked for)' in second['stop_sentence']


def test_frame_of_a_trajectory_is_whole() -> None:
    atoms = bulk('NaCl', 'rocksalt', a=5.6)
    atoms.pbc = [True, True, False]
    frame = functions.frame_of(trajectory_of([atoms, atoms]), 1)
    assert frame.get_chemical_symbols() == ['Na', 'Cl']
    np.testing.assert_array_equal(frame.pbc, atoms.pbc)
    np.testing.assert_array_equal(frame.cell.array, atoms.cell.array)
