"""Error against number of labels: what a target needs, tables, bars and the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiida_mlip_al.selection.learning_curve import labels_needed

Floats = NDArray[np.float64]
_OTHERS = '7f7f7f 17869e e39802 8a52a6 e377c2 4f9d4f 8c564b 1f4e9e bcbd22 000000 ff9f80 5b7a99'
_COLOURS = [f'#{colour}' for colour in _OTHERS.split()]
_OURS = '#c62828'  # the last one
_TICKS = np.array([1, 1.5, 2, 2.5, 3, 4, 5, 6, 8])


@dataclass(frozen=True)
class Curve:
    """One rule on one test set: labels and errors of each seed, (seeds, rounds); errors in meV/Å."""

    labels: list[list[int]]
    errors: list[list[float]]

    def needed(self, targets: Sequence[float]) -> Floats:
        """Return the labels that each seed needs to come down to its target."""
        rows = zip(self.labels, self.errors, targets, strict=True)
        return np.array([labels_needed(labels, errors, target) for labels, errors, target in rows])

    def without(self, seed: int) -> Curve:
        """Return the curve of all seeds but one."""
        labels, errors = (
            [row for number, row in enumerate(rows) if number != seed] for rows in (self.labels, self.errors)
        )
        return Curve(labels, errors)

    def mean(self) -> tuple[Floats, Floats, Floats]:
        """Return labels, mean error and its standard deviation over the seeds, as far as all seeds go."""
        rounds = min(len(row) for row in self.errors)
        errors = np.array([row[:rounds] for row in self.errors])
        return np.mean([row[:rounds] for row in self.labels], axis=0), errors.mean(axis=0), spread(errors)


def spread(values: ArrayLike) -> Floats:
    """Return the sample standard deviation over the first axis; zero for a single one."""
    rows = np.asarray(values, dtype=float)
    return rows.std(axis=0, ddof=1) if len(rows) > 1 else np.zeros(rows.shape[1:])


def targets_of(random: Curve) -> list[float]:
    """Return what each seed's random frames reach with their last but one number of labels."""
    return [errors[-2] for errors in random.errors]


def needed_of_mean(curve: Curve, random: Curve) -> tuple[float, float, float]:
    """Return the labels that the mean over seeds needs for what the mean of random frames reaches with the last but one number.

    Single seeds whose curves are flat there cross their targets by luck, or do not.

    :returns: the number, and the least and the largest if any one seed is left out (jackknife); infinite if not reached.
    """
    seeds = range(len(curve.errors))
    pairs = [(curve, random), *((curve.without(seed), random.without(seed)) for seed in seeds if len(seeds) > 1)]
    found = []
    for own, its in pairs:
        labels, errors, _ = own.mean()
        found.append(labels_needed(labels, errors, its.mean()[1][-2]))
    return found[0], min(found), max(found)


def mean_text(needed: tuple[float, float, float], last: int) -> str:
    """Return what :func:`needed_of_mean` found, as a number and its range."""
    value, least, largest = (f'{number:.0f}' if math.isfinite(number) else f'over {last}' for number in needed)
    return f'{value} ({least} to {largest})'


def needed_text(needed: ArrayLike, last: int) -> str:
    """Return mean and standard deviation of numbers of labels, or how many seeds did not get there.

    :param needed: (seeds,), infinite for a seed that did not.
    :param last: the largest number of labels of the replay.
    """
    values = np.asarray(needed, dtype=float)
    missed = int((~np.isfinite(values)).sum())
    if missed:
        return f'over {last} in {missed} of {len(values)}'
    return f'{values.mean():.0f} ± {float(spread(values)):.0f}'


def no_more_than(ours: ArrayLike, other: ArrayLike, last: int) -> bool:
    """Return whether ours needs no more labels than another rule, within the spread over seeds of their difference.

    :param ours: (seeds,) labels needed; infinite for a seed that did not get there, and then the answer is no.
    :param other: the same; where it did not get there it counts as `last`, which is in its favour.
    :param last: the largest number of labels of the replay.
    """
    mine, its = np.asarray(ours, dtype=float), np.asarray(other, dtype=float)
    if not np.isfinite(mine).all():
        return False
    difference = mine - np.where(np.isfinite(its), its, last)
    return bool(difference.mean() <= float(spread(difference)))


def draw(file: Path, sets: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draw the mean error of each rule and the band of its standard deviation, one picture for each test set.

    :param file: of the picture.
    :param sets: curves by rule, by name of the test set.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    columns = min(3, len(sets))
    rows = math.ceil(len(sets) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5.2 * columns, 4.0 * rows), squeeze=False)
    for axis, (title, curves) in zip(axes.flat, sets.items(), strict=False):
        coloured = [*_COLOURS[: len(curves) - 1], _OURS]
        for colour, (rule, curve) in zip(coloured, curves.items(), strict=True):
            labels, mean, deviation = curve.mean()
            axis.plot(labels, mean, 'o-', color=colour, label=rule, markersize=4, linewidth=1.6)
            axis.fill_between(labels, mean - deviation, mean + deviation, color=colour, alpha=0.12, linewidth=0)
        ticks = sorted({round(value) for curve in curves.values() for value in curve.labels[0]})
        axis.set(xscale='log', yscale='log', title=title, xlabel='labels', ylabel='force MAE, meV/Å')
        axis.set_xticks([tick for tick in ticks if tick in next(iter(curves.values())).labels[0]])
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter(ScalarFormatter())
            side.set_minor_formatter(NullFormatter())
        low, high = axis.get_ylim()
        axis.set_yticks([value for ten in (1, 10, 100) for value in _TICKS * ten if low <= value <= high])
        axis.grid(alpha=0.3, linewidth=0.5)
    for axis in list(axes.flat)[len(sets) :]:
        axis.set_visible(False)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc='lower center', ncols=4, frameon=False, fontsize=9)
    legend = 0.1 + 0.2 * math.ceil(len(names) / 4)  # inches
    figure.tight_layout(rect=(0, legend / figure.get_figheight(), 1, 1))
    figure.savefig(file, dpi=120, facecolor='white')
    pyplot.close(figure)
