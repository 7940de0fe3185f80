"""The run as its outline: what it did before the loop, in each iteration and at the end, with the state of each process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from aiida import orm

from aiida_mlip_al.report.graph import Process
from aiida_mlip_al.report.progress import WORDS

MAX_CHILDREN = 200


@dataclass
class Row:
    """One process with what is below it in numbers.

    :param jobs: number of jobs below it by state: running, finished, failed.
    """

    process: Process
    title: str
    jobs: dict[str, int]

    @property
    def state(self) -> str:
        """In a word: `running`, `waiting`, `paused`, `done` or `failed`."""
        return state_word(self.process)


@dataclass
class Group:
    """A turn of the loop."""

    name: str
    title: str
    rows: list[Row]

    @property
    def state(self) -> str:
        """`running` if anything in it runs, `failed` if its last process failed, else `done`."""
        states = [row.state for row in self.rows]
        for state in ('paused', 'running'):
            if state in states:
                return state
        return states[-1]

    @property
    def wall_s(self) -> float:
        """From its first process to the end of its last one, s."""
        first = min(row.process.ctime for row in self.rows)
        return max((row.process.ctime - first).total_seconds() + row.process.wall_s for row in self.rows)

    @property
    def jobs(self) -> dict[str, int]:
        """Number of its jobs by state."""
        return dict(sum((_count_jobs(row.process) for row in self.rows), Counter()))


def state_word(process: Process) -> str:
    """Return the state of a process in a word."""
    if process.paused and not process.ended:
        return 'paused'
    if not process.ended:
        return 'running'
    return 'done' if process.ok else 'failed'


def outline(called: list[Process]) -> list[Group]:
    """Return the turns of the loop, in order.

    :param called: what the run called directly.
    """
    groups: dict[int, Group] = {}
    for process in called:
        group = groups.setdefault(process.iteration, Group(f'turn-{process.iteration}', _title(process.iteration), []))
        group.rows.append(row_of(process, stage=True))
    return list(groups.values())


def row_of(process: Process, stage: bool = False) -> Row:
    """Describe a process; one that stands for a stage is named by it.

    :param stage: whether the run called it directly.
    """
    kind = process.label.removeprefix('final_') if process.stage == 'final' else process.stage
    words = WORDS.get(kind, kind) if stage else process.label
    return Row(process, words.replace('_', ' '), dict(_count_jobs(process)) if process.called else {})


def _count_jobs(process: Process) -> Counter[str]:
    return Counter('running' if not job.ended else 'finished' if job.ok else 'failed' for job in process.jobs())


def _title(iteration: int) -> str:
    return {0: 'Before the loop', -1: 'After the loop'}.get(iteration, f'Iteration {iteration}')


def job_states(processes: list[Process]) -> dict[int, str]:
    """Return what the scheduler says of the jobs that have not ended, by pk, such as `queued, job 4711`."""
    open_jobs = [process.pk for process in processes if process.is_job and not process.ended]
    query = orm.QueryBuilder()
    query.append(
        orm.CalcJobNode,
        filters={'id': {'in': open_jobs or [-1]}},
        project=['id', 'attributes.scheduler_state', 'attributes.state', 'attributes.job_id'],
    )
    return {pk: _job_words(*values) for pk, *values in query.iterall()}


def _job_words(scheduler: Any, state: Any, job: Any) -> str:
    said = [str(word) for word in (scheduler or state,) if word]
    return ', '.join([*said, f'job {job}'] if job else said)
