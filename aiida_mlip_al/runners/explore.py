"""Explore by molecular dynamics with a committee of MACE models; all walkers advance together.

In: explore.json, structures.extxyz, model files, or one and its uncertainty. Out: walker_00.xyz, walker_00.jsonl, …,
explore.status.json.
With a bias also in: the input of PLUMED. Out: its files with the walkers' names in theirs, as in COLVAR.walker_00.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import status as runner
from ase import Atoms
from bias import Biased, Plumed
from checks import check_pairs
from committee import deviation
from crew import Crew, Member, Opinion
from dynamics import Settings, ramp
from frames import read_structures
from uncertainty_bias import UncertaintyBias
from virtual_committee import open_committee
from walker import Observation, Walker, read_walkers, run_walker, walker_name

_DEFAULTS: dict[str, Any] = {
    'dtype': 'float32',
    'device': 'cpu',
    'head': None,
    'check_interval': 10,
    'levels': {},
    'descriptors': True,
    'bias': None,
    'uncertainty': None,
    'uncertainty_bias': None,
}


def explore(config: runner.Config, status: dict[str, Any]) -> None:
    """Run every walker of explore.json.

    :param config: `models`, `dtype`, `device`, `head`, `dynamics`, `walkers`, `check_interval`, `levels` {upper in eV/Å
        or null}, `descriptors`, `bias` (an input file of PLUMED), `uncertainty` (of the only model; null: models are members),
        `uncertainty_bias` {ratio, memory in steps, max_force in eV/Å}.
    :param status: receives versions.
    """
    unknown = set(config) - set(_DEFAULTS) - {'models', 'dynamics', 'walkers'}
    if unknown:
        raise ValueError(f'explore.json has unknown keys: {", ".join(sorted(unknown))}.')
    options = {**_DEFAULTS, **config}
    interval = options['check_interval']
    settings = Settings.from_dict({'stride': interval, **config.get('dynamics', {}), 'check_interval': interval})
    if settings.stride % interval:
        raise ValueError(f'stride = {settings.stride} must be a multiple of check_interval = {interval}.')
    structures = read_structures('structures.extxyz')
    walkers = read_walkers(config.get('walkers', []), structures)
    for walker in walkers:
        check_pairs(settings.distance_limits, structures[walker.structure])
    biases = [_bias(options['bias'], number, walker, structures, settings) for number, walker in enumerate(walkers)]
    committee = open_committee(
        config.get('models', []), options['uncertainty'], options['dtype'], options['device'], options['head']
    )
    committee.check_elements([structures[walker.structure] for walker in walkers])
    uncertainty_bias = options['uncertainty_bias']
    if uncertainty_bias is not None:
        _check_uncertainty_bias(settings, len(committee), options['bias'])
    status['versions'].update(runner.versions('torch', 'mace'))
    status['n_walkers'] = len(walkers)
    upper = options['levels'].get('upper')
    stress = settings.ensemble == 'npt'

    def work(member: Member) -> None:
        walker = walkers[member.number]
        atoms = structures[walker.structure].copy()
        atoms.calc = member
        bias = biases[member.number]
        ask = member.ask_committee
        if uncertainty_bias is not None:
            bias = UncertaintyBias(ask, **uncertainty_bias)
            ask = bias.ask
        biased = None if bias is None else Biased(member, bias, stress)
        run_walker(member.number, walker, atoms, settings, lambda moved: _observe(moved, ask, upper), biased)

    Crew(committee, len(walkers), stress, options['descriptors']).run(work)


def _bias(file: str | None, number: int, walker: Walker, structures: list[Atoms], settings: Settings) -> Plumed | None:
    """Return a walker's PLUMED; of a ramp it is told the temperature at the start."""
    if file is None:
        return None
    return Plumed(
        file,
        walker_name(number),
        structures[walker.structure].get_masses(),
        settings.timestep_fs,
        ramp(walker.temperature_K, settings.progress(walker.start_step)),
        restart=walker.start_step > 0,
        flush_every=settings.stride,
    )


def _check_uncertainty_bias(settings: Settings, n_members: int, plumed: str | None) -> None:
    if n_members < 2:
        raise ValueError('uncertainty_bias needs two models or more, or one with its uncertainty.')
    if settings.ensemble == 'npt':
        raise ValueError('uncertainty_bias has no stress: choose the ensemble nvt or nve.')
    if plumed is not None:
        raise ValueError('give bias or uncertainty_bias, not both.')


def _observe(atoms: Atoms, ask: Callable[[Atoms], Opinion], upper: float | None) -> Observation:
    opinion = ask(atoms)
    found = deviation(opinion.energies, opinion.forces)
    columns: dict[str, Any] = {
        'max_force_deviation': found.max_force,
        'mean_force_deviation': found.mean_force,
        'min_force_deviation': found.min_force,
        'percentile_force_deviation': found.percentile_force,
        'relative_force_deviation': found.relative_force,
        'energy_deviation_per_atom': found.energy_per_atom,
    }
    if opinion.mahalanobis is not None:
        columns['mahalanobis'] = opinion.mahalanobis
    if opinion.descriptor is not None:
        columns['descriptor'] = [float(f'{value:.7g}') for value in opinion.descriptor]
    stop = None
    if upper is not None and found.max_force > upper:
        stop = 'upper_level', f'the deviation of {found.max_force:.3f} eV/Å is above the upper level of {upper:g} eV/Å.'
    return Observation(float(opinion.energies.mean()), opinion.forces.mean(axis=0), columns, stop)


if __name__ == '__main__':
    runner.run(explore)
