"""MaceTrainPackCalculation: each member's folder is that of a training by itself, and what they share is there once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm

Make = Callable[..., Any]


@pytest.fixture
def pack_inputs(train_inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs of MaceTrainPackCalculation: two members."""
    shared = {name: node for name, node in train_inputs.items() if name != 'seed'}
    return {**shared, 'seeds': {'member_00': orm.Int(7), 'member_03': orm.Int(8)}}


def test_job(generate_calc_job: Make, pack_inputs: dict[str, Any], train_inputs: dict[str, Any]) -> None:
    job = generate_calc_job('mlip_al.mace_train_pack', pack_inputs)
    alone = json.loads((generate_calc_job('mlip_al.mace_train', train_inputs).folder / 'train.json').read_text())
    settings = json.loads((job.folder / 'member_00' / 'train.json').read_text())
    assert settings.pop('shards') == ['../extra.xyz', '../seeds.xyz']
    alone.pop('shards')
    assert settings == alone
    other = json.loads((job.folder / 'member_03' / 'train.json').read_text())
    assert (other['seed'], other['arguments']['seed']) == (8, 8)
    assert json.loads((job.folder / 'train_pack.json').read_text()) == {
        'folders': ['member_00', 'member_03'],
        'device': 'cpu',
    }
    shards = train_inputs['datasets']
    assert job.calcinfo.local_copy_list == [
        (shards['extra'].uuid, 'dataset.xyz', 'extra.xyz'),
        (shards['seeds'].uuid, 'dataset.xyz', 'seeds.xyz'),
    ]
    assert job.calcinfo.remote_copy_list == []
    for name in ('train_pack.status.json', ('member_03/mace.model', '.', 2), ('member_00/logs/*', '.', 3)):
        assert name in job.calcinfo.retrieve_list


def test_each_member_starts_where_it_is_to(
    generate_calc_job: Make, pack_inputs: dict[str, Any], make_model: Make, make_dataset: Make, aiida_localhost: Any
) -> None:
    """One from a foundation model with replay, the other too, and from a checkpoint."""
    model = make_model(is_foundation=True)
    pack_inputs.update(
        initial_models={'member_00': model, 'member_03': model},
        replay=make_dataset(theory='pbe'),
        parent_folders={'member_03': orm.RemoteData(remote_path='/scratch/pack/member_03', computer=aiida_localhost)},
    )
    job = generate_calc_job('mlip_al.mace_train_pack', pack_inputs)
    settings = {name: json.loads((job.folder / name / 'train.json').read_text()) for name in ('member_00', 'member_03')}
    assert {values['replay'] for values in settings.values()} == {'../replay.xyz'}
    assert {values['arguments']['foundation_model'] for values in settings.values()} == {'initial.model'}
    assert ['restart_latest' in values['arguments'] for values in settings.values()] == [False, True]
    for name in settings:
        assert (model.uuid, 'mace.model', f'{name}/initial.model') in job.calcinfo.local_copy_list
    assert [target for *_, target in job.calcinfo.local_copy_list].count('replay.xyz') == 1
    expected = [(aiida_localhost.uuid, '/scratch/pack/member_03/checkpoints', 'member_03/checkpoints')]
    assert job.calcinfo.remote_copy_list == expected


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'seeds': {}}, 'There is no member to train: give each a seed in `seeds`.'),
        ({'initial_models': {'member_01': ('H', 'O')}}, '`initial_models.member_01` is of no member'),
        ({'initial_models': {'member_03': ('C', 'H')}}, 'The initial model does not know the element O'),
        ({'replay': None, 'initial_models': {'member_03': ('H', 'O')}}, '`replay` goes with `initial_model`'),
    ],
)
def test_refusals(
    generate_calc_job: Make,
    pack_inputs: dict[str, Any],
    make_model: Make,
    make_dataset: Make,
    changes: dict[str, Any],
    sentence: str,
) -> None:
    models = changes.get('initial_models', {})
    changes = {**changes, 'initial_models': {name: make_model(elements=known) for name, known in models.items()}}
    if 'replay' in changes:
        changes['replay'] = make_dataset()
    with pytest.raises(ValueError) as caught:
        generate_calc_job('mlip_al.mace_train_pack', {**pack_inputs, **changes})
    assert sentence in str(caught.value)
