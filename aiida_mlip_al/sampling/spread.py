"""How walkers are spread over systems, structures, conditions and jobs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import lcm
from typing import Any, TypeVar

from ase import Atoms

from aiida_mlip_al.sampling.base import stream_seed
from aiida_mlip_al.sampling.walkers import ExploreSettings

S = TypeVar('S', bound=ExploreSettings)
K = TypeVar('K', bound=Hashable)


def by_system(settings: S, formulas: Mapping[K, str]) -> list[tuple[S, list[K]]]:
    """Divide structures into the systems that the settings name and, first, those that they do not; each has its own settings.

    :param settings: with ``systems``.
    :param formulas: reduced formula of each structure.
    """
    others = [key for key, formula in formulas.items() if formula not in settings.systems]
    named = {
        formula: [key for key, found in formulas.items() if found == formula] for formula in sorted(settings.systems)
    }
    groups = [(settings, others), *((settings.of_system(formula), keys) for formula, keys in named.items())]
    return [(own, keys) for own, keys in groups if keys]


def misfit(settings: ExploreSettings, atoms: Atoms) -> str | None:
    """Return why ASE cannot run MD of a structure with the settings of its system, or None."""
    if len(atoms) < 2:
        return f'One atom alone ({atoms.symbols}) has no temperature: give a supercell.'
    if settings.ensemble == 'npt' and not atoms.pbc.all():
        name = atoms.get_chemical_formula()
        return f'{name} is not periodic in three directions, and has no pressure: choose the ensemble `nvt` for it.'
    return None


def spread_systems(
    settings: S, formulas: Mapping[str, str], seed: int, *stream: int
) -> dict[str, tuple[S, list[dict[str, Any]]]]:
    """Spread the walkers of every system as :func:`spread_walkers` does.

    :param formulas: reduced formula of each structure to start from, by its name.
    :param seed: the walkers' own seeds are drawn from it, with ``stream`` (for example the iteration).
    :returns: settings and walkers by job name; the walkers of a job are of one system.
    """
    jobs = []
    drawn = 0
    for own, names in by_system(settings, formulas):
        walkers = spread_walkers(own, sorted(names), seed, *stream, first=drawn)
        drawn += len(walkers)
        size = own.job_size
        jobs += [(own, walkers[begin : begin + size]) for begin in range(0, len(walkers), size)]
    return {f'job_{number:02d}': job for number, job in enumerate(jobs)}


def spread_walkers(
    settings: ExploreSettings, structures: Sequence[str], seed: int, *stream: int, first: int = 0
) -> list[dict[str, Any]]:
    """Spread walkers over structures, temperatures and pressures.

    Structure and condition change from walker to walker, and no pair of them comes again before every pair was there.

    :param structures: names of the structures to start from.
    :param seed: the walkers' own seeds are drawn from it, with ``stream`` (for example the iteration).
    :param first: number of the first walker, which counts in its seed.
    :returns: walkers, each with ``structure``, ``temperature_K``, ``pressure_GPa`` and ``seed``.
    """
    temperatures = [settings.temperature_ramp] if settings.temperature_ramp else settings.temperatures
    pressures = [settings.pressure_ramp] if settings.pressure_ramp else settings.pressures
    conditions = [(temperature, pressure) for pressure in pressures for temperature in temperatures]
    walkers = []
    # Where the two numbers have a common factor, pairs would repeat from here on: go on with the next structure.
    period = lcm(len(conditions), len(structures))
    for index in range(settings.walkers):
        temperature, pressure = conditions[index % len(conditions)]
        walkers.append(
            {
                'structure': structures[(index + index // period) % len(structures)],
                'temperature_K': temperature,
                'pressure_GPa': pressure,
                'seed': stream_seed(seed, 'walker', *stream, first + index),
            }
        )
    return walkers
