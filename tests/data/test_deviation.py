"""DeviationData: one row a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import QueryBuilder, load_node

from aiida_mlip_al.data import DeviationData


def arrays(maximum: Any) -> dict[str, np.ndarray]:
    maximum = np.asarray(maximum, dtype=float)
    return {
        'max_force_deviation': maximum,
        'mean_force_deviation': maximum / 2,
        'min_force_deviation': maximum / 4,
        'energy_deviation_per_atom': maximum / 100,
    }


def test_comes_back_from_the_database() -> None:
    given = {**arrays([0.1, 0.3, 0.2]), 'step': np.array([0, 10, 20]), 'descriptors': np.eye(3, 5, dtype=np.float32)}
    node = load_node(DeviationData.from_arrays(given, stopped_early=False, stop_reason='finished').store().pk)
    assert set(node.get_arraynames()) == set(given)
    for name, array in given.items():
        np.testing.assert_array_equal(node.get(name), array)
        assert node.get(name).dtype == array.dtype
    np.testing.assert_array_equal(node.max_force_deviation, [0.1, 0.3, 0.2])
    assert node.get('max_force_error') is None
    assert node.n_frames == 3
    assert node.base.attributes.get('stop_reason') == 'finished'


def test_quantiles() -> None:
    node = DeviationData.from_arrays(arrays(np.linspace(0, 1, 101)))
    assert node.base.attributes.get('max') == 1.0
    expected = {'0.05': 0.05, '0.25': 0.25, '0.50': 0.5, '0.75': 0.75, '0.95': 0.95}
    assert node.base.attributes.get('quantiles') == pytest.approx(expected)


def test_frames_that_are_not_finite_do_not_count() -> None:
    node = DeviationData.from_arrays(arrays([0.1, np.nan, 0.4, np.inf])).store()
    assert node.n_frames == 4
    assert node.base.attributes.get('max') == 0.4
    lonely = DeviationData.from_arrays(arrays([np.nan])).store()
    assert lonely.base.attributes.get('max') is None
    assert lonely.base.attributes.get('quantiles') == {}


@pytest.mark.parametrize('name', DeviationData.REQUIRED)
def test_refuses_a_missing_array(name: str) -> None:
    given = arrays([0.1])
    del given[name]
    with pytest.raises(ValueError, match=rf'^A deviation needs the array `{name}`\.'):
        DeviationData.from_arrays(given)


def test_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match=r"one row a frame, but their lengths are .*'step': 3"):
        DeviationData.from_arrays({**arrays([0.1, 0.2]), 'step': np.arange(3)})


def test_changed_arrays_are_not_stored() -> None:
    node = DeviationData.from_arrays(arrays([0.1, 0.2]))
    node.set_array('step', np.arange(3))
    with pytest.raises(ValidationError, match='one row a frame'):
        node.store()
    with pytest.raises(ValidationError, match='needs the array `max_force_deviation`'):
        DeviationData().store()


def test_equal_content_has_equal_hashes() -> None:
    def hash_of(values: list[float], **attributes: Any) -> str:
        return str(DeviationData.from_arrays(arrays(values), **attributes).store().base.caching.get_hash())

    assert hash_of([0.1, 0.2]) == hash_of([0.1, 0.2])
    assert len({hash_of([0.1, 0.2]), hash_of([0.2, 0.1]), hash_of([0.1, 0.2], stop_reason='killed')}) == 3


def test_queried_by_attributes() -> None:
    node = DeviationData.from_arrays(arrays([0.1, 0.9]), stop_reason='queried').store()
    DeviationData.from_arrays(arrays([0.1, 0.2]), stop_reason='queried').store()
    query = QueryBuilder().append(
        DeviationData, filters={'attributes.stop_reason': 'queried', 'attributes.max': {'>': 0.5}}, project='uuid'
    )
    assert query.all(flat=True) == [node.uuid]
