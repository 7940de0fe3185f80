"""The frames of one walker: what LAMMPS and lmp-mace wrote, in the frame of reference of the structure where it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from aiida_mlip_al.sampling.checks import too_close
from aiida_mlip_al.sampling.walkers import as_list
from aiida_mlip_al.selection.measure import MEASURED

from .box import Box
from .dump import Dump
from .settings import LammpsExploreSettings

Array = NDArray[np.float64]
COLUMNS = {'max_force', 'min_force_deviation', *MEASURED}


class End(NamedTuple):
    """Why a walker ended, in a word, and in a sentence; none for one that came to its last step."""

    reason: str
    message: str = ''


@dataclass(frozen=True)
class Frames:
    """F frames of n atoms, numbered and placed as in the structure where the walker began.

    steps (F,); cells (F, 3, 3) and positions (F, n, 3) in Å; velocities (F, n, 3) in Å/ps; energies (F,) in eV, the
    committee's mean or the only model's; temperatures and target_temperatures (F,) in K; forces (F, n, 3), the committee's
    mean, eV/Å; columns, further arrays (F, …) of a DeviationData. Without checks in the run there are no forces, no columns.
    """

    steps: NDArray[np.int64]
    cells: Array
    positions: Array
    velocities: Array
    energies: Array
    temperatures: Array
    target_temperatures: Array
    forces: Array | None
    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(self.steps)

    def take(self, rows: Any) -> Frames:
        """Return some of the frames."""
        values: dict[str, Any] = {
            name: None if value is None else value[rows] for name, value in self._arrays().items()
        }
        return Frames(**values, columns={name: column[rows] for name, column in self.columns.items()})

    def _arrays(self) -> dict[str, Array | None]:
        return {name: value for name, value in vars(self).items() if name != 'columns'}


def walker_frames(
    dump: Dump,
    thermo: Mapping[str, Array],
    records: Sequence[Mapping[str, Any]] | None,
    settings: LammpsExploreSettings,
    walker: Mapping[str, Any],
    box: Box,
) -> Frames:
    """Return the frames of a walker that are complete everywhere.

    :param dump: what LAMMPS dumped, in its own frame of reference.
    :param thermo: its columns by name, with `Step`, `Temp` and `PotEng`.
    :param records: what lmp-mace wrote at each check; None if another program ran.
    :param settings: of the exploration.
    :param walker: its `temperature_K`.
    :param box: of the structure where it began.
    """
    # A step comes again after a minimisation, whose count begins anew: the later one is of the dynamics.
    rows = {int(step): row for row, step in enumerate(thermo.get('Step', ())) if np.isfinite(step)}
    checks = None if records is None else {record['step']: record for record in records}
    kept = [
        frame for frame, step in enumerate(dump.steps) if int(step) in rows and (checks is None or int(step) in checks)
    ]
    steps = dump.steps[kept]
    order = _slots(dump.elements[kept], box.atoms.get_chemical_symbols())
    cells = box.cells_back(dump.cells[kept])
    n_atoms = len(box.atoms)

    def in_slots(values: Array) -> Array:
        values = values.reshape(-1, n_atoms, 3)
        return np.take_along_axis(values, order[:, :, None], axis=1)

    positions = in_slots(dump.vectors('xu', 'yu', 'zu')[kept] if kept else np.empty((0, n_atoms, 3)))
    velocities = in_slots(dump.vectors('vx', 'vy', 'vz')[kept] if kept else np.empty((0, n_atoms, 3)))
    thermo_rows = [rows[int(step)] for step in steps]
    energies, temperatures = (
        np.asarray(thermo[name])[thermo_rows] if name in thermo else np.full(len(steps), np.nan)
        for name in ('PotEng', 'Temp')
    )
    forces, columns = None, {}
    if checks is not None:
        found = [checks[int(step)] for step in steps]
        energies = np.array([record['energy'] for record in found], dtype=float)
        forces = box.vectors_back(in_slots(np.array([record['forces'] for record in found], dtype=float)))
        columns = {
            name: np.array([record[name] for record in found], dtype=float)
            for name in sorted(COLUMNS)
            if not found or name in found[0]
        }
        if found and found[0].get('descriptor') is not None:
            columns['descriptors'] = np.array([record['descriptor'] for record in found], dtype=np.float32)
    return Frames(
        steps=steps,
        cells=cells,
        positions=box.positions_back(positions, dump.origins[kept], cells if settings.wrap else None),
        velocities=box.vectors_back(velocities),
        energies=energies,
        temperatures=temperatures,
        target_temperatures=_targets(steps, settings, walker['temperature_K']),
        forces=forces,
        columns=columns,
    )


def sound_frames(frames: Frames, end: End, settings: LammpsExploreSettings, box: Box) -> tuple[Frames, End]:
    """Return the frames up to where the walker left the realm of physics, and why it ended.

    The frame that is too close or has too high a force is kept, as the last one; one that is not finite is not. Frames of the
    equilibration are left out, but for one where the walker was stopped.

    :param frames: of the walker.
    :param end: what the program said.
    :param settings: with the limits.
    :param box: of the structure where it began.
    """
    finite = np.isfinite(frames.positions).all(axis=(1, 2)) & np.isfinite(frames.energies)
    finite &= np.isfinite(frames.velocities).all(axis=(1, 2)) & np.isfinite(frames.cells).all(axis=(1, 2))
    for values in frames.columns.values():
        finite &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if not finite.all():
        first = int(np.argmin(finite))
        end = End('non_finite', f'Step {frames.steps[first]} has numbers that are not finite.')
        frames = frames.take(slice(first))
    for row in range(len(frames)):
        found = _limit_reached(frames, row, settings, box)
        if found is not None:
            frames, end = frames.take(slice(row + 1)), found
            break
    stride = settings.recorded_every
    recorded = (frames.steps > settings.equilibration) & (frames.steps % stride == 0)
    if end.reason not in ('finished', 'killed', 'terminated', 'timeout') and len(frames):
        recorded[-1] = True
    return frames.take(recorded), end


def _limit_reached(frames: Frames, row: int, settings: LammpsExploreSettings, box: Box) -> End | None:
    step = frames.steps[row]
    if 'max_force' in frames.columns and frames.columns['max_force'][row] > settings.max_force:
        force = frames.columns['max_force'][row]
        return End('high_force', f'A force of {force:.1f} eV/Å at step {step} is above {settings.max_force:g} eV/Å.')
    atoms = Atoms(box.atoms.numbers, frames.positions[row], cell=frames.cells[row], pbc=box.atoms.pbc)
    if too_close(atoms, settings.min_distance_fraction):
        fraction = settings.min_distance_fraction
        return End('too_close', f'Atoms are closer than {fraction:g} of their covalent radii at step {step}.')
    return None


def _slots(elements: NDArray[np.str_], symbols: Sequence[str]) -> NDArray[np.int64]:
    """Return (F, n) which atom of LAMMPS stands where in the structure.

    Monte Carlo swaps exchange the elements of two atoms; then atoms stand where their elements are.
    """
    wanted = np.asarray(symbols)
    order = np.tile(np.arange(len(wanted)), (len(elements), 1))
    places = np.argsort(wanted, kind='stable')
    for frame in np.flatnonzero((elements != wanted).any(axis=1)) if len(elements) else ():
        order[frame, places] = np.argsort(elements[frame], kind='stable')
    return order


def _targets(steps: NDArray[np.int64], settings: LammpsExploreSettings, temperature: float | list[float]) -> Array:
    ends = as_list(temperature)
    progress = np.clip((steps - settings.equilibration) / settings.steps, 0.0, 1.0)
    return np.asarray(ends[0] + (ends[-1] - ends[0]) * progress, dtype=float)
