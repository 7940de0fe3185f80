"""Last-layer prediction rigidity (LLPR): how far the weights of the last layer are fixed by the training data.

Bigi, Chong, Ceriotti and Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024), arXiv:2403.02251. A model that is linear in
P features has, given rows F (R, P) of features of its training targets, weights of covariance alpha² (FᵀF + s² I)⁻¹, and a
prediction with the features f has the variance alpha² fᵀ (FᵀF + s² I)⁻¹ f. The features of a force are minus the derivatives of
those of the energy. With all weights of a network for those of its last layer, and the covariance that a Kalman optimiser
arrives at, this is PWMLFF's Kalman prediction uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_VANISHING = 1e-13  # squared length of a row that is rounding alone, in units of the mean eigenvalue of FᵀF
_SHRINKAGE = 1e-3  # of the distance's covariances, in units of their mean eigenvalue


def orthonormal(n: int, k: int, rng: np.random.Generator) -> Floats:
    """Return k <= n random orthonormal columns (n, k), and the axes where k is n.

    :param n: dimensions.
    :param k: columns.
    :param rng: source of randomness.
    """
    return np.eye(n) if k == n else np.linalg.qr(rng.normal(size=(n, k)))[0]


@dataclass(frozen=True)
class Posterior:
    """The covariance factor @ factor.T of the last layer's weights.

    :param factor: (P, P), with alpha in it.
    :param regularisation: s², in units of the mean eigenvalue of FᵀF.
    :param alpha: the scale.
    :param log_likelihood: mean log-likelihood of the held-out rows' errors.
    """

    factor: Floats
    regularisation: float
    alpha: float
    log_likelihood: float

    def variance(self, rows: Floats) -> Floats:
        """Return the variance (R,) of predictions.

        :param rows: their features (R, P).
        """
        return np.square(rows @ self.factor).sum(axis=1)

    def displacements(self, samples: int | None, rng: np.random.Generator) -> Floats:
        """Return changes (K, P) of the weights that make of one model a committee with these deviations.

        The model itself and the K changed ones are K + 1 members: their mean is the model, because the changes sum to zero, and
        the population variance over them is the posterior's, in the mean over draws. The changes are the corners of a
        simplex in a random subspace of K - 1 dimensions; in all P dimensions the variance is exact.

        :param samples: K, at least 2; None, or more than P + 1: P + 1, the exact variance.
        :param rng: source of the random directions.
        """
        n_features = len(self.factor)
        n_draws = n_features + 1 if samples is None else min(samples, n_features + 1)
        n_directions = n_draws - 1
        directions = orthonormal(n_features, n_directions, rng)
        centred = np.column_stack([np.ones(n_draws), rng.normal(size=(n_draws, n_directions))])
        simplex = np.linalg.qr(centred)[0][:, 1:]
        return np.sqrt((n_draws + 1) * n_features / n_directions) * simplex @ (self.factor @ directions).T


def fit_posterior(
    covariance: Floats, rows: Floats, errors: Floats, regularisations: Floats | tuple[float, ...]
) -> Posterior:
    """Return the posterior with the regularisation and alpha under which held-out errors are likeliest.

    alpha² is the mean of error² / variance, which maximises the likelihood of independent normal errors. Rows that vanish, as those
    of an isolated atom or a perfect crystal do by symmetry, have no variance and are left out.

    :param covariance: FᵀF (P, P) of the training rows.
    :param rows: (R, P) features of held-out targets.
    :param errors: (R,) errors of the model on them.
    :param regularisations: values of s² to choose from, in units of the mean eigenvalue of FᵀF.
    :raises ValueError: if the covariance is not finite or zero, or all rows vanish.
    """
    if not np.isfinite(covariance).all() or np.trace(covariance) <= 0:
        raise ValueError('The features of the last layer are not finite, or zero for all training frames.')
    values, vectors = np.linalg.eigh(covariance)
    values = np.clip(values, 0, None)
    told = np.square(rows).sum(axis=1) > _VANISHING * values.mean()
    if not told.any():
        raise ValueError('The forces of all validation frames vanish by symmetry: hold out frames that have forces.')
    rows, errors = rows[told], errors[told]
    rotated = np.square(rows @ vectors)
    best: Posterior | None = None
    for regularisation in regularisations:
        inverse = 1 / (values + regularisation * values.mean())
        variance = rotated @ inverse
        alpha = float(np.sqrt(np.mean(errors**2 / variance)))
        likelihood = float(-0.5 * (np.log(2 * np.pi * variance).mean() + 1) - np.log(alpha))
        if best is None or likelihood > best.log_likelihood:
            best = Posterior(alpha * vectors * np.sqrt(inverse), float(regularisation), alpha, likelihood)
    assert best is not None
    return best


class DistanceFit:
    """Gathers what a :class:`FeatureDistance` is made of.

    :param n_elements: E.
    :param n_features: P.
    """

    def __init__(self, n_elements: int, n_features: int) -> None:
        self._counts = np.zeros(n_elements)
        self._sums = np.zeros((n_elements, n_features))
        self._products = np.zeros((n_elements, n_features, n_features))

    def add(self, features: Floats, species: NDArray[np.int64]) -> None:
        """Add atoms.

        :param features: (N, P).
        :param species: (N,) indices of the elements.
        """
        for element in np.unique(species):
            own = features[species == element]
            self._counts[element] += len(own)
            self._sums[element] += own.sum(axis=0)
            self._products[element] += own.T @ own

    def result(self) -> tuple[Floats, Floats]:
        """Return means (E, P) and whitenings (E, P, P).

        A small part of the mean variance of all features is added to all, so that no distance is infinite.
        """
        counts = np.maximum(self._counts, 1)
        means = self._sums / counts[:, None]
        covariances = self._products / counts[:, None, None] - np.einsum('ep,eq->epq', means, means)
        values, vectors = np.linalg.eigh(covariances)
        values = np.clip(values, 0, None)
        floor = _SHRINKAGE * np.average(values.mean(axis=1), weights=counts)
        return means, vectors / np.sqrt(values + floor)[:, None, :]


class FeatureDistance:
    """Mahalanobis distance of an atom's features to those of the training atoms of its element.

    One normal distribution for each element, as one for each class in Lee, Lee, Lee and Shin, NeurIPS 2018, arXiv:1807.03888.

    :param means: (E, P) of every element.
    :param whitenings: (E, P, P); distances are lengths after a product with them.
    """

    def __init__(self, means: Floats, whitenings: Floats) -> None:
        self._means, self._whitenings = means, whitenings

    def __call__(self, features: Floats, species: NDArray[np.int64]) -> Floats:
        """Return the distances (N,).

        :param features: (N, P).
        :param species: (N,) indices of the elements.
        """
        distances = np.empty(len(features))
        for element in np.unique(species):
            own = species == element
            lengths = (features[own] - self._means[element]) @ self._whitenings[element]
            distances[own] = np.linalg.norm(lengths, axis=1)
        return distances
