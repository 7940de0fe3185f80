"""One model with the uncertainty of its last layer against a committee of four: which knows better where it is wrong.

    OMP_NUM_THREADS=1 python tests/benchmarks/uncertainty.py [--quick] [--folder FOLDER]

Ethanol, GFN2-xTB. Training and validation frames are of MD at 300 and 500 K, test frames of later parts of these runs (in
distribution) and of MD at 700 and 1000 K. The table has, for each measure, Spearman's rank correlation of it with the largest
force error of a frame (of the committee: that of its mean), recall and coverage of the conformal rule with factors from the
validation frames, the CPU time of all training, and that of a frame. What a folder has already is not made again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
warnings.filterwarnings('ignore')
sys.path.insert(0, str(Path(__file__).parents[2] / 'aiida_mlip_al' / 'runners'))

import numpy as np  # noqa: E402
from ase import Atoms, units  # noqa: E402
from ase.build import molecule  # noqa: E402
from ase.io import read, write  # noqa: E402
from ase.md.langevin import Langevin  # noqa: E402
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution  # noqa: E402
from committee import Committee  # noqa: E402
from mace_jobs import run, training  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from rigidity import Posterior  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402
from virtual_committee import VirtualCommittee  # noqa: E402

from aiida_mlip_al.selection.calibration import conformal_lower_level, empirical_coverage  # noqa: E402

MEMBERS = 4
TRAINED_AT, OTHER = (300, 500), (700, 1000)  # K
FRAMES = 120  # of each trajectory
LARGEST_LOSS, LARGEST_COST, SMALLEST_RECALL = 0.05, 1 / 3, 0.9


@dataclass(frozen=True)
class Size:
    """How large the models are, and how long they are trained."""

    channels: int
    max_ell: int
    steps: int
    trained_part: int  # of 80 frames of a trajectory, every n-th


QUICK, FULL = Size(16, 2, 200, 2), Size(32, 3, 600, 1)


@dataclass
class Said:
    """What a measure says about the frames of a set: deviation (N,), error (N,) in eV/Å, and CPU time of a frame in ms."""

    deviation: np.ndarray
    error: np.ndarray
    cost: float


def trajectory(temperature: int, file: Path) -> None:
    """Write labelled frames of a trajectory, 25 fs apart."""
    from tblite.ase import TBLite

    atoms, rng = molecule('CH3CH2OH'), np.random.default_rng(temperature)
    atoms.calc = TBLite(method='GFN2-xTB', verbosity=0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng)
    dynamics.run(400)
    frames = []
    for _ in range(FRAMES):
        dynamics.run(50)
        frame = Atoms(atoms.symbols, atoms.positions)
        frame.info.update(REF_energy=float(atoms.get_potential_energy()), temperature_K=temperature)
        frame.arrays['REF_forces'] = atoms.get_forces()
        frames.append(frame)
    write(file, frames, format='extxyz')


def say(committee: Committee, frames: Sequence[Atoms], measure: str = 'deviation') -> Said:
    """Return what a committee says about frames."""
    began = time.process_time()
    parts = [committee.predict(frames[begin : begin + 16]) for begin in range(0, len(frames), 16)]
    cost = (time.process_time() - began) / len(frames) * 1e3
    forces = [part.forces_of(index) for part in parts for index in range(len(part.offsets) - 1)]
    error = [
        np.linalg.norm(f.mean(axis=0) - a.arrays['REF_forces'], axis=1).max()
        for f, a in zip(forces, frames, strict=True)
    ]
    spread = [np.sqrt(((f - f.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)).max() for f in forces]
    if measure == 'mahalanobis':
        spread = list(np.concatenate([part.mahalanobis for part in parts if part.mahalanobis is not None]))
    return Said(np.array(spread), np.array(error), cost)


def main() -> None:
    """Label, train, learn the uncertainty, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument('--quick', action='store_true', help='smaller models, fewer steps and frames')
    parser.add_argument('--folder', type=Path, help='where the work is kept')
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    frames: dict[int, list[Atoms]] = {}
    for temperature in (*TRAINED_AT, *OTHER):
        file = folder / f'md_{temperature}.xyz'
        if not file.exists():
            trajectory(temperature, file)
        frames[temperature] = read(file, ':')
    shard = []
    for temperature in TRAINED_AT:
        for number, frame in enumerate(frames[temperature][:80]):
            frame.info['split'] = 'validation' if number % 4 == 3 else 'train'
            if number % 4 == 3 or number % size.trained_part == 0:
                shard.append(frame)
    near = [frame for temperature in TRAINED_AT for frame in frames[temperature][80:]]
    sets = {
        'validation': [frame for frame in shard if frame.info['split'] == 'validation'],
        'near': near,
        'all': near + [frame for temperature in OTHER for frame in frames[temperature][::2]],
    }
    seconds = []
    for member in range(MEMBERS):
        place = folder / f'member_{member}'
        place.mkdir(exist_ok=True)
        write(place / 'shard.xyz', shard, format='extxyz')
        seconds.append(run(place, 'train', training(size.channels, size.max_ell, size.steps, member + 1)))
    lead = folder / 'member_0'
    learning = run(lead, 'uncertainty', {'model': 'mace.model', 'datasets': {'d': 'shard.xyz'}, 'samples': None})
    compare(folder, sets, sum(seconds), seconds[0] + learning)


def compare(folder: Path, sets: dict[str, list[Atoms]], committee_cost: float, single_cost: float) -> None:
    """Print the table and the bars."""
    files = [folder / f'member_{member}' / 'mace.model' for member in range(MEMBERS)]
    exact = dict(np.load(folder / 'member_0' / 'uncertainty.npz'))
    posterior = Posterior(exact['factor'], 0.0, 1.0, 0.0)

    def virtual(samples: int | None, seed: int = 0) -> VirtualCommittee:
        drawn = posterior.displacements(samples, np.random.default_rng(seed))
        np.savez(folder / 'drawn.npz', **{**exact, 'displacements': drawn})  # type: ignore[arg-type]
        return VirtualCommittee(files[0], folder / 'drawn.npz', 'float64')

    measures: dict[str, tuple[Callable[[], Committee], str, float]] = {
        f'committee of {MEMBERS}': (lambda: Committee(files, 'float64'), 'deviation', committee_cost),
        'LLPR, exact': (lambda: virtual(None), 'deviation', single_cost),
        'LLPR, 32 samples': (lambda: virtual(32), 'deviation', single_cost),
        'LLPR, 16 samples': (lambda: virtual(16), 'deviation', single_cost),
        'LLPR, 8 samples': (lambda: virtual(8), 'deviation', single_cost),
        'Mahalanobis': (lambda: virtual(2), 'mahalanobis', single_cost),
    }
    table = Table('measure', 'rho near', 'rho all', 'recall', 'coverage', 'training CPU-s', 'frame CPU-ms')
    found: dict[str, tuple[float, float]] = {}
    for name, (make, measure, cost) in measures.items():
        model = make()
        said = {kind: say(model, frames, measure) for kind, frames in sets.items()}
        near = said['near']
        tolerance = float(np.median(near.error))
        rule = conformal_lower_level(said['validation'].deviation, said['validation'].error, tolerance)
        recall = float((near.deviation > rule.lower)[near.error > tolerance].mean())
        coverage = empirical_coverage(near.deviation, near.error, rule.factor)
        rhos = [float(spearmanr(said[kind].deviation, said[kind].error)[0]) for kind in ('near', 'all')]
        found[name] = rhos[1], recall
        numbers = [f'{value:.3f}' for value in (*rhos, recall, coverage)]
        table.add_row(name, *numbers, f'{cost:.0f}', f'{said["all"].cost:.1f}')
    console = Console(width=110)
    console.print(table)
    committee, single = found[f'committee of {MEMBERS}'], found['LLPR, 16 samples']
    console.print(f'rank correlation lost: {committee[0] - single[0]:.3f} (bar: at most {LARGEST_LOSS})')
    console.print(f'cost of training: {single_cost / committee_cost:.3f} of the committee (bar: {LARGEST_COST:.3f})')
    console.print(f'recall in distribution: {single[1]:.3f} (bar: {SMALLEST_RECALL})')


if __name__ == '__main__':
    main()
