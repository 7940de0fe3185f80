"""Splits: decided at random once, with the fraction that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiida_mlip_al.selection.splits import assign_splits, missing_validation, validate_split


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize('name', ['train', 'validation', 'test'])
def test_a_name_is_for_all(name: str) -> None:
    assert assign_splits(3, {'name': name}, rng()) == [name] * 3


def test_whole_fraction_is_exact() -> None:
    for seed in range(20):
        assert assign_splits(20, {'validation_fraction': 0.25}, rng(seed)).count('validation') == 5


def test_nothing_is_held_out_of_nothing() -> None:
    assert assign_splits(0, {'validation_fraction': 0.5}, rng()) == []
    assert assign_splits(50, {'validation_fraction': 0.0}, rng()) == ['train'] * 50


def test_many_small_rounds_keep_the_fraction() -> None:
    generator = rng(1)
    counts = [assign_splits(4, {'validation_fraction': 0.1}, generator).count('validation') for _ in range(4000)]
    assert set(counts) == {0, 1}
    assert np.mean(counts) == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize('n_frames', [2, 3, 6])
def test_a_frame_to_begin_with_is_held_out_where_chance_held_out_none(n_frames: int) -> None:
    settings = {'validation_fraction': 0.15}
    chosen = [missing_validation(['train'] * n_frames, settings, rng(seed)) for seed in range(60)]
    assert set(chosen) == set(range(n_frames))
    assert chosen == [missing_validation(['train'] * n_frames, settings, rng(seed)) for seed in range(60)]
    for splits, other in (
        (['train', 'validation'], settings),
        (['train'], settings),
        ([], settings),
        (['train'] * 9, {'validation_fraction': 0.0}),
        (['test'] * 9, {'name': 'test'}),
    ):
        assert missing_validation(splits, other, rng()) is None


def test_every_frame_has_the_same_chance() -> None:
    generator = rng(2)
    held_out = np.zeros(10)
    for _ in range(4000):
        held_out += [split == 'validation' for split in assign_splits(10, {'validation_fraction': 0.3}, generator)]
    np.testing.assert_allclose(held_out / 4000, 0.3, atol=0.04)


def test_equal_seeds_give_equal_splits() -> None:
    settings = {'validation_fraction': 0.3}
    assert assign_splits(30, settings, rng(5)) == assign_splits(30, settings, rng(5))
    assert assign_splits(30, settings, rng(5)) != assign_splits(30, settings, rng(6))


@pytest.mark.parametrize('settings', [{'name': 'test'}, {'validation_fraction': 0}, {'validation_fraction': 0.99}])
def test_accepted(settings: dict[str, Any]) -> None:
    assert validate_split(settings) is None


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'name': 'dev'},
        {'validation_fraction': 1.0},
        {'validation_fraction': -0.1},
        {'validation_fraction': 'some'},
        {'name': 'test', 'validation_fraction': 0.1},
    ],
)
def test_refused(settings: dict[str, Any]) -> None:
    assert validate_split(settings) == (
        f'Give either `name` (train, validation, test) or `validation_fraction` (from 0 to below 1), not {settings}.'
    )
