"""Which frames are trained on and which are held out: decided once for each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SPLIT_NAMES = ('train', 'validation', 'test')


def validate_split(settings: Mapping[str, Any]) -> str | None:
    """Return one sentence if the settings are neither a split's name nor a fraction for validation."""
    if set(settings) == {'name'} and settings['name'] in SPLIT_NAMES:
        return None
    fraction = settings.get('validation_fraction')
    if set(settings) == {'validation_fraction'} and isinstance(fraction, (int, float)) and 0 <= fraction < 1:
        return None
    return f'Give either `name` ({", ".join(SPLIT_NAMES)}) or `validation_fraction` (from 0 to below 1), not {dict(settings)}.'


def assign_splits(n_frames: int, settings: Mapping[str, Any], rng: np.random.Generator) -> list[str]:
    """Give every frame its split.

    With ``validation_fraction`` f, n·f frames are held out, drawn at random; a fractional part is rounded up or down at
    random with that probability, so that many small rounds keep the fraction.

    :param settings: ``name`` of the split of all frames, or ``validation_fraction``.
    """
    if 'name' in settings:
        return [settings['name']] * n_frames
    expected = n_frames * settings['validation_fraction']
    n_held_out = min(n_frames, int(expected + rng.random()))
    held_out = set(rng.permutation(n_frames)[:n_held_out].tolist())
    return ['validation' if index in held_out else 'train' for index in range(n_frames)]


def missing_validation(splits: Sequence[str], settings: Mapping[str, Any], rng: np.random.Generator) -> int | None:
    """Return which frame to hold out too where a fraction has held out none of at least two, or None.

    :param splits: of all frames that a run begins with; training cannot do without validation.
    :param settings: by which they were assigned.
    """
    if not settings.get('validation_fraction') or len(splits) < 2 or 'validation' in splits:
        return None
    return int(rng.integers(len(splits)))
