"""Whether the daemon does anything."""

from __future__ import annotations

import psutil
import pytest

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
