"""One trajectory: dynamics, checks, and what is written about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from checks import largest_force, temperature_limit, too_close
from dynamics import Dynamics, Ramp, Settings, degrees_of_freedom, prepare, ramp
from frames import FrameWriter, LineWriter, read_frames, read_lines
from status import explain

if TYPE_CHECKING:
    from bias import Biased


class NonFiniteError(Exception):
    """Positions or forces are not finite: the trajectory has no further frame to record."""


@dataclass(frozen=True)
class Walker:
    """An entry of `walkers`: where a trajectory starts and under which conditions it runs.

    temperature_K and pressure_GPa are numbers or [first, last] of a linear ramp over the recorded steps. A start_step
    above 0 continues a trajectory with the structure's velocities, at that step.
    """

    structure: int
    temperature_K: Ramp
    seed: int
    pressure_GPa: Ramp | None = None
    start_step: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any], n_structures: int) -> Walker:
        """Make a walker from JSON.

        :param values: the entry.
        :param n_structures: number of structures to start from.
        :raises ValueError: for missing or unknown keys and senseless values.
        """
        known = {entry.name for entry in fields(cls)}
        missing = {'structure', 'temperature_K', 'seed'} - set(values)
        if missing or set(values) - known:
            raise ValueError(f'a walker has the keys {", ".join(sorted(known))}, not {", ".join(sorted(values))}.')
        walker = cls(**values)
        if not 0 <= walker.structure < n_structures:
            raise ValueError(f'a walker starts from structure {walker.structure}, but there are only {n_structures}.')
        for name, value in (('temperature_K', walker.temperature_K), ('pressure_GPa', walker.pressure_GPa)):
            if value is not None and not isinstance(value, (int, float)) and len(value) != 2:
                raise ValueError(f'{name} of a walker must be a number or [first, last], not {value!r}.')
        if min(ramp(walker.temperature_K, end) for end in (0, 1)) <= 0:
            raise ValueError(f'temperature_K of a walker must be positive, not {walker.temperature_K!r}.')
        return walker


@dataclass
class Observation:
    """What is written about a frame: energy in eV, forces in eV/Å, further columns, and a reason to stop."""

    energy: float
    forces: np.ndarray
    columns: dict[str, Any] = field(default_factory=dict)
    stop: tuple[str, str] | None = None


def read_walkers(entries: Sequence[dict[str, Any]], structures: Sequence[Atoms]) -> list[Walker]:
    """Read the section `walkers`.

    :param entries: the section.
    :param structures: the structures to start from.
    :raises ValueError: if it is empty or an entry is wrong.
    """
    if not entries:
        raise ValueError('walkers must have at least one entry.')
    return [Walker.from_dict(entry, len(structures)) for entry in entries]


def walker_name(number: int) -> str:
    """Return a walker's name, which is in those of its files.

    :param number: the walker's number.
    """
    return f'walker_{number:02d}'


@dataclass
class Left:
    """What an earlier job left of a walker: frames and a record of each; whether it had ended."""

    frames: list[Atoms] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False

    @classmethod
    def read(cls, number: int) -> Left:
        """Read the walker's files as far as both are complete, if they are here.

        :param number: the walker's number.
        """
        name = walker_name(number)
        trajectory, table = Path(f'{name}.xyz'), Path(f'{name}.jsonl')
        if not (trajectory.exists() and table.exists()):
            return cls()
        frames, records = read_frames(trajectory), read_lines(table)
        n_frames = min(len(frames), sum('end' not in record for record in records))
        return cls(frames[:n_frames], records[:n_frames], bool(records) and 'end' in records[-1])

    def go_on(self, walker: Walker, start: Atoms) -> tuple[Walker, Atoms]:
        """Return the walker at its last frame, with its velocities; at its start if there is none.

        :param walker: as it began.
        :param start: the structure that it began with.
        """
        if not self.frames:
            return walker, start.copy()
        atoms = self.frames[-1].copy()
        atoms.info = {}
        return replace(walker, start_step=self.records[-1]['step']), atoms


def run_walker(
    number: int,
    walker: Walker,
    atoms: Atoms,
    settings: Settings,
    observe: Callable[[Atoms], Observation],
    biased: Biased | None = None,
    left: Left | None = None,
) -> None:
    """Run one trajectory and write walker_<number>.xyz and walker_<number>.jsonl as it goes.

    Whatever goes wrong ends this trajectory only; its last line in the jsonl says why. With a bias, which moves the atoms
    but is in no energy or force that is checked or written, the jsonl also has `bias_energy` (eV).

    :param number: the walker's number.
    :param walker: start and conditions.
    :param atoms: the starting structure with the calculator of the plain energy; moved.
    :param settings: the dynamics.
    :param observe: called at the frames that are checked; gives energy and forces to write, and may ask to stop.
    :param biased: that calculator with a bias; it moves the atoms.
    :param left: what an earlier job left of it: the files begin with that.
    """
    name = walker_name(number)
    with FrameWriter(f'{name}.xyz') as trajectory, LineWriter(f'{name}.jsonl') as table:
        if left is not None:
            for frame, record in zip(left.frames, left.records, strict=True):
                trajectory.write(frame)
                table.write(record)
        journal = _Journal(walker, settings, trajectory, table, biased)
        step = walker.start_step
        try:
            reason, message, step = journal.run(atoms, observe)
        except NonFiniteError as error:
            reason, message, step = 'non_finite', str(error), journal.step
        except Exception as error:
            reason, message, step = 'error', explain(error), journal.step
        finally:
            if biased is not None:
                biased.close()
        table.write({'end': reason, 'step': step, 'message': message})


class _Journal:
    """A running trajectory and its two files."""

    def __init__(
        self,
        walker: Walker,
        settings: Settings,
        trajectory: FrameWriter,
        table: LineWriter,
        biased: Biased | None,
    ) -> None:
        self._walker, self._settings, self._biased = walker, settings, biased
        self._trajectory, self._table = trajectory, table
        self.step = walker.start_step

    def run(self, atoms: Atoms, observe: Callable[[Atoms], Observation]) -> tuple[str, str, int]:
        settings, walker, plain = self._settings, self._walker, atoms.calc
        if self._biased is not None:
            atoms.calc = self._biased
        rng = np.random.default_rng(walker.seed if self.step == 0 else [walker.seed, self.step])
        self._begin_step()
        prepare(atoms, settings, self._temperature, rng, keep=self.step > 0)
        self._n_degrees = degrees_of_freedom(atoms)
        dynamics = Dynamics(atoms, settings, self._temperature, self._pressure, rng)
        while True:
            forces = atoms.get_forces(apply_constraint=False)
            force = largest_force(forces if self._biased is None else plain.get_forces(atoms))
            recorded_steps = self.step - settings.equilibration
            record = recorded_steps > 0 and recorded_steps % settings.stride == 0 and self.step > walker.start_step
            if record or recorded_steps % settings.check_interval == 0 or force > settings.max_force:
                stop = self._stop(atoms, force)
                observation = observe(atoms)
                stop = stop or observation.stop
                if record or stop:
                    self._record(atoms, observation, force)
                if stop:
                    return (*stop, self.step)
            if self.step >= settings.last_step:
                return 'finished', '', self.step
            self.step += 1
            self._begin_step()
            dynamics.set_conditions(self._temperature, self._pressure)
            dynamics.step()

    def _begin_step(self) -> None:
        if self._biased is not None:
            self._biased.step = self.step
        progress = self._settings.progress(self.step)
        self._temperature = ramp(self._walker.temperature_K, progress)
        pressure = self._walker.pressure_GPa
        self._pressure = None if pressure is None else ramp(pressure, progress)

    def _stop(self, atoms: Atoms, force: float) -> tuple[str, str] | None:
        complaint = too_close(atoms, self._settings.min_distance_fraction)
        if complaint:
            return 'too_close', complaint
        for distance_limit in self._settings.distance_limits:
            complaint = distance_limit.complaint(atoms)
            if complaint:
                return 'distance_limit', complaint
        if force > self._settings.max_force:
            return 'high_force', f'a force of {force:.1f} eV/Å is above max_force = {self._settings.max_force:g} eV/Å.'
        limit = temperature_limit(self._temperature, self._settings.max_temperature_factor, self._n_degrees)
        temperature = self._kinetic_temperature(atoms)
        if temperature > limit:
            return 'high_temperature', f'{temperature:.0f} K is above {limit:.0f} K.'
        return None

    def _kinetic_temperature(self, atoms: Atoms) -> float:
        return 2 * float(atoms.get_kinetic_energy()) / (self._n_degrees * units.kB)

    def _record(self, atoms: Atoms, observation: Observation, force: float) -> None:
        conditions = {
            'step': self.step,
            'time_fs': round(self.step * self._settings.timestep_fs, 6),
            'temperature_K': round(self._kinetic_temperature(atoms), 3),
            'target_temperature_K': round(self._temperature, 3),
        }
        frame = atoms.copy()
        frame.set_constraint()
        frame.info = dict(conditions)
        if self._pressure is not None:
            frame.info['pressure_GPa'] = round(self._pressure, 6)
        frame.calc = SinglePointCalculator(frame, energy=observation.energy, forces=observation.forces)
        self._trajectory.write(frame)
        columns = {'energy': observation.energy, 'max_force': force, **observation.columns}
        if self._biased is not None:
            columns['bias_energy'] = self._biased.bias_energy(atoms)
        self._table.write({**conditions, **columns})
