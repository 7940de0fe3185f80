"""A real SLURM for the tests, and jobs that tell what they saw of it."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.fault_table import row
from slurm.lab import LabError, SlurmLab


@pytest.fixture(scope='session')
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmLab]:
    """A SLURM of one node with two pretended GPUs; AiiDA's scheduler commands find it through the environment."""
    lab = SlurmLab(tmp_path_factory.mktemp('slurm'))
    try:
        lab.start()
    except LabError as error:
        pytest.skip(f'no SLURM here: {error}')
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lab.environment.items():
            patch.setenv(name, value)
        yield lab
        lab.stop()


@pytest.fixture
def slurm_computer(slurm: SlurmLab, aiida_profile_clean: Any, aiida_computer: Callable[..., Any]) -> Any:
    """That SLURM as a computer."""
    return aiida_computer(
        label='slurm',
        scheduler_type='core.slurm',
        minimum_job_poll_interval=1,
        configuration_kwargs={'safe_interval': 0},
    )


@pytest.fixture
def slurm_python(slurm_computer: Any, aiida_code_installed: Callable[..., Any]) -> Any:
    """The Python that runs the tests, as a code on that SLURM."""
    return aiida_code_installed(label='python', computer=slurm_computer, filepath_executable=sys.executable)


class Log:
    """What the jobs wrote down.

    :param path: the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the lines of an event, `begun` or `done`, or all of them."""
        text = self.path.read_text() if self.path.exists() else ''
        lines = [json.loads(line) for line in text.split('\n')[:-1]]
        return [line for line in lines if event in (None, line['event'])]

    def computed(self) -> list[float]:
        """Return the structures (x of the first atom, Å) whose computation came to its end, in the order of the numbers."""
        return sorted(line['x'] for line in self.lines('done'))

    def repeated(self) -> int:
        """Return how many computations came to their end a second time."""
        return sum(count - 1 for count in Counter(self.computed()).values())

    def jobs(self) -> list[str]:
        """Return the numbers of the jobs that began to compute, in their order."""
        return list(dict.fromkeys(line['SLURM_JOB_ID'] for line in self.lines()))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """The log of the test's jobs."""
    return Log(tmp_path / 'log.jsonl')


@pytest.fixture
def recorded(slurm_python: Any, log: Log) -> Callable[..., dict[str, Any]]:
    """Return a factory of a label engine's inputs: ``recorded(resources, seconds=..., greedy=...)``.

    ``resources``: what a user's input file says of the stage; the other arguments are the calculator's.
    """
    from aiida import orm

    from aiida_mlip_al.config.resources import StageResources, job_options

    def make(resources: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        asked = {'environment_variables': {'PYTHONPATH': '.'}, 'max_wallclock_seconds': 600, **(resources or {})}
        options = job_options({'default': StageResources(**asked)}, 'label', 'core.slurm')
        program = (Path(__file__).parent / 'recorded.py').read_bytes()
        calculator = {'calculator': 'recorded:Recorded', 'arguments': {'log': str(log.path), **arguments}}
        return {
            'code': slurm_python,
            'calculator': orm.Dict(calculator),
            'files': {'recorded': orm.SinglefileData(io.BytesIO(program), filename='recorded.py')},
            'metadata': {'options': options},
        }

    return make


class Retries(logging.Handler):
    """Counts how often AiiDA tried something in vain at a computer, and will try again."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count."""
        self.count += 'excepted, retrying after' in record.getMessage()


@pytest.fixture
def retries(aiida_profile: Any) -> Iterator[Retries]:
    """What fails at a computer is tried again after one second, then two, four, …; and how often that was."""
    from aiida.manage.configuration import get_config

    handler, logger = Retries(), logging.getLogger('aiida')
    option = 'transport.task_retry_initial_interval'
    get_config().set_option(option, 1)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    get_config().unset_option(option)


@pytest.fixture
def tell(slurm: SlurmLab, record_property: Callable[..., None]) -> Callable[..., None]:
    """Return a function that adds a line to the table of faults: ``tell(fault, node, results, lost, repeated)``."""
    from aiida.orm import CalcJobNode

    def add(fault: str, node: Any, results: str, lost: int, repeated: int) -> None:
        family = [node, *node.called_descendants]
        jobs = sorted((job for job in family if isinstance(job, CalcJobNode)), key=lambda job: job.pk)
        happened = ', '.join(f'{slurm.state(job.get_job_id())} ({job.exit_status})' for job in jobs)
        end = 'recovered' if node.is_finished_ok else f'stopped ({node.exit_status})'
        record_property(*row(fault, happened, end, results, lost, repeated))

    return add


@contextmanager
def meanwhile(condition: Callable[[], bool], action: Callable[[], None], limit_s: float = 240.0) -> Iterator[None]:
    """Do something beside what is done in the context, as soon as a condition holds; an error of the action is raised.

    :param limit_s: the condition must hold within this time.
    """
    leave = threading.Event()
    errors: list[BaseException] = []

    def watch() -> None:
        deadline = time.monotonic() + limit_s
        try:
            while not condition():
                if leave.wait(0.05) or time.monotonic() > deadline:
                    raise TimeoutError('the moment of the fault never came')
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        leave.set()
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture
def during() -> Callable[..., Any]:
    """Return the context manager ``during(condition, action)``."""
    return meanwhile


@pytest.fixture
def copper() -> Callable[..., dict[str, Any]]:
    """Return a factory of distorted copper cells, or blocks of cells, as stored structures: ``copper(4, repeat=1)``.

    The first atom's x tells them apart.
    """
    from aiida import orm
    from ase.build import bulk

    def make(count: int, repeat: int = 1) -> dict[str, Any]:
        structures = {}
        for index in range(count):
            atoms = bulk('Cu', cubic=True).repeat(repeat)
            atoms.rattle(0.05, seed=index)
            atoms.positions[:] = atoms.positions.round(6)
            structures[f'frame_{index:03d}'] = orm.StructureData(ase=atoms).store()
        return structures

    return make
