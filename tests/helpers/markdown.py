"""What a Markdown page holds: its blocks of code, by kind, its code in lines, its links and its headings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt

COMMANDS = ('aiida-mlip-al', 'verdi', 'bash', 'pip', 'lmp-mace', 'python')
KINDS = {'bash': 'shell', 'sh': 'shell', 'yaml': 'yaml', 'python': 'python', 'text': 'text'}


class Block(NamedTuple):
    """A piece of a block of code, between empty lines if it was written without a fence.

    :param where: page and line.
    :param kind: `shell`, `yaml`, `python` or `text`.
    """

    where: str
    kind: str
    text: str


def tokens(page: Path) -> list[Any]:
    """Return the tokens of a page as CommonMark with tables."""
    return MarkdownIt('commonmark').enable('table').parse(page.read_text(encoding='utf-8'))


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of code of a page; directives of Sphinx are none."""
    for token in walk(tokens(page)):
        where = f'{page.name}:{token.map[0] + 1}' if token.map else page.name
        if token.type == 'fence' and not token.info.startswith('{'):
            yield Block(where, KINDS[token.info], token.content)
        elif token.type == 'code_block':
            for number, piece in enumerate(re.split(r'\n\s*\n', token.content.rstrip())):
                yield Block(f'{where}, piece {number + 1}', kind_of(piece), piece)


def kind_of(piece: str) -> str:
    """Return what a piece without a language is."""
    lines = [line for line in piece.splitlines() if line.strip() and not line.startswith('#')]
    first = lines[0].split()[0] if lines else ''
    if first in COMMANDS:
        return 'shell'
    if re.match(r'[\w.-]+:(\s|$)', lines[0].strip() if lines else ''):
        return 'yaml'
    try:
        ast.parse(piece)
    except SyntaxError:
        return 'python' if re.match(r'(from [\w.]+ )?import \w', piece) else 'text'
    return 'python'


def inline_code(page: Path) -> Iterator[str]:
    """Yield the code that stands in lines of text and in tables."""
    for token in walk(tokens(page)):
        if token.type == 'code_inline':
            yield token.content.replace('\\|', '|')


def links(page: Path) -> Iterator[str]:
    """Yield the targets of links and pictures."""
    for token in walk(tokens(page)):
        if token.type in ('link_open', 'image'):
            yield str(token.attrs.get('href', token.attrs.get('src', '')))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = tokens(page)
    headings = [after.content for token, after in pairwise(found) if token.type == 'heading_open']
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def walk(given: list[Any]) -> Iterator[Any]:
    """Yield tokens and those within them."""
    for token in given:
        yield token
        yield from walk(token.children or [])
