"""Records of the checked steps: what the selection of frames needs to know about each of them, as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from aiida_mlip_al.lmp_mace.neighbours import Floats
from aiida_mlip_al.lmp_mace.potential import Evaluation
from aiida_mlip_al.lmp_mace.runner_modules import deviation
from aiida_mlip_al.lmp_mace.step_file import StepFile

_DESCRIPTOR_DIGITS = 7
_FORCE_DIGITS = 9


def record_file(path: Path) -> StepFile:
    """Return the file of the records.

    :param path: where to.
    """
    return StepFile(path, '', lambda line: int(json.loads(line)['step']))


def record_line(step: int, found: Evaluation) -> str:
    """Return the record of a step: the columns that the explore runner writes about a frame, and the forces.

    Energy in eV and forces in eV/Å are means over the members, the forces in the order of the atoms' tags; max_force is
    the largest norm of these. The descriptor is the lead model's. A number that is not finite is written as Python's json does.

    :param step: the step.
    :param found: what all members say on it, with the descriptor.
    """
    disagreement = deviation(found.energies, found.forces)
    forces = found.forces.mean(axis=0)
    assert found.descriptor is not None
    record = {
        'step': int(step),
        'energy': float(found.energies.mean()),
        'max_force': float(np.sqrt(np.einsum('ij,ij->i', forces, forces).max())),
        'max_force_deviation': disagreement.max_force,
        'mean_force_deviation': disagreement.mean_force,
        'min_force_deviation': disagreement.min_force,
        'percentile_force_deviation': disagreement.percentile_force,
        'relative_force_deviation': disagreement.relative_force,
        'energy_deviation_per_atom': disagreement.energy_per_atom,
        'descriptor': _rounded(found.descriptor, _DESCRIPTOR_DIGITS),
        'forces': [_rounded(force, _FORCE_DIGITS) for force in forces],
    }
    return json.dumps(record)


def _rounded(values: Floats, digits: int) -> list[float]:
    return [float(f'{value:.{digits}g}') for value in values]
