"""ExploreParser: every frame comes with the committee's deviation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Make = Callable[..., Any]


def test_finished(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    files = recorded('explore/finished')
    outputs, status, _ = parse_retrieved('mlip_al.explore', dynamics_inputs, files)
    assert status == 0
    assert sorted(outputs['trajectories']) == sorted(outputs['deviations']) == ['walker_00', 'walker_01']
    records = [json.loads(line) for line in files['walker_01.jsonl'].splitlines()][:-1]
    deviation = outputs['deviations']['walker_01']
    assert deviation.n_frames == outputs['trajectories']['walker_01'].numsteps == len(records) == 2
    np.testing.assert_array_equal(deviation.get_array('step'), [10, 20])
    for name in ('time_fs', 'temperature_K', 'target_temperature_K', 'energy', 'max_force', *deviation.REQUIRED):
        np.testing.assert_array_equal(deviation.get_array(name), [record[name] for record in records])
    descriptors = [record['descriptor'] for record in records]
    np.testing.assert_array_equal(deviation.get_array('descriptors'), np.array(descriptors, dtype=np.float32))
    assert deviation.base.attributes.get('stopped_early') is False
    assert deviation.base.attributes.get('stop_reason') == 'finished'


def test_upper_level(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    """The frame that stopped the walker is there: it is the one to learn from."""
    outputs, status, _ = parse_retrieved('mlip_al.explore', dynamics_inputs, recorded('explore/upper_level'))
    assert status == 0
    assert outputs['report']['ends'] == {'upper_level': 2}
    assert 'above the upper level of 0.001 eV/Å' in outputs['report']['messages']['walker_00']
    deviation = outputs['deviations']['walker_00']
    assert deviation.max_force_deviation[-1] > 0.001
    assert deviation.base.attributes.get('stopped_early') is True
    assert deviation.base.attributes.get('stop_reason') == 'upper_level'


@pytest.mark.parametrize(('scheduler', 'expected'), [(None, 400), (120, 120), (110, 110)])
def test_killed_job_keeps_its_frames(
    parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any], scheduler: int | None, expected: int
) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.explore', dynamics_inputs, recorded('explore/killed'), scheduler)
    assert status == expected
    for walker in ('walker_00', 'walker_01'):
        deviation = outputs['deviations'][walker]
        assert deviation.n_frames == outputs['trajectories'][walker].numsteps >= 1
        assert deviation.base.attributes.get('stop_reason') == 'killed'
        assert deviation.base.attributes.get('stopped_early') is True


def test_walker_without_a_frame_is_left_out(
    parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]
) -> None:
    files = recorded('explore/finished')
    files['walker_00.xyz'] = b''
    files['walker_00.jsonl'] = b'{"end": "too_close", "step": 0, "message": "atoms 0 and 1 are 0.1 apart."}\n'
    outputs, status, _ = parse_retrieved('mlip_al.explore', dynamics_inputs, files)
    assert status == 0
    assert list(outputs['deviations']) == ['walker_01']
    assert outputs['report']['ends'] == {'too_close': 1, 'finished': 1}


def test_energy_of_the_bias(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    files = recorded('explore/finished')
    plain = parse_retrieved('mlip_al.explore', dynamics_inputs, dict(files)).outputs['deviations']['walker_00']
    assert plain.get('bias_energy') is None
    *records, end = [json.loads(line) for line in files['walker_00.jsonl'].splitlines()]
    biased = [{**record, 'bias_energy': 0.1 * index} for index, record in enumerate(records)]
    files['walker_00.jsonl'] = ''.join(json.dumps(line) + '\n' for line in [*biased, end]).encode()
    deviation = parse_retrieved('mlip_al.explore', dynamics_inputs, files).outputs['deviations']['walker_00']
    np.testing.assert_allclose(deviation.get_array('bias_energy'), [0.0, 0.1])
    np.testing.assert_array_equal(deviation.get_array('energy'), plain.get_array('energy'))


def test_without_descriptors_and_target(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    files = recorded('explore/finished')
    for walker in ('walker_00.jsonl', 'walker_01.jsonl'):
        records = [json.loads(line) for line in files[walker].splitlines()]
        for record in records:
            record.pop('descriptor', None)
            record.pop('target_temperature_K', None)
        files[walker] = ''.join(json.dumps(record) + '\n' for record in records).encode()
    deviation = parse_retrieved('mlip_al.explore', dynamics_inputs, files).outputs['deviations']['walker_00']
    assert deviation.get('descriptors') is None
    assert np.isnan(deviation.get_array('target_temperature_K')).all()


def test_nothing_left(parse_retrieved: Make, recorded: Make, dynamics_inputs: dict[str, Any]) -> None:
    assert parse_retrieved('mlip_al.explore', dynamics_inputs, {}).status == 400
    status = recorded('explore/finished')['explore.status.json']
    outcome = parse_retrieved('mlip_al.explore', dynamics_inputs, {'explore.status.json': status})
    assert (outcome.status, outcome.message) == (300, 'The job left no results: it printed nothing.')
    error = json.dumps({'finished': False, 'error': 'model_01.model knows other elements.'})
    outcome = parse_retrieved('mlip_al.explore', dynamics_inputs, {'explore.status.json': error})
    assert (outcome.status, outcome.message) == (310, 'The runner stopped: model_01.model knows other elements.')
