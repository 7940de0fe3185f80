"""From an input file to a checked configuration, and where each setting came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .errors import ConfigError, sentence
from .models import RunConfig
from .protocols import merge, protocol_values, vasp_values

DEFAULT_PROTOCOL = 'balanced'
# Measures that the protocols' upper level, which is in eV/Å, is no level of.
NOT_A_FORCE = ('relative', 'energy', 'stress', 'mahalanobis')


def make_config(values: dict[str, Any]) -> RunConfig:
    """Lay values over their protocol and check them.

    :raises ConfigError: one sentence on the first mistake.
    """
    if not isinstance(values, dict):
        raise ConfigError('The input must be keys and values, such as `structures: [ethanol.xyz]`.')
    try:
        config = RunConfig.model_validate(merge(silent_values(values), values))
    except ValidationError as error:
        raise ConfigError(sentence(RunConfig, error)) from None
    stop = config.stop
    # The rounds of a protocol do not hinder a short run.
    if stop.rounds > stop.max_iterations and 'rounds' in (values.get('stop') or {}):
        raise ConfigError(
            f'`stop.rounds` ({stop.rounds}) exceeds `stop.max_iterations` ({stop.max_iterations}): raise that, or ask for fewer '
            'rounds.'
        )
    return config


def silent_values(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the protocols put where an input file is silent.

    :raises ConfigError: if a protocol is unknown.
    """
    name = str(values.get('protocol', DEFAULT_PROTOCOL))
    protocol = protocol_values(name)
    selecting = values.get('select')
    if isinstance(selecting, dict) and selecting.get('lower') is not None and 'tolerance' not in selecting:
        protocol = merge(protocol, {'select': {'tolerance': None}})
    if isinstance(selecting, dict) and selecting.get('measure') in NOT_A_FORCE and 'upper' not in selecting:
        protocol = merge(protocol, {'select': {'upper': None}})
    protocol = merge(protocol, _silent_members(protocol, values.get('train')))
    exploring = values.get('explore')
    if isinstance(exploring, dict) and 'lammps' in exploring and 'ase' not in exploring:
        protocol = {**protocol, 'explore': {'lammps': protocol.get('explore', {}).get('ase', {})}}
    if isinstance(exploring, dict) and 'pool' in exploring and not {'ase', 'lammps'} & set(exploring):
        protocol = _of_a_pool(protocol, values)
    protocol = {**protocol, 'resources': _silent_options(protocol.get('resources', {}), values.get('resources'))}
    return merge(protocol, _vasp_levels(values, 'fast' if name == 'quickstart' else name))


def _of_a_pool(protocol: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return a protocol for frames that exist: no dynamics; no upper level, for they are real; no seeds if they have labels."""
    silent = {key: value for key, value in protocol.items() if key != 'explore'}
    selecting = values.get('select')
    if not (isinstance(selecting, dict) and 'upper' in selecting):
        silent = merge(silent, {'select': {'upper': None}})
    labels = values.get('labels')
    if isinstance(labels, dict) and 'pool' in labels:
        silent = {key: value for key, value in silent.items() if key not in ('seed', 'test')}
    return silent


def _silent_members(protocol: dict[str, Any], training: Any) -> dict[str, Any]:
    """Return how many members a committee has, and must have, where the input file says one of it, or wants one model."""
    mace = training.get('mace') if isinstance(training, dict) else None
    given = mace if isinstance(mace, dict) else {}
    of_protocol = protocol.get('train', {}).get('mace', {})
    members = given.get('members', of_protocol.get('members'))
    if isinstance(training, dict) and training.get('uncertainty') is not None and 'members' not in given:
        members = 1
    if not isinstance(members, int) or members < 1:
        return {}
    return {'train': {'mace': {'members': members, 'min_members': min(of_protocol.get('min_members', 2), members)}}}


def _silent_options(stages: dict[str, Any], given: Any) -> dict[str, Any]:
    """Return a protocol's options of each stage, less those that an input file has for all stages."""
    default = given.get('default') if isinstance(given, dict) else None
    named = set(default) if isinstance(default, dict) else set()
    return {
        stage: {key: option for key, option in options.items() if key not in named} for stage, options in stages.items()
    }


def _vasp_levels(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a level of theory for each section `vasp`: the one that it names as its `protocol`, else the run's."""

    def level(section: Any) -> dict[str, Any]:
        vasp = section.get('vasp') if isinstance(section, dict) else None
        return {'vasp': vasp_values(str(vasp.get('protocol', name)))} if isinstance(vasp, dict) else {}

    named = values.get('calculators')
    levels = {key: level(section) for key, section in named.items()} if isinstance(named, dict) else {}
    found = {
        'labels': level(values.get('labels')),
        'calculators': {key: value for key, value in levels.items() if value},
    }
    return {key: value for key, value in found.items() if value}


def load_config(path: str | Path) -> RunConfig:
    """Read an input file.

    :raises ConfigError: one sentence on the first mistake.
    """
    return make_config(read_yaml(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file safely.

    :raises ConfigError: if it cannot be read or is not YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text()) or {}
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror}.') from None
    except yaml.YAMLError as error:
        raise ConfigError(f'{path} is not valid YAML: {" ".join(str(error).split())}.') from None


def origins(values: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield every setting in force as (dotted key, value, origin): `file`, `protocol` or `default`.

    :param values: what the input file says.
    :raises ConfigError: one sentence on the first mistake.
    """
    config = make_config(values)
    given = dict(_flatten(values))
    protocol = dict(_flatten(silent_values(values)))
    for key, value in _flatten(config.model_dump()):
        origin = 'file' if _within(key, given) else 'protocol' if _within(key, protocol) else 'default'
        yield key, value, origin


def _within(key: str, keys: dict[str, Any]) -> bool:
    return any(key == other or key.startswith(f'{other}.') or other.startswith(f'{key}.') for other in keys)


def _flatten(values: dict[str, Any], path: str = '') -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f'{path}{key}.')
        else:
            yield f'{path}{key}', value
