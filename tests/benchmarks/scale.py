"""What AiiDA costs with many labels, workers, iterations and frames.

    OMP_NUM_THREADS=1 python tests/benchmarks/scale.py [SECTION]... [--quick]

* labels: seconds of AiiDA for each label beyond the calculator's own time, by an ASE calculator in batches of 20
* vasp: the same with the stand-in for VASP, see vasp_labels.py
* history: seconds of AiiDA for each iteration of the loop, the first to the twentieth, on a made-up history
* import: seconds to import labelled frames from a file
* queries: seconds that the documented questions take on many labels, frames and iterations
* archive: time and size of `verdi archive create` of a labelling

Profiles are made in a temporary folder, on SQLite and ZeroMQ; with `--postgres` and `--rabbitmq` the labels also run there.
Times are wall times; on a machine with other work the CPU time of AiiDA's own processes says more. A `!` marks a missed limit.
"""

from __future__ import annotations

import argparse
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / 'tests'), str(ROOT / 'tests' / 'benchmarks')]

from scratch_profile import FOLDER, Transactions, daemon_cpu_s, scratch_profile  # noqa: E402

# isort: split

import numpy as np  # noqa: E402
from aiida import orm  # noqa: E402
from aiida.plugins import DataFactory  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import bulk, molecule  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from aiida_mlip_al.data import DatasetData, DeviationData, FrameData, LabelData, ModelData  # noqa: E402
from aiida_mlip_al.data.extxyz import labelled_atoms  # noqa: E402

CALCULATORS: dict[str, tuple[dict[str, Any], Callable[[], Atoms]]] = {
    'emt': ({'calculator': 'ase.calculators.emt:EMT'}, lambda: bulk('Cu', cubic=True).repeat(2)),
    'xtb': (
        {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN2-xTB', 'verbosity': 0}},
        lambda: molecule('CH3CH2OH'),
    ),
}
BATCH = 20
LABEL_LIMIT_S, GROWTH_LIMIT, QUERY_LIMIT_S, IMPORT_LIMIT_S, TRANSACTION_LIMIT_S = 0.1, 1.2, 1.0, 60.0, 1.0
CONSOLE = Console(width=150, highlight=False)


def table(title: str, *columns: str) -> Table:
    """Return an empty table; its first column is text, the others are numbers."""
    made = Table(title=title, title_justify='left', box=None, padding=(0, 2), header_style='dim')
    for index, column in enumerate(columns):
        made.add_column(column, justify='right' if index else 'left')
    return made


def checked(value: float, limit: float, unit: str = 's', digits: int = 2) -> str:
    """Return a number with its unit, and a mark if it is above its limit."""
    return f'{value:.{digits}f} {unit}{" !" if value > limit else ""}'.replace('  ', ' ')


@contextmanager
def clock(found: list[float]) -> Iterator[None]:
    """Append how long the block took: wall time, CPU time of this process, both in s."""
    wall, cpu = time.monotonic(), time.process_time()
    yield
    found += [time.monotonic() - wall, time.process_time() - cpu]


# ------------------------------------------------------------------------------------------------------------------ labels


def structures(calculator: str, count: int, seed: int) -> dict[str, orm.StructureData]:
    """Return stored structures that no other call has made."""
    made = {}
    for index in range(count):
        atoms = CALCULATORS[calculator][1]()
        atoms.rattle(0.05, seed=seed + index)
        made[f'frame_{index:04d}'] = orm.StructureData(ase=atoms).store()
    return made


def label(code: Any, calculator: str, count: int, workers: int, in_flight: int = 1) -> tuple[Any, float, float]:
    """Label through the daemon, or in this process without workers; return the work chain, wall and CPU time in s."""
    from aiida.engine import run_get_node, submit
    from aiida.plugins import WorkflowFactory

    inputs = {
        'structures': structures(calculator, count, time.time_ns() % 2**31),
        'ase': {'code': code, 'calculator': orm.Dict(CALCULATORS[calculator][0])},
        'batch_size': min(BATCH, -(-count // in_flight)),
        'max_concurrent': in_flight,
    }
    wall, cpu = time.monotonic(), daemon_cpu_s()
    process = WorkflowFactory('mlip_al.label')
    if workers:
        node = submit(process, **inputs)
        while not node.is_terminated:
            time.sleep(0.2)
    else:
        _, node = run_get_node(process, **inputs)
    if not node.is_finished_ok:
        sys.exit(f'The labelling failed: {node.exit_message or node.process_state}')
    return node, time.monotonic() - wall, daemon_cpu_s() - cpu


def labels(options: argparse.Namespace) -> None:
    """Print what AiiDA costs for each label."""
    found = table(
        f'labels with {options.calculator}, batches of {BATCH} (≤ {LABEL_LIMIT_S:g} s for each label)',
        *(
            'profile',
            'workers',
            'in flight',
            'labels',
            'wall time',
            "calculator's",
            'AiiDA / label',
            'its CPU / label',
            'transaction',
        ),
    )
    services: dict[str, tuple[str, str] | None] = {'SQLite + ZeroMQ': None}
    if options.postgres and options.rabbitmq:
        services['PostgreSQL + RabbitMQ'] = (options.postgres, options.rabbitmq)
    else:
        CONSOLE.print('PostgreSQL + RabbitMQ: not measured; give --postgres and --rabbitmq.')
    for name, urls in services.items():
        for workers in options.workers:
            profile = f'services_{workers}' if urls else f'embedded_{workers}'
            # One database serves one profile, whatever the number of its workers.
            with scratch_profile('services' if urls else profile, urls, workers) as code:
                # Each worker imports what it needs with its first process.
                in_flight = max(1, workers * options.in_flight)
                label(code, options.calculator, 2 * in_flight, workers, in_flight)
                for count in options.labels:
                    print(f'{name}, {workers} workers, {count} labels …', file=sys.stderr)
                    with Transactions() as watch:
                        node, wall_s, cpu_s = label(code, options.calculator, count, workers, in_flight)
                    own_s = node.outputs.report['wall_s']
                    each = (wall_s - own_s / in_flight) / count
                    found.add_row(
                        name,
                        str(workers or 'none'),
                        str(in_flight),
                        str(count),
                        f'{wall_s:.1f} s',
                        f'{own_s:.1f} s',
                        checked(each, LABEL_LIMIT_S, digits=3),
                        f'{cpu_s / count:.3f} s',
                        '–' if workers or urls else checked(watch.longest_s, TRANSACTION_LIMIT_S, digits=3),
                    )
    CONSOLE.print(found)
    CONSOLE.print(
        'none: in the process that asks. in flight: jobs at the same time. transaction: the longest that changes the database.'
    )


def vasp(options: argparse.Namespace) -> None:
    """Print the table of vasp_labels.py, on a profile with the stand-in."""
    environment = {**os.environ, 'AIIDA_PATH': str(FOLDER / 'vasp'), 'PYTHONWARNINGS': 'ignore'}
    (FOLDER / 'vasp').mkdir()
    potcars, standin = FOLDER / 'potcars', ROOT / 'tests' / 'fakes' / 'vasp_standin' / 'vasp_std'
    setup = ['aiida-mlip-al', '-p', 'mlip-al', 'setup', 'codes', 'localhost', '--no-mpi', '--vasp', str(standin)]
    commands = [
        ['aiida-mlip-al', 'setup', 'profile'],
        [sys.executable, str(ROOT / 'tests' / 'fakes' / 'potcars.py'), str(potcars), 'Cu'],
        [*setup, '--potcars', str(potcars), '--family', 'STAND-IN'],
        [
            'verdi',
            '-p',
            'mlip-al',
            'run',
            str(ROOT / 'tests' / 'benchmarks' / 'vasp_labels.py'),
            str(options.vasp_labels),
        ],
        ['verdi', '-p', 'mlip-al', 'daemon', 'stop'],
    ]
    for command in commands:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f'{" ".join(command)}: {done.stdout}{done.stderr}')
        if 'run' in command:
            CONSOLE.print('labels by the stand-in for VASP')
            print(done.stdout)


# ----------------------------------------------------------------------------------------------------------------- history


def explored(rng: np.random.Generator, walkers: int, frames: int) -> dict[str, dict[str, Any]]:
    """Return what an exploration leaves: trajectories and deviations of walkers, stored."""
    trajectories, deviations = {}, {}
    for walker in range(walkers):
        atoms = bulk('Cu', cubic=True).repeat(2)
        n_atoms = len(atoms)
        trajectory = orm.TrajectoryData()
        trajectory.set_trajectory(
            symbols=atoms.get_chemical_symbols(),
            positions=atoms.positions + rng.normal(0, 0.05, (frames, n_atoms, 3)),
            stepids=np.arange(frames),
            cells=np.repeat(atoms.cell.array[None], frames, axis=0),
            times=np.arange(frames) * 1e-3,
            pbc=[True, True, True],
        )
        trajectory.set_array('forces', rng.normal(0, 0.5, (frames, n_atoms, 3)))
        trajectory.set_array('energies', rng.normal(-100, 0.1, frames))
        trajectories[f'walker_{walker:02d}'] = trajectory.store()
        deviations[f'walker_{walker:02d}'] = deviation(rng, frames, stop_reason='finished')
    return {'trajectories': trajectories, 'deviations': deviations}


def deviation(rng: np.random.Generator, frames: int, **attributes: Any) -> DeviationData:
    """Return stored deviations of a committee, with errors and descriptors."""
    largest = rng.lognormal(-2, 0.7, frames)
    arrays = {
        'max_force_deviation': largest,
        'mean_force_deviation': largest / 2,
        'min_force_deviation': largest / 4,
        'energy_deviation_per_atom': largest / 100,
        'max_force': np.full(frames, 2.0),
        'max_force_error': largest * rng.lognormal(0, 0.3, frames),
        'time_fs': np.arange(frames, dtype=float),
        'target_temperature_K': np.full(frames, 300.0),
        'descriptors': rng.normal(size=(frames, 64)),
    }
    return DeviationData.from_arrays(arrays, **attributes).store()


def shard_of(frames: dict[str, Any], rng: np.random.Generator) -> DatasetData:
    """Return the stored shard of chosen frames with made-up labels."""
    labelled = []
    for name, frame in sorted(frames.items()):
        atoms = frame.get_ase()
        forces = rng.normal(0, 0.5, (len(atoms), 3))
        stress = rng.normal(0, 0.01, 6)
        labelled.append(labelled_atoms(atoms, -100.0, forces, stress, split=frame.split, name=name))
    return DatasetData.from_ase(labelled, 'made up', 'made up').store()


def prepare(process: type, **inputs: Any) -> None:
    """Store a job's node with its inputs, and write its folder."""
    from aiida.common.folders import SandboxFolder
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager

    job = instantiate_process(get_manager().create_runner(communicator=None), process, **inputs)
    with SandboxFolder() as folder:
        calcinfo = job.prepare_for_submission(folder)
        for uuid, name, target in calcinfo.local_copy_list:
            with orm.load_node(uuid).base.repository.open(name, 'rb') as handle:
                folder.create_file_from_filelike(handle, target, 'wb')


def one_iteration(code: Any, rng: np.random.Generator, state: dict[str, Any]) -> dict[str, float]:
    """Do what AiiDA does in an iteration, the jobs' programs left out; return the CPU seconds of each step."""
    from aiida_mlip_al.calculations import functions
    from aiida_mlip_al.calculations.evaluate import EvaluateCalculation
    from aiida_mlip_al.calculations.mace_train import MaceTrainCalculation

    shards, history = state['shards'], {'history': state['history']} if state['history'] else {}
    exploration = explored(rng, walkers=4, frames=100)
    n_known = sum(shard.n_frames for shard in shards.values())
    train, validation = deviation(rng, n_known), deviation(rng, max(10, n_known // 10))
    options = {'resources': {'num_machines': 1}}
    seconds: dict[str, list[float]] = {
        name: [] for name in ('train', 'evaluate', 'select', 'collect', 'assess', 'record')
    }
    with clock(seconds['train']):
        parameters, energies = orm.Dict({'gradient_steps': 10}), orm.Dict({'Cu': -3.0})
        prepare(
            MaceTrainCalculation,
            code=code,
            datasets=shards,
            parameters=parameters,
            reference_energies=energies,
            seed=orm.Int(1),
            metadata={'options': options},
        )
    with clock(seconds['evaluate']):
        prepare(
            EvaluateCalculation,
            code=code,
            datasets=shards,
            committee=state['committee'],
            metadata={'options': options},
        )
    settings = {'lower': 0.1, 'upper': 1.0, 'max_labels': 2 * BATCH, 'validation_fraction': 0.1}
    with clock(seconds['select']):
        selected = functions.select_frames(
            orm.Dict(settings), orm.Int(1), train=train, validation=validation, **exploration, **history
        )
    frames = selected['frames']
    halves = [dict(list(frames.items())[index::2]) for index in range(2)]
    batches = {f'batch_{index:03d}': shard_of(half, rng) for index, half in enumerate(halves)}
    counts = {'n_labelled': BATCH, 'n_rejected': 0, 'wall_s': 1.0, 'core_s': 1.0, 'reasons': {}, 'rejected': []}
    report = {**counts, 'theory': 'made up', 'theory_hash': 'made up'}
    with clock(seconds['collect']):
        collected = functions.collect_labels(
            datasets=batches, reports={name: orm.Dict(report).store() for name in batches}
        )
    with clock(seconds['assess']):
        assessed = functions.assess_labels(selected['selection'], collected['dataset'], **exploration)
    errors = orm.Dict({split: {'n_frames': n_known, 'force_mae': 0.1} for split in ('train', 'validation')})
    with clock(seconds['record']):
        recorded = functions.record_iteration(
            orm.Dict({'max_iterations': 1000}),
            selected['selection'],
            errors,
            deviations=exploration['deviations'],
            new_labels=assessed['new_labels'],
            **history,
        )
    shards[f'iteration_{len(shards):02d}'] = collected['dataset']
    state['history'] = recorded['history']
    return {name: values[1] for name, values in seconds.items()}


def history(options: argparse.Namespace) -> None:
    """Print what each iteration costs, and how it grows."""
    rng = np.random.default_rng(1)
    with scratch_profile('history') as code:
        copper = bulk('Cu', cubic=True).repeat(2)
        start = {
            f'frame_{index:03d}': FrameData.from_ase(copper, 'train' if index % 10 else 'validation')
            for index in range(40)
        }
        committee = {f'member_{index:02d}': ModelData.from_bytes(b'%d' % index, elements=['Cu']) for index in range(2)}
        state: dict[str, Any] = {'shards': {'seeds': shard_of(start, rng)}, 'history': None, 'committee': committee}
        rows = [one_iteration(code, rng, state) for _ in range(options.iterations)]
    found = table('CPU seconds of AiiDA in an iteration, by step', 'iteration', *rows[0], 'sum')
    for number, row in enumerate(rows, 1):
        found.add_row(str(number), *(f'{value:.2f}' for value in row.values()), f'{sum(row.values()):.2f}')
    CONSOLE.print(found)
    # The first iteration fills caches; the mean of three is less noisy than one.
    sums = [sum(row.values()) for row in rows]
    ratio = float(np.mean(sums[-3:]) / np.mean(sums[1:4]))
    CONSOLE.print(
        f'the last three against the second to the fourth: {checked(ratio, GROWTH_LIMIT, "")} (≤ {GROWTH_LIMIT:g})'
    )


# ------------------------------------------------------------------------------------------------------- frames and queries


def write_frames(path: Path, count: int, n_atoms: int = 16) -> None:
    """Write labelled frames as extended XYZ, faster than ASE does.

    :param n_atoms: in each of them, a multiple of 4.
    """
    rng = np.random.default_rng(1)
    atoms = bulk('Cu', cubic=True).repeat((1, 1, n_atoms // 4))
    lattice = ' '.join(f'{value:.8f}' for value in atoms.cell.array.ravel())
    line = 'Cu ' + ' '.join(['%15.8f'] * 6) + '\n'
    with path.open('w') as handle:
        for energy in rng.normal(-3 * len(atoms), 1, count):
            numbers = np.hstack([atoms.positions, np.zeros_like(atoms.positions)]) + rng.normal(0, 0.1, (len(atoms), 6))
            handle.write(
                f'{len(atoms)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy={energy:.8f} '
                'REF_stress="0.01 0.01 0.01 0.0 0.0 0.0" pbc="T T T"\n'
            )
            handle.write(''.join(line % tuple(row) for row in numbers))


def import_frames(options: argparse.Namespace) -> None:
    """Print what the import of labelled frames takes."""
    from aiida_mlip_al.cli import main as command

    found = table(
        f'aiida-mlip-al dataset import, 16 atoms in a frame (10000 frames: ≤ {IMPORT_LIMIT_S:g} s)',
        *('frames', 'file', 'wall time', 'CPU time', 'shards', 'reading them again', 'transaction'),
    )
    with scratch_profile('import'):
        for count in options.frames:
            print(f'import of {count} frames …', file=sys.stderr)
            path = FOLDER / f'{count}.xyz'
            write_frames(path, count)
            times: list[float] = []
            with Transactions() as watch, clock(times):
                command(['-p', 'import', 'dataset', 'import', str(path), '--theory', f'{count}'], standalone_mode=False)
            query = orm.QueryBuilder().append(DatasetData, filters={'attributes.theory': f'{count}'})
            shards = query.all(flat=True)
            with clock(times):
                assert sum(1 for shard in shards for _ in shard.iterate()) == count
            limit = IMPORT_LIMIT_S * max(1, count / 1e4)
            found.add_row(
                str(count),
                f'{path.stat().st_size / 1e6:.0f} MB',
                checked(times[0], limit, digits=1),
                f'{times[1]:.1f} s',
                str(len(shards)),
                f'{times[2]:.1f} s',
                checked(watch.longest_s, TRANSACTION_LIMIT_S, digits=3),
            )
            path.unlink()
    CONSOLE.print(found)


class Rows:
    """Rows of the tables of nodes and links that look like those of a run, stored a thousand at a time."""

    CHUNK = 1000

    def __init__(self) -> None:
        from aiida.manage import get_manager

        self.storage = get_manager().get_profile_storage()
        self.nodes: list[dict[str, Any]] = []
        self.pk = (
            orm.QueryBuilder().append(orm.Node, project='id').order_by({orm.Node: {'id': 'desc'}}).first(flat=True)
        )
        self.links: list[dict[str, Any]] = []
        self.user_pk = orm.User.collection.get_default().pk

    def node(self, node: orm.Node, process_type: str | None = None) -> int:
        """Add a row that is like an unstored node, or like a stored one; return its PK."""
        from uuid import uuid4

        from aiida.common import timezone

        now = timezone.now()
        self.nodes.append(
            {
                'uuid': str(uuid4()),
                'node_type': node.node_type,
                'process_type': process_type,
                'label': node.label,
                'description': '',
                'ctime': now,
                'mtime': now,
                'attributes': dict(node.base.attributes.all),
                'extras': {},
                'repository_metadata': node.base.repository.metadata if node.is_stored else {},
                'dbcomputer_id': None,
                'user_id': self.user_pk,
            }
        )
        self.pk += 1
        return self.pk

    def link(self, source: int, target: int, kind: str, name: str) -> None:
        """Add a row for a link between two PKs."""
        self.links.append({'input_id': source, 'output_id': target, 'type': kind, 'label': name})

    def store(self) -> None:
        """Insert all rows."""
        from aiida.orm.entities import EntityTypes

        for kind, rows in ((EntityTypes.NODE, self.nodes), (EntityTypes.LINK, self.links)):
            for start in range(0, len(rows), self.CHUNK):
                inserted = self.storage.bulk_insert(kind, rows[start : start + self.CHUNK])
            if kind == EntityTypes.NODE and rows:
                assert inserted[-1] == self.pk, 'links would go to other nodes'
            rows.clear()


def fill(count: int, in_iteration: int = 100) -> None:
    """Make as many labels and their frames, in iterations, each with its exploration, selection and assessment."""
    rng = np.random.default_rng(1)
    atoms = bulk('Cu', cubic=True)
    label_node = LabelData.from_ase(labelled_atoms(atoms, -3.0, np.zeros((4, 3)), np.zeros(6)), 'made up', 'made up')
    frame_node = FrameData.from_ase(atoms, kind='explore')
    arrays = {name: np.ones(in_iteration) for name in DeviationData.REQUIRED}
    errors = DeviationData.from_arrays(
        {**arrays, 'rank': np.arange(in_iteration), 'max_force_error': np.ones(in_iteration)}
    ).store()
    selection = DataFactory('mlip_al.selection')()
    select, assess = orm.CalcFunctionNode(label='select_frames'), orm.CalcFunctionNode(label='assess_labels')
    model, trajectory, job = ModelData(), orm.TrajectoryData(), orm.CalcJobNode()
    rows = Rows()
    for _ in range(count // in_iteration):
        explore = rows.node(job, 'aiida.calculations:mlip_al.explore')
        for member in range(4):
            rows.link(rows.node(model), explore, 'input_calc', f'committee__member_{member:02d}')
        walked = rows.node(trajectory)
        parent_uuid = rows.nodes[-1]['uuid']
        rows.link(explore, walked, 'create', 'trajectories__walker_00')
        selecting, selected = rows.node(select), rows.node(selection)
        rows.link(walked, selecting, 'input_calc', 'trajectories__walker_00')
        rows.link(selecting, selected, 'create', 'selection')
        labelling = rows.node(job, 'aiida.calculations:mlip_al.label')
        for rank, (force, deviated) in enumerate(rng.lognormal(0, 0.5, (in_iteration, 2))):
            frame = rows.node(frame_node)
            rows.nodes[-1]['attributes']['origin'] = {
                'kind': 'explore',
                'parent_uuid': parent_uuid,
                'max_force_deviation': deviated,
            }
            rows.link(selecting, frame, 'create', f'frames__frame_{rank:03d}')
            rows.link(frame, labelling, 'input_calc', f'structures__frame_{rank:03d}')
            labelled = rows.node(label_node)
            rows.nodes[-1]['attributes'] |= {'max_force': force, 'energy_per_atom': -3 + force}
            rows.link(labelling, labelled, 'create', f'labels__frame_{rank:03d}')
        assessing, assessed = rows.node(assess), rows.node(errors)
        rows.link(selected, assessing, 'input_calc', 'selection')
        rows.link(assessing, assessed, 'create', 'new_labels')
        if len(rows.nodes) > 10 * Rows.CHUNK:
            rows.store()
    rows.store()


def queries(options: argparse.Namespace) -> None:
    """Print what the documented questions take, the better of two times each."""
    ask = runpy.run_path(str(ROOT / 'docs' / 'queries.py'))

    def count_of_formula() -> int:
        query = orm.QueryBuilder()
        query.append(LabelData, filters={'attributes.formula': 'Cu4', 'attributes.energy_per_atom': {'<': -2.0}})
        return query.count()

    questions: dict[str, Callable[[], Any]] = {
        'labels with a force above 5 eV/Å': lambda: len(ask['labels_above'](5.0)),
        'the ten most uncertain structures': lambda: len(list(ask['most_uncertain'](10))),
        'the committee that chose a structure': lambda: len(ask['committee_that_chose'](newest_frame())),
        'labels of a formula below an energy, counted': count_of_formula,
    }
    found = table(f'seconds for a question (≤ {QUERY_LIMIT_S:g} s)', 'question', *map(str, options.nodes), 'answer')
    columns: list[dict[str, tuple[float, float, Any]]] = []
    for count in options.nodes:
        print(f'{count} labels and frames …', file=sys.stderr)
        with scratch_profile(f'queries_{count}'):
            times: list[float] = []
            with clock(times):
                fill(count)
            print(f'made in {times[0]:.0f} s', file=sys.stderr)
            columns.append({question: best_of_two(answer) for question, answer in questions.items()})
    for question in questions:
        values = [
            f'{checked(column[question][0], QUERY_LIMIT_S, digits=3)} ({column[question][1]:.3f} s)'
            for column in columns
        ]
        found.add_row(question, *values, str(columns[-1][question][2]))
    CONSOLE.print(found)
    CONSOLE.print('columns: labels, and as many frames, a hundred in an iteration; wall time (CPU time)')


def best_of_two(question: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return the shorter wall time and the shorter CPU time in s, and the answer."""
    times: list[float] = []
    for _ in range(2):
        with clock(times):
            answer = question()
    return min(times[::2]), min(times[1::2]), answer


def newest_frame() -> orm.Node:
    """Return the frame that was stored last."""
    return orm.QueryBuilder().append(FrameData).order_by({FrameData: {'id': 'desc'}}).first(flat=True)


# ----------------------------------------------------------------------------------------------------------------- archive


def archive(options: argparse.Namespace) -> None:
    """Print time and size of a labelling's archive."""
    from aiida.tools.archive import create_archive

    found = table('archive of a labelling', 'labels', 'nodes', 'wall time', 'size', 'for each label')
    with scratch_profile('archive') as code:
        for count in options.labels:
            print(f'archive of {count} labels …', file=sys.stderr)
            node, _, _ = label(code, options.calculator, count, 0)
            path = FOLDER / f'{count}.aiida'
            times: list[float] = []
            with clock(times):
                create_archive([node], filename=path)
            kilobytes = path.stat().st_size / 1e3
            found.add_row(
                str(count),
                str(1 + len(node.called) + 2 * count),
                f'{times[0]:.1f} s',
                f'{kilobytes:.0f} kB',
                f'{kilobytes / count:.2f} kB',
            )
    CONSOLE.print(found)


SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    'labels': labels,
    'vasp': vasp,
    'history': history,
    'import': import_frames,
    'queries': queries,
    'archive': archive,
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('sections', nargs='*', metavar='SECTION', help=f'{", ".join(SECTIONS)}; all without it')
    parser.add_argument('--quick', action='store_true', help='the smallest case of each section')
    parser.add_argument('--calculator', choices=tuple(CALCULATORS), default='emt', help='what labels')
    parser.add_argument('--labels', type=int, nargs='+', default=[100, 300, 1000], help='how many')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 1, 2, 4], help='of the daemon; 0 for none')
    parser.add_argument('--in-flight', type=int, default=1, help='jobs for each worker at the same time')
    parser.add_argument('--vasp-labels', type=int, default=12, help='labels by the stand-in')
    parser.add_argument('--iterations', type=int, default=20, help='of the made-up history')
    parser.add_argument('--frames', type=int, nargs='+', default=[10_000, 100_000], help='frames to import')
    parser.add_argument('--nodes', type=int, nargs='+', default=[10_000, 100_000], help='labels to ask questions about')
    parser.add_argument('--postgres', help='an empty database, postgresql://user:password@host:port/name')
    parser.add_argument('--rabbitmq', help='amqp://user:password@host:port')
    options = parser.parse_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f'there is no section {", ".join(sorted(unknown))}; there are {", ".join(SECTIONS)}.')
    if options.quick:
        options.labels, options.workers, options.vasp_labels = [40], [0, 1], 3
        options.iterations, options.frames, options.nodes = 8, [1000], [1000]
    CONSOLE.print(
        f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]}'
    )
    for name in options.sections or SECTIONS:
        CONSOLE.print()
        SECTIONS[name](options)


if __name__ == '__main__':
    main()
