"""What VASP found for one structure, judged: a label's numbers, or the reason why there is none; and at which level of theory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from aiida_mlip_al.config.vasp import NEUTRAL_TAGS, VaspSettings

from .labelling import Rejection, Theory, fingerprint
from .vasprun import KILOBAR, Vasprun

# Reasons that another attempt may cure.
FAILURES = {'unconverged', 'not_finished', 'no_result', 'non_finite'}

# What restarts and the elements of a structure add to an INCAR.
ADDED_TAGS = {
    *('istart', 'icharg', 'magmom', 'ispin', 'lmaxmix'),
    *('ldau', 'ldautype', 'ldaul', 'ldauu', 'ldauj', 'ldauprint'),
}

# What belongs to a level of theory besides INCAR tags and the version of VASP.
THEORY_KEYS = ('kpoint_spacing', 'potcars', 'magnetic_moments', 'hubbard')


class VaspRun(NamedTuple):
    """What one run of VASP found, atoms in VASP's order.

    :param nelm: most electronic steps.
    :param energy: free energy (``e_fr_energy``, TOTEN): forces and stress are its derivatives, also with smearing. eV.
    :param energy_extrapolated: that energy at zero smearing (``e_0_energy``), eV, where VASP gave it.
    :param forces: (n, 3), eV/Å.
    :param stress: (6,) in ASE's order and sign, eV/Å³.
    """

    finished: bool
    converged: bool
    nelm: int | None
    energy: float | None
    forces: NDArray[np.float64] | None
    stress: NDArray[np.float64] | None
    version: str | None
    energy_extrapolated: float | None = None

    @classmethod
    def from_misc(cls, misc: Mapping[str, Any]) -> VaspRun:
        """Read what aiida-vasp's parser found.

        :param misc: ``run_status``, ``total_energies``, ``forces`` (eV/Å), ``stress`` (kB, positive when compressed), ``version``.
        """
        status, stress, forces = misc.get('run_status') or {}, misc.get('stress'), misc.get('forces')
        energies = misc.get('total_energies') or {}
        return cls(
            finished=bool(status.get('finished')),
            converged=bool(status.get('electronic_converged')) and not status.get('contains_nelm_breach'),
            nelm=status.get('nelm'),
            energy=energies.get('energy_free'),
            forces=None if forces is None else np.asarray(forces, dtype=float),
            stress=None if stress is None else full_3x3_to_voigt_6_stress(-np.asarray(stress, dtype=float) * KILOBAR),
            version=misc.get('version'),
            energy_extrapolated=energies.get('energy_extrapolated'),
        )

    @classmethod
    def from_vasprun(cls, vasprun: Vasprun) -> VaspRun:
        """Read a vasprun.xml of a single point."""
        frame = vasprun.frames[-1] if vasprun.frames else None
        return cls(
            finished=vasprun.finished,
            converged=frame is not None and frame.converged,
            nelm=vasprun.nelm,
            energy=None if frame is None else frame.energy,
            forces=None if frame is None else frame.forces,
            stress=None if frame is None else frame.stress,
            version=vasprun.version,
            energy_extrapolated=None if frame is None else frame.energy_extrapolated,
        )


def species_order(symbols: Sequence[str]) -> NDArray[np.intp]:
    """Return the indices that put atoms of one element next to each other, in the order in which the elements come first.

    VASP reads interleaved elements as repeated groups, each with a POTCAR of its own.

    :param symbols: of n atoms.
    """
    rank = {symbol: number for number, symbol in enumerate(dict.fromkeys(symbols))}
    return np.argsort([rank[symbol] for symbol in symbols], kind='stable')


def judge(run: VaspRun | None, settings: VaspSettings) -> Rejection | None:
    """Return why a run gives no label: only one that is finished, electronically converged and finite does.

    :param run: None if VASP left nothing that can be read.
    """
    if run is None:
        return Rejection('no_result', 'VASP left no result that can be read.')
    if not run.finished:
        return Rejection('not_finished', 'VASP was stopped before its end.')
    if not run.converged:
        return Rejection('unconverged', f'the electrons did not converge in NELM = {run.nelm} steps.')
    if run.energy is None or run.forces is None:
        return Rejection('no_result', 'VASP left no free energy or no forces.')
    numbers = (run.energy, run.forces, 0.0 if run.stress is None else run.stress)
    if not all(np.isfinite(values).all() for values in numbers):
        return Rejection('non_finite', 'energy, forces or stress are not finite.')
    force = float(np.linalg.norm(run.forces, axis=1).max())
    if force > settings.max_force:
        return Rejection('force_cap', f'a force of {force:.1f} eV/Å exceeds max_force = {settings.max_force:g}.')
    return None


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


def theory_tags(level: Mapping[str, Any]) -> dict[str, Any]:
    """Return the INCAR tags that belong to a level of theory."""
    return {tag: value for tag, value in level['incar'].items() if tag not in NEUTRAL_TAGS}


def theory_differences(level: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return in what two levels of theory differ, the version of VASP aside: INCAR tags, and what stands beside them."""
    one, two = (
        {
            **{tag.upper(): value for tag, value in theory_tags(values).items()},
            **{f'`{key}`': values.get(key) for key in THEORY_KEYS},
        }
        for values in (level, other)
    )
    return [
        key
        for key in sorted(one.keys() | two.keys())
        if fingerprint({'': one.get(key)}) != fingerprint({'': two.get(key)})
    ]


def theory_of(level: Mapping[str, Any], version: str | None) -> Theory:
    """Return name and fingerprint of a level of theory.

    :param level: ``incar``, ``kpoint_spacing``, ``potcars`` (symbol and SHA-512 of every element's), ``magnetic_moments`` and
        ``hubbard``; ``theory``, its name.
    :param version: of VASP.
    """
    tags = theory_tags(level)
    fixed = {'incar': tags, 'version': version, **{key: level.get(key) for key in THEORY_KEYS}}
    described = ', '.join(f'{tag.upper()}={tags[tag]}' for tag in ('gga', 'metagga', 'encut') if tag in tags)
    return Theory(level.get('theory') or f'VASP {level["potential_family"]}({described})', fingerprint(fixed))
