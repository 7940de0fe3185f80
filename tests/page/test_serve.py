"""The command `aiida-mlip-al serve`, up to the moment when it serves."""

from __future__ import annotations

import re
from typing import Any

import pytest
from click.testing import CliRunner

from aiida_mlip_al.cli import main
from aiida_mlip_al.page.server import address_of, open_socket


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, aiida_profile: Any) -> list[tuple[Any, ...]]:
    """What would have been served: (port, host, names, token)."""
    calls: list[tuple[Any, ...]] = []

    def serve(listener: Any, host: str, names: Any, token: str | None) -> None:
        calls.append((listener.getsockname()[1], host, tuple(names), token))
        listener.close()

    monkeypatch.setattr('aiida_mlip_al.page.server.serve', serve)
    return calls


def test_on_this_machine_there_is_no_token_unless_asked_for(served):
    result = CliRunner().invoke(main, ['serve', '--port', '0'])
    assert result.exit_code == 0, result.output
    port, host, _, token = served[0]
    assert (host, token) == ('127.0.0.1', None)
    assert f'http://127.0.0.1:{port}/\n' in result.output
    result = CliRunner().invoke(main, ['serve', '--port', '0', '--token'])
    assert f'http://127.0.0.1:{served[1][0]}/?token={served[1][3]}\n' in result.output


def test_beyond_this_machine_there_always_is_one(served):
    tokens = set()
    for _ in range(2):
        result = CliRunner().invoke(main, ['serve', '--host', '0.0.0.0', '--port', '0', '--name', 'runs.example.org'])
        assert result.exit_code == 0, result.output
        assert 'not encrypted' in result.output
        tokens.add(served[-1][3])
        assert served[-1][2] == ('runs.example.org',)
    assert len(tokens) == 2
    assert all(re.fullmatch(r'[\w-]{32,}', token) for token in tokens)


def test_a_taken_port_and_an_unknown_run_are_told_in_a_sentence(served):
    with open_socket('127.0.0.1', 0) as taken:
        result = CliRunner().invoke(main, ['serve', '--port', str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert 'choose another --port' in result.output
    assert 'Error: There is no process node' in CliRunner().invoke(main, ['serve', '999999']).output
    assert served == []


def test_addresses():
    assert address_of('127.0.0.1', 80, 25, None) == 'http://127.0.0.1:80/runs/25'
    assert address_of('::1', 80, None, 'x') == 'http://[::1]:80/?token=x'
