"""From an engine's numbers to labels, their shard and the report: the same for every engine."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from aiida.orm import Dict, SinglefileData, StructureData
from ase import Atoms

from aiida_mlip_al.sampling.checks import min_distance_ratio, too_close

from .dataset import DatasetData
from .extxyz import labelled_atoms
from .frame import atoms_of
from .label import LabelData


class Theory(NamedTuple):
    """A level of theory: its name for people, and the fingerprint of everything that fixes it."""

    name: str
    fingerprint: str


class Rejection(NamedTuple):
    """Why a structure has no label: a word, and a sentence."""

    reason: str
    message: str


def fingerprint(fixed: Mapping[str, Any]) -> str:
    """Return the hash of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode()).hexdigest()


def content_hashes(files: Mapping[str, SinglefileData]) -> dict[str, str]:
    """Return the hash of each file's content by its own name."""
    return {node.filename: hashlib.sha256(node.get_content('rb')).hexdigest() for node in files.values()}


def geometry_problem(atoms: Atoms, min_distance_fraction: float) -> Rejection | None:
    """Return why a structure is not worth computing, or None.

    :param min_distance_fraction: of the sum of the covalent radii; nearer atoms are too close.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return Rejection('non_finite', 'a position or cell vector of the structure is not finite.')
    if too_close(atoms, min_distance_fraction):
        return Rejection(
            'too_close',
            f'two atoms are at {min_distance_ratio(atoms, min_distance_fraction):.2f} of the sum of their covalent radii, nearer '
            f'than min_distance_fraction = {min_distance_fraction:g}.',
        )
    return None


def label_structure(
    structure: StructureData,
    energy: float,
    forces: np.ndarray,
    stress: np.ndarray | None,
    theory: Theory,
    stress_axes: Any = None,
    energy_extrapolated: float | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> LabelData:
    """Return the unstored label of a structure, on the structure's own coordinates, with its split and temperature.

    :param energy: eV.
    :param forces: (n_atoms, 3), eV/Å.
    :param stress: (6,), eV/Å³, ASE's order and sign, or None.
    :param stress_axes: (3,) which cell vectors the stress is of; None for the structure's pbc.
    :param energy_extrapolated: the energy at zero smearing, eV, if the engine knows it.
    :param attributes: all of the structure's, if they have been read.
    :raises ValueError: if a number is missing, misshapen or not finite.
    """
    attributes = attributes or structure.base.attributes.all
    temperature = attributes.get('origin', {}).get('temperature_K')
    atoms = labelled_atoms(
        atoms_of(structure, attributes), energy, forces, stress, stress_axes, temperature_K=temperature
    )
    return LabelData.from_ase(atoms, *theory, attributes.get('split', 'train'), energy_extrapolated)


def label_outputs(
    n_structures: int,
    labels: Mapping[str, LabelData],
    rejected: Mapping[str, Rejection],
    theory: Theory,
    wall_s: float,
    core_s: float,
) -> dict[str, Any]:
    """Return the outputs of a batch, unstored: ``report``, and ``labels`` with their shard ``dataset`` if there is one.

    :param labels: of the accepted structures, by name.
    :param rejected: by name; what is in neither was not reached.
    """
    report = {
        'n_structures': n_structures,
        'n_labelled': len(labels),
        'n_rejected': len(rejected),
        'n_unfinished': n_structures - len(labels) - len(rejected),
        'reasons': dict(Counter(rejection.reason for rejection in rejected.values())),
        'rejected': [{'structure': name, **rejection._asdict()} for name, rejection in rejected.items()],
        'wall_s': wall_s,
        'core_s': core_s,
        'theory': theory.name,
        'theory_hash': theory.fingerprint,
    }
    shard = {'labels': dict(labels), 'dataset': make_shard(labels)} if labels else {}
    return {'report': Dict(report), **shard}


def make_shard(labels: Mapping[str, LabelData]) -> DatasetData:
    """Return the unstored dataset of labels; its frames have the names of their structures, so each leads back to its label."""
    frames = []
    for name in sorted(labels):
        frame = labels[name].to_ase()
        frame.info['name'] = name
        frames.append(frame)
    first = labels[min(labels)]
    return DatasetData.from_ase(frames, first.base.attributes.get('theory'), first.theory_hash)
