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


def vasp_protocol_names() -> list[str]:
    """Return the names of the levels of theory by VASP, the cheapest first."""
    return sorted(
        (path.stem for path in (FOLDER / 'vasp').glob('*.yaml')), key=lambda name: vasp_values(name)['incar']['encut']
    )


@cache
def _read_vasp(name: str) -> dict[str, Any]:
    path = FOLDER / 'vasp' / f'{name}.yaml'
    if not path.exists():
        raise ConfigError(
            f'There is no level of theory `{name}` for VASP; there are {", ".join(vasp_protocol_names())}.'
        )
    return yaml.safe_load(path.read_text())


def vasp_values(name: str) -> dict[str, Any]:
    """Return the values of a level of theory by VASP.

    :raises ConfigError: if there is none of that name.
    """
    return {key: value for key, value in _read_vasp(name).items() if key != 'description'}


def vasp_description(name: str) -> str:
    """Return one sentence on what a level of theory is for."""
    return str(_read_vasp(name)['description'])


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
