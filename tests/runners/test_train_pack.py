"""Trainings side by side, with a program in the place of train.py that does as its folder says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUNNERS = Path(__file__).parents[2] / 'aiida_mlip_al' / 'runners'
PROGRAM = """
import json, os, signal, sys, time
settings = json.load(open(sys.argv[1]))
def stop(*_):
    open('stopped', 'w').close()
    sys.exit(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN if settings['deaf'] else stop)
print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ['OMP_NUM_THREADS'], flush=True)
open('began', 'w').close()
if settings['kill']:
    os.kill(os.getpid(), 9)
# All at once: everybody waits until all have begun.
while not all(os.path.exists(f'../{name}/began') for name in settings['all']):
    time.sleep(0.01)
time.sleep(settings['sleep'])
sys.exit(settings['exit'])
"""


class Pack:
    """A job folder with members."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / 'runners').mkdir()
        for name in ('train_pack.py', 'side_by_side.py', 'status.py'):
            shutil.copy(RUNNERS / name, folder / 'runners')
        (folder / 'runners' / 'train.py').write_text(PROGRAM)

    def start(
        self, members: dict[str, dict[str, object]], device: str = 'cpu', **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start the runner on members that do as they are told: `exit`, `sleep`, `kill`, `deaf`."""
        for name, what in members.items():
            (self.folder / name).mkdir()
            told = {'all': list(members), 'exit': 0, 'sleep': 0, 'kill': False, 'deaf': False, **what}
            (self.folder / name / 'train.json').write_text(json.dumps(told))
        (self.folder / 'train_pack.json').write_text(json.dumps({'folders': list(members), 'device': device}))
        environment = {key: value for key, value in os.environ.items() if key != 'CUDA_VISIBLE_DEVICES'}
        return subprocess.Popen(
            [sys.executable, 'runners/train_pack.py', 'train_pack.json'],
            cwd=self.folder,
            env={**environment, 'OMP_NUM_THREADS': '1', **variables},
        )

    @property
    def status(self) -> dict[str, object]:
        return json.loads((self.folder / 'train_pack.status.json').read_text())

    def said(self, name: str) -> list[str]:
        return (self.folder / name / 'train.out').read_text().split()


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """An empty job folder."""
    return Pack(tmp_path)


@pytest.mark.parametrize(
    ('gpus', 'cores', 'expected'),
    [
        ('0,1,2,3', '8', [['0', '2'], ['1', '2'], ['2', '2']]),
        ('GPU-a, GPU-b', '7', [['GPU-a', '2'], ['GPU-b', '2'], ['GPU-a', '2']]),
        ('5', '1', [['5', '1']] * 3),
        ('', '1', [['', '1']] * 3),
    ],
)
def test_gpus_in_turn_and_cores_divided(pack: Pack, gpus: str, cores: str, expected: list[list[str]]) -> None:
    members = {f'member_{index:02d}': {} for index in range(3)}
    assert pack.start(members, 'cuda', CUDA_VISIBLE_DEVICES=gpus, OMP_NUM_THREADS=cores).wait(60) == 0
    said = [(pack.folder / name / 'train.out').read_text().rstrip('\n').split(' ') for name in members]
    assert said == expected


def test_one_that_dies_leaves_the_others_alone(pack: Pack) -> None:
    members = {'member_00': {}, 'member_01': {'exit': 1}, 'member_02': {'kill': True}}
    assert pack.start(members).wait(60) == 0
    assert pack.status['finished'] is True
    assert pack.status['members'] == {'member_00': 0, 'member_01': 1, 'member_02': -9}
    assert pack.said('member_00') == ['None', '1']


def test_a_time_limit_reaches_everybody(pack: Pack) -> None:
    process = pack.start({'member_00': {}, 'member_01': {'sleep': 60}, 'member_02': {'sleep': 60}})
    deadline = time.monotonic() + 60
    while not all((pack.folder / f'member_{index:02d}' / 'began').exists() for index in range(3)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    assert (pack.status['finished'], pack.status['error']) == (False, 'terminated')
    assert pack.status['members'] == {'member_00': 0, 'member_01': 1, 'member_02': 1}
    assert [(pack.folder / f'member_{index:02d}' / 'stopped').exists() for index in range(3)] == [False, True, True]


def test_one_that_does_not_listen_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.insert(0, str(RUNNERS))
    import side_by_side

    monkeypatch.setattr(side_by_side, 'GRACE_S', 0.2)
    program = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)'
    process = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    side_by_side.stop([process])
    assert process.returncode == -signal.SIGKILL
    process.stdout.close()
