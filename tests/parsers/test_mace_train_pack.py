"""MaceTrainPackParser: what each member of a pack left, whatever became of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm

Make = Callable[..., Any]
ENDED = {'finished': True, 'error': None, 'members': {'member_00': 0, 'member_01': 1, 'member_02': 1, 'member_03': -9}}


@pytest.fixture
def pack(recorded: Make) -> Callable[..., dict[str, Any]]:
    """Return a factory of a pack's files: ``pack('finished', 'killed', status={…})`` has a recorded training for each member."""

    def make(*cases: str, status: dict[str, Any] | None = None) -> dict[str, Any]:
        files: dict[str, Any] = {}
        for index, case in enumerate(cases):
            left = recorded(f'mace_train/{case}')
            if 'model.json' in left:
                left[json.loads(left['model.json'])['file']] = b'weights'
            files.update({f'member_{index:02d}/{path}': content for path, content in left.items()})
        if status is not None:
            files['train_pack.status.json'] = json.dumps(status)
        return files

    return make


def seeds(count: int) -> dict[str, Any]:
    return {'seeds': {f'member_{index:02d}': orm.Int(7 + index) for index in range(count)}}


def test_a_bad_member_costs_the_others_nothing(parse_retrieved: Make, pack: Make) -> None:
    files = pack('finished', 'nan_loss', 'out_of_memory', 'killed', status=ENDED)
    outputs, status, message = parse_retrieved('mlip_al.mace_train_pack', seeds(4), files)
    assert status == 330
    assert message == '3 of 4 members have no model; member_01: The loss became NaN or infinite.'
    assert list(outputs['committee']) == ['member_00']
    assert outputs['committee']['member_00'].base.attributes.get('seed') == 7
    assert outputs['committee']['member_00'].base.attributes.get('trained_on') == 6
    assert sorted(outputs['reports']) == ['member_00', 'member_01', 'member_02', 'member_03']
    failures = outputs['failures'].get_dict()
    assert {name: failure['status'] for name, failure in failures.items()} == {
        'member_01': 311,
        'member_02': 313,
        'member_03': 310,
    }
    assert failures['member_03']['message'] == (
        'The runner stopped: it ended with exit status -9 and left no status file.'
    )
    # A checkpoint with NaN is no good; the recorded one that ran out of memory had none yet.
    assert list(outputs['folders']) == ['member_03']


@pytest.mark.parametrize(
    ('scheduler', 'left', 'expected'),
    [(None, None, 400), (120, None, 120), (None, {'finished': False, 'error': 'terminated', 'members': {}}, 400)],
)
def test_a_time_limit_keeps_who_had_finished(
    parse_retrieved: Make, pack: Make, scheduler: int | None, left: dict[str, Any] | None, expected: int
) -> None:
    files = pack('finished', 'terminated', 'killed', status=left)
    outputs, status, _ = parse_retrieved('mlip_al.mace_train_pack', seeds(3), files, scheduler)
    assert status == expected
    assert list(outputs['committee']) == ['member_00']
    failures = outputs['failures'].get_dict()
    assert {name: failure['status'] for name, failure in failures.items()} == {
        'member_01': expected,
        'member_02': expected,
    }
    assert sorted(outputs['folders']) == ['member_01', 'member_02']
    assert {name: folder.get_remote_path().rpartition('/')[2] for name, folder in outputs['folders'].items()} == {
        'member_01': 'member_01',
        'member_02': 'member_02',
    }


def test_all_good(parse_retrieved: Make, pack: Make) -> None:
    status = {'finished': True, 'error': None, 'members': {'member_00': 0, 'member_01': 0}}
    outputs, status, _ = parse_retrieved(
        'mlip_al.mace_train_pack', seeds(2), pack('finished', 'stage_two', status=status)
    )
    assert status == 0
    assert set(outputs) == {'committee', 'reports', 'metrics'}
    assert [model.base.attributes.get('seed') for _, model in sorted(outputs['committee'].items())] == [7, 8]


def test_a_pack_that_never_began(parse_retrieved: Make) -> None:
    left = {'finished': False, 'error': 'train_pack.json cannot be read: No space left on device.'}
    files = {'train_pack.status.json': json.dumps(left)}
    outputs, status, message = parse_retrieved('mlip_al.mace_train_pack', seeds(2), files)
    assert status == 310
    assert message == 'The runner stopped: train_pack.json cannot be read: No space left on device.'
    assert {failure['status'] for failure in outputs['failures'].get_dict().values()} == {310}
