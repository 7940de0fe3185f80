"""model_devi.out: the disagreement of the committee along a run, in the columns of DeePMD-kit."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from aiida_mlip_al.lmp_mace.neighbours import Floats
from aiida_mlip_al.lmp_mace.runner_modules import deviation
from aiida_mlip_al.lmp_mace.step_file import StepFile

COLUMNS = ('max_devi_v', 'min_devi_v', 'avg_devi_v', 'max_devi_f', 'min_devi_f', 'avg_devi_f')


@dataclass(frozen=True)
class ModelDeviation:
    """Deviations of the virial per atom in eV, and of the forces in eV/Å."""

    max_devi_v: float
    min_devi_v: float
    avg_devi_v: float
    max_devi_f: float
    min_devi_f: float
    avg_devi_f: float


def model_deviation(energies: Floats, forces: Floats, virials: Floats) -> ModelDeviation:
    """Return the deviation of one configuration, as DeePMD-kit defines it.

    Forces: eps_i = sqrt(<|F_i - <F_i>|²>) and its largest, smallest and mean value over the atoms, as everywhere in this
    package. Virial: sqrt(<(Ξ - <Ξ>)²>) / n for each of the nine components; largest, smallest and root mean square.
    Zeng et al., J. Chem. Phys. 159, 054801 (2023), section on model deviation.

    :param energies: (K,) in eV.
    :param forces: (K, n, 3) in eV/Å.
    :param virials: (K, 3, 3) in eV.
    """
    of_forces = deviation(energies, forces)
    components = virials.std(axis=0) / forces.shape[1]
    return ModelDeviation(
        max_devi_v=float(components.max()),
        min_devi_v=float(components.min()),
        avg_devi_v=float(np.sqrt(np.mean(components**2))),
        max_devi_f=of_forces.max_force,
        min_devi_f=of_forces.min_force,
        avg_devi_f=of_forces.mean_force,
    )


def deviation_file(path: Path) -> StepFile:
    """Return the file of the deviations, with DeePMD-kit's header.

    :param path: where to.
    """
    header = f'#{"step":>11}' + ''.join(f'{name:>19}' for name in COLUMNS)
    units = '# virial (v): eV, per atom; force (f): eV/A'
    return StepFile(path, f'{header}\n{units}\n', _step_of)


def deviation_line(step: int, found: ModelDeviation) -> str:
    """Return the line of a step.

    :param step: the step.
    :param found: its deviation.
    """
    return f'{step:12d}' + ''.join(f'{value:19.6e}' for value in astuple(found))


def _step_of(line: str) -> int | None:
    return None if line[:1] in ('#', '\n') else int(line.split(maxsplit=1)[0])
