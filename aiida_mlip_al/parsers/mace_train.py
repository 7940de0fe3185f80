"""Parser of MaceTrainCalculation: mace_run_train's exit status proves nothing, its results are checked instead."""

from __future__ import annotations

import json
import math
import re
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from aiida import orm
from aiida.engine import ExitCode

from aiida_mlip_al.calculations.mace_train import MaceTrainCalculation
from aiida_mlip_al.data import ModelData

from .base import RunnerParser

EXIT_CODES = MaceTrainCalculation.exit_codes

# mace_run_train's names of the validation metrics and ours; eV/atom, eV/Å, eV/Å³.
METRICS = {
    'loss': 'loss',
    'mae_e_per_atom': 'energy_mae',
    'rmse_e_per_atom': 'energy_rmse',
    'mae_f': 'force_mae',
    'rmse_f': 'force_rmse',
    'mae_stress': 'stress_mae',
    'rmse_stress': 'stress_rmse',
}

# Replay also validates on the foundation model's own frames, under this name; those rows are not ours.
REPLAY_HEAD = 'pt_head'


class LearningCurve(NamedTuple):
    """Validation metrics by epoch, and whether every loss was finite."""

    epochs: list[int]
    metrics: dict[str, list[float]]
    finite: bool


def parse_results(text: str) -> LearningCurve:
    """Return the learning curve of a ``*_train.txt`` file: JSON lines, the last of which a killed job leaves cut.

    A continued training appends; the last row of an epoch counts.
    """
    rows: dict[int, dict[str, float]] = {}
    finite = True
    for line in text.split('\n'):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        loss = row.get('loss')
        if loss is not None and not math.isfinite(loss):
            finite = False
        if row.get('mode') == 'eval' and row.get('epoch') is not None and row.get('head') != REPLAY_HEAD:
            rows[int(row['epoch'])] = row
    epochs = sorted(rows)
    names = {name: ours for name, ours in METRICS.items() if any(rows[epoch].get(name) is not None for epoch in epochs)}
    metrics = {ours: [number_of(rows[epoch].get(name)) for epoch in epochs] for name, ours in names.items()}
    return LearningCurve(epochs, metrics, finite)


def number_of(value: float | None) -> float:
    """Return a metric as a number, NaN if it was not computed."""
    return math.nan if value is None else float(value)


def chosen_epoch(log: str) -> int | None:
    """Return the epoch whose weights the model file holds, as the log says, or None."""
    found = re.findall(r'Loaded Stage (?:one|two) model from epoch (\d+)', log)
    return int(found[-1]) if found else None


def is_done(log: str) -> bool:
    """Return whether the log ends as a complete training does."""
    return log.rstrip().endswith('Done')


def errors_at(curve: LearningCurve, epoch: int | None) -> dict[str, float]:
    """Return the validation errors of an epoch (the last one if it is unknown) that are finite."""
    if not curve.epochs:
        return {}
    row = curve.epochs.index(epoch) if epoch in curve.epochs else -1
    values = {name: column[row] for name, column in curve.metrics.items() if name != 'loss'}
    return {name: value for name, value in values.items() if math.isfinite(value)}


class TrainingFiles:
    """What a training left in its folder, in whatever state it is.

    :param retrieved: files of the job.
    :param folder: of the training among them.
    """

    def __init__(self, retrieved: orm.FolderData, folder: str = '') -> None:
        self._repository = retrieved.base.repository
        self._folder = PurePosixPath(folder)

    def content(self, name: str) -> bytes:
        """Return the content of a file.

        :raises OSError: if it is not there.
        """
        return self._repository.get_object_content(str(self._folder / name), mode='rb')  # type: ignore[no-any-return]

    def text(self, name: str) -> str:
        """Return a text file, or an empty string if it is not there."""
        try:
            return self.content(name).decode(errors='replace')
        except OSError:
            return ''

    def matching(self, folder: str, ending: str) -> str:
        """Return the text of the files in a folder with this ending, debug logs left out."""
        try:
            names = sorted(self._repository.list_object_names(str(self._folder / folder)))
        except OSError:
            return ''
        names = [name for name in names if name.endswith(ending) and not name.endswith('_debug.log')]
        return ''.join(self.text(f'{folder}/{name}') for name in names)

    def status(self) -> dict[str, Any]:
        """Return what the training wrote at its end, or an empty mapping if it was killed."""
        try:
            status = json.loads(self.text('train.status.json'))
        except ValueError:
            return {}
        return status if isinstance(status, dict) else {}

    def last_words(self) -> str:
        """Return the last line that the training printed, for a message."""
        lines = self.text('train.out').split('\n')
        return next((line.strip() for line in reversed(lines) if line.strip()), 'it printed nothing.')[:300]


class Training(NamedTuple):
    """What became of a training: nodes, and why there is no model."""

    report: orm.Dict
    metrics: orm.ArrayData | None
    model: ModelData | None
    failure: ExitCode | None


class TrainingParser(RunnerParser):
    """Read trainings, one in a job or several."""

    def read_training(self, files: TrainingFiles, seed: int, ending: dict[str, Any] | None = None) -> Training:
        """Return what became of a training.

        :param files: of the training.
        :param seed: of the training.
        :param ending: stands for its status file if it left none.
        """
        status = files.status() or ending or {}
        log = files.matching('logs', '.log')
        curve = parse_results(files.matching('results', '_train.txt'))
        epoch = chosen_epoch(log)
        report = {
            'n_train': status.get('n_train'),
            'n_validation': status.get('n_validation'),
            'epochs': (max(curve.epochs) + 1) if curve.epochs else 0,
            'chosen_epoch': epoch,
            'errors': errors_at(curve, epoch),
            'mace': status.get('mace'),
            'wall_s': status.get('wall_s', 0.0),
            'core_s': status.get('cpu_s', 0.0),
        }
        metrics = metrics_of(curve) if curve.epochs else None
        failure = EXIT_CODES.ERROR_NONFINITE_LOSS if not curve.finite else self.failure(status)
        if curve.finite and failure is not None:
            failure = explain(status.get('error') or '', files.last_words()) or failure
        model = None
        if failure is None:
            model, failure = model_of(files, is_done(log), report, seed)
        return Training(orm.Dict(report), metrics, model, failure)


class MaceTrainParser(TrainingParser):
    """The model, its learning curve, and why there is none."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved files."""
        training = self.read_training(TrainingFiles(self.retrieved), self.node.inputs.seed.value)
        for name in ('report', 'metrics', 'model'):
            node = getattr(training, name)
            if node is not None:
                self.out(name, node)
        return training.failure


def model_of(
    files: TrainingFiles, done: bool, report: dict[str, Any], seed: int
) -> tuple[ModelData | None, ExitCode | None]:
    """Return the model with what is known of it, or why there is none.

    :param files: of a training that came to its end.
    :param done: whether its log says so too.
    :param report: on the training.
    :param seed: of the training.
    """
    try:
        inside = json.loads(files.text('model.json'))
        content = files.content(inside['file'])
    except (OSError, ValueError):
        return None, EXIT_CODES.ERROR_NO_MODEL.format(message=files.last_words())
    if not done:
        return None, EXIT_CODES.ERROR_NO_MODEL.format(message='the log does not end with `Done`.')
    if not inside['finite']:
        return None, EXIT_CODES.ERROR_NONFINITE_MODEL
    model = ModelData.from_bytes(
        content,
        architecture='MACE',
        elements=inside['elements'],
        r_max=inside['r_max'],
        n_parameters=inside['n_parameters'],
        dtype=inside['dtype'],
        seed=seed,
        trained_on=report['n_train'],
        epochs=report['epochs'],
        errors=report['errors'],
    )
    return model, None


def metrics_of(curve: LearningCurve) -> orm.ArrayData:
    """Return a learning curve as arrays."""
    node = orm.ArrayData()
    node.set_array('epoch', np.array(curve.epochs))
    for name, values in curve.metrics.items():
        node.set_array(name, np.array(values))
    return node


def explain(error: str, last: str) -> ExitCode | None:
    """Return the exit code of a failure that the error, or the last line of the output, names; None for another one."""
    text = f'{error}\n{last}'
    if re.search(r"can't allocate memory|out of memory|OutOfMemoryError|MemoryError", text):
        return EXIT_CODES.ERROR_OUT_OF_MEMORY
    if re.search(r'not found in atomic_energies_dict|is not in list|E0s (not|must)|atomic_energies', text):
        return EXIT_CODES.ERROR_MISSING_ELEMENT.format(message=last)
    if re.search(r'unrecognized arguments|invalid choice|invalid \S+ value|expected one argument', text):
        return EXIT_CODES.ERROR_BAD_ARGUMENTS.format(message=last)
    if re.search(r'no (energies|forces)|None of .* found in|change the key names', text, re.IGNORECASE):
        return EXIT_CODES.ERROR_BAD_KEYS.format(message=last)
    return None
