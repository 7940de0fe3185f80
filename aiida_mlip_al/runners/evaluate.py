"""Evaluate a committee of MACE models on datasets.

In: evaluate.json, model files, or one and its uncertainty, extended XYZ files. Out: evaluation_<name>.npz for each dataset,
evaluate.status.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import status as runner
import torch
from ase import Atoms
from committee import Committee, Prediction
from frames import read_structures
from virtual_committee import open_committee

_DEFAULTS: dict[str, Any] = {
    'dtype': 'float32',
    'device': 'cpu',
    'batch_size': 16,
    'descriptors': None,
    'splits': None,
    'head': None,
    'uncertainty': None,
}


def evaluate(config: runner.Config, status: dict[str, Any]) -> None:
    """Write every member's energies, forces and stresses on every dataset.

    `evaluation_<name>.npz`: n_atoms (N,), energies (K, N), forces (K, all atoms, 3), stresses (K, N, 6) with NaN where
    a frame is not periodic in three directions, descriptors (N, D) where asked for, and mahalanobis (N,) of one model with
    an uncertainty.

    :param config: `models`, `datasets` {name: file}, `dtype`, `device`, `batch_size`, `descriptors` (features or gradient;
        null: none), `splits` (of the frames to evaluate, by their info `split`; null: all), `head`, `uncertainty` (of the
        only model; null: the models are the members).
    :param status: receives `n_frames` of every dataset that is done, and versions.
    """
    unknown = set(config) - set(_DEFAULTS) - {'models', 'datasets'}
    if unknown:
        raise ValueError(f'evaluate.json has unknown keys: {", ".join(sorted(unknown))}.')
    settings = {**_DEFAULTS, **config}
    wanted = settings['splits']
    datasets = {
        name: [frame for frame in read_structures(file) if wanted is None or frame.info.get('split', 'train') in wanted]
        for name, file in settings.get('datasets', {}).items()
    }
    datasets = {name: frames for name, frames in datasets.items() if frames}
    if not datasets:
        raise ValueError('datasets must name at least one extended XYZ file.')
    committee = open_committee(
        settings.get('models', []),
        settings['uncertainty'],
        settings['dtype'],
        settings['device'],
        settings['head'],
        settings['descriptors'] or 'features',
    )
    status['versions'].update(runner.versions('torch', 'mace'))
    status['n_frames'] = {}
    for name, frames in datasets.items():
        committee.check_elements(frames)
        arrays = evaluate_frames(committee, frames, settings['batch_size'], settings['descriptors'] is not None)
        np.savez(f'evaluation_{name}.npz', **arrays)  # type: ignore[arg-type]
        status['n_frames'][name] = len(frames)


def evaluate_frames(
    committee: Committee, frames: Sequence[Atoms], batch_size: int, descriptors: bool
) -> dict[str, np.ndarray]:
    """Evaluate frames batch by batch.

    :param committee: K models.
    :param frames: N frames.
    :param batch_size: frames in a batch; halved where the device's memory is too small.
    :param descriptors: also compute descriptors.
    :returns: the arrays of `evaluate`.
    """
    parts: list[Prediction] = []
    for begin in range(0, len(frames), batch_size):
        parts += _predict(committee, frames[begin : begin + batch_size], descriptors)
    arrays = {
        'n_atoms': np.array([len(frame) for frame in frames]),
        'energies': np.concatenate([part.energies for part in parts], axis=1),
        'forces': np.concatenate([part.forces for part in parts], axis=1),
        'stresses': np.concatenate([part.stresses for part in parts if part.stresses is not None], axis=1),
    }
    if descriptors:
        arrays['descriptors'] = np.concatenate([part.descriptors for part in parts if part.descriptors is not None])
    distances = [part.mahalanobis for part in parts if part.mahalanobis is not None]
    if distances:
        arrays['mahalanobis'] = np.concatenate(distances)
    return arrays


def _predict(committee: Committee, frames: Sequence[Atoms], descriptors: bool) -> list[Prediction]:
    try:
        return [committee.predict(frames, stress=True, descriptors=descriptors)]
    except torch.cuda.OutOfMemoryError:
        if len(frames) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(frames) // 2
    return _predict(committee, frames[:half], descriptors) + _predict(committee, frames[half:], descriptors)


if __name__ == '__main__':
    runner.run(evaluate)
