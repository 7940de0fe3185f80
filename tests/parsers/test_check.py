"""CheckParser: a code answers, or it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ('files', 'scheduler', 'expected'),
    [
        ({'check.status.json': json.dumps({'finished': True}), 'check.json': '{}'}, None, 0),
        ({'check.out': 'python: command not found\n'}, None, 300),
        ({}, 120, 120),
        ({'check.status.json': json.dumps({'finished': False, 'error': 'No torch.'})}, None, 310),
        ({'check.status.json': json.dumps({'finished': False, 'error': 'terminated'})}, None, 400),
    ],
)
def test_exit_status(parse_retrieved: Make, files: dict[str, str], scheduler: int | None, expected: int) -> None:
    outputs, status, message = parse_retrieved('mlip_al.check', {}, files, scheduler)
    assert (outputs, status) == ({}, expected)
    if expected == 300:
        assert message == 'The job left no results: python: command not found'
