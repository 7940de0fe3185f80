"""Descriptions of made-up runs: ethanol learned from xTB labels in four iterations, and a bulk one with stress."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest

from aiida_mlip_al.report.summary import (
    Errors,
    Failure,
    FinalSummary,
    FloatArray,
    IterationSummary,
    ModelSummary,
    Outcomes,
    Parity,
    RunSummary,
)

TEMPERATURES = (300.0, 450.0, 600.0)
FORCE_MAE = (0.298, 0.142, 0.0934, 0.0711)


def errors(force_mae: float) -> Errors:
    return Errors(energy_mae=force_mae / 42, force_mae=force_mae, force_rmse=1.43 * force_mae)


def iteration(number: int, rng: np.random.Generator) -> IterationSummary:
    force_mae = FORCE_MAE[number - 1]
    deviations = rng.lognormal(np.log(0.9 * force_mae), 0.6, size=1608)
    lower, upper = (0.09, 0.11, 0.15, 0.2)[number - 1], 1.0
    failed, accurate = int(np.sum(deviations > upper)), int(np.sum(deviations < lower))
    fates = {
        'accurate': accurate - 6,
        'audit': 6,
        'selected': 24,
        'failed': failed,
        'unphysical': 3 if number == 1 else 0,
    }
    left = len(deviations) - sum(fates.values())
    fates |= {'duplicate': left // 3, 'over_budget': left - left // 3}
    chosen = rng.choice(deviations[(deviations > lower) & (deviations < upper)], 24)
    audited = rng.choice(deviations[deviations < lower], 6)
    measure = np.concatenate([chosen, audited])
    # One audited frame of the second iteration is beyond the tolerance of 0.25 eV/Å.
    factors = np.concatenate([rng.lognormal(0.5, 0.35, size=24), np.full(6, 0.9)])
    if number == 2:
        factors[-1] = 0.3 / audited[-1]
    return IterationSummary(
        number=number,
        n_labels=48 + 30 * (number - 1),
        n_train=43 + 27 * (number - 1),
        n_validation=5 + 3 * (number - 1),
        new_labels=30,
        validation_errors=errors(0.8 * force_mae),
        test_errors=errors(force_mae),
        new_label_errors=errors(1.9 * force_mae),
        deviations=deviations,
        lower=lower,
        upper=upper,
        level_note='fixed'
        if number == 1
        else f'conformal: factor {3 - 0.3 * number:.1f} from {30 * (number - 1)} pairs',
        fates=fates,
        factor=None if number == 1 else round(3 - 0.3 * number, 1),
        coverage=None if number == 1 else 0.9,
        accurate_fraction=accurate / len(deviations),
        outcomes=Outcomes(
            measure=measure,
            error=measure * factors,
            audit=np.arange(30) >= 24,
            late=np.zeros(30, dtype=bool),
            rank=np.arange(30.0),
        ),
        wall_s={'train': 150 + 40.0 * number, 'explore': 42.0, 'evaluate': 6.0, 'select': 3.0, 'label': 9.0}
        | ({'seed': 14.0} if number == 1 else {})
        | ({'final': 310.0} if number == 4 else {}),
        core_s={'train': 290 + 80.0 * number, 'explore': 80.0, 'evaluate': 6.0, 'select': 3.0, 'label': 15.0}
        | ({'seed': 21.0} if number == 1 else {})
        | ({'final': 600.0} if number == 4 else {}),
        processes={
            stage: 100 * number + k for k, stage in enumerate(('train', 'evaluate', 'explore', 'select', 'label'))
        },
        nodes={'selection': 100 * number + 50, 'new_labels': 100 * number + 60},
        stopped_walkers={'finished': 4 + number, 'upper_level': 4 - number} if number < 4 else {'finished': 8},
    )


def noisy(reference: FloatArray, mae: float, rng: np.random.Generator) -> FloatArray:
    """Add Laplace noise, whose mean absolute value is its scale."""
    return reference + rng.laplace(scale=mae, size=reference.shape)


@pytest.fixture
def summary() -> RunSummary:
    """A finished run: 4 iterations, a final committee, 3 survived failures."""
    rng = np.random.default_rng(7)
    temperature = np.repeat(TEMPERATURES, 40)
    energy = -76.4213 + rng.gamma(13.5, temperature * 8.617e-5 * 1.5 / 13.5)
    force = (rng.normal(size=(120, 27)) * np.sqrt(temperature / 300)[:, None]).ravel() * 1.6
    return RunSummary(
        label='ethanol-demo',
        pk=1412,
        uuid='0d1f5b0e-6a0e-4c63-9a53-5d1f3b2c7e11',
        state='finished',
        created=datetime(2025, 3, 14, 9, 26, tzinfo=timezone.utc),
        exit_status=0,
        stop_reason='97 % of the explored frames were accurate (95 % asked for)',
        wall_s=1492.0,
        version='0.1.0',
        theory='GFN2-xTB (tblite 0.5)',
        elements=['C', 'H', 'O'],
        formulas=['C2H6O'],
        targets={
            'tolerance': 0.25,
            'target_force_error': 0.12,
            'test_force_error': 0.08,
            'accurate_fraction': 0.95,
            'max_labels': 300,
            'max_iterations': 6,
        },
        settings={
            'protocol': 'quickstart',
            'seed': [
                {'rattle': {'copies': 20, 'stdev': 0.05}},
                {'md': {'temperature': 300, 'steps': 2000, 'every': 100}},
            ],
            'labels': {
                'ase': {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN2-xTB'}, 'batch_size': 20}
            },
            'train': {'mace': {'members': 4, 'r_max': 5.0, 'num_channels': 32, 'swa': False}},
            'explore': {'ase': {'ensemble': 'nvt', 'temperature': [300, 600], 'steps': 4000, 'walkers': 8}},
            'select': {'tolerance': 0.25, 'max_labels': 30, 'audit_fraction': 0.05, 'upper': None},
        },
        iterations=[iteration(number, rng) for number in (1, 2, 3, 4)],
        final=FinalSummary(
            n_train=151,
            n_validation=17,
            errors=errors(0.0608),
            first_errors=errors(FORCE_MAE[0]),
            by_temperature=[(t, 40, errors(f)) for t, f in zip(TEMPERATURES, (0.0442, 0.0589, 0.0793), strict=True)],
            member_errors=[errors(f) for f in (0.0668, 0.0691, 0.0702, 0.0679)],
            processes={'train': 560, 'evaluate': 571},
        ),
        parity=Parity(
            energy_reference=energy,
            energy_predicted=noisy(energy, 0.00145, rng),
            force_reference=force,
            force_predicted=noisy(force, 0.0608, rng),
            temperature=temperature,
        ),
        models=[
            ModelSummary(
                name=f'member_{k:02d}',
                pk=562 + k,
                committee='final',
                seed=1000 + k,
                trained_on=151,
                epochs=240,
                energy_mae=0.0012,
                force_mae=0.0491 + 0.002 * k,
                r_max=5.0,
                n_parameters=60_880,
                elements=['H', 'C', 'O'],
                dtype='float64',
            )
            for k in range(4)
        ],
        failures=[
            Failure(stage='label', pk=233, reason='unconverged: SCF not converged in 250 cycles'),
            Failure(stage='label', pk=233, reason='too_close: atoms 1 and 7 are 0.41 Å apart'),
            Failure(stage='explore', pk=102, reason='node failure; restarted from step 1200 of 4000'),
        ],
        nodes={
            'final committee, member_00': 562,
            'training data': 540,
            'test set': 96,
            'selection of iteration 4': 403,
        },
    )


@pytest.fixture
def running(summary: RunSummary) -> RunSummary:
    """The same run in its second iteration: no final committee, no test set."""
    summary.state, summary.exit_status, summary.stop_reason = 'running', None, None
    summary.iterations = summary.iterations[:2]
    for turn in summary.iterations:
        turn.test_errors = None
    last = summary.iterations[-1]
    last.deviations, last.fates, last.new_labels = np.empty(0), {}, 0
    last.accurate_fraction = last.lower = last.upper = last.outcomes = last.new_label_errors = None
    last.stopped_walkers = {}
    summary.final = summary.parity = None
    summary.models, summary.failures = [], []
    return summary


@pytest.fixture
def bulk(summary: RunSummary) -> RunSummary:
    """The same run with stress labels."""
    rng = np.random.default_rng(8)
    assert summary.parity
    stress = rng.normal(scale=0.02, size=720)
    summary.parity.stress_reference = stress
    summary.parity.stress_predicted = noisy(stress, 0.0007, rng)
    return summary
