"""The rules for choosing frames as a page: ``python -m aiida_mlip_al.config.select_table > docs/selecting.md``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple

from aiida_mlip_al.sampling.table import section
from aiida_mlip_al.selection.levels import AdaptiveLower, ErrorFit, LevelRule, MovingAverage, Quantile
from aiida_mlip_al.selection.measure import MEASURES
from aiida_mlip_al.selection.settings import SelectParameters

INTRODUCTION = """\
<!-- Made from the code; do not edit. Write it again with `python -m aiida_mlip_al.config.select_table > docs/selecting.md`. -->

# Choosing frames

    select: {tolerance: 0.1, upper: 0.8, max_labels: 20}

After each exploration every frame gets a verdict, in this order, so that no label is spent on a frame that is dropped later:

1. `unphysical`: atoms too close, a force too large, a cell that lost its shape, a number that is not finite.
2. The measure u is compared with two levels: `accurate` up to the lower one, `candidate` above it, `failed` above the upper one.
3. `duplicate`: a candidate like a training frame or like another candidate with a higher u.
4. `audit`: a few random accurate frames, labelled to see how often they are not.
5. `selected`: candidates in the order of `diversity`, as far as `max_labels`, `label_budget` and the shares allow; the others are
   `over_budget`.
"""

MEASURE_TEXT = """\
## The measure

`select: {measure: max}`. Members k = 1 … K of the committee, eps_i = sqrt(mean over k of |F_i^k - mean F_i|²): a vector norm
and the population mean. **A mean over x, y, z inside the root is smaller by √3**: a threshold of aims-PAX (`max_atomic_sd`,
`mean_atomic_sd`) is to be multiplied by 1.73 here, and one of DeePMD-kit, DP-GEN or SPARC holds as it is.
"""
MEASURE_NOTE = """\
`lower` and `upper` are in the unit of the measure; `tolerance` is a force error in eV/Å whatever the measure is. With `relative`
or `energy` the protocols' `upper`, which is in eV/Å, does not count. On silicon (8 and 64 atoms, frames from 300 to 3500 K
together, committees of 4) the rank correlation with the true error was 0.94 to 0.97 for `max`, 0.65 to 0.88 for `relative` and
-0.11 to 0.47 for `energy`; among frames of one temperature it is lower for all.
The exploration itself ends a walker above `explore: {ase: {upper: …}}`, which is always compared with `max`.
"""

LEVEL_TEXT = """\
## The lower level

One of these; what was used, and from which numbers, stands in the attribute `thresholds` of every SelectionData and in the history.
"""
LEVEL_NOTE = """\
`tolerance` can stand beside a rule under `levels`: the audit is held against it. Held-out frames are those of validation, with
the committee of this round, and the labels of the round before, with the committee that asked for them: so a calibration is new in
every round. `moving_average` and `adaptive_lower` know of no error: they follow whatever was sampled, and part of the frames is
always above, so that `stop: {accurate_fraction: …}` has little meaning with them.
"""


class Rule(NamedTuple):
    """A rule for the lower level: how it is written, what it computes, where it comes from."""

    key: str
    formula: str
    source: str


RULES = (
    Rule(
        'tolerance: 0.1',
        'tolerance / a; a is the ⌈(n + 1) · `coverage`⌉-th smallest of error / u on n held-out frames (default)',
        'split conformal prediction (Vovk, Gammerman and Shafer, 2005)',
    ),
    Rule('lower: 0.1', 'the number itself', 'DP-GEN, SPARC, PWact'),
    Rule(
        'levels: {moving_average: {c_x: 0.0, n: 400}}',
        '(1 + `c_x`) · mean of the last `n` checks of all trajectories',
        'aims-PAX (arXiv 2508.12888)',
    ),
    Rule(
        'levels: {adaptive_lower: {number: 200, fraction: 0.01}}',
        'the max(`number`, int(`fraction` · n)) highest of the n frames below `upper` are candidates',
        'DP-GEN (10 and 0), DP-GEN2 (200 and 0.01)',
    ),
    Rule(
        'levels: {quantile: {quantile: 0.95}}',
        'that quantile of u on the held-out frames',
        'novelty detection (Pimentel et al., Signal Process. 99, 215 (2014))',
    ),
    Rule(
        'tolerance: 0.1, levels: {error_fit: {}}',
        'a · tolerance; a = Σ u e / Σ e² over all labelled frames, the line u = a e through the origin',
        'aiida-trains-pot',
    ),
)

CHOICE_TEXT = """\
## The choice among candidates
"""
CHOICES = {
    'largest_cluster': (
        'each frame belongs to the nearest one that is labelled or chosen; the next is the farthest of that group whose squared '
        'distances have the largest sum: a frame that lies by itself weighs less than many together (default)',
        'LCMD (Holzmüller et al., J. Mach. Learn. Res. 24, 164 (2023)), there with `gradient`',
    ),
    'farthest_point': (
        'each next frame is the farthest, in the descriptors of the first model, from the training set and from those chosen',
        'greedy k-center (Gonzalez, 1985); with `gradient` it is `MaxDist` of apax',
    ),
    'top': ('highest u first', 'DP-GEN2 (`max-select`), ALomancy'),
    'random': ('at random', 'DP-GEN, PWact, aiida-trains-pot'),
    'stratified': (
        'one of each stratum in turn, at random within it; `strata` of `deviation` and `temperature` are the distinct values or '
        'ten bins of equal width, highest first, those of `trajectory` the walkers',
        'flat over u as `inv_pop_f` of DP-GEN2',
    ),
    'rmsd': (
        'highest u first; a molecule within `min_rmsd` of one before it, after the best rotation (Kabsch), is a duplicate; fixed '
        'order of atoms, no periodic structures',
        'SPARC',
    ),
}
CHOICE_NOTE = """\
The first two measure distances between `descriptors` that come from the first model: `features`, the means of the atoms' features
for each element, in standard deviations (default), or `gradient`, the gradient of the energy with respect to the weights of the
last layers (g_ll of Zaverkin et al., Digital Discovery 1, 605 (2022)), as it is. The gradient is a sum over the atoms: between
systems of different size the size decides. Duplicates are looked for in the same descriptors, in standard deviations.

Several systems in one run: `max_per_system` (the same atoms in the same order and the same periodic directions, as walkers have
that started from one structure) and `max_per_composition` (the same reduced formula: a cell and its supercells) are numbers, or
`fair`: an even share, where what one leaves goes to the others. They take turns, so that shares differ by one at most as far as
there are candidates; of several kinds that are `fair` compositions go first, then the systems of each, then their trajectories. Two
phases of the same atoms count as one system; `max_per_trajectory` sets a limit to them, and with `fair` each walker, so each
temperature, has its share. The shares are of candidates; the audit is drawn from all accurate frames. Temperatures, pressures and
walkers of each system: [`explore: {ase: {systems: …}}`](exploring.md).
"""

PEER_TEXT = """\
## Rules of other programs

What each does, written here; all of them under `select:`. How many labels some of them need: [a benchmark](benchmark_labels.md).
"""


class Peer(NamedTuple):
    """The rule of another program in our words, and what differs."""

    name: str
    yaml: str
    difference: str


_AS_THEY_COME = 'audit_fraction: 0, duplicate_tolerance: null'
PEERS = (
    Peer(
        'DP-GEN, fixed trust levels',
        f'{{lower: 0.05, upper: 0.15, diversity: random, max_labels: 20, {_AS_THEY_COME}}}',
        '`model_devi_f_trust_lo`, `_hi` and `fp_task_max`. It takes lo ≤ u < hi, we take lower < u ≤ upper. Its second pair of '
        'levels, for the virial, joined by "or", is not here; by its default (10¹⁰) it is off.',
    ),
    Peer(
        'DP-GEN, `model_devi_adapt_trust_lo`',
        '{levels: {adaptive_lower: {number: 10, fraction: 0}}, upper: 0.15, diversity: random, max_labels: 20, '
        f'{_AS_THEY_COME}}}',
        '`model_devi_numb_candi_f`, `model_devi_perc_candi_f`; the candidates by virial are not here.',
    ),
    Peer(
        'DP-GEN2, `adaptive-lower`',
        f'{{levels: {{adaptive_lower: {{number: 200, fraction: 0.01}}}}, upper: 0.5, diversity: random, {_AS_THEY_COME}}}',
        '`numb_candi_f`, `rate_candi_f`, `level_f_hi`; `candi_sel_prob: inv_pop_f` is `diversity: stratified`.',
    ),
    Peer(
        'aims-PAX',
        f'{{levels: {{moving_average: {{c_x: 0.0, n: 400}}}}, upper: null, diversity: top, {_AS_THEY_COME}}}',
        'The factor √3 cancels. It sets a new threshold at every check and stops the walker there; here a round has one level. '
        '`freeze_threshold_dataset` is `freeze_labels`.',
    ),
    Peer(
        'aiida-trains-pot',
        '{tolerance: 0.1, measure: mean, levels: {error_fit: {}}, upper: null, diversity: random, max_labels: 1000, '
        f'{_AS_THEY_COME}}}',
        'Its deviation is the range of the norms of the forces, averaged over atoms, its error the RMSE; energy and stress, joined '
        'by "or", are not here.',
    ),
    Peer(
        'SPARC',
        '{lower: 0.1, upper: 0.8, diversity: rmsd, min_rmsd: 0.05, exclude_hydrogen: true, max_labels: 1000, audit_fraction: 0}',
        '`f_min_dev`, `f_max_dev`, `rmsd_threshold`. It has no budget, and goes in the order of time from the first frame.',
    ),
    Peer(
        'PWact',
        f'{{lower: 0.1, upper: 0.2, diversity: random, max_per_system: 100, max_labels: 1000, {_AS_THEY_COME}}}',
        '`lower_model_deiv_f`, `upper_model_deiv_f`, `max_select`.',
    ),
    Peer(
        'ALomancy',
        '{levels: {adaptive_lower: {number: 0, fraction: 1}}, upper: null, diversity: top, max_labels: 50, '
        f'{_AS_THEY_COME}}}',
        'Its number is the largest standard deviation of one force component.',
    ),
    Peer(
        'apax, `MaxDist`',
        f'{{levels: {{adaptive_lower: {{number: 0, fraction: 1}}}}, upper: null, diversity: farthest_point, '
        f'descriptors: gradient, {_AS_THEY_COME}}}',
        'Its last-layer gradient; neither that of the forces nor random projections of the whole gradient are here.',
    ),
)


def select_table() -> str:
    """Return the page as Markdown."""
    measures = [
        (f'`{name}`', measure.formula, measure.unit or '1', f'`{measure.column}`', measure.source)
        for name, measure in MEASURES.items()
    ]
    models: dict[str, type[LevelRule]] = {
        'moving_average': MovingAverage,
        'adaptive_lower': AdaptiveLower,
        'quantile': Quantile,
        'error_fit': ErrorFit,
    }
    parts = [
        INTRODUCTION,
        MEASURE_TEXT,
        _table(('measure', 'of a frame', 'unit', 'array of DeviationData', 'who uses it'), measures),
        MEASURE_NOTE,
        LEVEL_TEXT,
        _table(('key', 'lower level', 'source'), [(f'`{rule.key}`', rule.formula, rule.source) for rule in RULES]),
        LEVEL_NOTE,
        CHOICE_TEXT,
        _table(('`diversity`', 'order', 'source'), [(f'`{name}`', *texts) for name, texts in CHOICES.items()]),
        CHOICE_NOTE,
        PEER_TEXT,
        _table(('program', 'here', 'what differs'), [(peer.name, f'`{peer.yaml}`', peer.difference) for peer in PEERS]),
        section('select', SelectParameters, 'Every key.', ''),
        *(section(f'levels: {name}', model, inspect.getdoc(model) or '', '') for name, model in models.items()),
    ]
    return '\n'.join(parts)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ('---',) * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(cell.replace('|', '\\|') for cell in line) + ' |' for line in lines) + '\n'


if __name__ == '__main__':
    print(select_table(), end='')
