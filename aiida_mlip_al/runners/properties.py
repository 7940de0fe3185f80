"""What a committee's mean predicts for structures: equation of state, harmonic frequencies, energy drift, pair distances.

In: properties.json, model files, structures.extxyz. Out: properties.jsonl, a line for each structure;
properties.status.json.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import status as runner
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.eos import EquationOfState
from ase.optimize import BFGS
from checks import temperature_limit
from committee import Committee
from dynamics import Dynamics, Settings, degrees_of_freedom, prepare
from frames import LineWriter, read_structures
from neighbours import neighbour_list

_DEFAULTS = {
    'dtype': 'float64',
    'device': 'cpu',
    'head': None,
    'equation_of_state': False,
    'frequencies': False,
    'dynamics': None,
}
_VOLUMES = np.linspace(0.94, 1.06, 7)  # relative to the middle one
_MOST_SHIFTS = 10  # of the middle volume towards lower energies
_FMAX, _RELAX_STEPS = 0.005, 500  # eV/Å
_DISPLACEMENT = 0.01  # Å
_THZ = 1000 * units.fs / (2 * np.pi)  # of one unit of angular frequency, sqrt(eV / (amu Å²))
_DISTANCES = np.linspace(0, 6, 61)  # Å
_EVERY = 10  # steps between the frames whose distances count
_HOTTEST = 5.0  # times the target temperature


class FailedPropertyError(Exception):
    """A property that cannot be computed; the text says why."""


class CommitteeMean(Calculator):
    """The mean energy and forces of a committee's members.

    :param committee: the models.
    """

    implemented_properties = ('energy', 'forces')  # type: ignore[assignment]

    def __init__(self, committee: Committee) -> None:
        super().__init__()
        self._committee = committee

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ('energy',), system_changes: Any = all_changes
    ) -> None:
        """Evaluate all members.

        :param atoms: the structure.
        :param properties: ignored: both are always computed.
        :param system_changes: ignored.
        """
        super().calculate(atoms, properties, system_changes)
        prediction = self._committee.predict([self.atoms])
        self.results = {'energy': float(prediction.energies.mean()), 'forces': prediction.forces.mean(axis=0)}


def properties(config: runner.Config, status: dict[str, Any]) -> None:
    """Write a line for each structure: `index`, `values`, `problems` (why a property has no value) and `wall_s`.

    `values` holds what was asked for: `volume` (Å³/atom), `bulk_modulus` (GPa) and `equation_of_state`, of structures
    periodic in three directions only; `frequencies` (3N, THz, ascending, imaginary ones negative); `drift`
    (meV/atom/ps), `temperature_K` (mean) and `rdf`. A property that cannot be computed is null.

    :param config: `models`, `dtype`, `device`, `head`, `equation_of_state`, `frequencies`, `dynamics` (null, or
        `temperature_K`, `steps`, `timestep_fs`, `seed`).
    :param status: receives the number of structures that are done, and versions.
    """
    unknown = set(config) - set(_DEFAULTS) - {'models'}
    if unknown:
        raise ValueError(f'properties.json has unknown keys: {", ".join(sorted(unknown))}.')
    settings = {**_DEFAULTS, **config}
    structures = read_structures('structures.extxyz')
    committee = Committee(settings.get('models', []), settings['dtype'], settings['device'], settings['head'])
    status['versions'].update(runner.versions('torch', 'mace'))
    committee.check_elements(structures)
    calculator = CommitteeMean(committee)
    status['n_structures'] = 0
    with LineWriter('properties.jsonl') as lines:
        for index, atoms in enumerate(structures):
            began = time.monotonic()
            atoms.calc = calculator
            values, problems = predict(atoms, settings)
            wall_s = round(time.monotonic() - began, 4)
            lines.write({'index': index, 'values': values, 'problems': problems, 'wall_s': wall_s})
            status['n_structures'] = index + 1


def predict(atoms: Atoms, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the properties of one structure, and why those without a value have none.

    :param atoms: the structure with a calculator; it is not changed.
    :param settings: as of `properties`.
    """
    wanted: list[tuple[tuple[str, ...], Any]] = []
    if settings['equation_of_state'] and atoms.pbc.all():
        wanted.append((('volume', 'bulk_modulus', 'equation_of_state'), lambda: equation_of_state(atoms)))
    if settings['frequencies']:
        wanted.append((('frequencies',), lambda: {'frequencies': frequencies(atoms)}))
    if settings['dynamics'] is not None and len(atoms) > 1:
        wanted.append((('drift', 'temperature_K', 'rdf'), lambda: dynamics(atoms, **settings['dynamics'])))
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for names, compute in wanted:
        try:
            values.update(compute())
        except (FailedPropertyError, ValueError) as error:
            values.update(dict.fromkeys(names))
            problems.update(dict.fromkeys(names, str(error)))
    return values, problems


def equation_of_state(atoms: Atoms) -> dict[str, Any]:
    """Fit Birch and Murnaghan's equation (Phys. Rev. 71, 809 (1947)) to the energies at seven volumes around the lowest.

    The cell is scaled without a change of its shape, the atoms relaxed at each volume.

    :param atoms: a structure periodic in three directions, with a calculator.
    :returns: `volume` (Å³/atom), `bulk_modulus` (GPa), `equation_of_state`: `volumes` and `energies` (eV/atom).
    :raises FailedPropertyError: if there is no minimum or the atoms do not relax.
    """
    middle = 1.0
    for _ in range(_MOST_SHIFTS):
        scaled = [_at_volume(atoms, middle * volume) for volume in _VOLUMES]
        energies = np.array([relaxed(one).get_potential_energy() for one in scaled]) / len(atoms)
        volumes = np.array([one.get_volume() for one in scaled]) / len(atoms)
        lowest = int(np.argmin(energies))
        if 0 < lowest < len(_VOLUMES) - 1:
            break
        middle *= _VOLUMES[lowest]
    else:
        raise FailedPropertyError(f'the energy has no minimum between the given volume and {middle:.2f} times as much.')
    volume, _, modulus = EquationOfState(volumes, energies, eos='birchmurnaghan').fit(warn=False)
    if not (volumes[0] < volume < volumes[-1] and modulus > 0):
        raise FailedPropertyError('the energies at different volumes do not follow an equation of state.')
    return {
        'volume': float(volume),
        'bulk_modulus': float(modulus / units.GPa),
        'equation_of_state': {'volumes': volumes.tolist(), 'energies': energies.tolist()},
    }


def _at_volume(atoms: Atoms, factor: float) -> Atoms:
    scaled = atoms.copy()
    scaled.set_constraint()
    scaled.set_cell(atoms.cell * factor ** (1 / 3), scale_atoms=True)
    scaled.calc = atoms.calc
    return scaled


def relaxed(atoms: Atoms) -> Atoms:
    """Return a copy relaxed at its cell.

    :param atoms: the structure with a calculator.
    :raises FailedPropertyError: if it does not relax.
    """
    found = atoms.copy()
    found.set_constraint()
    found.calc = atoms.calc
    if not BFGS(found, logfile=None).run(fmax=_FMAX, steps=_RELAX_STEPS):
        raise FailedPropertyError(f'the atoms do not relax to {_FMAX:g} eV/Å in {_RELAX_STEPS} steps.')
    return found


def frequencies(atoms: Atoms) -> list[float]:
    """Return the harmonic frequencies of the relaxed structure, at the Γ point where it is periodic.

    Force constants are central differences of the forces.

    :param atoms: the structure with a calculator.
    :returns: (3N,) THz, ascending, imaginary ones negative.
    :raises FailedPropertyError: if the atoms do not relax.
    """
    ground = relaxed(atoms)
    hessian = np.empty((3 * len(ground), 3 * len(ground)))
    for row in range(len(hessian)):
        forces = []
        for sign in (1, -1):
            moved = ground.copy()
            moved.positions.flat[row] += sign * _DISPLACEMENT
            moved.calc = ground.calc
            forces.append(moved.get_forces().ravel())
        hessian[row] = (forces[1] - forces[0]) / (2 * _DISPLACEMENT)
    weights = np.repeat(ground.get_masses() ** -0.5, 3)
    squares = np.linalg.eigvalsh((hessian + hessian.T) / 2 * np.outer(weights, weights))
    return (np.sign(squares) * np.sqrt(np.abs(squares)) * _THZ).tolist()  # type: ignore[no-any-return]


def dynamics(atoms: Atoms, temperature_K: float, steps: int, timestep_fs: float, seed: int) -> dict[str, Any]:
    """Run MD at constant energy after a tenth as many steps with a thermostat.

    :param atoms: the structure with a calculator.
    :param temperature_K: of the thermostat, in K.
    :param steps: at constant energy.
    :param timestep_fs: in fs.
    :param seed: of the velocities and the thermostat.
    :returns: `drift`, the slope of the total energy (meV/atom/ps); `temperature_K`, the mean; `rdf`: `r`, the middles of the
        bins (Å), `g`, and `peak`, the distance where g is largest (Å).
    :raises FailedPropertyError: if it runs away.
    """
    walker = atoms.copy()
    walker.calc = atoms.calc
    rng = np.random.default_rng(seed)
    common = {'timestep_fs': timestep_fs, 'steps': steps, 'stride': 1}
    thermostat = Settings(ensemble='nvt', **common)
    prepare(walker, thermostat, temperature_K, rng)
    hottest = temperature_limit(temperature_K, _HOTTEST, degrees_of_freedom(walker))
    energies, temperatures, counts, n_frames = [], [], np.zeros(len(_DISTANCES) - 1), 0
    for settings, n_steps in ((thermostat, steps // 10), (Settings(ensemble='nve', **common), steps)):
        md = Dynamics(walker, settings, temperature_K, None, rng)
        for step in range(1, n_steps + 1):
            md.step()
            energy, temperature = walker.get_total_energy(), walker.get_temperature()
            if not (np.isfinite(energy) and temperature < hottest):
                raise FailedPropertyError(f'MD at {temperature_K:g} K ran away after {step} steps.')
            if settings.ensemble == 'nve':
                energies.append(energy)
                temperatures.append(temperature)
                if step % _EVERY == 0:
                    counts += _pair_counts(walker)
                    n_frames += 1
    times_ps = np.arange(len(energies)) * timestep_fs / 1000
    slope = np.polyfit(times_ps, 1000 * np.array(energies) / len(walker), 1)[0]
    return {
        'drift': float(slope),
        'temperature_K': float(np.mean(temperatures)),
        'rdf': _radial_distribution(counts / (n_frames * len(walker)), walker),
    }


def _pair_counts(atoms: Atoms) -> np.ndarray:
    """Return the histogram of the distances between ordered pairs of atoms, images included."""
    cell, pbc = atoms.cell.array, atoms.pbc
    (first, second), images = neighbour_list(atoms.positions, cell, pbc, _DISTANCES[-1])
    vectors = atoms.positions[second] - atoms.positions[first] + images @ cell
    return np.histogram(np.linalg.norm(vectors, axis=1), _DISTANCES)[0]


def _radial_distribution(neighbours: np.ndarray, atoms: Atoms) -> dict[str, Any]:
    """Return g(r) of the mean number of neighbours in each bin; where there is no volume, the density is taken as 1 Å⁻³."""
    density = len(atoms) / atoms.get_volume() if atoms.pbc.all() else 1.0
    shells = 4 / 3 * np.pi * np.diff(_DISTANCES**3)
    g = neighbours / (shells * density)
    r = (_DISTANCES[1:] + _DISTANCES[:-1]) / 2
    return {'r': r.round(6).tolist(), 'g': g.tolist(), 'peak': float(r[np.argmax(g)])}


if __name__ == '__main__':
    runner.run(properties)
