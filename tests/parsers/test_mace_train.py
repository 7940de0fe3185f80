"""MaceTrainParser: what mace_run_train made, not what it says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm

from aiida_mlip_al.parsers.mace_train import LearningCurve, chosen_epoch, errors_at, is_done, parse_results

Make = Callable[..., Any]
RESULTS = 'results/mace_run-7_train.txt'


@pytest.fixture
def inputs() -> dict[str, Any]:
    """What the parser looks at."""
    return {'seed': orm.Int(7)}


@pytest.fixture
def trained(recorded: Make) -> Callable[[str], dict[str, bytes]]:
    """Return a function that reads a case and puts some bytes where its model file was."""

    def read(case: str) -> dict[str, bytes]:
        files = recorded(f'mace_train/{case}')
        if 'model.json' in files:
            files[json.loads(files['model.json'])['file']] = b'weights'
        return files

    return read


def rows_of(files: dict[str, bytes]) -> dict[int, dict[str, float]]:
    rows = [json.loads(line) for line in files[RESULTS].splitlines()]
    return {row['epoch']: row for row in rows if row['mode'] == 'eval' and row['epoch'] is not None}


def test_finished(parse_retrieved: Make, trained: Make, inputs: dict[str, Any]) -> None:
    files = trained('finished')
    outputs, status, _ = parse_retrieved('mlip_al.mace_train', inputs, files)
    assert status == 0
    rows = rows_of(files)
    assert sorted(rows) == [0, 1, 2, 3]
    ended = json.loads(files['train.status.json'])
    report = outputs['report'].get_dict()
    errors = report.pop('errors')
    assert report == {
        'n_train': 6,
        'n_validation': 2,
        'epochs': 4,
        'chosen_epoch': 3,
        'mace': ended['mace'],
        'wall_s': ended['wall_s'],
        'core_s': ended['cpu_s'],
    }
    assert errors == pytest.approx(
        {
            'energy_mae': rows[3]['mae_e_per_atom'],
            'energy_rmse': rows[3]['rmse_e_per_atom'],
            'force_mae': rows[3]['mae_f'],
            'force_rmse': rows[3]['rmse_f'],
        },
        rel=1e-13,
    )
    metrics = outputs['metrics']
    np.testing.assert_array_equal(metrics.get_array('epoch'), [0, 1, 2, 3])
    np.testing.assert_array_equal(metrics.get_array('force_mae'), [rows[epoch]['mae_f'] for epoch in range(4)])
    np.testing.assert_array_equal(metrics.get_array('loss'), [rows[epoch]['loss'] for epoch in range(4)])


def test_model(parse_retrieved: Make, trained: Make, inputs: dict[str, Any]) -> None:
    files = trained('finished')
    model = parse_retrieved('mlip_al.mace_train', inputs, files).outputs['model']
    inside = json.loads(files['model.json'])
    assert model.get_content(mode='rb') == b'weights'
    assert model.elements == ['H', 'O']
    attributes = model.base.attributes
    assert attributes.get('architecture') == 'MACE'
    assert attributes.get('r_max') == 3.0
    assert attributes.get('n_parameters') == inside['n_parameters'] > 0
    assert attributes.get('dtype') == 'float32'
    assert attributes.get('seed') == 7
    assert attributes.get('trained_on') == 6
    assert attributes.get('epochs') == 4
    assert attributes.get('is_foundation') is False
    assert model.errors['force_mae'] == pytest.approx(rows_of(files)[3]['mae_f'], rel=1e-13)


def test_stress_errors(parse_retrieved: Make, trained: Make, inputs: dict[str, Any]) -> None:
    files = trained('stress')
    outputs, status, _ = parse_retrieved('mlip_al.mace_train', inputs, files)
    assert status == 0
    rows = rows_of(files)
    assert outputs['model'].errors['stress_mae'] == pytest.approx(rows[3]['mae_stress'], rel=1e-13)
    assert outputs['model'].errors['stress_rmse'] == pytest.approx(rows[3]['rmse_stress'], rel=1e-13)
    np.testing.assert_array_equal(outputs['metrics'].get_array('stress_mae'), [rows[n]['mae_stress'] for n in range(4)])


def test_stage_two_is_the_model(parse_retrieved: Make, trained: Make, inputs: dict[str, Any]) -> None:
    files = trained('stage_two')
    assert json.loads(files['model.json'])['file'] == 'mace_stagetwo.model'
    files['mace.model'] = b'stage one'
    outputs, status, _ = parse_retrieved('mlip_al.mace_train', inputs, files)
    assert status == 0
    assert outputs['model'].get_content(mode='rb') == b'weights'
    assert outputs['report']['chosen_epoch'] == chosen_epoch(files['logs/mace_run-7.log'].decode()) >= 2


def test_nan_is_found_although_maces_exit_status_is_zero(
    parse_retrieved: Make, trained: Make, inputs: dict[str, Any]
) -> None:
    files = trained('nan_loss')
    assert json.loads(files['train.status.json'])['finished'] is True
    outputs, status, message = parse_retrieved('mlip_al.mace_train', inputs, files)
    assert (status, message) == (311, 'The loss became NaN or infinite.')
    assert 'model' not in outputs
    assert outputs['report']['errors'] == {}


def test_model_with_nan(parse_retrieved: Make, trained: Make, inputs: dict[str, Any]) -> None:
    files = trained('finished')
    inside = {**json.loads(files['model.json']), 'finite': False}
    outputs, status, _ = parse_retrieved('mlip_al.mace_train', inputs, {**files, 'model.json': json.dumps(inside)})
    assert status == 312
    assert 'model' not in outputs


@pytest.mark.parametrize(
    ('case', 'expected', 'words'),
    [
        ('missing_element', 321, 'ValueError: np.int64(8) is not in list'),
        ('bad_keys', 322, "None of 'energy_of_nobody', 'forces_of_nobody', and 'dipole' found"),
        ('bad_arguments', 323, 'unrecognized arguments: --num_chanels=4'),
        ('out_of_memory', 313, 'Training ran out of memory.'),
    ],
)
def test_failures_that_the_output_names(
    parse_retrieved: Make, trained: Make, inputs: dict[str, Any], case: str, expected: int, words: str
) -> None:
    outputs, status, message = parse_retrieved('mlip_al.mace_train', inputs, trained(case))
    assert status == expected
    assert words in message
    assert 'model' not in outputs


def test_failure_that_it_does_not_name(parse_retrieved: Make, inputs: dict[str, Any]) -> None:
    error = json.dumps({'finished': False, 'error': 'OSError: No space left on device'})
    _, status, message = parse_retrieved('mlip_al.mace_train', inputs, {'train.status.json': error})
    assert (status, message) == (310, 'The runner stopped: OSError: No space left on device')


@pytest.mark.parametrize('case', ['killed', 'terminated'])
@pytest.mark.parametrize(('scheduler', 'expected'), [(None, 400), (120, 120), (110, 110)])
def test_stopped_training_keeps_its_learning_curve(
    parse_retrieved: Make, trained: Make, inputs: dict[str, Any], case: str, scheduler: int | None, expected: int
) -> None:
    files = trained(case)
    outputs, status, _ = parse_retrieved('mlip_al.mace_train', inputs, files, scheduler)
    assert status == expected
    assert outputs['metrics'].get_array('epoch').tolist() == sorted(rows_of(files))
    assert outputs['report']['epochs'] == len(rows_of(files))
    assert outputs['report']['chosen_epoch'] is None
    assert 'model' not in outputs


def test_killed_before_the_first_epoch(parse_retrieved: Make, inputs: dict[str, Any]) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.mace_train', inputs, {'train.out': 'begins\n'})
    assert status == 400
    assert set(outputs) == {'report'}, 'without a learning curve there is no checkpoint to go on from'


@pytest.mark.parametrize('spoil', ['no model file', 'no model.json', 'cut model.json', 'empty results', 'log not done'])
def test_no_model(parse_retrieved: Make, trained: Make, inputs: dict[str, Any], spoil: str) -> None:
    files = trained('finished')
    log = 'logs/mace_run-7.log'
    if spoil == 'no model file':
        del files['mace.model']
    elif spoil == 'no model.json':
        del files['model.json']
    elif spoil == 'cut model.json':
        files['model.json'] = files['model.json'][:30]
    elif spoil == 'empty results':
        files.update({RESULTS: b'', log: b'', 'train.out': b'', 'model.json': b''})
    elif spoil == 'log not done':
        files[log] = files[log][: -len('Done\n')]
    outputs, status, message = parse_retrieved('mlip_al.mace_train', inputs, files)
    assert status == 301
    assert message.startswith('Training wrote no model: ')
    assert 'model' not in outputs
    if spoil == 'log not done':
        assert message == 'Training wrote no model: the log does not end with `Done`.'


class TestResults:
    """The learning curve as mace_run-*_train.txt has it."""

    @staticmethod
    def line(epoch: int | None, mode: str = 'eval', **values: Any) -> str:
        return json.dumps({'mode': mode, 'epoch': epoch, **values}) + '\n'

    def test_only_evaluations_after_an_epoch_count(self) -> None:
        text = self.line(None, loss=9.0, mae_f=9.0) + self.line(0, 'opt', loss=5.0) + self.line(0, loss=1.0, mae_f=0.5)
        assert parse_results(text) == LearningCurve([0], {'loss': [1.0], 'force_mae': [0.5]}, True)

    def test_the_last_row_of_an_epoch_counts(self) -> None:
        text = self.line(0, loss=1.0) + self.line(1, loss=0.5) + self.line(1, loss=0.4) + self.line(2, loss=0.3)
        assert parse_results(text).metrics == {'loss': [1.0, 0.4, 0.3]}

    def test_rows_of_the_replayed_frames_do_not_count(self) -> None:
        text = self.line(0, loss=1.0, mae_f=0.1, head='Default') + self.line(0, loss=9.0, mae_f=0.9, head='pt_head')
        assert parse_results(text).metrics == {'loss': [1.0], 'force_mae': [0.1]}

    @pytest.mark.parametrize('cut', range(1, 20))
    def test_a_cut_last_line_is_left_out(self, cut: int) -> None:
        text = self.line(0, loss=1.0) + self.line(1, loss=0.5)
        assert parse_results(text[:-cut]).epochs == ([0, 1] if cut == 1 else [0])

    @pytest.mark.parametrize('loss', ['NaN', 'Infinity', '-Infinity'])
    @pytest.mark.parametrize('mode', ['opt', 'eval'])
    def test_loss_that_is_not_finite(self, loss: str, mode: str) -> None:
        assert parse_results(self.line(0, loss=1.0)).finite
        assert not parse_results(f'{{"mode": "{mode}", "epoch": 0, "loss": {loss}}}\n' + self.line(1, loss=1.0)).finite

    def test_metric_that_was_not_computed(self) -> None:
        curve = parse_results(self.line(0, loss=1.0, mae_stress=None) + self.line(1, loss=1.0, mae_stress=0.1))
        assert math.isnan(curve.metrics['stress_mae'][0])
        assert curve.metrics['stress_mae'][1] == 0.1
        assert 'stress_mae' not in parse_results(self.line(0, loss=1.0, mae_stress=None)).metrics

    def test_nothing(self) -> None:
        assert parse_results('') == LearningCurve([], {}, True)

    def test_errors_of_the_chosen_epoch(self) -> None:
        curve = LearningCurve([0, 2, 4], {'loss': [1.0, 2.0, 3.0], 'force_mae': [0.1, 0.2, math.nan]}, True)
        assert errors_at(curve, 2) == {'force_mae': 0.2}
        assert errors_at(curve, None) == errors_at(curve, 4) == {}
        assert errors_at(LearningCurve([], {}, True), 1) == {}


def test_log() -> None:
    log = (
        'x INFO: Loaded Stage one model from epoch 5 for evaluation\nx INFO: Loaded Stage two model from epoch 12 for\n'
    )
    assert chosen_epoch(log) == 12
    assert chosen_epoch('') is None
    assert is_done('INFO: Done\n\n')
    assert not is_done('INFO: Done\nINFO: Epoch 3')
    assert not is_done('')
