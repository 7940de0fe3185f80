"""RunnerParser: files in whatever state they were left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from ase.build import molecule

from aiida_mlip_al.parsers.label import LabelParser

Make = Callable[..., Any]


@pytest.fixture
def parser_of(generate_calc_job_node: Make) -> Callable[..., LabelParser]:
    """Return a factory of parsers of jobs that left these files."""

    def make(files: dict[str, str | bytes], **attributes: Any) -> LabelParser:
        inputs = {'structures': {'a': orm.StructureData(ase=molecule('H2O'))}}
        return LabelParser(generate_calc_job_node('mlip_al.label', inputs, files, attributes))

    return make


def test_text_of_a_missing_file_is_empty(parser_of: Make) -> None:
    parser = parser_of({'label.out': b'caf\xc3\xa9 \xff'})
    assert parser.read_text('label.out') == 'café �'
    assert parser.read_text('other.out') == ''


@pytest.mark.parametrize(
    ('text', 'n_records'),
    [
        ('', 0),
        ('{"a": 1}\n{"a": 2}\n', 2),
        ('{"a": 1}\n{"a": 2}', 1),
        ('{"a": 1}\n{"a"', 1),
        ('{"a": 1}\n\x00\x00\n{"a": 3}\n', 1),
    ],
)
def test_records_end_where_a_line_is_not_whole(parser_of: Make, text: str, n_records: int) -> None:
    assert parser_of({'label.jsonl': text}).read_records('label.jsonl') == [{'a': 1}, {'a': 2}][:n_records]


@pytest.mark.parametrize('text', ['', '{"finished": tr', 'null'])
def test_a_cut_status_is_none(parser_of: Make, text: str) -> None:
    assert parser_of({'label.status.json': text}).read_status() == {}


@pytest.mark.parametrize(
    ('status', 'scheduler', 'exit_status'),
    [
        ({'finished': True}, None, None),
        ({}, None, 400),
        ({'finished': False, 'error': 'terminated'}, None, 400),
        ({'finished': False, 'error': 'No such calculator.'}, None, 310),
        ({}, 120, 120),
        ({}, 110, 110),
        ({'finished': False, 'error': 'terminated'}, 120, 120),
    ],
)
def test_why_a_job_did_not_end(
    parser_of: Make, status: dict[str, Any], scheduler: int | None, exit_status: int | None
) -> None:
    parser = parser_of({}, **({} if scheduler is None else {'exit_status': scheduler}))
    failure = parser.failure(status)
    assert (None if failure is None else failure.status) == exit_status
    assert failure is None or failure.invalidates_cache
    if exit_status == 310:
        assert failure.message == 'The runner stopped: No such calculator.'


@pytest.mark.parametrize(
    ('text', 'words'), [('one\ntwo \n\n', 'two'), ('', 'it printed nothing.'), ('x' * 999, 'x' * 300)]
)
def test_last_words(parser_of: Make, text: str, words: str) -> None:
    assert parser_of({'label.out': text}).last_words() == words
