"""Reading a run's provenance graph in a handful of queries: its processes, their states and costs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise

from aiida import orm
from aiida.common.links import LinkType

from aiida_mlip_al.data import DatasetData

from .summary import State

RUN_TYPE = 'aiida.workflows:mlip_al.active_learning'
CALL = [LinkType.CALL_WORK.value, LinkType.CALL_CALC.value]
# Call link labels of ActiveLearningWorkChain, and the stage that the report counts them under.
STAGE_OF_LABEL = {'seeding': 'seed', 'test': 'seed', 'label_seeding': 'label', 'label_test': 'label'}
ENDED = {'finished', 'excepted', 'killed'}
COLUMNS = {
    'pk': 'id',
    'kind': 'node_type',
    'name': 'attributes.process_label',
    'state': 'attributes.process_state',
    'exit_status': 'attributes.exit_status',
    'exit_message': 'attributes.exit_message',
    'exception': 'attributes.exception',
    'paused': 'attributes.paused',
    'ctime': 'ctime',
    'mtime': 'mtime',
}


@dataclass
class Process:
    """One process of a run, as the database has it.

    :param label: of the call link.
    :param stage: which stage of the loop it belongs to.
    :param iteration: which iteration: 0 before the first, -1 at the end.
    """

    pk: int
    kind: str
    name: str
    state: str
    exit_status: int | None
    exit_message: str | None
    exception: str | None
    paused: bool
    ctime: datetime
    mtime: datetime
    label: str
    stage: str = ''
    iteration: int = 0
    core_s: float = 0.0
    called: list[Process] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ENDED

    @property
    def ok(self) -> bool:
        """Whether it finished with exit status 0."""
        return self.state == 'finished' and self.exit_status == 0

    @property
    def is_job(self) -> bool:
        """Whether it is a CalcJob."""
        return self.kind.endswith('CalcJobNode.')

    @property
    def wall_s(self) -> float:
        """How long it took, or has taken so far."""
        begin, end = self.interval()
        return end - begin

    @property
    def failure(self) -> str | None:
        """Why it failed, or None."""
        if self.ok or not self.ended:
            return None
        if self.state == 'excepted':
            return (self.exception or 'an exception').strip()
        return self.exit_message or self.state

    def interval(self) -> tuple[float, float]:
        """Its begin and its end, or now while it goes on, as timestamps."""
        end = self.mtime if self.ended else datetime.now(timezone.utc)
        return self.ctime.timestamp(), max(self.ctime, end).timestamp()

    def jobs(self) -> list[Process]:
        """The CalcJobs below it, or itself if it is one."""
        return [self] if self.is_job else [job for child in self.called for job in child.jobs()]

    def core_seconds(self) -> float:
        """The core-seconds that the jobs below it report."""
        return sum(job.core_s for job in self.jobs())


def shared_time(processes: list[Process]) -> dict[str, float]:
    """Divide the time in which any of the processes went on among their stages, s.

    A moment in which several stages went on counts for each in equal parts, so that all stages together have the time that
    passed.
    """
    intervals = [(process.stage, *process.interval()) for process in processes]
    times: dict[str, float] = {stage: 0.0 for stage, _, _ in intervals}
    for begin, end in pairwise(sorted({moment for _, *ends in intervals for moment in ends})):
        going_on = {stage for stage, first, last in intervals if first <= begin and end <= last}
        for stage in going_on:
            times[stage] += (end - begin) / len(going_on)
    return times


def read_processes(run: orm.WorkChainNode) -> list[Process]:
    """Return what a run called directly, in order, each with all that it called in turn.

    :param run: an ActiveLearningWorkChain, running or ended.
    """
    known: dict[int, Process] = {}
    top: list[Process] = []
    level: list[int] = [run.pk]
    while level:
        found = []
        for parent, label, row in _called_by(level):
            process = known.setdefault(row.pk, row)
            process.label = label
            (top if parent == run.pk else known[parent].called).append(process)
            found.append(row.pk)
        level = found
    _read_costs([process for process in known.values() if process.is_job])
    current = 0
    for process in top:
        process.stage, process.iteration = _place(process, current)
        current = process.iteration
    return top


def _called_by(pks: list[int]) -> Iterable[tuple[int, str, Process]]:
    """Yield what processes called, in the order in which it was made: an import numbers nodes anew, in no order."""
    query = orm.QueryBuilder()
    query.append(orm.ProcessNode, filters={'id': {'in': pks}}, tag='parent', project='id')
    query.append(
        orm.ProcessNode,
        with_incoming='parent',
        edge_filters={'type': {'in': CALL}},
        edge_project='label',
        project=list(COLUMNS.values()),
        tag='called',
    )
    query.order_by({'called': ['ctime', 'id']})
    for parent, *values, label in query.iterall():
        row = dict(zip(COLUMNS, values, strict=True))
        row.update(name=row['name'] or '', state=row['state'] or 'created', paused=bool(row['paused']))
        yield parent, label, Process(label=label, **row)


def _read_costs(jobs: list[Process]) -> None:
    by_pk = {job.pk: job for job in jobs}
    if not by_pk:
        return
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, filters={'id': {'in': list(by_pk)}}, tag='job', project='id')
    query.append(orm.Dict, with_incoming='job', project='attributes.core_s')
    for pk, core_s in query.iterall():
        by_pk[pk].core_s += float(core_s or 0.0)


def _place(process: Process, current: int) -> tuple[str, int]:
    """Return the stage and the iteration of what the run called while at iteration ``current``."""
    found = re.fullmatch(r'iteration_(\d+)_(\w+)', process.label)
    if found:
        return found[2], int(found[1])
    if process.label.startswith('final_'):
        return 'final', -1
    found = re.fullmatch(r'seeding_\d+_(\w+)', process.label)
    if found:
        return found[1], current
    return STAGE_OF_LABEL.get(re.sub(r'_\d+$', '', process.label), 'select'), current


def count_labels(run: orm.ProcessNode, called: list[Process]) -> int:
    """Count the labels that a run has to learn from: those it was given and those it made, test frames left out.

    :param called: by the run, as :func:`read_processes` returns it.
    """
    holders = [run.pk, *(child.pk for child in called if child.name == 'LabelWorkChain')]
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': {'in': holders}}, tag='holder')
    query.append(
        DatasetData,
        with_incoming='holder',
        edge_filters={'type': LinkType.RETURN.value},
        project=['id', 'attributes.splits'],
    )
    # A dataset of the labelling is one of the run as well, unless the run had ended when the labels came.
    return sum(splits['train'] + splits['validation'] for splits in dict(query.all()).values())


def state_of(run: orm.ProcessNode) -> State:
    """Return how a run stands."""
    if run.is_excepted:
        return 'excepted'
    if run.is_killed:
        return 'killed'
    return 'finished' if run.is_terminated else 'running'


def wall_seconds(run: orm.ProcessNode) -> float:
    """Return the time from a run's creation to its end, or to now while it runs, s."""
    end = run.mtime if run.is_terminated else datetime.now(timezone.utc)
    return (end - run.ctime).total_seconds()


def failure_of(node: orm.ProcessNode) -> str | None:
    """Return why a process failed, or None if it did not."""
    if node.is_finished_ok or not node.is_terminated:
        return None
    if node.is_excepted:
        return (node.exception or 'an exception').strip()
    return node.exit_message or (node.process_state.value if node.process_state else 'unknown state')
