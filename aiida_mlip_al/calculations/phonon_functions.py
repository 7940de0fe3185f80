"""The calcfunctions of phonon sampling: from a structure to displaced supercells, force constants and frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode

from aiida_mlip_al.calculations.caching import calcfunction
from aiida_mlip_al.data import FrameData, LabelData
from aiida_mlip_al.sampling.base import RejectionLimitError, parse_parameters, stream, stream_seed
from aiida_mlip_al.sampling.force_constants import (
    ForceConstantsParameters,
    HarmonicCrystal,
    displaced_supercells,
    force_constants,
)
from aiida_mlip_al.sampling.normal_modes import normal_modes
from aiida_mlip_al.sampling.phonon_displacements import NAME, PhononStep, phonon_displacements
from aiida_mlip_al.selection.splits import assign_splits

EQUILIBRIUM = 'supercell'
POSITION_TOLERANCE = 1e-6


def _failed(error: Exception) -> ExitCode:
    return ExitCode(401, str(error), invalidates_cache=True)


@calcfunction
def plan_phonons(segment: orm.Dict) -> dict[str, orm.Data]:
    """Take out of a step what the force constants need: their settings, and the calculator if the step names one.

    :param segment: ``phonon_displacements`` with its parameters, and its seed.
    """
    step = parse_parameters(NAME, PhononStep, segment[NAME])
    plan = {'settings': orm.Dict(step.force_constants)}
    if step.calculator is not None:
        plan['calculator'] = orm.Dict({'calculator': step.calculator, 'arguments': step.arguments or {}})
    return plan


@calcfunction
def displace_structure(structure: orm.StructureData, settings: orm.Dict) -> dict[str, Any] | ExitCode:
    """Make the supercell at rest, and each displaced copy that the crystal's symmetry needs.

    :param structure: relaxed, periodic.
    :param settings: supercell and displacement.
    """
    try:
        parameters = parse_parameters('force_constants', ForceConstantsParameters, settings.get_dict())
        plan = displaced_supercells(structure.get_ase(), parameters)
    except ValueError as error:
        return _failed(error)
    return {
        EQUILIBRIUM: FrameData.from_ase(plan.equilibrium, kind='supercell', parent_uuid=structure.uuid),
        'displaced': {
            f'displacement_{index:03d}': FrameData.from_ase(
                atoms, kind='finite_displacement', parent_uuid=structure.uuid, index=index
            )
            for index, atoms in enumerate(plan.displaced)
        },
    }


@calcfunction
def make_force_constants(
    structure: orm.StructureData, settings: orm.Dict, **labels: LabelData
) -> dict[str, orm.ArrayData] | ExitCode:
    """Make force constants of the forces on the supercells of :func:`displace_structure`.

    The array ``force_constants`` is (n_atoms, n_atoms, 3, 3), eV/Å²; ``supercell_matrix`` (3, 3) has the new vectors as
    rows. Attributes: ``n_displacements``, ``max_residual_force`` (eV/Å, at rest), ``lowest_frequency_THz`` (negative where
    imaginary) and ``highest_frequency_THz`` over the commensurate q points, ``theory``, ``theory_hash``.

    :param structure: as for :func:`displace_structure`.
    :param settings: as for :func:`displace_structure`.
    :param labels: by the names of the supercells.
    """
    try:
        parameters = parse_parameters('force_constants', ForceConstantsParameters, settings.get_dict())
        atoms = structure.get_ase()
        plan = displaced_supercells(atoms, parameters)
        names = [f'displacement_{index:03d}' for index in range(len(plan.displaced))]
        for name, frame in zip([EQUILIBRIUM, *names], [plan.equilibrium, *plan.displaced], strict=True):
            _check_label(name, frame.positions, labels)
        rest = labels[EQUILIBRIUM]
        crystal = force_constants(atoms, parameters, [labels[name].forces for name in names], rest.forces)
    except ValueError as error:
        return _failed(error)
    frequencies = normal_modes(crystal).frequencies
    node = orm.ArrayData()
    node.set_array('force_constants', crystal.force_constants)
    node.set_array('supercell_matrix', crystal.matrix)
    node.base.attributes.set_many(
        {
            'n_displacements': len(names),
            'max_residual_force': float(np.linalg.norm(rest.forces, axis=1).max()),
            'lowest_frequency_THz': float(frequencies.min()),
            'highest_frequency_THz': float(frequencies.max()),
            'theory': rest.base.attributes.get('theory'),
            'theory_hash': rest.theory_hash,
        }
    )
    return {'force_constants': node}


def _check_label(name: str, positions: np.ndarray, labels: dict[str, LabelData]) -> None:
    """Refuse a missing label, and one of other positions than the displacement that it is taken for."""
    if name not in labels:
        raise ValueError(f'The supercell `{name}` has no label: label every displaced supercell and the one at rest.')
    labelled = labels[name].get_array('positions')
    if labelled.shape != positions.shape or not np.allclose(labelled, positions, rtol=0, atol=POSITION_TOLERANCE):
        raise ValueError(f'The label `{name}` is of another structure than the supercell of that name.')


@calcfunction
def phonon_frames(segment: orm.Dict, split: orm.Dict, **inputs: Any) -> dict[str, Any] | ExitCode:
    """Displace supercells along their normal modes.

    :param segment: ``phonon_displacements`` with its parameters, and its seed.
    :param split: ``name`` of the split, or ``validation_fraction``.
    :param inputs: ``force_constants`` and ``supercells``, each by the same names; each after the first name has a seed of its
        own.
    """
    seed = segment['seed']
    made = []
    rejected: dict[str, int] = {}
    try:
        step = parse_parameters(NAME, PhononStep, segment[NAME])
        for source, name in enumerate(sorted(inputs['supercells'])):
            supercell = inputs['supercells'][name]
            result = phonon_displacements(
                crystal_of(supercell, inputs['force_constants'][name]),
                step,
                stream_seed(seed, 'structure', source) if source else seed,
            )
            made += [
                (frame, record, supercell.uuid) for frame, record in zip(result.frames, result.records, strict=True)
            ]
            for reason, count in result.rejected.items():
                rejected[reason] = rejected.get(reason, 0) + count
    except (RejectionLimitError, ValueError) as error:
        return _failed(error)
    splits = assign_splits(len(made), split.get_dict(), np.random.default_rng(stream(seed, 'split')))
    frames = {
        f'frame_{index:03d}': FrameData.from_ase(
            frame,
            splits[index],
            kind=NAME,
            parent_uuid=uuid,
            index=index,
            seed=record['seed'],
            temperature_K=record['parameters']['temperature'],
            record=record,
        )
        for index, (frame, record, uuid) in enumerate(made)
    }
    return {'frames': frames, 'rejected': orm.Dict(rejected)}


def crystal_of(supercell: orm.StructureData, force_constants: orm.ArrayData) -> HarmonicCrystal:
    """Return the harmonic crystal of an equilibrium supercell and its force constants."""
    return HarmonicCrystal(
        supercell.get_ase(), force_constants.get_array('force_constants'), force_constants.get_array('supercell_matrix')
    )
