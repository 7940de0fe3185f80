"""A stored run for the page, built once for each file of tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from helpers.stored_run import StoredRun


@pytest.fixture(scope='module')
def make_run(aiida_profile: Any) -> Callable[..., StoredRun]:
    """Return a factory of runs with seeds: ``make_run(iterations=1, ended=True, **options)``."""
    _, computer = orm.Computer.collection.get_or_create(
        label='page', hostname='localhost', transport_type='core.local', scheduler_type='core.direct'
    )
    computer.store()

    def make(iterations: int = 1, ended: bool = True, **options: Any) -> StoredRun:
        run = StoredRun(computer, **options)
        run.seed()
        for _ in range(iterations):
            run.iterate()
        if ended:
            run.finish()
        return run

    return make


@pytest.fixture(scope='module')
def run(make_run: Callable[..., StoredRun]) -> StoredRun:
    """A run that has ended; read only."""
    return make_run()
