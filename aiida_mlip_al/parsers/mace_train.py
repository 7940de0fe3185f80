"""Parser of MaceTrainCalculation: mace_run_train's exit status proves nothing, its results are checked instead."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

import numpy as np
from aiida import orm
from aiida.engine import ExitCode

from aiida_mlip_al.data import ModelData

from .base import RunnerParser

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


class MaceTrainParser(RunnerParser):
    """The model, its learning curve, and why there is none."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved files."""
        status = self.read_status()
        log = self.read_matching('logs', '.log')
        curve = parse_results(self.read_matching('results', '_train.txt'))
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
        self.out('report', orm.Dict(report))
        if curve.epochs:
            self.out('metrics', self.metrics(curve))

        if not curve.finite:
            return self.exit_codes.ERROR_NONFINITE_LOSS
        failed = self.failure(status)
        if failed is not None:
            return self.explain(status.get('error') or '') or failed
        try:
            inside = json.loads(self.read_text('model.json'))
            content = self.retrieved.base.repository.get_object_content(inside['file'], mode='rb')
        except (OSError, ValueError):
            return self.exit_codes.ERROR_NO_MODEL.format(message=self.last_words())
        if not is_done(log):
            return self.exit_codes.ERROR_NO_MODEL.format(message='the log does not end with `Done`.')
        if not inside['finite']:
            return self.exit_codes.ERROR_NONFINITE_MODEL
        self.out('model', self.model(content, inside, report))
        return None

    def model(self, content: bytes, inside: dict[str, Any], report: dict[str, Any]) -> ModelData:
        """Return the model with what is known of it."""
        return ModelData.from_bytes(
            content,
            architecture='MACE',
            elements=inside['elements'],
            r_max=inside['r_max'],
            n_parameters=inside['n_parameters'],
            dtype=inside['dtype'],
            seed=self.node.inputs.seed.value,
            trained_on=report['n_train'],
            epochs=report['epochs'],
            errors=report['errors'],
        )

    @staticmethod
    def metrics(curve: LearningCurve) -> orm.ArrayData:
        """Return the learning curve as arrays."""
        node = orm.ArrayData()
        node.set_array('epoch', np.array(curve.epochs))
        for name, values in curve.metrics.items():
            node.set_array(name, np.array(values))
        return node

    def explain(self, error: str) -> ExitCode | None:
        """Return the exit code of a failure that the error, or the last line of the output, names; None for another one."""
        last = self.last_words()
        text = f'{error}\n{last}'
        if re.search(r"can't allocate memory|out of memory|OutOfMemoryError|MemoryError", text):
            return self.exit_codes.ERROR_OUT_OF_MEMORY
        if re.search(r'not found in atomic_energies_dict|is not in list|E0s (not|must)|atomic_energies', text):
            return self.exit_codes.ERROR_MISSING_ELEMENT.format(message=last)
        if re.search(r'unrecognized arguments|invalid choice|invalid \S+ value|expected one argument', text):
            return self.exit_codes.ERROR_BAD_ARGUMENTS.format(message=last)
        if re.search(r'no (energies|forces)|None of .* found in|change the key names', text, re.IGNORECASE):
            return self.exit_codes.ERROR_BAD_KEYS.format(message=last)
        return None

    def read_matching(self, folder: str, ending: str) -> str:
        """Return the text of the files in a retrieved folder with this ending, debug logs left out."""
        repository = self.retrieved.base.repository
        if folder not in repository.list_object_names():
            return ''
        names = [name for name in sorted(repository.list_object_names(folder)) if name.endswith(ending)]
        names = [name for name in names if not name.endswith('_debug.log')]
        return ''.join(
            repository.get_object_content(f'{folder}/{name}', mode='rb').decode(errors='replace') for name in names
        )
