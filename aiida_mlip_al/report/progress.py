"""Where a run is: the little that a live view needs, read quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from aiida import orm

from .graph import Process, failure_of, read_processes

WORDS = {
    'seed': 'making structures',
    'label': 'labelling',
    'train': 'training the committee',
    'explore': 'exploring',
    'evaluate': 'measuring errors',
    'select': 'choosing frames',
    'final': 'final committee',
}


@dataclass
class Progress:
    """A moment of a run.

    :param stages: what is going on now, in words.
    :param jobs: number of jobs by state: running, finished, failed.
    :param labels: labels so far, test frames left out.
    :param rows: (iteration, labels, test or validation force MAE in eV/Å, accurate fraction or None), one for each committee
        that was measured; the final committee's iteration is None.
    :param paused: whether a process below is paused, and waits for `verdi process play`.
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


def progress(run: orm.WorkChainNode) -> Progress:
    """Read where a run is.

    :param run: an ActiveLearningWorkChain, running or ended.
    """
    called = read_processes(run)
    jobs = [(child, job) for child in called for job in child.jobs()]
    rows, name, labels = _measured(called)
    end = run.mtime if run.is_terminated else datetime.now(timezone.utc)
    return Progress(
        pk=run.pk,
        label=run.label,
        ended=run.is_terminated,
        iteration=max((child.iteration for child in called), default=0),
        max_iterations=run.inputs.stop.get_dict().get('max_iterations'),
        stages=sorted({WORDS.get(child.stage, child.stage) for child in called if not child.ended}),
        jobs={
            'running': sum(not job.ended for _, job in jobs),
            'finished': sum(job.ok for _, job in jobs),
            'failed': sum(job.failure is not None for _, job in jobs),
        },
        labels=labels,
        rows=rows,
        error_name=name,
        elapsed_s=(end - run.ctime).total_seconds(),
        failures=[
            f'{WORDS.get(child.stage, child.stage)} <{job.pk}>: {job.failure}' for child, job in jobs if job.failure
        ],
        paused=[job.pk for _, job in jobs if job.paused],
        exit_status=run.exit_status,
        message=failure_of(run) or '',
    )


def _measured(called: list[Process]) -> tuple[list[tuple[int | None, int, float, float | None]], str, int]:
    """Return a row for each committee that was measured, on which split, and the number of labels so far."""
    evaluations = {child.pk: child for child in called if child.label.endswith('_evaluate') and child.iteration}
    accurate: dict[int, float] = {}
    labels = 0
    for child in called:
        if child.name == 'LabelWorkChain' and child.label != 'label_test':
            labels += _attribute(child.pk, 'dataset', 'n_frames') or 0
        if child.name == 'select_frames' and child.ok:
            counts = _attribute(child.pk, 'selection', 'counts')
            accurate[child.iteration] = (counts['accurate'] + counts['audit']) / max(1, sum(counts.values()))
    rows, name = [], 'test'
    for pk, child in sorted(evaluations.items()):
        errors = {split: _attribute(pk, 'errors', split) for split in ('train', 'validation', 'test')}
        measured = next((split for split in ('test', 'validation') if errors[split]), None)
        if measured is None:
            continue
        name = measured
        n_labels = sum((errors[split] or {}).get('n_frames', 0) for split in ('train', 'validation'))
        iteration = child.iteration if child.iteration > 0 else None
        rows.append((iteration, n_labels, errors[measured]['force_mae'], accurate.get(child.iteration)))
    return rows, name, labels


def _attribute(pk: int, output: str, key: str) -> Any:
    """Return one attribute of a process's output, or None if it is not there (yet)."""
    query = orm.QueryBuilder()
    query.append(orm.ProcessNode, filters={'id': pk}, tag='process')
    query.append(orm.Data, with_incoming='process', edge_filters={'label': output}, project=f'attributes.{key}')
    return query.first(flat=True)
