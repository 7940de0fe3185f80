"""MaceTrainCalculation: mace_run_train's arguments, the shards, and where a training starts."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm

from aiida_mlip_al.data import DatasetData

Make = Callable[..., Any]


def settings_of(job: Any) -> dict[str, Any]:
    return json.loads((job.folder / 'train.json').read_text())


def test_job(generate_calc_job: Make, train_inputs: dict[str, Any]) -> None:
    job = generate_calc_job('mlip_al.mace_train', train_inputs)
    settings = settings_of(job)
    arguments = settings.pop('arguments')
    assert settings == {
        'gradient_steps': 100,
        'stage_two_fraction': None,
        'final_lr_fraction': None,
        'choose_epoch': None,
        'bootstrap': None,
        'seed': 7,
        'shards': ['extra.xyz', 'seeds.xyz'],
        'replay': None,
    }
    assert ast.literal_eval(arguments.pop('E0s')) == {1: -13.5, 8: -440.0}
    assert ast.literal_eval(arguments.pop('atomic_numbers')) == [1, 8]
    assert arguments == {
        'r_max': 4.0,
        'lr': 0.01,
        'loss': 'weighted',
        'name': 'mace',
        'seed': 7,
        'work_dir': '.',
        'energy_key': 'REF_energy',
        'forces_key': 'REF_forces',
        'stress_key': 'REF_stress',
        'device': 'cpu',
        'error_table': 'PerAtomMAE',
        'plot': False,
        'save_cpu': True,
    }
    shards = train_inputs['datasets']
    assert job.calcinfo.local_copy_list == [
        (shards['extra'].uuid, 'dataset.xyz', 'extra.xyz'),
        (shards['seeds'].uuid, 'dataset.xyz', 'seeds.xyz'),
    ]
    assert not job.calcinfo.remote_copy_list
    assert job.calcinfo.codes_info[0].cmdline_params == ['runners/train.py', 'train.json']
    assert job.process.node.get_option('parser_name') == 'mlip_al.mace_train'
    for name in ('train.status.json', 'mace.model', 'mace_stagetwo.model', 'model.json', ('results/*', '.', 2)):
        assert name in job.calcinfo.retrieve_list


def test_elements_are_those_of_the_reference_energies(generate_calc_job: Make, train_inputs: dict[str, Any]) -> None:
    """Elements that come in later iterations are in the model from the start."""
    train_inputs['reference_energies'] = orm.Dict({'O': -440.0, 'C': -1030.0, 'H': -13.5})
    arguments = settings_of(generate_calc_job('mlip_al.mace_train', train_inputs))['arguments']
    assert arguments['E0s'] == '{1: -13.5, 6: -1030.0, 8: -440.0}'
    assert arguments['atomic_numbers'] == '[1, 6, 8]'


def test_own_keys_are_not_maces(generate_calc_job: Make, train_inputs: dict[str, Any]) -> None:
    own = {
        'gradient_steps': 10,
        'stage_two_fraction': 0.75,
        'final_lr_fraction': 0.01,
        'choose_epoch': 'last',
        'bootstrap': 0.9,
    }
    train_inputs['parameters'] = orm.Dict({**own, 'r_max': 4.0})
    settings = settings_of(generate_calc_job('mlip_al.mace_train', train_inputs))
    assert {key: settings[key] for key in own} == own
    assert not set(own) & set(settings['arguments'])


class TestLoss:
    """Stress is learned, and reported, where there are labels of it."""

    @pytest.fixture
    def stressed(self, train_inputs: dict[str, Any], make_labelled: Make) -> dict[str, Any]:
        """Inputs with a third shard that has stress."""
        frames = [make_labelled(index, stress=[0.01] * 6, split='train') for index in range(2)]
        train_inputs['datasets']['bulk'] = DatasetData.from_ase(frames, 'xtb', 'xtb-hash')
        return train_inputs

    @pytest.mark.parametrize(
        ('loss', 'expected', 'table'),
        [
            ({}, 'stress', 'PerAtomMAEstressvirials'),
            ({'loss': 'auto'}, 'stress', 'PerAtomMAEstressvirials'),
            ({'loss': 'universal'}, 'universal', 'PerAtomMAEstressvirials'),
            ({'loss': 'weighted'}, 'weighted', 'PerAtomMAE'),
        ],
    )
    def test_with_stress(
        self, generate_calc_job: Make, stressed: dict[str, Any], loss: dict[str, str], expected: str, table: str
    ) -> None:
        stressed['parameters'] = orm.Dict({'gradient_steps': 10, **loss})
        arguments = settings_of(generate_calc_job('mlip_al.mace_train', stressed))['arguments']
        assert (arguments['loss'], arguments['error_table']) == (expected, table)

    def test_without_stress(self, generate_calc_job: Make, train_inputs: dict[str, Any]) -> None:
        train_inputs['parameters'] = orm.Dict({'gradient_steps': 10, 'loss': 'auto'})
        arguments = settings_of(generate_calc_job('mlip_al.mace_train', train_inputs))['arguments']
        assert (arguments['loss'], arguments['error_table']) == ('weighted', 'PerAtomMAE')

    def test_stage_two_keeps_the_weight(self, generate_calc_job: Make, stressed: dict[str, Any]) -> None:
        stressed['parameters'] = orm.Dict({'gradient_steps': 10, 'stage_two_fraction': 0.5, 'stress_weight': 50.0})
        arguments = settings_of(generate_calc_job('mlip_al.mace_train', stressed))['arguments']
        assert arguments['swa_stress_weight'] == arguments['stress_weight'] == 50.0


class TestStart:
    """From scratch, from an earlier model, from a foundation model, with replay, from a checkpoint."""

    def test_from_scratch(self, generate_calc_job: Make, train_inputs: dict[str, Any]) -> None:
        train_inputs['parameters'] = orm.Dict({'gradient_steps': 10, 'lr': 0.01, 'warm_start': {'lr': 0.001}})
        arguments = settings_of(generate_calc_job('mlip_al.mace_train', train_inputs))['arguments']
        assert not {'foundation_model', 'multiheads_finetuning', 'restart_latest', 'warm_start'} & set(arguments)
        assert arguments['lr'] == 0.01

    def test_warm_start(self, generate_calc_job: Make, train_inputs: dict[str, Any], make_model: Make) -> None:
        parameters = {'gradient_steps': 100, 'lr': 0.01, 'warm_start': {'lr': 0.001, 'gradient_steps': 20}}
        train_inputs.update(initial_model=make_model(), parameters=orm.Dict(parameters))
        job = generate_calc_job('mlip_al.mace_train', train_inputs)
        settings = settings_of(job)
        assert settings['gradient_steps'] == 20
        assert settings['arguments']['lr'] == 0.001
        assert settings['arguments']['foundation_model'] == 'initial.model'
        assert settings['arguments']['multiheads_finetuning'] is False
        assert settings['arguments']['foundation_model_elements'] is True
        assert (train_inputs['initial_model'].uuid, 'mace.model', 'initial.model') in job.calcinfo.local_copy_list

    def test_fine_tuning_keeps_the_parameters(
        self, generate_calc_job: Make, train_inputs: dict[str, Any], make_model: Make
    ) -> None:
        parameters = {'gradient_steps': 100, 'lr': 0.01, 'warm_start': {'lr': 0.001}}
        train_inputs.update(initial_model=make_model(is_foundation=True), parameters=orm.Dict(parameters))
        arguments = settings_of(generate_calc_job('mlip_al.mace_train', train_inputs))['arguments']
        assert arguments['lr'] == 0.01
        assert arguments['foundation_model'] == 'initial.model'

    def test_replay(
        self, generate_calc_job: Make, train_inputs: dict[str, Any], make_model: Make, make_dataset: Make
    ) -> None:
        train_inputs.update(initial_model=make_model(is_foundation=True), replay=make_dataset(theory='pbe'))
        job = generate_calc_job('mlip_al.mace_train', train_inputs)
        assert settings_of(job)['replay'] == 'replay.xyz'
        assert settings_of(job)['arguments']['multiheads_finetuning'] is True
        assert (train_inputs['replay'].uuid, 'dataset.xyz', 'replay.xyz') in job.calcinfo.local_copy_list

    def test_checkpoint(self, generate_calc_job: Make, train_inputs: dict[str, Any], aiida_localhost: Any) -> None:
        train_inputs['parent_folder'] = orm.RemoteData(remote_path='/scratch/job', computer=aiida_localhost)
        job = generate_calc_job('mlip_al.mace_train', train_inputs)
        assert settings_of(job)['arguments']['restart_latest'] is True
        expected = [(aiida_localhost.uuid, '/scratch/job/checkpoints', 'checkpoints')]
        assert job.calcinfo.remote_copy_list == expected


@pytest.mark.parametrize(
    ('parameters', 'sentence'),
    [
        ({}, '`gradient_steps` is None, but must be a positive whole number.'),
        ({'gradient_steps': 0}, '`gradient_steps` is 0, but must be a positive whole number.'),
        ({'gradient_steps': 1.5}, '`gradient_steps` is 1.5, but must be a positive whole number.'),
        ({'gradient_steps': 1, 'seed': 3}, '`seed` is set by the training job itself: leave it out.'),
        ({'gradient_steps': 1, 'E0s': 'average'}, '`E0s` is set by the training job itself: leave it out.'),
        ({'gradient_steps': 1, 'forces_key': 'f'}, '`forces_key` is set by the training job itself: leave it out.'),
        ({'gradient_steps': 1, 'max_num_epochs': 9}, '`max_num_epochs` is set by the training job itself'),
        (
            {'gradient_steps': 1, 'stage_two_fraction': 1.5},
            '`stage_two_fraction` is 1.5, but must be above 0 and at most 1',
        ),
        ({'gradient_steps': 1, 'choose_epoch': 'first'}, '`choose_epoch` is first, but must be last or best.'),
        ({'gradient_steps': 1, 'bootstrap': 0}, '`bootstrap` is 0, but must be above 0 and at most 1.'),
        ({'gradient_steps': 1, 'bootstrap': 'half'}, '`bootstrap` is half, but must be above 0 and at most 1.'),
    ],
)
def test_refuses_bad_parameters(
    generate_calc_job: Make, train_inputs: dict[str, Any], parameters: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:
        generate_calc_job('mlip_al.mace_train', {**train_inputs, 'parameters': orm.Dict(parameters)})
    assert sentence in str(caught.value)


class TestRefusals:
    """Inputs that do not fit together are refused before anything is submitted."""

    def test_no_dataset(self, generate_calc_job: Make, train_inputs: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r'Training needs at least one dataset\.'):
            generate_calc_job('mlip_al.mace_train', {**train_inputs, 'datasets': {}})

    def test_mixed_theory(self, generate_calc_job: Make, train_inputs: dict[str, Any], make_dataset: Make) -> None:
        train_inputs['datasets']['other'] = make_dataset(theory='pbe')
        with pytest.raises(ValueError, match=r'other was labelled with `pbe` \(pbe-hash\), .* cannot be mixed'):
            generate_calc_job('mlip_al.mace_train', train_inputs)

    @pytest.mark.parametrize('split', ['train', 'validation'])
    def test_missing_split(
        self, generate_calc_job: Make, train_inputs: dict[str, Any], make_dataset: Make, split: str
    ) -> None:
        train_inputs['datasets'] = {'seeds': make_dataset(**{'train': 2, 'validation': 2, 'test': 2, split: 0})}
        with pytest.raises(ValueError, match=f'No frame of the datasets has the split `{split}`'):
            generate_calc_job('mlip_al.mace_train', train_inputs)

    def test_no_reference_energy(self, generate_calc_job: Make, train_inputs: dict[str, Any]) -> None:
        train_inputs['reference_energies'] = orm.Dict({'H': -13.5})
        with pytest.raises(
            ValueError, match='The element O has no reference energy: add its isolated-atom energy in eV'
        ):
            generate_calc_job('mlip_al.mace_train', train_inputs)

    def test_model_of_other_elements(
        self, generate_calc_job: Make, train_inputs: dict[str, Any], make_model: Make
    ) -> None:
        train_inputs['initial_model'] = make_model(elements=('C', 'H'))
        with pytest.raises(ValueError, match='The initial model does not know the element O'):
            generate_calc_job('mlip_al.mace_train', train_inputs)

    def test_replay_without_a_model(
        self, generate_calc_job: Make, train_inputs: dict[str, Any], make_dataset: Make
    ) -> None:
        train_inputs['replay'] = make_dataset()
        with pytest.raises(ValueError, match='`replay` goes with `initial_model`'):
            generate_calc_job('mlip_al.mace_train', train_inputs)

    def test_model_of_unknown_elements_is_accepted(
        self, generate_calc_job: Make, train_inputs: dict[str, Any], make_model: Make
    ) -> None:
        train_inputs['initial_model'] = make_model(elements=(), is_foundation=True)
        generate_calc_job('mlip_al.mace_train', train_inputs)
