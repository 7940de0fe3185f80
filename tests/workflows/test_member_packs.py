"""Members of a committee that share a job: real, tiny MACE through the real engine, and what becomes of those that fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common import LinkType
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import WorkflowFactory
from helpers.time_limit import terminated_when
from helpers.tiny_training import TINY, distorted_water

# In double precision, so that a pack can be compared with single jobs; members differ by data too.
MEMBER = {**TINY, 'default_dtype': 'float64', 'bootstrap': 0.9}
ENERGIES = {'H': 0.0, 'O': 0.0}


@pytest.fixture
def inputs(python_code: Any) -> Callable[..., dict[str, Any]]:
    """Return a factory of inputs of a committee of two: ``inputs(members_per_job=2)``."""
    dataset = distorted_water()

    def make(parameters: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        return {
            'datasets': {'shard': dataset},
            'mace': {'train': {'code': python_code, 'parameters': orm.Dict({**MEMBER, **(parameters or {})})}},
            'reference_energies': orm.Dict(ENERGIES),
            'members': orm.Int(2),
            'seed': orm.Int(1),
            **changes,
        }

    return make


def jobs_of(node: orm.WorkChainNode) -> list[orm.CalcJobNode]:
    jobs = [child for child in node.called_descendants if isinstance(child, orm.CalcJobNode)]
    return sorted(jobs, key=lambda job: job.pk)


def weights_of(model: Any) -> dict[str, np.ndarray]:
    import torch

    with model.open(mode='rb') as handle:
        return {key: value.numpy() for key, value in torch.load(handle, weights_only=False).state_dict().items()}


@pytest.mark.slow
def test_a_pack_trains_what_each_member_would_by_itself(inputs: Callable[..., dict[str, Any]]) -> None:
    committee_train = WorkflowFactory('mlip_al.committee_train')
    packed, node = run_get_node(committee_train, **inputs(members_per_job=2))
    assert node.exit_status == 0, node.exit_message
    (job,) = jobs_of(node)
    assert job.process_label == 'MaceTrainPackCalculation'
    assert job.exit_status == 0
    alone, node = run_get_node(committee_train, **inputs())
    assert len(jobs_of(node)) == 2
    for name in ('member_00', 'member_01'):
        one, other = packed['committee'][name], alone['committee'][name]
        assert one.creator.pk == job.pk
        assert one.base.attributes.get('seed') == other.base.attributes.get('seed')
        ours, theirs = weights_of(one), weights_of(other)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
        assert one.errors == other.errors
        assert one.base.attributes.get('trained_on') == 8
        for column in ('epoch', 'loss', 'force_mae'):
            np.testing.assert_array_equal(
                packed['metrics'][name].get_array(column), alone['metrics'][name].get_array(column)
            )
        cost = packed['reports'][name]
        assert cost['wall_s'] > 0
        assert cost['core_s'] > 0
    different = weights_of(packed['committee']['member_01'])
    assert any(
        not np.array_equal(value, different[key]) for key, value in weights_of(packed['committee']['member_00']).items()
    )


@pytest.mark.slow
def test_a_pack_that_a_time_limit_cut_short_continues_as_a_pack(inputs: Callable[..., dict[str, Any]]) -> None:
    def last_checkpoint(folder: Path) -> int:
        found = [int(path.stem.rpartition('-')[2]) for path in (folder / 'checkpoints').glob('*_epoch-*.pt')]
        return max(found, default=-1)

    def both_are_on_their_way(folder: Path) -> bool:
        return all(last_checkpoint(folder / name) >= 3 for name in ('member_00', 'member_01'))

    with terminated_when('train_pack', both_are_on_their_way) as stopped:
        results, node = run_get_node(
            WorkflowFactory('mlip_al.committee_train'),
            **inputs({'gradient_steps': 300, 'choose_epoch': 'last'}, members_per_job=2),
        )
    assert len(stopped) == 1
    first, second = jobs_of(node)
    assert (first.exit_status, second.exit_status, node.exit_status) == (400, 0, 0)
    assert {name: failure['status'] for name, failure in first.outputs.failures.get_dict().items()} == {
        'member_00': 400,
        'member_01': 400,
    }
    assert second.process_label == 'MaceTrainPackCalculation'
    for name in ('member_00', 'member_01'):
        folder = second.inputs.parent_folders[name]
        assert folder.creator.pk == first.pk
        assert Path(folder.get_remote_path()) == stopped[0] / name
        done, rest = first.outputs.metrics[name].get_array('epoch'), results['metrics'][name].get_array('epoch')
        assert rest[0] >= done[-2], (
            'the training went on from where it was, and not from where its errors were smallest'
        )
        assert rest[-1] == 149 > done[-1]
    assert sorted(results['committee']) == ['member_00', 'member_01']


def with_time_limit(inputs: dict[str, Any]) -> dict[str, Any]:
    options = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'max_wallclock_seconds': 600}
    inputs['mace']['train']['metadata'] = {'options': options}
    return inputs


@pytest.fixture
def committee(inputs: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """A committee of five in packs of three that was set up, and what it submits from now on."""
    process = instantiate_process(
        get_manager().get_runner(),
        WorkflowFactory('mlip_al.committee_train'),
        **with_time_limit(inputs(members=orm.Int(5), members_per_job=3, max_concurrent=2)),
    )
    process.setup()
    process.ctx.seeds = {f'member_{index:02d}': orm.Int(index).store() for index in range(5)}
    sent: list[Any] = []

    def submit(_: Any, **given: Any) -> Any:
        sent.append(given)
        return orm.Int(len(sent)).store()

    monkeypatch.setattr(process, 'submit', submit)
    monkeypatch.setattr(process, 'wait_for_any', lambda _: None)
    return process, sent


def ended_pack(
    generate_calc_job_node: Any, exit_status: int, state: str = 'finished', **outputs: Any
) -> orm.CalcJobNode:
    """Return a pack that ended with outputs, by link label."""
    node = generate_calc_job_node('mlip_al.mace_train_pack', {}, {})
    node.set_process_state(state)
    node.set_exit_status(exit_status)
    for label, output in outputs.items():
        output.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=label)
        output.store()
    return node


def test_who_is_left_of_a_pack_and_why_decides_how_it_goes_on(
    committee: tuple[Any, list[Any]], generate_calc_job_node: Any, make_model: Any, aiida_localhost: Any
) -> None:
    process, sent = committee
    process.run_members()
    assert [given['metadata']['call_link_label'] for given in sent] == ['pack_00', 'pack_01']
    assert [sorted(given['seeds']) for given in sent] == [
        ['member_00', 'member_01', 'member_02'],
        ['member_03', 'member_04'],
    ]
    assert not process.ctx.queue
    for given in sent:
        assert given['metadata']['options']['max_wallclock_seconds'] == 600
        assert 'parser_name' not in given['metadata']['options']
    folders = {
        name: orm.RemoteData(f'/scratch/{name}', computer=aiida_localhost) for name in ('member_01', 'member_02')
    }
    first = ended_pack(
        generate_calc_job_node,
        400,
        committee__member_00=make_model(),
        reports__member_00=orm.Dict({}),
        metrics__member_00=orm.ArrayData(np.arange(2)),
        folders__member_01=folders['member_01'],
        failures=orm.Dict(
            {'member_01': {'status': 400, 'message': ''}, 'member_02': {'status': 311, 'message': 'NaN'}}
        ),
    )
    second = ended_pack(
        generate_calc_job_node,
        120,
        folders__member_03=folders['member_02'],
        failures=orm.Dict({name: {'status': 120, 'message': ''} for name in ('member_03', 'member_04')}),
    )
    process.ctx.running.clear()
    process.inspect_pack(first, ['member_00', 'member_01', 'member_02'])
    process.inspect_pack(second, ['member_03', 'member_04'])
    assert sorted(process.outputs['committee']) == ['member_00']
    assert process.ctx.queue == [['member_01'], ['member_02'], ['member_03', 'member_04']]

    process.inputs.max_concurrent = 3
    process.run_members()
    cured, fresh, pack = sent[2:]
    assert cured['train']['parent_folder'].pk == folders['member_01'].pk
    assert 'parent_folder' not in fresh['train'], 'NaN is not gone on from'
    assert pack['metadata']['call_link_label'] == 'pack_02'
    assert {name: folder.pk for name, folder in pack['parent_folders'].items()} == {
        'member_03': folders['member_02'].pk
    }
    assert {name: seed.value for name, seed in pack['seeds'].items()} == {'member_03': 3, 'member_04': 4}


def test_a_pack_is_not_sent_for_ever_and_not_at_all_after_it_was_killed(
    committee: tuple[Any, list[Any]], generate_calc_job_node: Any
) -> None:
    process, _ = committee
    process.ctx.queue = []
    names = ['member_03', 'member_04']
    for attempt in range(3):
        assert process.ctx.queue == [names] * (attempt > 0)
        process.ctx.queue = []
        process.inspect_pack(
            ended_pack(
                generate_calc_job_node,
                400,
                failures=orm.Dict({name: {'status': 400, 'message': ''} for name in names}),
            ),
            names,
        )
    assert process.ctx.queue == []
    process.inspect_pack(ended_pack(generate_calc_job_node, 0, 'killed'), ['member_00', 'member_01'])
    assert process.ctx.queue == []
    assert process.ctx.models == {}
    assert process.ctx.message == 'ProcessState.KILLED'


def test_a_pack_of_nobody_is_refused(inputs: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match='`members_per_job` is 0, but must be at least 1'):
        run_get_node(WorkflowFactory('mlip_al.committee_train'), **inputs(members_per_job=0))
