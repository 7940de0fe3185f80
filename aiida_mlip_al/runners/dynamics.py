"""Molecular dynamics from a dictionary of settings: velocities, thermostats, barostats, ramps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from checks import DistanceLimit, check_pairs

Ramp = float | Sequence[float]
_ENSEMBLES = ('nve', 'nvt', 'npt')
_THERMOSTATS = ('langevin', 'bussi')


@dataclass(frozen=True)
class Settings:
    """The `dynamics` section of md.json and explore.json.

    Steps are counted from 0, the starting structure. Frames are recorded at `equilibration` + `stride`, + 2 `stride`, …
    up to `equilibration` + `steps`. `thermostat` and `friction_per_fs` (Langevin) or `taut_fs` (Bussi) serve nvt; npt
    is Martyna-Tobias-Klein with Nosé-Hoover chains of time constants `taut_fs` and `taup_fs`. `barostat_mask` says what
    may change: None all of the cell, 'isotropic' the volume, three booleans the lengths of a, b, c. Checks: see
    `checks`.
    """

    ensemble: str = 'nvt'
    thermostat: str = 'langevin'
    friction_per_fs: float = 0.01
    taut_fs: float = 100.0
    taup_fs: float = 1000.0
    barostat_mask: str | Sequence[bool] | None = None
    timestep_fs: float = 0.5
    steps: int = 1000
    equilibration: int = 0
    stride: int = 10
    check_interval: int = 10
    min_distance_fraction: float = 0.5
    max_temperature_factor: float = 5.0
    max_force: float = 100.0
    distance_limits: Sequence[DistanceLimit] = ()

    def __post_init__(self) -> None:
        if self.ensemble not in _ENSEMBLES:
            raise ValueError(f'ensemble must be one of {", ".join(_ENSEMBLES)}, not {self.ensemble!r}.')
        if self.thermostat not in _THERMOSTATS:
            raise ValueError(f'thermostat must be one of {", ".join(_THERMOSTATS)}, not {self.thermostat!r}.')
        for name in ('timestep_fs', 'steps', 'stride', 'check_interval', 'taut_fs', 'taup_fs', 'max_force'):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} must be positive, not {getattr(self, name)}.')
        if self.stride > self.steps:
            raise ValueError(f'stride = {self.stride} exceeds steps = {self.steps}: no frame would be recorded.')
        mask = self.barostat_mask
        if mask is None or mask == 'isotropic':
            return
        if isinstance(mask, str) or len(mask) != 3 or not all(isinstance(axis, (bool, int)) for axis in mask):
            raise ValueError(f'barostat_mask must be null, "isotropic" or three booleans, not {mask!r}.')
        if not any(mask):
            raise ValueError('barostat_mask frees no cell vector: use the nvt ensemble.')

    @classmethod
    def from_dict(cls, values: dict[str, Any], **defaults: Any) -> Settings:
        """Make settings from JSON.

        :param values: the section.
        :param defaults: values for what it leaves out.
        :raises ValueError: for unknown keys and senseless values.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f'dynamics has unknown keys: {", ".join(sorted(unknown))}.')
        limits = tuple(DistanceLimit.from_dict(limit) for limit in values.get('distance_limits') or ())
        return cls(**{**defaults, **values, 'distance_limits': limits})

    @property
    def last_step(self) -> int:
        """The last step of a trajectory."""
        return self.equilibration + self.steps

    def progress(self, step: int) -> float:
        """Return how far a ramp is at a step: 0 until the end of the equilibration, 1 at the last step.

        :param step: the step.
        """
        return max(0.0, (step - self.equilibration) / self.steps)


def ramp(value: Ramp, progress: float) -> float:
    """Return a constant, or the point of a linear ramp.

    :param value: a number, or first and last value.
    :param progress: 0 to 1.
    """
    if isinstance(value, (int, float)):
        return float(value)
    first, last = value
    return float(first + (last - first) * progress)


def prepare(
    atoms: Atoms, settings: Settings, temperature_K: float, rng: np.random.Generator, keep: bool = False
) -> None:
    """Fix the centre of mass and draw Maxwell-Boltzmann velocities without total momentum, in place.

    A structure's own constraints are kept instead of fixing the centre of mass; npt allows none.

    :param atoms: the structure.
    :param settings: the settings.
    :param temperature_K: temperature of the velocities in K.
    :param rng: source of random numbers.
    :param keep: keep the structure's velocities (to continue a trajectory).
    :raises ValueError: for structures that the ensemble cannot treat.
    """
    if len(atoms) < 2:
        raise ValueError('molecular dynamics needs at least two atoms.')
    check_pairs(settings.distance_limits, atoms)
    if settings.ensemble == 'npt':
        if not atoms.pbc.all():
            raise ValueError('the npt ensemble needs a structure that is periodic in three directions.')
        if atoms.constraints:
            raise ValueError('the npt ensemble cannot hold constraints: remove them or use nvt.')
    elif not atoms.constraints:
        atoms.set_constraint(FixCom())
    if keep and atoms.has('momenta'):
        return
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_K, rng=rng)
    if not atoms.constraints:
        momenta = atoms.get_momenta()
        atoms.set_momenta(momenta - atoms.get_masses()[:, None] * momenta.sum(axis=0) / atoms.get_masses().sum())


def degrees_of_freedom(atoms: Atoms) -> int:
    """Return the number of degrees of freedom that move, those of the centre of mass not counted.

    :param atoms: a structure after `prepare`.
    """
    n_degrees = atoms.get_number_of_degrees_of_freedom()
    return int(n_degrees) if atoms.constraints else 3 * len(atoms) - 3


class Dynamics:
    """ASE dynamics with conditions that may change at every step.

    Langevin is ASE's, with FixCom instead of its own `fixcm`, which overheats small molecules (ethanol by a quarter).

    :param atoms: a structure after `prepare`, with a calculator.
    :param settings: the settings.
    :param temperature_K: first temperature in K.
    :param pressure_GPa: first pressure in GPa; npt only.
    :param rng: source of random numbers.
    """

    def __init__(
        self,
        atoms: Atoms,
        settings: Settings,
        temperature_K: float,
        pressure_GPa: float | None,
        rng: np.random.Generator,
    ) -> None:
        self._atoms, self._settings = atoms, settings
        timestep = settings.timestep_fs * units.fs
        if settings.ensemble == 'nve':
            from ase.md.verlet import VelocityVerlet

            self._md: Any = VelocityVerlet(atoms, timestep)
        elif settings.ensemble == 'npt':
            if pressure_GPa is None:
                raise ValueError('the npt ensemble needs pressure_GPa for every walker.')
            self._md = _barostat(atoms, settings, temperature_K, pressure_GPa)
        elif settings.thermostat == 'bussi':
            from ase.md.bussi import Bussi

            self._md = Bussi(atoms, timestep, temperature_K, settings.taut_fs * units.fs, rng=rng)
        else:
            from ase.md.langevin import Langevin

            friction = settings.friction_per_fs / units.fs
            self._md = Langevin(atoms, timestep, temperature_K=temperature_K, friction=friction, fixcm=False, rng=rng)
        self._conditions: tuple[float, float | None] | None = None
        self.set_conditions(temperature_K, pressure_GPa)

    def step(self) -> None:
        """Advance by one time step."""
        self._md.step()
        self._md.nsteps += 1

    def set_conditions(self, temperature_K: float, pressure_GPa: float | None) -> None:
        """Set the target temperature and pressure from now on.

        :param temperature_K: in K.
        :param pressure_GPa: in GPa; npt only.
        """
        if self._conditions == (temperature_K, pressure_GPa):
            return
        self._conditions = (temperature_K, pressure_GPa)
        energy = temperature_K * units.kB
        if self._settings.ensemble == 'npt':
            assert pressure_GPa is not None
            # ASE's chain thermalises 3n degrees of freedom, of which the resting centre of mass takes none:
            # without this factor a small cell runs too hot.
            n_atoms = len(self._atoms)
            self._md._thermostat._kT = energy * (n_atoms - 1) / n_atoms
            self._md._barostat._kT = energy
            self._md._pressure_au = pressure_GPa * units.GPa
        elif self._settings.ensemble == 'nvt' and self._settings.thermostat == 'bussi':
            self._md.temp = energy
            self._md.target_kinetic_energy = energy * self._md.ndof / 2
        elif self._settings.ensemble == 'nvt':
            self._md.set_temperature(temperature_K=temperature_K)


def _barostat(atoms: Atoms, settings: Settings, temperature_K: float, pressure_GPa: float) -> Any:
    try:
        from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, MaskedMTKNPT
    except ImportError as error:
        raise ValueError('the npt ensemble needs ase >= 3.28 in the Python of this code.') from error
    arguments: dict[str, Any] = {
        'timestep': settings.timestep_fs * units.fs,
        'temperature_K': temperature_K,
        'pressure_au': pressure_GPa * units.GPa,
        'tdamp': settings.taut_fs * units.fs,
        'pdamp': settings.taup_fs * units.fs,
    }
    if settings.barostat_mask is None:
        return MTKNPT(atoms, **arguments)
    if settings.barostat_mask == 'isotropic':
        return IsotropicMTKNPT(atoms, **arguments)
    # an array: with the tuple that ASE documents the cell silently stays as it is
    mask: Any = np.array(settings.barostat_mask, dtype=bool)
    return MaskedMTKNPT(atoms, mask=mask, **arguments)
