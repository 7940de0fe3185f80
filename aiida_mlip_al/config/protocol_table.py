"""The protocols side by side: ``python -m aiida_mlip_al.config.protocol_table > docs/protocols.md``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .load import make_config
from .protocols import protocol_description, protocol_names, protocol_values

INTRODUCTION = """\
<!-- Made from the code; do not edit. Write it again with `python -m aiida_mlip_al.config.protocol_table > docs/protocols.md`. -->

# Protocols

`protocol: NAME` gives every number that the [input file](input.md) leaves out. Here is what is in force with each of them where
they say anything; all other keys have the [default](input.md) whatever the protocol. Each number can be changed in the file. Those
of `explore.ase` hold for `explore: {lammps: …}` too; – is not set. The levels of theory of VASP have
[a table of their own](vasp_levels.md).

"""
# What the protocols do not say and a run needs.
RUN = {'structures': ['structure.xyz'], 'labels': {'ase': {'calculator': 'module:Calculator'}}}


def protocol_table() -> str:
    """Return the page as Markdown."""
    names = sorted(protocol_names(), key=lambda name: protocol_values(name)['train']['mace']['final']['gradient_steps'])
    said = dict.fromkeys(key for name in names for key, _ in leaves(protocol_values(name)))
    in_force = [dict(leaves(make_config({**RUN, 'protocol': name}).model_dump(mode='json'))) for name in names]
    lines = [
        *(f'* `{name}`: {protocol_description(name)}' for name in names),
        '',
        _row(['', *(f'`{name}`' for name in names)]),
        _row(['---'] * (len(names) + 1)),
        *(_row([f'`{key}`', *(_shown(values.get(key)) for values in in_force)]) for key in said),
    ]
    return INTRODUCTION + '\n'.join(lines) + '\n'


def leaves(values: dict[str, Any], path: str = '') -> Iterator[tuple[str, Any]]:
    """Yield every setting that is no mapping as (dotted key, value).

    :param values: nested settings.
    :param path: what their keys begin with.
    """
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f'{path}{key}.')
        else:
            yield f'{path}{key}', value


def _shown(value: Any) -> str:
    if value is None:
        return '–'
    text = (
        json.dumps(value)
        if isinstance(value, bool | list)
        else f'{value:g}'
        if isinstance(value, float)
        else f'{value}'
    )
    return text.replace('"', '').replace('|', '\\|')


def _row(cells: list[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


if __name__ == '__main__':
    print(protocol_table(), end='')
