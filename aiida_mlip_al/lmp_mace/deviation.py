"""model_devi.out: the disagreement of the committee along a run, in the columns of DeePMD-kit."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from aiida_mlip_al.lmp_mace.neighbours import Floats
from aiida_mlip_al.lmp_mace.runner_modules import deviation

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


class DeviationFile:
    """The file, flushed after every line. A run that begins after step 0 continues a file that is there.

    LAMMPS may ask for forces several times in a step (Monte Carlo moves, line searches, a `run` after a `run`): the last
    answer counts, so that a line is written when the next step begins or at `flush`.

    :param path: where to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: tuple[int, ModelDeviation] | None = None
        self._last_step: int | None = None
        self._opened = False

    def add(self, step: int, found: ModelDeviation) -> None:
        """Give the deviation of a step; a second one of the same step replaces it."""
        if self._waiting is not None and self._waiting[0] != step:
            self.flush()
        self._waiting = step, found

    def flush(self) -> None:
        """Write the line that waits, if any."""
        if self._waiting is None:
            return
        step, found = self._waiting
        self._waiting = None
        if not self._opened:
            self._open(step)
        if step == self._last_step:
            return
        with self._path.open('a', encoding='ascii') as file:
            file.write(f'{step:12d}' + ''.join(f'{value:19.6e}' for value in astuple(found)) + '\n')
        self._last_step = step

    def _open(self, step: int) -> None:
        self._opened = True
        if step > 0 and self._path.is_file():
            steps = [line.split()[0] for line in self._path.read_text().splitlines() if line[:1] not in ('#', '')]
            self._last_step = int(steps[-1]) if steps else None
            return
        header = f'#{"step":>11}' + ''.join(f'{name:>19}' for name in COLUMNS)
        units = '# virial (v): eV, per atom; force (f): eV/A'
        self._path.write_text(f'{header}\n{units}\n', encoding='ascii')
