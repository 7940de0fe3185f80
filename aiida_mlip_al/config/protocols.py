"""Protocols: the numbers that an input file does not give."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError

FOLDER = Path(__file__).parents[1] / 'workflows' / 'protocols'
REPLACED_WHOLE = ('seed', 'test', 'labels.ase.arguments')


def protocol_names() -> list[str]:
    """Return the names of the protocols."""
    return sorted(path.stem for path in FOLDER.glob('*.yaml'))


@cache
def _read(name: str) -> dict[str, Any]:
    if name not in protocol_names():
        raise ConfigError(f'The protocol `{name}` is unknown; there are {", ".join(protocol_names())}.')
    return yaml.safe_load((FOLDER / f'{name}.yaml').read_text())


def protocol_description(name: str) -> str:
    """Return one sentence on what a protocol is for.

    :raises ConfigError: if there is no such protocol.
    """
    return str(_read(name)['description'])


def protocol_values(name: str) -> dict[str, Any]:
    """Return a protocol's values.

    :raises ConfigError: if there is no such protocol.
    """
    return {key: value for key, value in _read(name).items() if key != 'description'}


def merge(base: dict[str, Any], changes: dict[str, Any], path: str = '') -> dict[str, Any]:
    """Return ``base`` with ``changes`` laid over it, mapping by mapping; seeding chains and lists are replaced whole."""
    merged = dict(base)
    for key, value in changes.items():
        where = f'{path}{key}'
        if isinstance(value, dict) and isinstance(base.get(key), dict) and where not in REPLACED_WHOLE:
            merged[key] = merge(base[key], value, f'{where}.')
        else:
            merged[key] = value
    return merged
