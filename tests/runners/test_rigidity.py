"""Last-layer prediction rigidity against Bayesian linear regression written out, and the distance against its formula."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_posterior_is_that_of_bayesian_linear_regression(rng) -> None:
    from rigidity import fit_posterior

    # y = X w + noise of variance v, w normal with variance t: covariance of w given y is (XᵀX / v + I / t)⁻¹.
    features, noise, prior = rng.normal(size=(50, 6)), 0.04, 2.0
    exact = np.linalg.inv(features.T @ features / noise + np.eye(6) / prior)
    covariance = features.T @ features
    regularisation = noise / prior / (np.trace(covariance) / 6)
    rows = rng.normal(size=(40, 6))
    errors = rng.normal(size=40)
    posterior = fit_posterior(covariance, rows, errors, (regularisation,))
    shape = posterior.factor @ posterior.factor.T / posterior.alpha**2 * noise
    assert shape == pytest.approx(exact, rel=1e-9)
    assert posterior.variance(rows) == pytest.approx(np.diag(rows @ exact @ rows.T) / noise * posterior.alpha**2)
    # alpha makes the held-out errors as large as they are said to be
    assert np.mean(errors**2 / posterior.variance(rows)) == pytest.approx(1)
    normal = -0.5 * (errors**2 / posterior.variance(rows) + np.log(2 * np.pi * posterior.variance(rows)))
    assert posterior.log_likelihood == pytest.approx(normal.mean())


def test_likeliest_regularisation_is_that_of_the_data(rng) -> None:
    from rigidity import fit_posterior

    scales, noise = np.logspace(0, -2, 20), 0.1
    features = rng.normal(size=(25, 20)) * scales
    covariance = features.T @ features
    held_out = rng.normal(size=(30, 20)) * scales
    errors = []
    for _ in range(100):  # weights from a normal prior of variance 1, fitted to noisy data
        weights = rng.normal(size=20)
        targets = features @ weights + noise * rng.normal(size=25)
        fitted = np.linalg.solve(covariance + noise**2 * np.eye(20), features.T @ targets)
        errors.append(held_out @ (fitted - weights))
    unit = np.trace(covariance) / 20
    choice = tuple(noise**2 / unit * factor for factor in (1e-4, 1e-2, 1, 1e2, 1e4))
    posterior = fit_posterior(covariance, np.tile(held_out, (100, 1)), np.concatenate(errors), choice)
    assert posterior.regularisation == choice[2]
    assert posterior.alpha == pytest.approx(noise, rel=0.1)


def test_displacements_have_the_posterior_variance(rng) -> None:
    from rigidity import Posterior

    posterior = Posterior(rng.normal(size=(5, 5)), 0.0, 1.0, 0.0)
    rows = rng.normal(size=(30, 5))
    for samples in (None, 6, 100):
        exact = posterior.displacements(samples, rng)
        assert exact.shape == (6, 5)
        assert exact.sum(axis=0) == pytest.approx(0, abs=1e-12)
        members = np.vstack([np.zeros(5), exact])
        assert (rows @ members.T).var(axis=1) == pytest.approx(posterior.variance(rows))
    drawn = np.array([posterior.displacements(3, rng) for _ in range(4000)])
    assert drawn.shape == (4000, 3, 5)
    assert np.abs(drawn.sum(axis=1)).max() < 1e-12
    variances = np.square(drawn @ rows.T).sum(axis=1) / 4
    assert variances.mean(axis=0) == pytest.approx(posterior.variance(rows), rel=0.1)


def test_features_without_meaning_are_refused() -> None:
    from rigidity import fit_posterior

    for covariance in (np.zeros((2, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match='not finite, or zero'):
            fit_posterior(covariance, np.ones((3, 2)), np.ones(3), (1e-6,))


def test_rows_that_vanish_by_symmetry_tell_no_scale(rng) -> None:
    from rigidity import fit_posterior

    features, rows, errors = rng.normal(size=(50, 6)), rng.normal(size=(9, 6)), rng.normal(size=9)
    covariance, choice = features.T @ features, (1e-8, 1e-4)
    expected = fit_posterior(covariance, rows, errors, choice)
    for rounding in (0.0, 1e-10):
        vanishing = rounding * rng.normal(size=(3, 6))
        found = fit_posterior(covariance, np.vstack([rows, vanishing]), np.append(errors, [1e-4, 0.0, 1e-4]), choice)
        assert (found.alpha, found.regularisation) == (expected.alpha, expected.regularisation)
        with pytest.raises(ValueError, match='vanish by symmetry: hold out'):
            fit_posterior(covariance, vanishing, np.zeros(3), choice)


def test_distance_against_the_formula(rng) -> None:
    from rigidity import DistanceFit, FeatureDistance

    species = np.array([0, 1, 1] * 30)
    features = rng.normal(size=(90, 4)) @ rng.normal(size=(4, 4)) * (1 + species[:, None]) + 3.0 * species[:, None]
    fit = DistanceFit(3, 4)
    fit.add(features[:40], species[:40])
    fit.add(features[40:], species[40:])
    distance = FeatureDistance(*fit.result())
    covariances = [np.cov(features[species == element].T, bias=True) for element in (0, 1)]
    # weights: the numbers of atoms, and one for the element that was never seen
    floor = 1e-3 * (30 * np.trace(covariances[0]) + 60 * np.trace(covariances[1])) / 4 / 91
    probe, elements = rng.normal(size=(7, 4)), np.array([0, 1, 1, 0, 2, 1, 0])
    for vector, element, found in zip(probe, elements, distance(probe, elements), strict=True):
        if element == 2:
            assert found == pytest.approx(np.linalg.norm(vector) / np.sqrt(floor))
            continue
        difference = vector - features[species == element].mean(axis=0)
        inverse = np.linalg.inv(covariances[element] + floor * np.eye(4))
        assert found == pytest.approx(np.sqrt(difference @ inverse @ difference))
