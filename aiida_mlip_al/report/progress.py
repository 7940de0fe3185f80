"""Where a run is: the little that a live view needs, read quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiida import orm

from .graph import Process, count_labels, failure_of, read_processes, state_of, wall_seconds
from .summary import State

WORDS = {
    'seed': 'making structures',
    'label': 'labelling',
    'train': 'training',
    'explore': 'exploring',
    'evaluate': 'measuring errors',
    'select': 'choosing frames',
    'final': 'final training',
}


@dataclass
class Progress:
    """A moment of a run.

    :param stages: what is going on now, in words.
    :param jobs: number of jobs by state: running, finished, failed.
    :param labels: labels so far, those given included, test frames left out.
    :param rows: (iteration, labels, test or validation force MAE in eV/Å, accurate fraction or None), one for each committee
        that was measured; the final committee's iteration is None.
    :param paused: whether a process below is paused, and waits for `verdi process play`.
    :param state: how it stands.
    """

    pk: int
    label: str
    ended: bool
    iteration: int
    max_iterations: int | None
    stages: list[str]
    jobs: dict[str, int]
    labels: int
    rows: list[tuple[int | None, int, float, float | None]]
    error_name: str
    elapsed_s: float
    failures: list[str] = field(default_factory=list)
    paused: list[int] = field(default_factory=list)
    exit_status: int | None = None
    message: str = ''
    state: State = 'running'


def progress(run: orm.WorkChainNode) -> Progress:
    """Read where a run is.

    :param run: an ActiveLearningWorkChain, running or ended.
    """
    called = read_processes(run)
    jobs = [(child, job) for child in called for job in child.jobs()]
    rows, name = _measured(called)
    return Progress(
        pk=run.pk,
        label=run.label,
        state=state_of(run),
        ended=run.is_terminated,
        iteration=max((child.iteration for child in called), default=0),
        max_iterations=run.inputs.stop.get_dict().get('max_iterations'),
        stages=sorted({WORDS.get(child.stage, child.stage) for child in called if not child.ended}),
        jobs={
            'running': sum(not job.ended for _, job in jobs),
            'finished': sum(job.ok for _, job in jobs),
            'failed': sum(job.failure is not None for _, job in jobs),
        },
        labels=count_labels(run, called),
        rows=rows,
        error_name=name,
        elapsed_s=wall_seconds(run),
        failures=[
            f'{WORDS.get(child.stage, child.stage)} <{job.pk}>: {job.failure}' for child, job in jobs if job.failure
        ],
        paused=[job.pk for _, job in jobs if job.paused],
        exit_status=run.exit_status,
        message=failure_of(run) or '',
    )


def _measured(called: list[Process]) -> tuple[list[tuple[int | None, int, float, float | None]], str]:
    """Return a row for each committee that was measured, and on which split."""
    iterations = {child.pk: child.iteration for child in called}
    selections = [child.pk for child in called if child.name == 'select_frames' and child.ok]
    accurate = {
        iterations[pk]: (counts['accurate'] + counts['audit']) / max(1, sum(counts.values()))
        for pk, (counts,) in _attributes(selections, 'selection', 'counts').items()
    }
    evaluations = [child.pk for child in called if child.label.endswith('_evaluate') and child.iteration]
    rows, name = [], 'test'
    errors_of = _attributes(evaluations, 'errors', 'train', 'validation', 'test')
    for pk in evaluations:
        train, validation, test = errors_of.get(pk, (None, None, None))
        measured = test or validation
        if not measured:
            continue
        name = 'test' if test else 'validation'
        n_labels = sum((errors or {}).get('n_frames', 0) for errors in (train, validation))
        iteration = iterations[pk] if iterations[pk] > 0 else None
        rows.append((iteration, n_labels, measured['force_mae'], accurate.get(iterations[pk])))
    return rows, name


def _attributes(pks: list[int], output: str, *keys: str) -> dict[int, list[Any]]:
    """Return attributes of one output of each process that has it (by now)."""
    query = orm.QueryBuilder()
    query.append(orm.ProcessNode, filters={'id': {'in': pks or [-1]}}, tag='process', project='id')
    query.append(
        orm.Data,
        with_incoming='process',
        edge_filters={'label': output},
        project=[f'attributes.{key}' for key in keys],
    )
    return {pk: values for pk, *values in query.iterall()}
