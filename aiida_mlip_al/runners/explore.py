"""Explore by molecular dynamics with a committee of MACE models; all walkers advance together.

In: explore.json, structures.extxyz, model files, or one and its uncertainty. Out: walker_00.xyz, walker_00.jsonl, …,
explore.status.json.
If it is continued also in: the files of the walkers; those that have ended are left as they are.
With several processes also explore_0.json, explore_0.out, …, of each of them.
With a bias also in: the input of PLUMED. Out: its files with the walkers' names in theirs, as in COLVAR.walker_00.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import status as runner
from ase import Atoms
from bias import Biased, Plumed
from checks import check_pairs
from committee import deviation
from crew import Crew, Member, Opinion
from dynamics import Settings, ramp
from frames import read_structures
from side_by_side import Program, run_all
from uncertainty_bias import UncertaintyBias
from virtual_committee import open_committee
from walker import Left, Observation, Walker, read_walkers, run_walker, walker_name

_DEFAULTS: dict[str, Any] = {
    'dtype': 'float32',
    'device': 'cpu',
    'head': None,
    'check_interval': 10,
    'levels': {},
    'descriptors': 'features',
    'bias': None,
    'uncertainty': None,
    'uncertainty_bias': None,
    'stress_deviation': False,
    'processes': 1,
    'numbers': None,
    'continued': False,
}


def explore(config: runner.Config, status: dict[str, Any]) -> None:
    """Run every walker of explore.json.

    :param config: `models`, `dtype`, `device`, `head`, `dynamics`, `walkers`, `check_interval`, `levels` {upper in eV/Å
        or null}, `descriptors` (features or gradient; null: none), `bias` (an input file of PLUMED), `uncertainty` (of the
        only model; null: models are members), `uncertainty_bias` {ratio, memory in steps, max_force in eV/Å},
        `stress_deviation` (recorded too), `processes` to divide the walkers among, `numbers` of the walkers (from 0),
        `continued` from their files.
    :param status: receives versions.
    """
    unknown = set(config) - set(_DEFAULTS) - {'models', 'dynamics', 'walkers'}
    if unknown:
        raise ValueError(f'explore.json has unknown keys: {", ".join(sorted(unknown))}.')
    options = {**_DEFAULTS, **config}
    n_processes = min(options['processes'], len(config.get('walkers', [])))
    if n_processes > 1:
        _divide(config, n_processes, options['device'], status)
        return
    interval = options['check_interval']
    settings = Settings.from_dict({'stride': interval, **config.get('dynamics', {}), 'check_interval': interval})
    if settings.stride % interval:
        raise ValueError(f'stride = {settings.stride} must be a multiple of check_interval = {interval}.')
    structures = read_structures('structures.extxyz')
    walkers = read_walkers(config.get('walkers', []), structures)
    for walker in walkers:
        check_pairs(settings.distance_limits, structures[walker.structure])
    numbers = options['numbers'] or range(len(walkers))
    crew = [
        (number, left, *left.go_on(walker, structures[walker.structure]))
        for number, walker in zip(numbers, walkers, strict=True)
        if not (left := Left.read(number) if options['continued'] else Left()).ended
    ]
    biases = [_bias(options['bias'], number, walker, atoms, settings) for number, _, walker, atoms in crew]
    committee = open_committee(
        config.get('models', []),
        options['uncertainty'],
        options['dtype'],
        options['device'],
        options['head'],
        options['descriptors'] or 'features',
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
        number, left, walker, atoms = crew[member.number]
        atoms.calc = member
        bias = biases[member.number]
        ask = member.ask_committee
        if uncertainty_bias is not None:
            bias = UncertaintyBias(ask, **uncertainty_bias)
            ask = bias.ask
        biased = None if bias is None else Biased(member, bias, stress)
        run_walker(number, walker, atoms, settings, lambda moved: _observe(moved, ask, upper), biased, left)

    described = options['descriptors'] is not None
    Crew(committee, len(crew), stress, described, options['stress_deviation']).run(work)


def _divide(config: runner.Config, n_processes: int, device: str, status: dict[str, Any]) -> None:
    """Divide the walkers among processes of this program, in turn.

    :raises ValueError: what the first one says that did not come to its end.
    """
    walkers, programs = config['walkers'], []
    for process in range(n_processes):
        numbers = list(range(process, len(walkers), n_processes))
        own = {**config, 'processes': 1, 'numbers': numbers, 'walkers': [walkers[number] for number in numbers]}
        programs.append(Program('.', 'explore.py', f'explore_{process}.json'))
        Path(programs[-1].config).write_text(json.dumps(own), encoding='utf-8')
    status['n_walkers'] = len(walkers)
    ended: list[int | None] = []
    run_all(programs, device, ended)
    for program, exit_status in zip(programs, ended, strict=True):
        file = Path(program.config).with_suffix('.status.json')
        said = json.loads(file.read_text(encoding='utf-8')) if file.exists() else {}
        status['versions'].update(said.get('versions', {}))
        if exit_status != 0:
            raise ValueError(said.get('error') or f'a process of the exploration ended with exit status {exit_status}.')


def _bias(file: str | None, number: int, walker: Walker, atoms: Atoms, settings: Settings) -> Plumed | None:
    """Return a walker's PLUMED; of a ramp it is told the temperature at the start."""
    if file is None:
        return None
    return Plumed(
        file,
        walker_name(number),
        atoms.get_masses(),
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
    found = deviation(opinion.energies, opinion.forces, opinion.stresses)
    columns: dict[str, Any] = {
        'max_force_deviation': found.max_force,
        'mean_force_deviation': found.mean_force,
        'min_force_deviation': found.min_force,
        'percentile_force_deviation': found.percentile_force,
        'relative_force_deviation': found.relative_force,
        'energy_deviation_per_atom': found.energy_per_atom,
    }
    if found.stress is not None and math.isfinite(found.stress):
        columns['stress_deviation'] = found.stress
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
