"""Whether the daemon does anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import psutil
import pytest

from aiida_mlip_al.cli import daemon
from aiida_mlip_al.cli.daemon import has_lost_broker

CIRCUS, WORKER, BROKER = (
    ['start-circus'],
    ['verdi', '-p', 'p', 'daemon', 'worker'],
    ['verdi', '-p', 'p', 'broker', 'run'],
)


class Told:
    """A process that says what it is, and when it began (s); or that is gone."""

    def __init__(self, command: list[str], began: float | None) -> None:
        self.command, self.began = command, began

    def cmdline(self) -> list[str]:
        return self.command

    def create_time(self) -> float:
        if self.began is None:
            raise psutil.NoSuchProcess(1)
        return self.began


@pytest.mark.parametrize(
    ('broker', 'workers', 'lost'),
    [
        (1.0, [1.1, 1.2], False),
        (9.0, [1.1, 1.2], True),
        (9.0, [10.0, 1.2], True),
        (9.0, [10.0, 11.0], False),
        (None, [1.0], False),
        (9.0, [None], False),
        (9.0, [], False),
    ],
)
def test_workers_older_than_the_broker_never_hear_it(
    broker: float | None, workers: list[float | None], lost: bool
) -> None:
    processes = [Told(CIRCUS, 0.5), Told(BROKER, broker), *(Told(WORKER, began) for began in workers)]
    assert has_lost_broker(processes) is lost


def test_without_a_broker_of_its_own_a_daemon_has_none_to_lose() -> None:
    assert not has_lost_broker([Told(CIRCUS, 0.5), Told(WORKER, 1.0)])


class Client:
    """AiiDA's client of a daemon with this process number."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self.stopped = False

    def get_daemon_pid(self) -> int | None:
        return self.pid

    def stop_daemon(self, **_: object) -> None:
        self.stopped = True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client(None)
    monkeypatch.setattr('aiida.engine.daemon.client.get_daemon_client', lambda: made)
    return made


def test_a_killed_daemon_that_nobody_reaped_does_not_live(client: Client) -> None:
    client.pid = os.getpid()
    assert psutil.Process(os.getpid()) in daemon.daemon_processes()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    client.pid = child
    assert daemon.daemon_processes() == []
    os.waitpid(child, 0)
    assert daemon.daemon_processes() == []


def test_a_broker_that_does_not_start_stops_the_daemon(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / 'broker.sockets'
    monkeypatch.setattr(daemon, 'broker_address', lambda: address)
    with pytest.raises(click.ClickException, match=r'did not start within 0 s.*broker\.log.*setup daemon'):
        daemon.wait_for_broker(0)
    assert client.stopped


def test_a_broker_that_starts_late_is_waited_for(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / 'broker.sockets'
    monkeypatch.setattr(daemon, 'broker_address', lambda: address)
    monkeypatch.setattr(daemon, 'time', SimpleNamespace(monotonic=lambda: 0, sleep=lambda _: address.touch()))
    daemon.wait_for_broker(60)
    assert not client.stopped


def test_what_circus_left_behind_is_ended_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('aiida.manage.configuration.get_profile', lambda: SimpleNamespace(name='al'))
    monkeypatch.setattr('aiida.manage.configuration.get_config', lambda: SimpleNamespace(dirpath=str(tmp_path)))
    left = [started('-p al daemon worker', tmp_path), started('-p al daemon broker', tmp_path)]
    left.append(started('stats --log-output circus-al.log', tmp_path))
    others = [started('-p other daemon worker', tmp_path), started('-p al process list', tmp_path)]
    others.append(started('-p al daemon worker', tmp_path / 'another'))
    try:
        daemon.end(daemon.survivors())
        assert [process.poll() is None for process in left] == [False] * 3
        assert [process.poll() is None for process in others] == [True] * 3
    finally:
        daemon.end([*left, *others])


def started(words: str, configuration: Path) -> psutil.Popen:
    """Start a Python that sleeps, with these words in its command line, and wait until it does."""
    sleep = 'import time; print(flush=True); time.sleep(60)'
    process = psutil.Popen(
        [sys.executable, '-c', sleep, *words.split()],
        env={**os.environ, 'AIIDA_PATH': str(configuration)},
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    return process
