"""The page on stopping, its tables from the settings: ``python -m aiida_mlip_al.config.stop_table > docs/stopping.md``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from aiida_mlip_al.sampling.base import StepParameters
from aiida_mlip_al.sampling.table import section
from aiida_mlip_al.selection.audit import frames_to_prove
from aiida_mlip_al.selection.settings import PropertyGate, StopParameters

INTRODUCTION = """\
<!-- Made from the code; do not edit. Write it again with `python -m aiida_mlip_al.config.stop_table > docs/stopping.md`. -->

# When a run stops

    stop: {max_iterations: 10, max_labels: 300, accurate_fraction: 0.95, test_force_error: 0.03, rounds: 2}

It is looked at when an iteration is done. The first of these that holds is the reason:

1. `converged`: every **target** that is given is met in each of the last `rounds` iterations; with `require: any`, one and the same
   target is.
2. `no_candidates`: for `rounds` iterations nothing was worth a label, and yet the targets are not met.
3. `no_gain`: for `rounds` iterations the learning curve has promised less than `min_gain` from the labels that are left.
4. `pool_used_up`: every frame of a [pool](pools.md) was chosen.
5. `max_labels`, `max_core_hours`, `max_hours`, `max_iterations`: a **limit** is reached. Limits end a run whatever the targets say.

A final committee is then trained on everything, whatever the reason was, and the run ends with exit status 0.

A target that is left out is not asked for, and `null` takes away one that the protocol or the default asks for:
`accurate_fraction` is asked for unless it is `null`. Without any target only limits, `no_candidates` and `no_gain` end the run.

## Targets

"""
AFTER_TARGETS = """
An iteration without a new label meets `target_force_error` only if it had no candidate either and at least half of its frames were
accurate. What cannot be measured is not met: so `level_drift` is not where every frame failed or was unphysical.

**Audit.** A frame called accurate and labelled all the same is wrong if its largest force error (length of the error vector of an
atom) exceeds `select.tolerance`. With n audited frames, k of them wrong, p = k / n and z the normal quantile of `confidence` (1.96
for 0.95, two-sided), the upper end is (p + z²/2n + z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). The frames are those of the last
iteration; where these are too few to prove the rate even if none is wrong, those of the iterations before it are added,
newest first, until they suffice. So many are needed at a confidence of 0.95, more if one is wrong:

"""
AFTER_AUDIT = """
An iteration audits `audit_fraction` of its `max_labels`: 3 frames of 30 with 0.1. Such a proof costs labels; that is its price.

**Properties.** A job for each iteration computes, with the mean of the committee and for each of the run's `structures`:

* `volume`, `bulk_modulus`: fit of Birch and Murnaghan's equation to seven volumes, ± 6 % around the lowest energy, the atoms
  relaxed at each, the shape of the cell kept; of structures that are periodic in three directions. |new / old - 1|.
* `frequencies`: central differences of the forces by 0.01 Å around the relaxed structure; at Γ for a periodic one.
  √(mean of (new - old)²) over all 3N in ascending order, imaginary ones negative, THz.
* `drift`: slope of the total energy in MD at constant energy, after a tenth as many steps of Langevin dynamics. |new|.
* `rdf`: g(r) up to 6 Å in bins of 0.1 Å from that MD. Σ|new - old| / Σ(new + old). Two MD runs of one and the same potential
  differ too, 1000 steps of one ethanol molecule with another seed by 0.065: ask for no less than your cell and `steps` can tell.

MD, so `drift` and `rdf`, is of structures of two atoms or more. A property that none of the `structures` has is refused. What
cannot be computed (atoms that do not relax, MD that runs away) is not met, and the report of the job says why.

## Limits

Core-hours are what the jobs report: CPU time of MACE and ASE jobs, cores × wall time of others; a GPU's time counts as that of the
core that drives it, and a job that was lost counts nothing. `max_hours` counts from the start of the run, queues included. Both are
looked at after an iteration, so leave room for one more and for the final committee. Labels do not exceed `max_labels`: the last
iteration takes what is left.

## No gain

Errors of learned potentials fall as a power of the number of labels, ε = a N^b (B. Huang, O. A. von Lilienfeld, J. Chem. Phys. 145,
161102 (2016)). log ε is fitted against log N over the last `gain_rounds` committees by least squares: N labels that a committee
saw, ε its force MAE on the test set, or on the validation frames where there is no test set. The labels that are left would lower
the error by 1 - (`max_labels` / labels in hand)^(b - s), s the standard error of b: as steep as the scatter lets it be, so that
noise alone does not end a run. Below `min_gain` they are not worth it. It is told after `gain_rounds` + `rounds` - 1 iterations at
the earliest.

## What is recorded

`history` holds a row for each iteration with every number that the rules look at, and at the end `stop_reason`, the word, and
`stop_sentence`, for example: *The targets were met in 2 successive iterations; in the last one 97.1 % of the explored frames were
accurate (at least 95 % asked for), the force MAE on the test set was 0.028 eV/Å (at most 0.03 asked for).* If a limit ended the
run, the sentence says which targets were not met.

## As elsewhere

"""
ENDING = """
Add `target_force_error: null` to each: the protocols ask for one.

"""
TARGETS = (
    ('key', 'it is met when', 'source'),
    (
        '`accurate_fraction`',
        '(accurate + audited frames) / explored frames ≥ the value',
        '`conv_accuracy` (0.9) of DP-GEN2',
    ),
    (
        '`target_force_error`',
        'force MAE on the labels just received, of the committee that chose them, ≤ the value',
        'on the safe side: these frames were chosen for being uncertain',
    ),
    (
        '`test_force_error`',
        'force MAE on the test set ≤ the value; needs `test:` or test frames in `datasets`',
        "`desired_acc` of aims-PAX, there on validation frames of the loop's own",
    ),
    (
        '`level_drift`',
        '\\|lower level - that of the iteration before\\| < the value; needs a level that moves',
        '`conv_tolerance` (0.05 eV/Å) of DP-GEN2, with `n_checked_steps` (2) for `rounds`',
    ),
    (
        '`false_negative_rate`',
        'upper end of the Wilson interval of wrong / audited frames < the value; needs `select.tolerance` and '
        '`select.audit_fraction`',
        'E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927)',
    ),
    (
        '`properties`',
        'every property that has a tolerance differs by at most that much from what the committee before predicted',
        'as a phonon benchmark in autoplex',
    ),
)
ELSEWHERE = (
    ('system', 'its rule', 'here'),
    ('DP-GEN2, fixed levels', '`conv_accuracy`', '`stop: {accurate_fraction: 0.9, rounds: 1}`'),
    (
        'DP-GEN2, adaptive lower level',
        '`conv_tolerance`, `n_checked_steps`',
        '`stop: {accurate_fraction: null, level_drift: 0.05, rounds: 2}`',
    ),
    (
        'aims-PAX',
        '`desired_acc`, `max_train_set_size`',
        '`stop: {accurate_fraction: null, test_force_error: 0.1, max_labels: 500, rounds: 1}`',
    ),
    ('SPARC, ALomancy, aiida-trains-pot', 'so many cycles', '`stop: {accurate_fraction: null, max_iterations: 5}`'),
)
RATES = (0.2, 0.1, 0.05, 0.02, 0.01)
FRAMES = (
    ('rate', *(f'{100 * rate:g} %' for rate in RATES)),
    ('frames', *(str(frames_to_prove(rate)) for rate in RATES)),
)
MODELS: dict[str, type[StepParameters]] = {'stop': StopParameters, 'properties': PropertyGate}


def stop_table() -> str:
    """Return the page as Markdown."""
    text = INTRODUCTION + _table(TARGETS) + AFTER_TARGETS + _table(FRAMES) + AFTER_AUDIT + _table(ELSEWHERE) + ENDING
    sections = [section(name, model, inspect.getdoc(model) or '', '') for name, model in MODELS.items()]
    return '\n'.join([text.rstrip('\n') + '\n', *sections])


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ('| ' + ' | '.join(row) + ' |\n' for row in rows)
    return ''.join([head, '| --- ' * len(rows[0]) + '|\n', *body])


if __name__ == '__main__':
    print(stop_table(), end='')
