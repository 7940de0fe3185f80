"""What VASP found for one structure, judged: a label's numbers, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import units
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from aiida_mlip_al.config.vasp import NEUTRAL_TAGS, VaspSettings

from .labelling import Rejection, Theory, fingerprint

KILOBAR = 0.1 * units.GPa
# Reasons that another attempt may cure.
FAILURES = {'unconverged', 'not_finished', 'no_result', 'non_finite'}

# What restarts and the elements of a structure add to an INCAR.
ADDED_TAGS = {
    *('istart', 'icharg', 'magmom', 'ispin', 'lmaxmix'),
    *('ldau', 'ldautype', 'ldaul', 'ldauu', 'ldauj', 'ldauprint'),
}


class VaspNumbers(NamedTuple):
    """Free energy in eV, forces (n, 3) in eV/Å, stress (6,) in eV/Å³ with ASE's sign and order; atoms as VASP had them."""

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None


def species_order(symbols: Sequence[str]) -> NDArray[np.intp]:
    """Return the indices that put atoms of one element next to each other, in the order in which the elements come first.

    VASP reads interleaved elements as repeated groups, each with a POTCAR of its own.

    :param symbols: of n atoms.
    """
    rank = {symbol: number for number, symbol in enumerate(dict.fromkeys(symbols))}
    return np.argsort([rank[symbol] for symbol in symbols], kind='stable')


def judge(misc: Mapping[str, Any] | None, settings: VaspSettings) -> VaspNumbers | Rejection:
    """Accept a result that is finished, electronically converged and finite.

    The energy is the free energy (``e_fr_energy``, TOTEN): forces and stress are its derivatives, also with smearing.

    :param misc: quantities by aiida-vasp's names: ``run_status``, ``total_energies``, ``forces`` (eV/Å), ``stress`` (kB, positive
        when compressed). None if VASP left nothing that could be read.
    """
    if misc is None or 'run_status' not in misc:
        return Rejection('no_result', 'VASP left no result that can be read.')
    status = misc['run_status']
    if not status.get('finished'):
        return Rejection('not_finished', 'VASP was stopped before its end.')
    if not status.get('electronic_converged') or status.get('contains_nelm_breach'):
        return Rejection('unconverged', f'the electrons did not converge in NELM = {status.get("nelm", "?")} steps.')
    energy = (misc.get('total_energies') or {}).get('energy_free')
    forces, stress = misc.get('forces'), misc.get('stress')
    if energy is None or forces is None:
        return Rejection('no_result', 'VASP left no free energy or no forces.')
    # JSON has no NaN, and the database may hold it as a word.
    numbers = VaspNumbers(
        float(energy),
        np.asarray(forces, dtype=float),
        None if stress is None else full_3x3_to_voigt_6_stress(-np.asarray(stress, dtype=float) * KILOBAR),
    )
    if not all(np.isfinite(values).all() for values in numbers if values is not None):
        return Rejection('non_finite', 'energy, forces or stress are not finite.')
    force = float(np.linalg.norm(numbers.forces, axis=1).max())
    if force > settings.max_force:
        return Rejection('force_cap', f'a force of {force:.1f} eV/Å exceeds max_force = {settings.max_force:g}.')
    return numbers


def label_incar(level: Mapping[str, Any]) -> dict[str, Any]:
    """Return the INCAR of a single point at a level of theory."""
    return {**level['incar'], 'nsw': 0, 'ibrion': -1, 'isif': 2, 'lwave': False, 'lcharg': False}


def changed_tags(asked: Mapping[str, Any], used: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what handlers and retries changed in an INCAR: ``{tag: [asked, used]}``, None where a tag was not given."""
    return {
        tag: [asked.get(tag), used.get(tag)]
        for tag in sorted((asked.keys() | used.keys()) - (ADDED_TAGS - asked.keys()))
        if asked.get(tag) != used.get(tag)
    }


def theory_of(level: Mapping[str, Any], version: str | None) -> Theory:
    """Return name and fingerprint of a level of theory.

    :param level: ``incar``, ``kpoint_spacing``, ``potcars`` (symbol and SHA-512 of every element's), ``magnetic_moments`` and
        ``hubbard``; ``theory``, its name.
    :param version: of VASP.
    """
    tags = {tag: value for tag, value in level['incar'].items() if tag not in NEUTRAL_TAGS}
    fixed = {
        'incar': tags,
        'version': version,
        **{key: level.get(key) for key in ('kpoint_spacing', 'potcars', 'magnetic_moments', 'hubbard')},
    }
    described = ', '.join(f'{tag.upper()}={tags[tag]}' for tag in ('gga', 'metagga', 'encut') if tag in tags)
    return Theory(level.get('theory') or f'VASP {level["potential_family"]}({described})', fingerprint(fixed))
