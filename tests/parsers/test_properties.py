"""PropertiesParser: values by structure, and what a killed job leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from ase.build import bulk, molecule

Make = Callable[..., Any]
LINES = [
    {'index': 0, 'values': {'volume': 22.0, 'drift': None}, 'problems': {'drift': 'MD ran away.'}, 'wall_s': 1.5},
    {'index': 1, 'values': {'drift': 0.5}, 'problems': {}, 'wall_s': 2.5},
]


def files(lines: list[dict[str, Any]], **status: Any) -> dict[str, bytes]:
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    found = {'properties.jsonl': text.encode(), 'properties.out': b'Killed\n'}
    if status:
        found['properties.status.json'] = json.dumps(status).encode()
    return found


@pytest.fixture
def inputs() -> dict[str, Any]:
    return {'structures': {'water': orm.StructureData(ase=molecule('H2O')), 'salt': orm.StructureData(ase=bulk('Si'))}}


def test_finished(parse_retrieved: Make, inputs: dict[str, Any]) -> None:
    good = files(LINES, finished=True, wall_s=5.0, cpu_s=9.0)
    outputs, status, _ = parse_retrieved('mlip_al.properties', inputs, good)
    assert status == 0
    assert outputs['properties'].get_dict() == {'salt': {'volume': 22.0, 'drift': None}, 'water': {'drift': 0.5}}
    assert outputs['report'].get_dict() == {
        'problems': {'salt': {'drift': 'MD ran away.'}},
        'wall_s': 5.0,
        'core_s': 9.0,
    }


def test_killed(parse_retrieved: Make, inputs: dict[str, Any]) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.properties', inputs, files(LINES[:1]))
    assert status == 400
    assert set(outputs['properties'].get_dict()) == {'salt'}
    assert outputs['report']['wall_s'] == 1.5
    assert parse_retrieved('mlip_al.properties', inputs, files([]), 120)[:2] == ({}, 120)


@pytest.mark.parametrize(
    ('lines', 'status', 'expected'),
    [
        (LINES[:1], {'finished': True}, (300, 'The job left no results: Killed')),
        ([], {'finished': False, 'error': 'No model.'}, (310, 'The runner stopped: No model.')),
    ],
)
def test_nothing_to_go_on_with(
    parse_retrieved: Make, inputs: dict[str, Any], lines: list, status: dict, expected: tuple[int, str]
) -> None:
    assert parse_retrieved('mlip_al.properties', inputs, files(lines, **status))[1:] == expected
