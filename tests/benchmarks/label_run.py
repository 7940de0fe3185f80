"""Whole runs of the loop that choose by our default, and by chance: do the curves of labels.py hold where nothing is replayed?

    OMP_NUM_THREADS=1 python tests/benchmarks/label_run.py [--quick] [--seeds 0] [--workers 1] [--json FILE]

Ethanol, GFN2-xTB, from ten rattled structures: the models, their gradient steps and the temperatures are those of labels.py. Both
ways explore with their own committee of four, whose walkers end at the same upper level, and label ten frames an iteration; by
chance means any of the explored frames. The error is that of the committee's mean force on MD at 300 and 700 K with the label
method itself, the same frames for both ways; at last also that of a committee trained from scratch on all labels, with more steps.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')
sys.path.insert(0, str(Path(__file__).parent))

from scratch_profile import scratch_profile

# isort: split

import numpy as np
import yaml
from ase.build import molecule
from ase.io import write
from labels import FULL, MEMBERS
from rich import box
from rich.console import Console
from rich.table import Table

from aiida_mlip_al.cli.launch import submit_run
from aiida_mlip_al.run import load_run

XTB = {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN2-xTB', 'verbosity': 0}}
FINAL_STEPS = 3000
RULES: dict[str, dict[str, Any]] = {
    'ours': {},
    'random': {
        'tolerance': None,
        'levels': {'adaptive_lower': {'number': 0, 'fraction': 1}},
        'diversity': 'random',
        'audit_fraction': 0,
        'duplicate_tolerance': None,
    },
}


def config(rule: str, seed: int, quick: bool) -> dict[str, Any]:
    """Return the input file of a run.

    :param rule: one of `RULES`.
    :param seed: of every random choice, so that the test frames of two rules are the same.
    :param quick: small, to see that it works.
    """
    first, later, final = (20, 10, 40) if quick else (FULL.first_steps, FULL.steps, FINAL_STEPS)
    # The labels of the last iteration are those of the final committee alone.
    steps, test_steps, iterations = (100, 400, 2) if quick else (1000, 5000, 6)
    return {
        'label': f'{rule}, seed {seed}',
        'protocol': 'balanced',
        'structures': ['ethanol.xyz'],
        'random_seed': seed,
        'seed': {'rattled': [{'rattle': {'copies': FULL.first, 'stdev': 0.05}}]},
        'test': [
            {'md': {'temperature': [300, 700], 'equilibration': 600, 'steps': test_steps, 'every': test_steps // 50}}
        ],
        'labels': {'ase': XTB},
        'train': {
            'mace': {
                'members': 2 if quick else MEMBERS,
                'gradient_steps': first,
                'final_lr_fraction': 0.03,
                'r_max': 4.5,
                'num_channels': FULL.channels,
                'max_L': 0,
                'max_ell': FULL.max_ell,
                'eval_interval': 5,
                'lr': 0.03,
                'warm_start': {'gradient_steps': later, 'lr': 0.015},
                'final': {'gradient_steps': final, 'default_dtype': 'float32'},
            }
        },
        'explore': {'ase': {'temperature': [300, 500, 700], 'walkers': 6, 'steps': steps, 'check_interval': 50}},
        'select': {'max_labels': 10, **RULES[rule]},
        'stop': {'max_iterations': iterations, 'accurate_fraction': None, 'target_force_error': None},
    }


def run(rule: str, seed: int, quick: bool, folder: Path) -> list[dict[str, float]]:
    """Run the loop; return labels and force MAE (meV/Å) of each committee, the final one last.

    :raises RuntimeError: the run failed.
    """
    write(folder / 'ethanol.xyz', molecule('CH3CH2OH'))
    file = folder / f'{rule}_{seed}.yaml'
    file.write_text(yaml.safe_dump(config(rule, seed, quick)))
    node = submit_run(file)
    while not node.is_terminated:
        time.sleep(5)
    if not node.is_finished_ok:
        raise RuntimeError(f'{rule}, seed {seed}: {node.exit_message or node.process_state}')
    history = load_run(node.pk).history
    labels = history['n_train'] + history['n_validation']
    return [
        {'labels': int(n), 'mae': 1e3 * float(mae)} for n, mae in zip(labels, history['test_force_mae'], strict=True)
    ]


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument('--quick', action='store_true', help='a few steps: the numbers mean nothing')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='`random_seed` of each repetition')
    parser.add_argument('--workers', type=int, default=1, help='of the daemon')
    parser.add_argument('--json', type=Path, help='file for all numbers')
    options = parser.parse_args()
    console = Console(width=150)
    began = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory() as folder, scratch_profile('label_run', None, options.workers):
        for seed in options.seeds:
            for rule in RULES:
                rows.append({'rule': rule, 'seed': seed, 'points': run(rule, seed, options.quick, Path(folder))})
                console.print(f'{rule}, seed {seed}: {time.monotonic() - began:.0f} s')
                if options.json is not None:
                    options.json.write_text(json.dumps(rows, indent=1))
    table = Table('rule', 'seed', 'labels: force MAE, meV/Å', 'final committee', box=box.MARKDOWN)
    for row in rows:
        *points, final = (f'{point["labels"]}: {point["mae"]:.1f}' for point in row['points'])
        table.add_row(row['rule'], str(row['seed']), ', '.join(points), final)
    console.print(table)
    for what, index in (('iterations', -2), ('final committee', -1)):
        last = {rule: np.mean([row['points'][index]['mae'] for row in rows if row['rule'] == rule]) for rule in RULES}
        console.print(f'at the end of the {what}, meV/Å: ours {last["ours"]:.1f}, random {last["random"]:.1f}')


if __name__ == '__main__':
    main()
