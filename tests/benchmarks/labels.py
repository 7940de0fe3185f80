"""Force error on independent frames against number of labels, for thirteen ways to choose the labels.

    OMP_NUM_THREADS=1 python tests/benchmarks/labels.py [--quick | --system NAME] [--rules RULE …]
        [--seeds N …] [--final-steps N [--final-rounds N]] [--folder FOLDER] [--plot FILE] [--json FILE]

A pool of labelled MD frames stands for what explorations find, so that no rule pays for labels. All rules begin with the same
few seeds (the package's own rattle), take the same number of frames a round, hold out the same part for validation, and train
the same models with the same seeds and gradient steps, warm from the round before. The error is that of one model, member 0,
whatever the rule trains beside it.

* random, time-uniform: any frame of the pool, and frames at equal distances in time. No model is asked.
* top n: the largest force deviations of a committee of four.
* aims-PAX's level: frames above the mean of the last 400 deviations. Its walkers stop at the first check above the level, so of
  these frames any is taken, not the largest (which would be top n).
* apax's MaxDist: the farthest frames in the gradient of the energy by the last layer's weights, of one model.
* ours: what `protocol: balanced` does under `select` where frames come from a pool, with four models. The others of ours have the
  upper level that explorations by MD have: by itself; with one model and LLPR (see docs/uncertainty.md); with the choice by
  farthest points, by the gradient, by both; with an even share for each walker; with a third of the tolerance.

No number was tuned on these tests; the largest cluster became the default choice for what it did on ethanol. Where a rule finds
fewer candidates than the round has labels it takes those. Where it finds none, for all frames are accurate or beyond the upper
level, it has stopped: its curve ends there.

* `labels needed` is where a seed's curve first comes down to the error that random frames reach, with the same seed, at the last
  but one number of labels: so there is room to need more.
* `of the mean` is the same of the mean curves, which flat ones do not cross by luck, and its range if one seed is left out.
* `in tolerance` is where 95 % of the test frames have no force that is wrong by more than the protocol's tolerance, which is all
  that ours is asked for.

With `--final-steps` each rule's last labels, and with `--final-rounds` those of rounds before, are trained on once more, from
scratch and for longer: what is left of a difference then is the labels'. What a folder has already is not made again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')
warnings.filterwarnings('ignore')
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.data import atomic_numbers  # noqa: E402
from label_curves import Curve, draw, mean_text, needed_of_mean, needed_text, no_more_than, spread, targets_of  # noqa: E402
from label_rules import OURS, RULES, Round, Rule, at_random, choose, evenly_in_time  # noqa: E402
from label_systems import System, load, make_seeds, make_trajectory, save  # noqa: E402
from mace_jobs import preload, run_forked, training, warm_start  # noqa: E402
from rich import box  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from aiida_mlip_al.config.protocols import protocol_values  # noqa: E402
from aiida_mlip_al.sampling.base import stream, stream_seed  # noqa: E402
from aiida_mlip_al.selection.errors import Prediction, compare  # noqa: E402
from aiida_mlip_al.selection.levels import Pairs  # noqa: E402
from aiida_mlip_al.selection.reference import fit_atomic_energies  # noqa: E402
from aiida_mlip_al.selection.splits import assign_splits  # noqa: E402

MEMBERS = 4
ETHANOL = System('ethanol', 'GFN2-xTB', (300, 500, 700), (300, 700), 2, 110, 100, 0.5, 50)
NACL = System('NaCl', 'GFN1-xTB', (300, 600, 900), (300, 900), 2, 50, 40, 5.0, 5, one_test=True)
ALL = 'all'  # the frames of all test sets of a system
TOLERANCE = 1e3 * OURS.options.tolerance  # meV/Å


@dataclass(frozen=True)
class Size:
    """How much is done.

    :param systems: what is replayed.
    :param seeds: numbers of the repetitions: seeds' displacements, models and random choices all differ.
    :param first: labels that all rules begin with.
    :param batches: labels of each round after it.
    :param channels: of the models.
    :param max_ell: of the models.
    :param first_steps: gradient steps of the first training.
    :param steps: gradient steps of each training after it.
    :param rules: that are compared; random and ours are always among them.
    :param final_steps: gradient steps of one more training, from scratch, on the last labels of each rule; None for none.
    :param final_rounds: do so on the labels of so many of the last rounds, that of the seeds counted.
    """

    systems: tuple[System, ...]
    seeds: tuple[int, ...]
    first: int
    batches: tuple[int, ...]
    channels: int
    max_ell: int
    first_steps: int
    steps: int
    rules: tuple[Rule, ...] = RULES
    final_steps: int | None = None
    final_rounds: int = 1

    @property
    def last(self) -> int:
        """Labels at the end."""
        return self.first + sum(self.batches)


QUICK = Size((replace(ETHANOL, walkers=1, frames=60, test_frames=30),), (0,), 10, (10, 10), 16, 2, 400, 150)
FULL = Size((ETHANOL, NACL), (0, 1, 2), 10, (10, 10, 15, 15), 16, 2, 800, 300)


@dataclass(frozen=True)
class Replay:
    """One system and one seed in a folder."""

    size: Size
    system: System
    seed: int
    folder: Path

    @property
    def data(self) -> Path:
        """Where the labelled frames are."""
        return self.folder / self.system.name

    @property
    def place(self) -> Path:
        """Where the models are."""
        return self.data / f'seed_{self.seed}'

    @property
    def first(self) -> Path:
        """Where the models of the first round are, which all rules share."""
        return self.place / 'first'

    def beginning(self) -> list[Atoms]:
        """Return the labels that all rules begin with, with their splits."""
        frames = load(self.data / f'seeds_{self.seed}.xyz')
        fraction = protocol_values('balanced')['seed_validation_fraction']
        return self.split(frames, fraction, 0)

    def split(self, frames: Sequence[Atoms], fraction: float, number: int) -> list[Atoms]:
        """Return copies of newly labelled frames with their splits.

        :param frames: labelled.
        :param fraction: held out for validation.
        :param number: of the round.
        """
        rng = np.random.default_rng(stream(self.seed, 'split', number))
        copies = [frame.copy() for frame in frames]
        for frame, split in zip(
            copies, assign_splits(len(copies), {'validation_fraction': fraction}, rng), strict=True
        ):
            frame.info['split'] = split
        return copies

    def pool(self) -> tuple[list[Atoms], np.ndarray]:
        """Return the explored frames, trajectory after trajectory, and the number of the trajectory of each."""
        names = [name for name, *_ in self.system.trajectories() if name.startswith('pool')]
        parts = [load(self.data / f'{name}.xyz') for name in names]
        walker = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        return [frame for part in parts for frame in part], walker

    def train(self, place: Path, member: int, previous: Path | None) -> float:
        """Train a member on the shard of a round; return the CPU time in s.

        :param place: of the round, which has `shard.xyz`.
        :param member: its number.
        :param previous: place of the round before.
        """
        size = self.size
        seed = stream_seed(self.seed, 'member', member) % 2**31
        settings = training(size.channels, size.max_ell, size.first_steps if previous is None else size.steps, seed)
        beginning = load(self.first / 'shard.xyz')
        energies = fit_atomic_energies(beginning, [frame.info['REF_energy'] for frame in beginning])
        e0s = {atomic_numbers[symbol]: energies[symbol] for symbol in sorted(energies, key=atomic_numbers.__getitem__)}
        settings['arguments'].update(E0s=str(e0s), atomic_numbers=str(list(e0s)))
        settings['shards'] = [str((place / 'shard.xyz').resolve())]
        if previous is not None:
            settings = warm_start(settings, model_of(previous, member))
        return run_forked(place / f'member_{member}', 'train', settings)

    def test(self, place: Path) -> dict[str, dict[str, float]]:
        """Return the errors of member 0 on each test set, and on all of them as one, meV/Å."""
        files = {str(t): self.data / f'test_{t}.xyz' for t in self.system.tests}
        _, predicted = evaluate(place / 'test', [model_of(place, 0)], files)
        found = {name: compare(load(file), predicted[name]).arrays for name, file in files.items()}
        keys = ('force_mae', 'force_mse', 'max_force_error')
        found[ALL] = {key: np.concatenate([arrays[key] for arrays in found.values()]) for key in keys}
        return {
            name: {
                'mae': 1e3 * float(arrays['force_mae'].mean()),
                'rmse': 1e3 * float(np.sqrt(arrays['force_mse'].mean())),
                'p95': 1e3 * float(np.percentile(arrays['max_force_error'], 95)),
            }
            for name, arrays in found.items()
        }

    def ask(self, rule: Rule, place: Path) -> tuple[float, dict[str, Prediction]]:
        """Return the CPU time (s) and what the models of a round say about pool and labelled frames, with descriptors."""
        names = [name for name, *_ in self.system.trajectories() if name.startswith('pool')]
        files = {name: self.data / f'{name}.xyz' for name in names}
        files['labelled'] = place / 'shard.xyz'
        models = [model_of(place, member) for member in range(max(1, rule.members))]
        place, descriptors = place / rule.folder, rule.options.descriptors
        if rule.members > 1:
            return evaluate(place, models, files, descriptors=descriptors)
        settings = {'model': str(models[0].resolve()), 'datasets': {'labelled': str(files['labelled'].resolve())}}
        cost = run_forked(place, 'uncertainty', settings)
        more, predicted = evaluate(place, models, files, descriptors=descriptors, uncertainty='uncertainty.npz')
        return cost + more, predicted


def model_of(place: Path, member: int) -> Path:
    """Return the file of a member's model."""
    return place / f'member_{member}' / 'mace.model'


def evaluate(
    place: Path,
    models: Sequence[Path],
    files: dict[str, Path],
    *,
    descriptors: str | None = None,
    uncertainty: str | None = None,
) -> tuple[float, dict[str, Prediction]]:
    """Return the CPU time (s) and what models say about the frames of files."""
    settings = {
        'models': [str(model.resolve()) for model in models],
        'datasets': {name: str(file.resolve()) for name, file in files.items()},
        'descriptors': descriptors,
        'uncertainty': uncertainty,
        'batch_size': 20,
    }
    cost = run_forked(place, 'evaluate', settings)
    found = {}
    for name in files:
        with np.load(place / f'evaluation_{name}.npz') as arrays:
            found[name] = Prediction.from_arrays(dict(arrays))
    return cost, found


def joined(parts: Sequence[Prediction]) -> Prediction:
    """Return one prediction of several on one after another."""
    return Prediction(
        np.concatenate([part.energies for part in parts], axis=1),
        [forces for part in parts for forces in part.forces],
        np.concatenate([part.stresses for part in parts], axis=1),
        np.concatenate([part.descriptors for part in parts if part.descriptors is not None]),
    )


def replayed(replay: Replay, rule: Rule) -> dict[str, Any]:
    """Go through all rounds of a rule; return its labels, errors, costs and choices."""
    pool, walker = replay.pool()
    fraction = protocol_values('balanced')['select']['validation_fraction']
    free = np.ones(len(pool), dtype=bool)
    labelled = replay.beginning()
    place, new, history = replay.first, Pairs(), []
    rounds: list[dict[str, Any]] = []
    cost = sum(
        json.loads((place / f'member_{member}' / 'train.status.json').read_text())['cpu_s']
        for member in range(max(1, rule.members))
    )
    for number, batch in enumerate(replay.size.batches):
        rounds.append({'labels': len(labelled), 'errors': replay.test(place), 'cpu_s': cost})
        rows = np.flatnonzero(free)
        if rule.select is not None:
            asking, predicted = replay.ask(rule, place)
            cost += asking
            parts = [part for name, part in predicted.items() if name != 'labelled']
            known = Round(
                [pool[row] for row in rows],
                joined(parts).take(rows),
                walker[rows],
                labelled,
                predicted['labelled'],
                new,
                history,
            )
            choice = choose(rule, known, batch, replay.seed)
            chosen, new = rows[choice.chosen], choice.pairs
            history = [*history, choice.row]
            rounds[-1]['choice'] = {key: value for key, value in choice.row.items() if key != 'thresholds'}
            rounds[-1]['choice']['lower'] = choice.row['thresholds']['lower']
        elif rule.key == 'random':
            chosen = rows[at_random(len(rows), batch, replay.seed, number)]
        else:
            phase = float(np.random.default_rng(stream(replay.seed, 'phase', number)).random())
            chosen = evenly_in_time(free, batch, phase)
        if not len(chosen):
            return {'rounds': rounds}
        free[chosen] = False
        labelled = labelled + replay.split([pool[row] for row in chosen], fraction, number + 1)
        before, place = place, replay.place / rule.key / f'round_{number + 1}'
        place.mkdir(parents=True, exist_ok=True)
        save(place / 'shard.xyz', labelled)
        is_last = number + 1 == len(replay.size.batches)
        for member in range(1 if is_last else max(1, rule.members)):
            cost += replay.train(place, member, before)
    rounds.append({'labels': len(labelled), 'errors': replay.test(place), 'cpu_s': cost})
    return {'rounds': rounds}


def rounds_of(replay: Replay, rule: Rule) -> list[Path]:
    """Return the folders of a rule's rounds, those of the seeds first."""
    rounds = (replay.place / rule.key).glob('round_*')
    return [replay.first, *sorted(rounds, key=lambda place: int(place.name.removeprefix('round_')))]


def trained_longer(replay: Replay, place: Path) -> dict[str, Any]:
    """Train on the labels of a round from scratch, with more gradient steps; return labels, errors and CPU time."""
    assert replay.size.final_steps is not None
    own = place / f'final_{replay.size.final_steps}'
    own.mkdir(exist_ok=True)
    labelled = load(place / 'shard.xyz')
    save(own / 'shard.xyz', labelled)
    longer = replace(replay, size=replace(replay.size, first_steps=replay.size.final_steps))
    cost = longer.train(own, 0, None)
    return {'labels': len(labelled), 'errors': longer.test(own), 'cpu_s': cost}


def begin(replay: Replay) -> None:
    """Write the shard of the first round."""
    replay.first.mkdir(parents=True, exist_ok=True)
    save(replay.first / 'shard.xyz', replay.beginning())


def look(replay: Replay) -> None:
    """Do what several rules ask of the first round, so that no two of them do it at once."""
    replay.test(replay.first)
    replay.ask(OURS, replay.first)


Task = tuple[Callable[..., Any], tuple[Any, ...]]


def in_parallel(workers: int, what: str, tasks: Sequence[Task], console: Console) -> list[Any]:
    """Do tasks, the first ones first, and return what they return."""
    began = time.monotonic()
    with ProcessPoolExecutor(workers, multiprocessing.get_context('fork')) as executor:
        futures = {executor.submit(function, *arguments): number for number, (function, arguments) in enumerate(tasks)}
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            console.print(f'{what}: {done} of {len(tasks)}, {time.monotonic() - began:.0f} s')
    return [future.result() for future in futures]


def everything(size: Size, folder: Path, workers: int, console: Console) -> list[dict[str, Any]]:
    """Label, train and replay; return a row for each system, rule and seed."""
    replays = [Replay(size, system, seed, folder) for system in size.systems for seed in size.seeds]
    labelling: list[Task] = []
    for system in reversed(size.systems):
        data = folder / system.name
        data.mkdir(parents=True, exist_ok=True)
        for name, *how in system.trajectories():
            labelling.append((make_trajectory, (system, data / f'{name}.xyz', *how)))
        for seed in size.seeds:
            labelling.append((make_seeds, (system, data / f'seeds_{seed}.xyz', seed, size.first)))
    in_parallel(workers, 'trajectories', labelling, console)
    preload()
    for replay in replays:
        begin(replay)
    first: list[Task] = [(replay.train, (replay.first, m, None)) for replay in replays for m in range(MEMBERS)]
    in_parallel(workers, 'first models', first, console)
    in_parallel(workers, 'first looks', [(look, (replay,)) for replay in replays], console)
    longest = sorted(size.rules, key=lambda rule: -rule.members)
    chains = [(replay, rule) for rule in longest for replay in replays]
    found = in_parallel(workers, 'replays', [(replayed, chain) for chain in chains], console)
    rows = [
        {'system': replay.system.name, 'rule': rule.key, 'seed': replay.seed, **result}
        for (replay, rule), result in zip(chains, found, strict=True)
    ]
    if size.final_steps is not None:
        places = [rounds_of(*chain)[-size.final_rounds :] for chain in chains]
        # Each once: all rules begin with the same seeds.
        once = {place: replay for (replay, _), own in zip(chains, places, strict=True) for place in own}
        tasks = [(trained_longer, (replay, place)) for place, replay in once.items()]
        points = dict(zip(once, in_parallel(workers, 'longer trainings', tasks, console), strict=True))
        rows = [{**row, 'longer': [points[place] for place in own]} for row, own in zip(rows, places, strict=True)]
    return rows


def curves_of(rows: Sequence[dict[str, Any]], system: str, test: str, number: str, which: str) -> dict[str, Curve]:
    """Return the curve of each rule on one test set: of its `rounds`, or of the `longer` trainings."""
    curves = {}
    for key in dict.fromkeys(row['rule'] for row in rows):
        own = [row[which] for row in rows if row['system'] == system and row['rule'] == key]
        labels = [[entry['labels'] for entry in points] for points in own]
        errors = [[entry['errors'][test][number] for entry in points] for points in own]
        curves[key] = Curve(labels, errors)
    return curves


def name_of(system: System, test: str) -> str:
    """Return what a test set is called in a title."""
    return f'{system.name}, {" and ".join(map(str, system.tests)) if test == ALL else test} K'


def report_final(size: Size, rows: Sequence[dict[str, Any]], system: System, test: str, console: Console) -> None:
    """Print the errors after the longer trainings, and which rules have smaller ones than ours beyond the spread."""
    title = f'{name_of(system, test)}, {size.final_steps} steps from scratch on the last labels'
    table = Table('rule', 'labels', 'MAE', 'RMSE', 'p95', title=title, box=box.MARKDOWN)
    found = {}
    for rule in size.rules:
        own = [row['longer'][-1] for row in rows if (row['system'], row['rule']) == (system.name, rule.key)]
        errors = {key: np.array([final['errors'][test][key] for final in own]) for key in ('mae', 'rmse', 'p95')}
        found[rule.name] = errors['mae']
        cells = [f'{values.mean():.1f} ± {float(spread(values)):.1f}' for values in errors.values()]
        table.add_row(rule.name, f'{np.mean([final["labels"] for final in own]):.0f}', *cells)
    console.print(table)
    ours = found[OURS.name]
    better = [name for name, values in found.items() if (ours - values).mean() > float(spread(ours - values))]
    console.print(f'smaller errors than ours, beyond the spread: {", ".join(better) or "no other rule"}')


def report_curves(
    size: Size, rows: Sequence[dict[str, Any]], system: System, test: str, which: str, console: Console
) -> bool:
    """Print the table of `rounds` or `longer` trainings; return whether ours meets the bar."""
    longer = f', {size.final_steps} steps from scratch on the labels of each round' if which == 'longer' else ''
    digits = 1 if longer else 0
    curves, rmse, p95 = (curves_of(rows, system.name, test, number, which) for number in ('mae', 'rmse', 'p95'))
    needed = {key: curve.needed(targets_of(curves['random'])) for key, curve in curves.items()}
    accurate = {key: curve.needed([TOLERANCE] * len(curve.errors)) for key, curve in p95.items()}
    of_mean = {key: needed_of_mean(curve, curves['random']) for key, curve in curves.items()}
    counts = np.cumsum([size.first, *size.batches])
    if which == 'longer':
        counts = counts[-size.final_rounds :]
    heads = [f'{count} labels' for count in counts]
    title = f'{name_of(system, test)}{longer}'
    needs = ('labels needed', 'of the mean', 'in tolerance')
    table = Table('rule', *heads, 'RMSE', 'p95', *needs, 'CPU-s', title=title, box=box.MARKDOWN)
    for rule in size.rules:
        labels, mean, deviation = curves[rule.key].mean()
        cells = [
            f'{m:.{digits}f} ± {d:.{digits}f}' + ('' if round(n) == count else f' ({n:.0f})')
            for n, m, d, count in zip(labels, mean, deviation, counts, strict=False)
        ]
        cells += [''] * (len(counts) - len(cells))
        own = [r[which][-1]['cpu_s'] for r in rows if (r['system'], r['rule']) == (system.name, rule.key)]
        ends = [f'{curve[rule.key].mean()[1][-1]:.0f}' for curve in (rmse, p95)]
        ends += [needed_text(needed[rule.key], size.last), mean_text(of_mean[rule.key], size.last)]
        ends.append(needed_text(accurate[rule.key], size.last))
        table.add_row(rule.name, *cells, *ends, f'{np.mean(own):.0f}')
    console.print(table)
    others = [rule for rule in size.rules if rule is not OURS]
    worse = [rule.name for rule in others if not no_more_than(needed['ours'], needed[rule.key], size.last)]
    fewer = bool(needed['ours'].mean() < needed['random'].mean())
    console.print(f'ours needs fewer labels than random: {"yes" if fewer else "no"}')
    by_mean = of_mean['ours'][0] < of_mean['random'][0]
    console.print(f'by the mean over the repetitions: {"yes" if by_mean else "no"}')
    console.print(f'ours needs more, beyond the spread, than: {", ".join(worse) or "no other rule"}')
    return fewer and not worse


def report(size: Size, rows: Sequence[dict[str, Any]], plot: Path | None, console: Console) -> None:
    """Print tables and bars, and draw."""
    kinds = {'rounds': 'as trained in the rounds', 'longer': f'{size.final_steps} steps'}
    if size.final_steps is None or size.final_rounds == 1:
        del kinds['longer']
    pictures = {}
    met = dict.fromkeys(kinds, True)
    for system in size.systems:
        for test in (*map(str, system.tests), ALL):
            for which in kinds:
                holds = report_curves(size, rows, system, test, which, console)
                met[which] &= holds or (system.one_test and test != ALL)
            if size.final_steps is not None:
                report_final(size, rows, system, test, console)
            curves = curves_of(rows, system.name, test, 'mae', [*kinds][-1])
            pictures[name_of(system, test)] = {rule.name: curves[rule.key] for rule in size.rules}
    for which, name in kinds.items():
        verdict = 'met' if met[which] else 'missed'
        console.print(
            f'bar (no more labels than any other rule within the spread, fewer than random), {name}: {verdict}'
        )
    if plot is not None:
        draw(plot, pictures)


def main() -> None:
    """Replay and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument('--quick', action='store_true', help='one seed of ethanol, short: the numbers mean nothing')
    parser.add_argument('--system', choices=[system.name for system in FULL.systems], help='one of the two alone')
    parser.add_argument('--rules', nargs='+', choices=[rule.key for rule in RULES], help='these, random and ours alone')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='numbers of the repetitions')
    parser.add_argument('--final-steps', type=int, help='train each rule longer on its last labels, with so many steps')
    parser.add_argument(
        '--final-rounds', type=int, default=1, help='do so for the labels of so many of the last rounds'
    )
    parser.add_argument('--folder', type=Path, help='where the work is kept')
    parser.add_argument('--workers', type=int, default=2, help='processes side by side, of one thread each')
    parser.add_argument('--plot', type=Path, help='picture to draw')
    parser.add_argument('--json', type=Path, help='file for all numbers')
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    if options.system is not None and not options.quick:
        size = replace(size, systems=tuple(system for system in size.systems if system.name == options.system))
    if options.rules is not None:
        wanted = {'random', 'ours', *options.rules}
        size = replace(size, rules=tuple(rule for rule in RULES if rule.key in wanted))
    if not options.quick:
        size = replace(size, seeds=tuple(options.seeds))
    size = replace(size, final_steps=options.final_steps, final_rounds=options.final_rounds)
    folder = (options.folder or Path(tempfile.mkdtemp())) / ('quick' if options.quick else 'full')
    console = Console(width=180)
    began = time.monotonic()
    rows = everything(size, folder, options.workers, console)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))
    report(size, rows, options.plot, console)
    console.print(f'{time.monotonic() - began:.0f} s')


if __name__ == '__main__':
    main()
