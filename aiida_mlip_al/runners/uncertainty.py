"""Learn from the training frames how far they fix the last layer of a MACE model.

In: uncertainty.json, a model file, extended XYZ files. Out: uncertainty.npz, uncertainty.status.json.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import status as runner
from ase import Atoms
from frames import read_structures
from last_layer_model import LastLayerModel
from rigidity import DistanceFit, fit_posterior, orthonormal

_DEFAULTS: dict[str, Any] = {
    'device': 'cpu',
    'head': None,
    'batch_size': 16,
    'samples': 16,
    'seed': 0,
    'regularisation': None,
}
REGULARISATIONS = tuple(10.0**power for power in range(-8, -1))
_ROWS_PER_FEATURE = 10


def learn(config: runner.Config, status: dict[str, Any]) -> None:
    """Write what :class:`virtual_committee.VirtualCommittee` needs.

    `uncertainty.npz`: displacements (K, P) of the last layer's weights, factor (P, P) of their covariance, means (E, P) and
    whitenings (E, P, P) of the Mahalanobis distance. The covariance is of the training frames' forces, regularisation and scale
    are the likeliest for the errors of the validation frames' forces; both see the forces of a frame along a few random
    directions, as many as it takes for 10 numbers a feature, and along all where that is less.

    :param config: `model`, `datasets` {name: file} with info `split` and the `REF_forces`, `samples` (K; null: all), `seed`
        of the random directions, `regularisation` (null: the likeliest), `device`, `head`, `batch_size`.
    :param status: receives `n_features`, `n_train`, `n_validation`, `regularisation`, `alpha`, `log_likelihood`, versions.
    """
    unknown = set(config) - set(_DEFAULTS) - {'model', 'datasets'}
    if unknown:
        raise ValueError(f'uncertainty.json has unknown keys: {", ".join(sorted(unknown))}.')
    settings = {**_DEFAULTS, **config}
    frames: dict[str, list[Atoms]] = {'train': [], 'validation': []}
    for file in settings.get('datasets', {}).values():
        for frame in read_structures(file):
            frames.get(frame.info.get('split', 'train'), []).append(frame)
    for split, found in frames.items():
        if not found:
            raise ValueError(f'no frame of the datasets has the split `{split}`, and an uncertainty needs both.')
    model = LastLayerModel(settings['model'], 'float64', settings['device'], settings['head'])
    model.check_elements([*frames['train'], *frames['validation']])
    status['versions'].update(runner.versions('torch', 'mace'))
    rng = np.random.default_rng(settings['seed'])
    covariance = np.zeros((model.n_features, model.n_features))
    distance = DistanceFit(len(model.elements), model.n_features)
    for batch in _batches(frames['train'], settings['batch_size']):
        distance.add(*model.features(batch))
        rows = np.concatenate([rows for rows, _ in force_rows(model, batch, len(frames['train']), rng)])
        covariance += rows.T @ rows
    held_out = [
        part
        for batch in _batches(frames['validation'], settings['batch_size'])
        for part in force_rows(model, batch, len(frames['validation']), rng)
    ]
    choice = REGULARISATIONS if settings['regularisation'] is None else (settings['regularisation'],)
    rows, errors = (np.concatenate(parts) for parts in zip(*held_out, strict=True))
    posterior = fit_posterior(covariance, rows, errors, choice)
    means, whitenings = distance.result()
    displacements = posterior.displacements(settings['samples'], rng)
    np.savez(
        'uncertainty.npz', displacements=displacements, factor=posterior.factor, means=means, whitenings=whitenings
    )
    status.update(
        n_features=model.n_features,
        n_samples=len(displacements),
        n_train=len(frames['train']),
        n_validation=len(frames['validation']),
        regularisation=posterior.regularisation,
        alpha=posterior.alpha,
        log_likelihood=posterior.log_likelihood,
    )


def force_rows(
    model: LastLayerModel, frames: Sequence[Atoms], n_frames: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each frame's forces along random orthonormal directions z: features of F·z, and errors of F·z.

    A frame with n atoms has m <= 3n directions; rows and errors carry the factor sqrt(3n/m), so that the mean of rowsᵀrows over
    draws is that of all 3n components.

    :param model: with P features.
    :param frames: labelled, of one batch.
    :param n_frames: number of frames in all: the fewer, the more directions of each.
    :param rng: source of the directions.
    :returns: for each frame (m, P) in eV/Å and (m,) in eV/Å.
    """
    wanted = math.ceil(_ROWS_PER_FEATURE * model.n_features / n_frames)
    sizes = [3 * len(frame) for frame in frames]
    directions = [orthonormal(size, min(wanted, size), rng) * math.sqrt(size / min(wanted, size)) for size in sizes]
    n_most = max(basis.shape[1] for basis in directions)
    padded = [np.pad(basis, ((0, 0), (0, n_most - basis.shape[1]))) for basis in directions]
    probes = np.concatenate(padded).T.reshape(n_most, -1, 3)
    slopes = model.derivatives(frames, list(probes))
    prediction = model.predict(frames)
    found = []
    for index, (frame, basis) in enumerate(zip(frames, directions, strict=True)):
        error = prediction.forces_of(index)[0] - frame.arrays['REF_forces']
        found.append((-slopes[: basis.shape[1], index], basis.T @ error.ravel()))
    return found


def _batches(frames: Sequence[Atoms], size: int) -> Iterator[Sequence[Atoms]]:
    for begin in range(0, len(frames), size):
        yield frames[begin : begin + size]


if __name__ == '__main__':
    runner.run(learn)
