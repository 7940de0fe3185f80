"""The input script of one walker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ase.data import atomic_masses, atomic_numbers
from jinja2 import Environment, StrictUndefined, TemplateError
from scipy.special import gammainccinv

from aiida_mlip_al.sampling.walkers import DistanceLimit, as_list

from .box import Box
from .settings import LammpsExploreSettings

#: Names of the files in a walker's job.
FILES = {
    'data': 'structure.data',
    'restart': 'continue.restart',
    'restarts': 'walker.*.restart',
    'dump': 'walker.dump',
    'records': 'walker.jsonl',
    'deviations': 'model_devi.out',
    'log': 'log.lammps',
}
#: What a native LAMMPS reads, made of `model_00.model`; Colvars' and PLUMED's input.
NATIVE_MODELS = {
    'mliap': 'model_00.model-mliap_lammps.pt',
    'mace': 'model_00.model-lammps.pt',
    'symmetrix': 'model_00.json',
}
BIAS_FILES = {'colvars': 'colvars.in', 'plumed': 'plumed.dat'}

_BAR = 1e4  # of a GPa
# LAMMPS' random numbers take 900 million; a thermostat adds its step.
_LARGEST_SEED = 800_000_000
_ODDS = 1e-9


def walker_script(
    settings: LammpsExploreSettings,
    walker: dict[str, Any],
    box: Box,
    n_models: int,
    biased: bool = False,
    template: str | None = None,
) -> str:
    """Return the input script of a walker, which both begins it and continues it.

    :param settings: of the exploration.
    :param walker: its ``temperature_K`` and ``pressure_GPa`` (a number or [first, last]) and ``seed``.
    :param box: of the structure where it starts.
    :param n_models: members of the committee, in the job as `model_00.model` and so on.
    :param biased: whether the bias of the settings acts.
    :param template: the user's own, in Jinja with the same names as ours.
    :raises ValueError: if the settings do not fit the structure, or the template is wrong.
    """
    _refuse_misfits(settings, box)
    temperatures, pressures = _ends(walker['temperature_K']), _ends(walker['pressure_GPa'])
    seed = walker['seed'] % _LARGEST_SEED + 1
    first, last = _dynamics(settings, temperatures, pressures, seed)
    strain = [
        f'fix strain_{axis} all deform 1 {axis} erate {rate:g} remap x' for axis, rate in settings.strain_rate.items()
    ]
    # A ramp and a strain begin after the equilibration, which is a run of its own then.
    equilibrate = first if settings.equilibration and (first != last or strain) else []
    begins_at = settings.equilibration if equilibrate else 0
    names = {
        'title': 'One walker of an exploration.',
        'files': FILES,
        'boundary': box.boundary,
        'pair_style': _pair_style(settings, n_models),
        'pair_coeff': _pair_coeff(settings, box.species),
        'species': [(symbol, round(float(atomic_masses[atomic_numbers[symbol]]), 4)) for symbol in box.species],
        'elements': ' '.join(box.species),
        'timestep_ps': f'{settings.timestep_fs / 1000:.10g}',
        'minimize': settings.minimize,
        'temperature': temperatures[0],
        'seed': seed,
        'check_interval': settings.check_interval,
        'stride': settings.recorded_every,
        'restart_interval': settings.restart_interval or max(1, settings.last_step // 10),
        'fixes': list(_fixes(settings, box, temperatures[0], seed, biased)),
        'limits': list(_limits(settings, box, max(temperatures))),
        'before_run': settings.before_run.strip(),
        'equilibrate': equilibrate,
        'equilibration': settings.equilibration,
        'integrate': [*last, *strain],
        'last_step': settings.last_step,
        'begins_at': begins_at,
        'after_run': settings.after_run.strip(),
    }
    text = template or (Path(__file__).parent / 'walker.in.j2').read_text()
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    try:
        return environment.from_string(text).render(names)
    except TemplateError as error:
        raise ValueError(f'The template of the LAMMPS script cannot be filled in: {error}.') from None


def misfit(settings: LammpsExploreSettings, box: Box) -> str | None:
    """Return why a structure cannot be run with the settings, or None."""
    try:
        _refuse_misfits(settings, box)
    except ValueError as error:
        return str(error)
    return None


def _refuse_misfits(settings: LammpsExploreSettings, box: Box) -> None:
    pbc, symbols = box.atoms.pbc, box.atoms.symbols
    if len(box.atoms) < 2:
        raise ValueError(f'One atom alone ({symbols}) has no temperature: give a supercell.')
    if settings.ensemble == 'npt' and not all(pbc):
        free = settings.barostat_mask
        if not isinstance(free, list) or any(moves and not periodic for moves, periodic in zip(free, pbc, strict=True)):
            axes = ', '.join(axis for axis, periodic in zip('xyz', pbc, strict=True) if not periodic)
            raise ValueError(
                f'There is no pressure along {axes}, where the structure is not periodic: give the axes that may change as '
                '`barostat_mask`.'
            )
    _refuse_strain(settings, box)
    for swap in settings.swaps:
        strangers = [symbol for symbol in swap.elements if symbol not in box.species]
        if strangers:
            raise ValueError(f'`swaps` exchanges {strangers[0]}, of which the structure {symbols} has none.')
    for limit in settings.distance_limits:
        if max(limit.pair) >= len(box.atoms):
            raise ValueError(
                f'`distance_limits` names atom {max(limit.pair)}, but the atoms of {symbols} are 0 to {len(box.atoms) - 1}.'
            )
        if max(limit.min, limit.max or 0.0) > box.unambiguous_distance:
            raise ValueError(
                f'`distance_limits` goes beyond {box.unambiguous_distance:.2f} Å, half the least height of the skewed cell of '
                f'{symbols}, where LAMMPS cannot tell the nearest image: give a supercell.'
            )


def _refuse_strain(settings: LammpsExploreSettings, box: Box) -> None:
    """Refuse what LAMMPS cannot strain, or would shear besides: it leaves the tilts as they are."""
    (_, _, _), (xy, _, _), (xz, yz, _) = box.cell
    for axis in settings.strain_rate:
        free = [
            letter for letter, periodic in zip('xyz', box.atoms.pbc, strict=True) if letter in axis and not periodic
        ]
        if free:
            raise ValueError(f'`strain_rate` of {axis} needs a structure that is periodic along {free[0]}.')
        tilts = {'x': (xy, xz), 'y': (yz,)}.get(axis, ())
        if any(abs(tilt) > 1e-6 for tilt in tilts):
            raise ValueError(
                f'`strain_rate` of {axis} would shear the tilted cell of {box.atoms.symbols}: give a cell at right angles.'
            )


def _pair_style(settings: LammpsExploreSettings, n_models: int) -> str:
    if settings.pair_style == 'mliap':
        return f'pair_style      mliap unified {NATIVE_MODELS["mliap"]} 0'
    if settings.pair_style == 'mace':
        return 'pair_style      mace no_domain_decomposition'
    if settings.pair_style == 'symmetrix':
        return 'pair_style      symmetrix/mace'
    models = ' '.join(f'model_{index:02d}.model' for index in range(n_models))
    # One model alone agrees with itself.
    upper = f' upper {settings.upper}' if settings.upper is not None and n_models > 1 else ''
    kind = '' if settings.descriptors == 'features' else f' descriptors {settings.descriptors}'
    return (
        f'pair_style      mace {models} &\n                out_freq {settings.check_interval} out_file {FILES["deviations"]} '
        f'records {FILES["records"]}{kind}{upper} dtype {settings.dtype}'
    )


def _pair_coeff(settings: LammpsExploreSettings, species: Sequence[str]) -> str:
    model = [NATIVE_MODELS[settings.pair_style]] if settings.pair_style in ('mace', 'symmetrix') else []
    return ' '.join(['pair_coeff      * *', *model, *species])


def _dynamics(
    settings: LammpsExploreSettings, temperatures: list[float], pressures: list[float], seed: int
) -> tuple[list[str], list[str]]:
    """Return the fixes that integrate: during the equilibration, and afterwards; they differ if there is a ramp."""

    def fixes(kelvins: list[float], gigapascals: list[float]) -> list[str]:
        kelvin = f'{kelvins[0]:g} {kelvins[-1]:g}'
        coupling = f'{settings.taut_fs / 1000:g}'
        if settings.ensemble == 'nve':
            return ['fix move all nve']
        nose_hoover = settings.thermostat == 'nose-hoover'
        if settings.ensemble == 'npt':
            box = _barostat(settings, gigapascals)
            move = f'fix move all npt temp {kelvin} {coupling} {box}' if nose_hoover else f'fix move all nph {box}'
        else:
            move = f'fix move all nvt temp {kelvin} {coupling}' if nose_hoover else 'fix move all nve'
        # Other random numbers after a restart.
        noise = f'$({seed}+step)'
        if settings.thermostat == 'langevin':
            damping = f'{0.001 / settings.friction_per_fs:g}'
            return [move, f'fix bath all langevin {kelvin} {damping} {noise}']
        if settings.thermostat == 'csvr':
            return [move, f'fix bath all temp/csvr {kelvin} {coupling} {noise}']
        return [move]

    return fixes(temperatures[:1], pressures[:1]), fixes(temperatures, pressures)


def _barostat(settings: LammpsExploreSettings, gigapascals: list[float]) -> str:
    mask = settings.barostat_mask
    couple = f'{gigapascals[0] * _BAR:g} {gigapascals[-1] * _BAR:g} {settings.taup_fs / 1000:g}'
    if not isinstance(mask, list):
        return f'{"tri" if mask is None else "iso"} {couple}'
    return ' '.join(f'{axis} {couple}' for axis, moves in zip('xyz', mask, strict=True) if moves)


def _fixes(settings: LammpsExploreSettings, box: Box, temperature: float, seed: int, biased: bool) -> Iterator[str]:
    """Yield what acts beside the integrator."""
    if settings.remove_drift:
        yield f'fix drift all momentum {settings.check_interval} linear 1 1 1'
    for number, swap in enumerate(settings.swaps, 1):
        types = ' '.join(str(box.species.index(symbol) + 1) for symbol in swap.elements)
        kelvin = swap.temperature or temperature
        yield (f'fix swap_{number} all atom/swap {swap.every} {swap.attempts} {seed + number} {kelvin:g} types {types}')
    if biased and settings.bias is not None:
        program = settings.bias.program
        arguments = {
            'colvars': f'colvars {BIAS_FILES["colvars"]} output walker',
            'plumed': f'plumed plumedfile {BIAS_FILES["plumed"]} outfile plumed.out',
        }
        yield f'fix bias all {arguments[program]}'


def _limits(settings: LammpsExploreSettings, box: Box, temperature: float) -> Iterator[str]:
    """Yield `fix halt` and what it needs for the temperature and for pairs of atoms."""
    every = settings.check_interval
    kelvin = max_temperature(temperature, settings.max_temperature_factor, len(box.atoms))
    yield 'variable kelvin equal c_thermo_temp'
    yield f'fix high_temperature all halt {every} v_kelvin > {kelvin:.6g} error soft message yes'
    for number, limit in enumerate(settings.distance_limits, 1):
        yield from _distance(f'pair_{number}', limit, box.atoms.pbc)
        for sign, value in (('<', limit.min), ('>', limit.max)):
            if value:
                name = f'distance_limit_{number}{"a" if sign == "<" else "b"}'
                yield f'fix {name} all halt {every} v_pair_{number} {sign} {value:g} error soft message yes'


def _distance(name: str, limit: DistanceLimit, pbc: Sequence[bool]) -> Iterator[str]:
    """Yield the variables of the distance between two atoms' nearest images; LAMMPS has none of its own."""
    first, second = (number + 1 for number in limit.pair)
    for axis in 'xyz':
        yield f'variable {name}_{axis} equal {axis}[{first}]-{axis}[{second}]'
    # How many cell vectors c, b and a lie between them.
    images = {
        'c': f'round(v_{name}_z/lz)',
        'b': f'round((v_{name}_y-v_{name}_c*yz)/ly)',
        'a': f'round((v_{name}_x-v_{name}_c*xz-v_{name}_b*xy)/lx)',
    }
    for vector, periodic in zip('cba', reversed(list(pbc)), strict=True):
        yield f'variable {name}_{vector} equal {images[vector] if periodic else 0}'
    x = f'v_{name}_x-v_{name}_a*lx-v_{name}_b*xy-v_{name}_c*xz'
    y = f'v_{name}_y-v_{name}_b*ly-v_{name}_c*yz'
    z = f'v_{name}_z-v_{name}_c*lz'
    yield f'variable {name} equal sqrt(({x})^2+({y})^2+({z})^2)'


def max_temperature(target_K: float, factor: float, n_atoms: int) -> float:
    """Return the instantaneous temperature, K, that says that a walker has left its ensemble.

    The factor is for many atoms; few fluctuate far: the limit is never below what f = 3n - 3 degrees of freedom exceed with a
    probability of 1e-9 in the canonical ensemble, where the temperature is T chi²(f) / f.
    """
    freedom = max(1, 3 * n_atoms - 3)
    return target_K * max(factor, float(2 * gammainccinv(freedom / 2, _ODDS) / freedom))


def _ends(value: float | list[float] | None) -> list[float]:
    """Return first and last value of a ramp, or a constant alone."""
    return [] if value is None else [float(item) for item in as_list(value)]
