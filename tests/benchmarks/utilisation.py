"""How busy the cores are while labels take unequal times, and what it costs to wait for the last ones.

As root, with SLURM and munge installed (Debian: slurm-wlm, munge), in the environment of the tests:

    python tests/benchmarks/utilisation.py [--labels 40] [--shortest 6] [--ratio 10] [--setting 16 0.8]

A SLURM of one node that pretends to have eight cores labels two sets of structures one after the other, as the loop does; the
second set begins when the first one's LabelWorkChain ends. The calculator sleeps: its times spread evenly on a logarithmic
scale. Used are the core-seconds between the begin and the end of a label; available is the time from the first label's begin to
the last one's end, times the cores. The profile, the daemon and SLURM are in a temporary folder, and end with the program.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from ase.build import bulk
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from slurm.lab import CORES, LabError, SlurmLab

SLEEPER = b"""
import json
import time

from ase.calculators.emt import EMT


class Sleeper(EMT):
    def __init__(self, log, seconds):
        super().__init__()
        self.log, self.seconds = log, seconds

    def calculate(self, atoms=None, *arguments):
        begin = time.time()
        time.sleep(self.seconds[f'{atoms.positions[0, 0]:.6f}'])
        super().calculate(atoms, *arguments)
        with open(self.log, 'a') as file:
            file.write(json.dumps([begin, time.time()]) + '\\n')
"""


@dataclass
class Setting:
    """One way to label two sets."""

    in_flight: int
    fraction: float


def make_structures(seconds: np.ndarray, seed: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Return structures by name, and the time that each takes by its first atom's x."""
    from aiida import orm

    structures, times = {}, {}
    for index, value in enumerate(seconds):
        atoms = bulk('Cu', cubic=True)
        atoms.rattle(0.05, seed=seed + index)
        atoms.positions[:] = atoms.positions.round(6)
        structures[f'frame_{index:03d}'] = orm.StructureData(ase=atoms).store()
        times[f'{atoms.positions[0, 0]:.6f}'] = float(value)
    return structures, times


def label_two_sets(code: Any, setting: Setting, seconds: np.ndarray, log: Path) -> tuple[float, float, float]:
    """Label two sets; return the part of the cores' time that was used, the wall time, and when the second set was sent (s)."""
    from aiida import orm
    from aiida.engine import submit

    from aiida_mlip_al.workflows.label import LabelWorkChain, late_jobs

    rng = np.random.default_rng(0)
    sets = [make_structures(rng.permutation(seconds), seed) for seed in (0, 1000)]
    calculator = {'calculator': 'sleeper:Sleeper', 'arguments': {'log': str(log), 'seconds': sets[0][1] | sets[1][1]}}
    options = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'max_wallclock_seconds': 3600}
    options['environment_variables'] = {'OMP_NUM_THREADS': '1', 'PYTHONPATH': '.'}
    common: dict[str, Any] = {
        'ase': {
            'code': code,
            'calculator': orm.Dict(calculator),
            'files': {'sleeper': orm.SinglefileData(io.BytesIO(SLEEPER), filename='sleeper.py')},
            'metadata': {'options': options},
        },
        'batch_size': 1,
        'max_concurrent': setting.in_flight,
    }
    first = {'min_label_fraction': orm.Float(setting.fraction)} if setting.fraction < 1 else {}
    began = time.time()
    nodes = [submit(LabelWorkChain, structures=sets[0][0], **first, **common)]
    wait_for(nodes)
    sent = time.time() - began
    late = [name for names in late_jobs(nodes[0].pk).values() for name in names]
    if late:
        waiting = {name: sets[0][0][name] for name in late}
        nodes.append(submit(LabelWorkChain, structures=waiting, earlier=nodes[0].pk, **common))
    nodes.append(submit(LabelWorkChain, structures=sets[1][0], **common))
    wait_for(nodes)
    labelled = {label.uuid for node in nodes for label in node.outputs.labels.values()}
    spans = np.array([json.loads(line) for line in log.read_text().splitlines()])
    assert len(labelled) == len(spans) == 2 * len(seconds), 'every structure is labelled once'
    used = float(np.diff(spans).sum())
    wall = float(spans[:, 1].max() - spans[:, 0].min())
    return used / (CORES * wall), wall, sent


def wait_for(nodes: list[Any]) -> None:
    """Wait until processes have ended well."""
    while not all(node.is_terminated for node in nodes):
        time.sleep(0.2)
    for node in nodes:
        assert node.is_finished_ok, node.exit_message


@click.command()
@click.option('--labels', default=40, show_default=True, help='In each of the two sets.')
@click.option('--shortest', default=6.0, show_default=True, help='Time of the fastest label, s.')
@click.option('--ratio', default=10.0, show_default=True, help='The slowest over the fastest.')
@click.option(
    '--setting',
    'settings',
    type=(int, float),
    multiple=True,
    default=[(CORES, 1.0), (2 * CORES, 1.0), (2 * CORES, 0.9), (2 * CORES, 0.8)],
    show_default=True,
    help='Jobs in flight and `min_label_fraction`; repeat.',
)
def main(labels: int, shortest: float, ratio: float, settings: tuple[tuple[int, float], ...]) -> None:
    """Print a table."""
    seconds = shortest * np.geomspace(1, ratio, labels)
    with tempfile.TemporaryDirectory(prefix='mlip-') as name:
        folder = Path(name)
        os.environ['AIIDA_PATH'] = str(folder)
        lab = SlurmLab(folder / 'slurm')
        try:
            lab.start()
        except LabError as error:
            raise click.ClickException(f'no SLURM here: {error}') from None
        os.environ.update(lab.environment)
        from aiida.engine.daemon.client import get_daemon_client

        try:
            rows = measure([Setting(*setting) for setting in settings], seconds, folder)
            print_table(rows, labels, seconds)
        finally:
            lab.stop()
            get_daemon_client('utilisation').stop_daemon(wait=True, timeout=60)


def measure(settings: list[Setting], seconds: np.ndarray, folder: Path) -> list[tuple[Setting, float, float, float]]:
    """Measure each setting with a profile of its own."""
    from aiida import load_profile, orm

    from aiida_mlip_al.cli.daemon import ensure_daemon
    from aiida_mlip_al.cli.profile import ensure_profile, ensure_python_code

    ensure_profile('utilisation')
    load_profile('utilisation')
    computer = orm.Computer('slurm', 'localhost', '', 'core.local', 'core.slurm', workdir=str(folder / 'work')).store()
    computer.configure(safe_interval=0, use_login_shell=False)
    computer.set_minimum_job_poll_interval(1)
    code = ensure_python_code(computer)
    ensure_daemon(workers=1)
    rows = []
    for index, setting in enumerate(settings):
        log = folder / f'log_{index}.jsonl'
        log.touch()
        rows.append((setting, *label_two_sets(code, setting, seconds, log)))
    return rows


def print_table(rows: list[tuple[Setting, float, float, float]], labels: int, seconds: np.ndarray) -> None:
    """Print what was measured."""
    table = Table(
        title=f'2 x {labels} labels of {seconds.min():.0f} to {seconds.max():.0f} s, one in a job, on {CORES} cores',
    )
    for column in ('jobs in flight', 'min_label_fraction', 'utilisation', 'wall, s', 'second set sent after, s'):
        table.add_column(column, justify='right')
    for setting, used, wall, sent in rows:
        table.add_row(f'{setting.in_flight}', f'{setting.fraction}', f'{used:.1%}', f'{wall:.0f}', f'{sent:.0f}')
    Console().print(table)


if __name__ == '__main__':
    main()
