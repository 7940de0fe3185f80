"""What a step of molecular dynamics costs with a committee of MACE models, by three ways to run it.

    OMP_NUM_THREADS=1 python tests/benchmarks/explore.py [--quick] [--atoms 64 216 512] [--dtype float32 float64]

* runner: this project's ASE engine, runners/explore.py
* lmp-mace: LAMMPS with the same models
* by hand: ASE's VelocityVerlet and mace-torch's MACECalculator with all models, which evaluates all of them at every step

Copper at 300 K, NVE; untrained models of a realistic shape, since a model's values do not change its cost. Ten steps make a
block, and the best of the blocks counts, so that other work on the machine disturbs little; the ways take turns. The start and
the first block do not count. CPU time is that of all threads.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')
warnings.filterwarnings('ignore')
logging.disable(logging.WARNING)
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / 'tests'), str(ROOT / 'aiida_mlip_al' / 'runners')]

import numpy as np  # noqa: E402
from ase import Atoms, units  # noqa: E402
from ase.build import bulk  # noqa: E402
from ase.io import write  # noqa: E402
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution  # noqa: E402
from ase.md.verlet import VelocityVerlet  # noqa: E402
from helpers.tiny_mace import write_committee  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

MEMBERS = 4
BLOCK = 10  # steps, as many as from check to check
PACKAGES = ('aiida-mlip-al', 'torch', 'mace-torch', 'ase', 'lammps')
LARGEST_RATIO, SMALLEST_GAIN = 1.5, 3.0

LAMMPS_SCRIPT = """
units metal
read_data data
pair_style mace {models} out_freq {interval} records records.jsonl
pair_coeff * * Cu
velocity all create 300 1
timestep 0.001
fix integrate all nve
dump frames all custom {interval} frames.dump id type x y z
thermo 10
run {steps}
"""


@dataclass(frozen=True)
class Case:
    """What is run: these models on these atoms, all of them asked every `interval` steps."""

    atoms: Atoms
    models: Sequence[Path]
    interval: int
    dtype: str


@dataclass(frozen=True)
class Cost:
    """CPU and wall time of a step in ms."""

    cpu: float
    wall: float

    def __str__(self) -> str:
        return f'{self.cpu:.1f} ({self.wall:.1f})'


Measured = dict[str, Cost]


def copper(n_atoms: int) -> Atoms:
    """Return fcc copper in a cell of the primitive cell's shape.

    :param n_atoms: the cube of an integer.
    """
    edge = round(n_atoms ** (1 / 3))
    if edge**3 != n_atoms:
        sys.exit(f'--atoms takes cubes of integers, such as 64, 216 and 512, not {n_atoms}.')
    return bulk('Cu').repeat(edge)


def runner(case: Case, steps: int) -> None:
    """Run the ASE engine."""
    from explore import explore

    write('structures.extxyz', case.atoms, format='extxyz')
    config = {
        'models': [str(path) for path in case.models],
        'dtype': case.dtype,
        'check_interval': case.interval,
        'dynamics': {'ensemble': 'nve', 'timestep_fs': 1.0, 'steps': steps},
        'walkers': [{'structure': 0, 'temperature_K': 300.0, 'seed': 1}],
    }
    explore(config, {'versions': {}})


def lmp_mace(case: Case, steps: int) -> None:
    """Run lmp-mace."""
    from ase.io.lammpsdata import write_lammps_data

    from aiida_mlip_al.lmp_mace.cli import main

    write_lammps_data('data', case.atoms, masses=True)
    names = ' '.join(str(path) for path in case.models)
    Path('in.lammps').write_text(LAMMPS_SCRIPT.format(models=names, interval=case.interval, steps=steps))
    code = main(['-in', 'in.lammps', '-log', 'none', '-screen', 'none', '--device', 'cpu', '--dtype', case.dtype])
    if code:
        sys.exit('lmp-mace failed.')


def by_hand(case: Case, steps: int) -> None:
    """Run ASE with mace-torch's calculator."""
    from mace.calculators import MACECalculator

    atoms = case.atoms.copy()
    atoms.calc = MACECalculator([str(path) for path in case.models], device='cpu', default_dtype=case.dtype)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(1))
    VelocityVerlet(atoms, timestep=1.0 * units.fs).run(steps)


def blocks(case: Case, run: Callable[[Case, int], None], n_blocks: int) -> list[Cost]:
    """Return what a step costs in each block of a run, but for the first one.

    :param n_blocks: that count.
    """
    from mace.modules import ScaleShiftMACE

    times: list[tuple[float, float]] = []
    forward = ScaleShiftMACE.forward

    def noted(*arguments: Any, **options: Any) -> Any:
        times.append((time.process_time(), time.perf_counter()))
        return forward(*arguments, **options)

    ScaleShiftMACE.forward = noted
    with scratch(), contextlib.redirect_stdout(io.StringIO()):
        run(case, BLOCK * (n_blocks + 1))
    evaluations = BLOCK + (len(case.models) - 1) * BLOCK // case.interval
    return [Cost(cpu, wall) for cpu, wall in np.diff(times[::evaluations], axis=0)[1:] / BLOCK * 1000]


def measure(atoms: Atoms, models: Sequence[Path], dtype: str, n_blocks: int, repeats: int) -> Measured:
    """Return what a step costs by each way, each run in a process of its own.

    :param n_blocks: that count in a run.
    :param repeats: turns of the ways.
    """
    found: dict[str, list[Cost]] = {name: [] for name in COLUMNS}
    for _ in range(repeats):
        for name, (run, members, interval) in COLUMNS.items():
            case = Case(atoms, models[:members], interval, dtype)
            with ProcessPoolExecutor(1, mp_context=get_context('fork')) as child:
                found[name] += child.submit(blocks, case, run, n_blocks).result()
    return {
        name: Cost(min(cost.cpu for cost in costs), min(cost.wall for cost in costs)) for name, costs in found.items()
    }


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """Work in a folder of its own."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


COLUMNS: dict[str, tuple[Callable[[Case, int], None], int, int]] = {  # way, models, interval
    'one model, runner': (runner, 1, 10),
    'one model, lmp-mace': (lmp_mace, 1, 10),
    '4 every 10, runner': (runner, MEMBERS, 10),
    '4 every 10, lmp-mace': (lmp_mace, MEMBERS, 10),
    '4 every step, runner': (runner, MEMBERS, 1),
    '4 every step, lmp-mace': (lmp_mace, MEMBERS, 1),
    '4 every step, by hand': (by_hand, MEMBERS, 1),
}


def ratios(measured: Measured) -> dict[str, tuple[float, bool]]:
    """Return the ratios of CPU times that have a limit, and whether they keep it."""
    found = {}
    for way in ('runner', 'lmp-mace'):
        some = measured[f'4 every 10, {way}'].cpu
        against_one = some / measured[f'one model, {way}'].cpu
        gain = measured['4 every step, by hand'].cpu / some
        found[f'4 every 10 / one model, {way} (≤ {LARGEST_RATIO:g})'] = against_one, against_one <= LARGEST_RATIO
        found[f'by hand / 4 every 10, {way} (≥ {SMALLEST_GAIN:g})'] = gain, gain >= SMALLEST_GAIN
    return found


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--atoms', type=int, nargs='+', default=[64, 216, 512], help='numbers of atoms')
    parser.add_argument('--steps', type=int, default=10, help='steps that are timed in each turn, a multiple of 10')
    parser.add_argument('--repeats', type=int, default=3, help='turns')
    parser.add_argument('--dtype', nargs='+', choices=('float32', 'float64'), default=['float32', 'float64'])
    parser.add_argument('--channels', type=int, default=32, help='channels of the models')
    parser.add_argument('--max-l', type=int, default=0, help='highest order of their messages')
    parser.add_argument('--quick', action='store_true', help='64 atoms, 2 turns of 10 steps')
    options = parser.parse_args()
    if options.quick:
        options.atoms, options.steps, options.repeats = [64], 10, 2
    if options.steps < 10 or options.steps % 10:
        parser.error('--steps must be a multiple of 10.')
    structures = {count: copper(count) for count in options.atoms}

    console = Console(width=150)
    console.print(', '.join(f'{name} {metadata.version(name)}' for name in PACKAGES))
    console.print(
        f'Python {sys.version.split()[0]}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]}'
    )
    shape = f'models: {options.channels} channels, messages to l = {options.max_l}, r_max 5 Å'
    console.print(f'{shape}; {options.repeats} turns of {options.steps} steps')
    costs = Table(title='ms for each step: CPU time (wall time)', box=None, padding=(0, 2), header_style='dim')
    limits = Table(title='ratios of CPU times', box=None, padding=(0, 2), header_style='dim')
    for table in (costs, limits):
        table.add_column('atoms', justify='right')
        table.add_column('dtype')
    for name in COLUMNS:
        costs.add_column(name, justify='right')
    with tempfile.TemporaryDirectory() as folder:
        models = write_committee(
            folder, ('Cu',), MEMBERS, channels=options.channels, max_l=options.max_l, r_max=5.0, scale=0.05
        )
        for dtype in options.dtype:
            for count, atoms in structures.items():
                print(f'{count} atoms, {dtype} …', file=sys.stderr)
                measured = measure(atoms, models, dtype, options.steps // BLOCK, options.repeats)
                costs.add_row(str(count), dtype, *map(str, measured.values()))
                found = ratios(measured)
                if len(limits.columns) == 2:
                    for name in found:
                        limits.add_column(name, justify='right')
                limits.add_row(
                    str(count), dtype, *(f'{value:.2f}{"" if kept else " !"}' for value, kept in found.values())
                )
    console.print()
    console.print(costs)
    console.print()
    console.print(limits)


if __name__ == '__main__':
    main()
