"""How a runner begins: a job that was sent twice does its work once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

RUNNERS = Path(__file__).parents[2] / 'aiida_mlip_al' / 'runners'

WORK = """
import sys, time
sys.path.insert(0, sys.argv.pop(1))
import status

def work(config, status):
    with open('work.txt', 'a') as handle:
        handle.write('begun\\n')
    while not open('may_end.txt').read():
        time.sleep(0.02)
    if config['fails']:
        raise ValueError('It cannot be done.')

status.run(work)
"""


class Job:
    """A folder where copies of one job run."""

    def __init__(self, folder: Path, fails: bool = False) -> None:
        self.folder = folder
        (folder / 'work.py').write_text(WORK)
        (folder / 'work.json').write_text(json.dumps({'fails': fails}))
        (folder / 'may_end.txt').write_text('')

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, 'work.py', str(RUNNERS), 'work.json'], cwd=self.folder)

    def begun(self) -> int:
        """Return how often the work was begun, once it was begun at all."""
        work = self.folder / 'work.txt'
        deadline = time.monotonic() + 60
        while not work.exists() or not work.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return len(work.read_text().splitlines())

    def let_end(self) -> None:
        (self.folder / 'may_end.txt').write_text('yes')

    def is_finished(self) -> bool:
        return json.loads((self.folder / 'work.status.json').read_text())['finished']


def test_a_twin_waits_and_does_nothing_again(tmp_path: Path) -> None:
    job = Job(tmp_path)
    first = job.start()
    assert job.begun() == 1
    second = job.start()
    time.sleep(1.0)
    assert second.poll() is None, 'it waits'
    assert job.begun() == 1
    job.let_end()
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert job.is_finished()
    assert job.begun() == 1
    assert job.start().wait(60) == 0
    assert job.begun() == 1, 'also when the first has long ended'
    assert job.is_finished()


def test_a_twin_goes_on_if_the_first_was_killed(tmp_path: Path) -> None:
    job = Job(tmp_path)
    first = job.start()
    assert job.begun() == 1
    second = job.start()
    first.kill()
    first.wait(60)
    job.let_end()
    assert second.wait(60) == 0
    assert job.begun() == 2
    assert job.is_finished()


def test_a_twin_tries_again_what_failed(tmp_path: Path) -> None:
    job = Job(tmp_path, fails=True)
    job.let_end()
    assert job.start().wait(60) == 1
    assert not job.is_finished()
    assert job.start().wait(60) == 1
    assert job.begun() == 2
