"""Record the outputs that the parser tests read, by running the runners themselves.

Usage: python tests/parsers/recorded/record.py [PLUGIN ...]
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io import write

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
RUNNERS = TESTS.parent / 'aiida_mlip_al' / 'runners'
# What the job retrieves: everything else that it leaves stays behind.
RETRIEVED = (
    '*.out',
    '*.status.json',
    'labels.extxyz',
    'label.jsonl',
    'walker_*',
    'relaxed.extxyz',
    'relax.jsonl',
    'evaluation_*.npz',
    'model.json',
    'mace.yaml',
    'results/*',
    'logs/*.log',
)


def waters(n: int) -> list[Atoms]:
    """Return water molecules with slightly different atoms' places."""
    rng = np.random.default_rng(5)
    frames = []
    for _ in range(n):
        atoms = molecule('H2O')
        atoms.positions += rng.normal(scale=0.03, size=(3, 3))
        frames.append(atoms)
    return frames


def labelled_waters(n: int, split: str) -> list[Atoms]:
    """Return water molecules with the energy and forces of springs from the oxygen to the hydrogens."""
    frames = waters(n)
    for atoms in frames:
        bonds = atoms.positions[1:] - atoms.positions[0]
        lengths = np.linalg.norm(bonds, axis=1, keepdims=True)
        pull = 30.0 * (lengths - 0.96) * bonds / lengths
        atoms.info.update(REF_energy=-470.0 + float(15.0 * ((lengths - 0.96) ** 2).sum()), split=split)
        atoms.arrays['REF_forces'] = np.concatenate([pull.sum(axis=0, keepdims=True), -pull])
    return frames


@contextmanager
def job(name: str, settings: dict[str, Any], structures: list[Atoms] | None = None) -> Iterator[Path]:
    """Yield the folder of a job that is ready to run."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(RUNNERS, folder / 'runners', ignore=shutil.ignore_patterns('__pycache__'))
        (folder / f'{name}.json').write_text(json.dumps(settings))
        if structures:
            write(folder / 'structures.extxyz', structures, format='extxyz')
        yield folder


def start(folder: Path, name: str, memory: int | None = None) -> subprocess.Popen[bytes]:
    """Start the runner as a job script does, within so many bytes of address space."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(TESTS), 'PYTHONDONTWRITEBYTECODE': '1'}

    with open(folder / f'{name}.out', 'wb') as output:
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', f'runners/{name}.py', f'{name}.json'],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if memory is not None:
        resource.prlimit(process.pid, resource.RLIMIT_AS, (memory, memory))
    return process


def keep(folder: Path, plugin: str, case: str) -> None:
    """Copy what the job would retrieve, without this machine's paths."""
    target = HERE / plugin / case
    shutil.rmtree(target, ignore_errors=True)
    for pattern in RETRIEVED:
        for path in sorted(folder.glob(pattern)):
            if path.name.endswith('_debug.log') or not path.is_file():
                continue
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            if path.suffix != '.npz':
                content = content.replace(str(folder).encode(), b'/job')
                for prefix in (sys.prefix, sys.base_prefix):
                    content = content.replace(prefix.encode(), b'/python')
            copy.write_bytes(content)
    print(f'{plugin}/{case}', sum(path.stat().st_size for path in target.rglob('*') if path.is_file()), 'bytes')


def record(
    plugin: str,
    case: str,
    name: str,
    settings: dict[str, Any],
    structures: list[Atoms] | None = None,
    *,
    prepare: Callable[[Path], object] = lambda folder: None,
    kill_when: Callable[[Path], bool] | None = None,
    signum: signal.Signals = signal.SIGKILL,
    memory: int | None = None,
) -> None:
    """Run a job, kill it as soon as a condition holds, and keep what it left."""
    with job(name, settings, structures) as folder:
        prepare(folder)
        process = start(folder, name, memory)
        while kill_when is not None and process.poll() is None:
            if kill_when(folder):
                process.send_signal(signum)
                break
            time.sleep(0.002)
        process.wait()
        keep(folder, plugin, case)


def lines_of(folder: Path, name: str) -> int:
    """Return the number of lines in a file that may not be there yet."""
    path = folder / name
    return path.read_bytes().count(b'\n') if path.exists() else 0


def record_label() -> None:
    """Record labelling."""
    settings = {'calculator': 'fakes.calculators:Troubled', 'arguments': {}, 'max_force': 50.0, 'timeout_s': None}
    troubles = ('raises_unconverged', None, None, 'huge')
    frames = waters(4)
    for atoms, trouble in zip(frames, troubles, strict=True):
        if trouble:
            atoms.info['trouble'] = trouble
    record('label', 'finished', 'label', settings, frames)

    for atoms in frames:
        atoms.info['trouble'] = 'huge'
    record('label', 'all_rejected', 'label', settings, frames)

    frames = waters(4)
    frames[3].info['trouble'] = 'sleeps'
    for case, signum in (('killed', signal.SIGKILL), ('terminated', signal.SIGTERM)):
        kill_when = lambda folder: lines_of(folder, 'label.jsonl') == 4  # noqa: E731
        record('label', case, 'label', settings, frames, kill_when=kill_when, signum=signum)
    record('label', 'no_calculator', 'label', {**settings, 'calculator': 'nowhere:Calculator'}, frames)


def walkers(n: int) -> list[dict[str, Any]]:
    """Return walkers at 300 K."""
    return [{'structure': 0, 'temperature_K': 300.0, 'pressure_GPa': None, 'seed': seed} for seed in range(n)]


def record_md() -> None:
    """Record dynamics with a calculator."""
    dynamics = {'ensemble': 'nvt', 'timestep_fs': 0.5, 'steps': 20, 'stride': 5, 'max_force': 100.0}
    springs = {'calculator': 'fakes.calculators:Springs', 'arguments': {}}
    record('md', 'finished', 'md', {**springs, 'dynamics': dynamics, 'walkers': walkers(2)}, waters(1))
    endless = {**dynamics, 'steps': 1_000_000}
    record(
        'md',
        'killed',
        'md',
        {**springs, 'dynamics': endless, 'walkers': walkers(2)},
        waters(1),
        kill_when=lambda folder: lines_of(folder, 'walker_00.jsonl') >= 3,
    )
    broken = {'calculator': 'fakes.calculators:Explosive', 'arguments': {'calls': 8, 'force': None}}
    record('md', 'non_finite', 'md', {**broken, 'dynamics': dynamics, 'walkers': walkers(1)}, waters(1))
    at_once = {'calculator': 'fakes.calculators:Explosive', 'arguments': {'calls': 0, 'force': None}}
    record('md', 'no_frames', 'md', {**at_once, 'dynamics': dynamics, 'walkers': walkers(2)}, waters(1))
    unknown = {**dynamics, 'ensemble': 'nph'}
    record('md', 'bad_settings', 'md', {**springs, 'dynamics': unknown, 'walkers': walkers(1)}, waters(1))


def record_relax() -> None:
    """Record relaxations."""
    copper = bulk('Cu', a=3.7, cubic=True)
    slab = fcc111('Cu', (1, 1, 2), a=3.7, vacuum=6)
    for atoms in (copper, slab):
        atoms.rattle(0.02, seed=1)
    settings = {'calculator': 'ase.calculators.emt:EMT', 'optimizer': 'BFGS', 'cell': 'full', 'periodic': None}
    record('relax', 'finished', 'relax', settings, [copper, slab])
    record('relax', 'not_converged', 'relax', {**settings, 'max_steps': 4}, [copper, slab])

    troubled = {'calculator': 'fakes.calculators:Troubled'}
    for case, troubles in (('failed', ('not_a_number', None)), ('killed', (None, 'sleeps'))):
        frames = waters(2)
        for atoms, trouble in zip(frames, troubles, strict=True):
            if trouble:
                atoms.info['trouble'] = trouble
        kill_when = (lambda folder: lines_of(folder, 'relax.jsonl') == 1) if case == 'killed' else None
        record('relax', case, 'relax', troubled, frames, kill_when=kill_when)
    record('relax', 'no_calculator', 'relax', {'calculator': 'nowhere:Calculator'}, waters(2))


def put_committee(folder: Path) -> None:
    """Write a small committee for water."""
    sys.path.insert(0, str(TESTS))
    from helpers.tiny_mace import write_committee

    write_committee(folder, ['H', 'O'], 2, scale=1.0, atomic_energies={'H': -13.0, 'O': -440.0})


def record_explore() -> None:
    """Record dynamics with a committee."""
    dynamics = {'ensemble': 'nvt', 'timestep_fs': 0.5, 'steps': 20, 'stride': 10}
    settings = {
        'models': ['model_00.model', 'model_01.model'],
        'dtype': 'float64',
        'dynamics': dynamics,
        'walkers': walkers(2),
        'check_interval': 10,
        'levels': {'upper': None},
    }
    record('explore', 'finished', 'explore', settings, waters(1), prepare=put_committee)
    low = {**settings, 'levels': {'upper': 1e-3}}
    record('explore', 'upper_level', 'explore', low, waters(1), prepare=put_committee)
    endless = {**settings, 'dynamics': {**dynamics, 'steps': 1_000_000}}
    record(
        'explore',
        'killed',
        'explore',
        endless,
        waters(1),
        prepare=put_committee,
        kill_when=lambda folder: lines_of(folder, 'walker_01.jsonl') >= 2,
    )


def record_evaluate() -> None:
    """Record an evaluation of two shards, the second of which has test frames alone."""

    def prepare(folder: Path) -> None:
        put_committee(folder)
        write(folder / 'seeds.xyz', [*labelled_waters(2, 'train'), *labelled_waters(1, 'validation')], format='extxyz')
        write(folder / 'test.xyz', labelled_waters(2, 'test'), format='extxyz')

    settings = {
        'models': ['model_00.model', 'model_01.model'],
        'dtype': 'float64',
        'datasets': {'seeds': 'seeds.xyz', 'test': 'test.xyz'},
        'splits': ['train', 'validation', 'test'],
        'descriptors': 'features',
    }
    record('evaluate', 'finished', 'evaluate', settings, prepare=prepare)
    record('evaluate', 'no_model', 'evaluate', {**settings, 'models': ['nowhere.model']}, prepare=prepare)


STRESS_TABLE = 'PerAtomMAEstressvirials'


LAMMPS_SETTINGS = {
    'ensemble': 'npt',
    'pressure': 1.0,
    'thermostat': 'nose-hoover',
    'steps': 12,
    'check_interval': 4,
    'timestep_fs': 2.0,
    'temperature_ramp': [300, 600],
    'minimize': {'max_steps': 3},
    'dtype': 'float64',
    'upper': 0.5,
    'restart_interval': 5,
}
LAMMPS_WALKER = {'structure': 'start', 'temperature_K': [300, 600], 'pressure_GPa': 1.0, 'seed': 7}


def record_lammps_explore() -> None:
    """Record a walker of four atoms in a turned cell: a minimisation, then 12 steps with three checks."""
    from aiida_mlip_al.lammps.box import Box
    from aiida_mlip_al.lammps.script import walker_script
    from aiida_mlip_al.lammps.settings import LammpsExploreSettings

    sys.path.insert(0, str(TESTS))
    from helpers.tiny_mace import write_committee

    atoms = bulk('Cu', cubic=True)
    atoms.symbols[1] = 'Au'
    atoms.rattle(0.05, seed=1)
    atoms.rotate(20, 'y', rotate_cell=True)
    box = Box(atoms)
    target = HERE / 'lammps_explore' / 'finished'
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_committee(folder, ['Cu', 'Au'], 2, channels=2)
        script = walker_script(LammpsExploreSettings(**LAMMPS_SETTINGS), LAMMPS_WALKER, box, 2)
        (folder / 'walker.in').write_text(script)
        (folder / 'structure.data').write_text(box.data(skewed=True))
        command = [str(Path(sys.executable).with_name('lmp-mace')), '-in', 'walker.in', '-log', 'log.lammps']
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
        for file in ('log.lammps', 'walker.dump', 'walker.jsonl', 'lmp-mace.status.json', 'walker.10.restart'):
            shutil.copy(folder / file, target / file)
    write(target / 'structure.xyz', atoms, format='extxyz')
    (target / 'settings.json').write_text(json.dumps(LAMMPS_SETTINGS))
    (target / 'walker.json').write_text(json.dumps(LAMMPS_WALKER))


def train_settings(**changes: Any) -> dict[str, Any]:
    """Return the settings of a very small training, as MaceTrainCalculation writes them."""
    arguments = {
        'name': 'mace',
        'seed': 7,
        'work_dir': '.',
        'E0s': '{1: -13.0, 8: -440.0}',
        'atomic_numbers': '[1, 8]',
        'energy_key': 'REF_energy',
        'forces_key': 'REF_forces',
        'stress_key': 'REF_stress',
        'device': 'cpu',
        'error_table': 'PerAtomMAE',
        'plot': False,
        'save_cpu': True,
        'num_channels': 4,
        'max_L': 0,
        'max_ell': 1,
        'correlation': 1,
        'num_interactions': 1,
        'r_max': 3.0,
        'batch_size': 2,
        'valid_batch_size': 2,
        'eval_interval': 1,
        'default_dtype': 'float32',
        'lr': 0.01,
    }
    return {
        'shards': ['seeds.xyz'],
        'seed': 7,
        'bootstrap': None,
        'gradient_steps': 12,
        'stage_two_fraction': None,
        'final_lr_fraction': None,
        'replay': None,
        'arguments': {**arguments, **changes},
    }


def record_mace_train() -> None:
    """Record trainings. The model file is left out: the parser keeps it without opening it."""

    def put_shard(folder: Path, key: str = 'REF_forces', **renamed: str) -> None:
        frames = [*labelled_waters(6, 'train'), *labelled_waters(2, 'validation')]
        write(folder / 'seeds.xyz', frames, format='extxyz')

    def put_crystals(folder: Path) -> None:
        frames = [*labelled_waters(6, 'train'), *labelled_waters(2, 'validation')]
        for atoms in frames:
            atoms.set_cell([5.0, 5.0, 5.0])
            atoms.pbc = True
            virial = atoms.positions.T @ atoms.arrays['REF_forces']
            atoms.info['REF_stress'] = -virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / atoms.get_volume()
        write(folder / 'seeds.xyz', frames, format='extxyz')

    def case(name: str, settings: dict[str, Any], **options: Any) -> None:
        record('mace_train', name, 'train', settings, prepare=put_shard, **options)

    case('finished', train_settings())
    case('stage_two', {**train_settings(), 'stage_two_fraction': 0.5})
    stress = train_settings(loss='stress', stress_weight=100.0, error_table=STRESS_TABLE)
    record('mace_train', 'stress', 'train', stress, prepare=put_crystals)
    case('nan_loss', train_settings(lr=1e30, clip_grad=1e30))
    case('missing_element', train_settings(E0s='{1: -13.0}', atomic_numbers='[1]'))
    case('bad_keys', train_settings(energy_key='energy_of_nobody', forces_key='forces_of_nobody'))
    case('bad_arguments', train_settings(num_chanels=4))
    case('out_of_memory', train_settings(num_channels=2048, correlation=3), memory=1_288_490_188)
    endless = {**train_settings(), 'gradient_steps': 1_000_000}
    for name, signum in (('killed', signal.SIGKILL), ('terminated', signal.SIGTERM)):
        kill_when = lambda folder: lines_of(folder, 'results/mace_run-7_train.txt') >= 12  # noqa: E731
        case(name, endless, kill_when=kill_when, signum=signum)


RECORDERS = {
    'label': record_label,
    'md': record_md,
    'relax': record_relax,
    'explore': record_explore,
    'evaluate': record_evaluate,
    'lammps_explore': record_lammps_explore,
    'mace_train': record_mace_train,
}

if __name__ == '__main__':
    for plugin in sys.argv[1:] or RECORDERS:
        RECORDERS[plugin]()
