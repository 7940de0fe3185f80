"""The table of all steps, made from the code: ``python -m aiida_mlip_al.sampling.table > docs/seeders.md``."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from pydantic import BaseModel

from aiida_mlip_al.sampling.steps import JOB_STEPS, SEEDERS

INTRODUCTION = """\
<!-- Made from the code; do not edit. Write it again with `python -m aiida_mlip_al.sampling.table > docs/seeders.md`. -->

# Seeding steps

A chain is a list of steps, each on the structures that the one before it made:
`[{supercell: {matrix: [2, 2, 2]}}, {rattle: {copies: 20}}]`.
Every random number follows from the seed of the run: asking for more copies keeps the first ones.
"""
COLUMNS = ('parameter', 'type', 'default', 'description')
LIMITS = {'minimum': '≥', 'exclusiveMinimum': '>', 'maximum': '≤', 'exclusiveMaximum': '<'}


def steps_table() -> str:
    """Return the Markdown page with a table of the parameters of every step, and the errors it raises."""
    parts = [INTRODUCTION]
    for name, seeder in SEEDERS.items():
        parts.append(
            section(name, seeder.parameters, inspect.getdoc(seeder.sample) or '', inspect.getdoc(seeder.parameters))
        )
    for name, model in JOB_STEPS.items():
        parts.append(section(name, model, inspect.getdoc(model) or '', 'It runs as a job.'))
    return '\n'.join(parts)


def section(name: str, model: type[BaseModel], docstring: str, caption: str | None) -> str:
    """Return the section of a model: what its docstring says, its parameters, the errors."""
    what, *fields = re.split(r'^:(?=(?:param|returns|raises)\b)', docstring, flags=re.MULTILINE)
    lines = [f'## `{name}`', '', _plain(what), '']
    rows = _rows(model)
    if rows:
        lines += [
            *([_plain(caption), ''] if caption else []),
            _row(COLUMNS),
            _row(['---'] * len(COLUMNS)),
            *map(_row, rows),
            '',
        ]
    errors = [field.removeprefix('raises ').split(': ', 1) for field in fields if field.startswith('raises ')]
    if errors:
        lines += ['Errors:', '', *(f'* `{error}`: {_plain(text)}' for error, text in errors), '']
    return '\n'.join(lines)


def _rows(model: type[BaseModel]) -> list[tuple[str, ...]]:
    """Name, type, default and description of every parameter."""
    schema = model.model_json_schema()
    rows: list[tuple[str, ...]] = []
    for name, value in schema.get('properties', {}).items():
        default = value.get('default')
        shown = '' if default is None else f'`{json.dumps(default, ensure_ascii=False)}`'
        if name in schema.get('required', ()):
            shown = 'required'
        described = {'description': '', **_definition(value, schema), **value}
        rows.append((f'`{name}`', _words(value, schema), shown, _plain(described['description'])))
    return rows


def _definition(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for; empty if it is none."""
    return root['$defs'][schema['$ref'].rsplit('/', 1)[1]] if '$ref' in schema else {}


def _words(schema: dict[str, Any], root: dict[str, Any]) -> str:
    """JSON schema of a value in words, such as ``integer ≥ 1``; null is not told."""
    if '$ref' in schema:
        return _words(_definition(schema, root), root)
    if 'anyOf' in schema:
        return ' or '.join(dict.fromkeys(filter(None, (_words(option, root) for option in schema['anyOf']))))
    if 'enum' in schema or 'const' in schema:
        return ' or '.join(f'`{value}`' for value in schema.get('enum', [schema.get('const')]))
    kind = schema.get('type', 'anything')
    if kind == 'null':
        return ''
    if kind == 'array':
        return _list_in_words(schema, root)
    if kind == 'object':
        values = schema.get('additionalProperties')
        return f'mapping to {_words(values, root)}' if isinstance(values, dict) else 'mapping'
    limits = [f'{sign} {schema[key]:g}' for key, sign in LIMITS.items() if key in schema]
    return ' '.join([kind, ' and '.join(limits)]).strip()


def _list_in_words(schema: dict[str, Any], root: dict[str, Any]) -> str:
    if 'prefixItems' in schema:
        items = [_words(item, root) for item in schema['prefixItems']]
        if len(set(items)) > 1:
            return f'list of {", ".join(items)}'
        return f'list of {len(items)} x {items[0]}'
    low, high = schema.get('minItems', 0), schema.get('maxItems')
    size = f'{low} x ' if low and low == high else ''
    item = _words(schema.get('items', {}), root)
    return f'list of {size}({item})' if ' or ' in item else f'list of {size}{item}'


def _plain(text: str) -> str:
    """reStructuredText of a docstring as Markdown, paragraphs kept."""
    text = re.sub(r'(?<!\n)\n(?!\n)\s*', ' ', text.strip())
    text = re.sub(r':\w+:`~?([^`]*)`', r'`\1`', text)
    return text.replace('``', '`')


def _row(cells: Any) -> str:
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'


if __name__ == '__main__':
    print(steps_table(), end='')
