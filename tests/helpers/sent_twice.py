"""What a daemon does that is killed between the submission of a job and the note of its number: it sends the job again."""

from __future__ import annotations

from typing import Any

import pytest
from aiida.schedulers import Scheduler


def send_twice(scheduler: type[Scheduler], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a scheduler send every job twice and name the second; returns the list that receives the numbers of both."""
    submit_once = scheduler.submit_job
    sent: list[str] = []

    def submit_twice(self: Scheduler, *arguments: Any) -> str:
        sent.extend(submit_once(self, *arguments) for _ in range(2))
        return sent[-1]

    monkeypatch.setattr(scheduler, 'submit_job', submit_twice)
    return sent
