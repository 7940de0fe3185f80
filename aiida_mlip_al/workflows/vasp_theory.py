"""From what an input file says of VASP to the inputs of aiida-vasp's work chains, checked against the profile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from aiida.common import NotExistent
from aiida.plugins import DataFactory

from aiida_mlip_al.config.errors import ConfigError
from aiida_mlip_al.config.vasp import VaspSettings, VaspTheory
from aiida_mlip_al.data.vasp_result import label_incar

# The free energy; no parser that excepts because a killed job left no CONTCAR; no monitor that polls every job's files.
PARSING = {
    'parser_settings': {'energy_type': ['energy_free', 'energy_extrapolated'], 'check_completeness': False},
    'no_default_monitors': True,
}


def vasp_level(theory: VaspTheory, elements: Iterable[str]) -> dict[str, Any]:
    """Return a level of theory as plain data, with the identity of its POTCARs.

    :param elements: those that will be labelled; with those that ``potential_mapping`` names they are part of the fingerprint.
    :raises ConfigError: if aiida-vasp or the family is missing, an element has no POTCAR in it, or VASP has no such tag.
    """
    level = theory.model_dump(mode='json', include=set(VaspTheory.model_fields) - {'protocol'}, exclude_none=True)
    check_tags(theory.incar)
    symbols = sorted({*elements, *theory.potential_mapping})
    mapping = {symbol: theory.potential_mapping.get(symbol, symbol) for symbol in symbols}
    level['potcars'] = {
        symbol: {
            'symbol': mapping[symbol],
            'sha512': find_potcar(theory.potential_family, symbol, mapping[symbol]).sha512,
        }
        for symbol in symbols
    }
    return level


def check_tags(incar: Mapping[str, Any]) -> None:
    """Refuse INCAR tags that aiida-vasp does not know.

    :raises ConfigError: also if aiida-vasp is missing.
    """
    try:
        from aiida_vasp.assistant.parameters import ParametersMassage
    except ImportError:
        raise ConfigError('For VASP, aiida-vasp is needed: install `aiida-mlip-al[vasp]`.') from None
    try:
        ParametersMassage({'incar': dict(incar)}, {})
    except Exception as error:
        raise ConfigError(f'`incar` has a tag that VASP does not know: {" ".join(str(error).split())}') from None


def find_potcar(family: str, element: str, symbol: str) -> Any:
    """Return the POTCAR of an element.

    :raises ConfigError: naming what there is.
    """
    potcars = DataFactory('vasp.potcar')
    families = [group.label for group in potcars.get_potcar_groups()]
    if family not in families:
        known = f'there are {", ".join(sorted(families))}' if families else 'there is none'
        raise ConfigError(
            f'The profile has no POTCAR family `{family}` ({known}): upload it with `aiida-vasp potcar uploadfamily`, or change '
            '`potential_family`.'
        )
    try:
        return potcars.get_potcars_dict([element], family, mapping={element: symbol})[element]
    except (NotExistent, ValueError):
        raise ConfigError(
            f'The family `{family}` has no POTCAR `{symbol}` for {element}: name another one in `potential_mapping`.'
        ) from None


def vasp_inputs(level: Mapping[str, Any], settings: VaspSettings) -> dict[str, Any]:
    """Return the inputs of VaspLabelWorkChain that all structures share: ``theory``, ``settings``,
    ``attempts``, ``vasp`` and ``potentials``.

    :param level: see :func:`vasp_level`.
    """
    incar = label_incar(level)
    return {
        'theory': orm.Dict(dict(level)),
        'settings': orm.Dict(
            settings.model_dump(mode='json', include=set(VaspSettings.model_fields), exclude_none=True)
        ),
        'attempts': {
            f'attempt_{number}': orm.Dict({'incar': {**incar, **changes}})
            for number, changes in enumerate([{}, *settings.retries], start=1)
        },
        'vasp': {'max_iterations': orm.Int(settings.max_iterations), **theory_inputs(level)},
        'potentials': potentials(level),
    }


def potentials(level: Mapping[str, Any]) -> dict[str, Any]:
    """Return the POTCAR nodes of a level of theory, by element."""
    return {
        element: find_potcar(level['potential_family'], element, potcar['symbol'])
        for element, potcar in level['potcars'].items()
    }


def theory_inputs(level: Mapping[str, Any]) -> dict[str, orm.Data]:
    """Return the inputs of a VaspWorkChain that a level of theory fixes, besides the INCAR."""
    inputs: dict[str, orm.Data] = {
        'potential_family': orm.Str(level['potential_family']),
        'potential_mapping': orm.Dict({symbol: potcar['symbol'] for symbol, potcar in level['potcars'].items()}),
        'settings': orm.Dict(PARSING),
    }
    if level.get('kpoint_spacing') is None:
        inputs['kpoints'] = orm.KpointsData()
        inputs['kpoints'].set_kpoints_mesh([1, 1, 1])
    else:
        inputs['kpoints_spacing'] = orm.Float(level['kpoint_spacing'] / (2 * math.pi))
    if level.get('magnetic_moments'):
        inputs['magmom_mapping'] = orm.Dict({'default': 0.6, **level['magnetic_moments']})
    if level.get('hubbard'):
        inputs['ldau_mapping'] = orm.Dict(level['hubbard'])
    return inputs
