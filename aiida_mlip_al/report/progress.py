"""Where a run is: the little that a live view needs, read quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiida import orm

from .graph import Child, children, failure_of, jobs, wall_seconds

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
    called = list(children(run))
    counts = {'running': 0, 'finished': 0, 'failed': 0}
    failures, paused = [], []
    for child in called:
        for job in jobs(child.node):
            if not job.is_terminated:
                counts['running'] += 1
            elif job.is_finished_ok:
                counts['finished'] += 1
            else:
                counts['failed'] += 1
                failures.append(f'{WORDS.get(child.stage, child.stage)} <{job.pk}>: {failure_of(job)}')
            if job.paused:
                paused.append(job.pk)
    active = [child for child in called if not child.node.is_terminated]
    outputs = run.outputs
    datasets = dict(outputs.datasets.items()) if 'datasets' in outputs else {}
    rows, name = _rows(called, outputs)
    return Progress(
        pk=run.pk,
        label=run.label,
        ended=run.is_terminated,
        iteration=max((child.iteration for child in called), default=0),
        max_iterations=run.inputs.stop.get_dict().get('max_iterations'),
        stages=sorted({WORDS.get(child.stage, child.stage) for child in active}),
        jobs=counts,
        labels=sum(dataset.n_frames - dataset.splits.get('test', 0) for dataset in datasets.values()),
        rows=rows,
        error_name=name,
        elapsed_s=wall_seconds(run),
        failures=failures,
        paused=paused,
        exit_status=run.exit_status,
        message=failure_of(run) or '',
    )


def _rows(called: list[Child], outputs: Any) -> tuple[list[tuple[int | None, int, float, float | None]], str]:
    rows, name = [], 'test'
    for child in called:
        if not child.label.endswith('_evaluate') or 'errors' not in child.node.outputs:
            continue
        errors = child.node.outputs.errors.get_dict()
        name = 'test' if 'test' in errors else 'validation'
        if name not in errors:
            continue
        n_labels = sum(errors.get(split, {}).get('n_frames', 0) for split in ('train', 'validation'))
        iteration = child.iteration if child.iteration > 0 else None
        rows.append((iteration, n_labels, errors[name]['force_mae'], _accurate(outputs, child.iteration)))
    return rows, name


def _accurate(outputs: Any, iteration: int) -> float | None:
    name = f'iteration_{iteration:02d}'
    if 'iterations' not in outputs or name not in outputs.iterations or 'selection' not in outputs.iterations[name]:
        return None
    counts = outputs.iterations[name].selection.counts
    total = sum(counts.values())
    return (counts['accurate'] + counts['audit']) / total if total else None
