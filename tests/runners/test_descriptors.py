"""What structures are described by, beside the features: the gradient by the last layers' weights."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule


def gradient_of_energy(committee, atoms) -> np.ndarray:
    """Return the gradient of the first model's energy with respect to its readouts' last weights, by automatic differentiation."""
    import torch

    model = committee._models[0]
    finals = [getattr(readout, 'linear_2', getattr(readout, 'linear', None)) for readout in model.readouts]
    weights = [final.weight.requires_grad_(True) for final in finals]
    graph, _, _ = committee._graph([atoms])
    inputs = {**graph, 'head': torch.zeros_like(graph['ptr'][1:])}
    energy = model(inputs, training=True, compute_force=False)['energy'].sum()
    parts = torch.autograd.grad(energy, weights)
    for weight in weights:
        weight.requires_grad_(False)
    return torch.cat([part.ravel() for part in parts]).numpy()


@pytest.mark.parametrize('max_l', [0, 1])
def test_gradient_is_that_of_the_weights(tmp_path, max_l: int) -> None:
    from committee import Committee
    from helpers.tiny_mace import write_committee

    files = write_committee(tmp_path, ['C', 'H', 'O'], 2, channels=4, max_l=max_l)
    committee = Committee(files, 'float64', descriptors='gradient')
    structures = [molecule('CH3CH2OH'), bulk('C', cubic=True), molecule('H2O')]
    committee.predict(structures[:2])
    found = committee.predict(structures, descriptors=True).descriptors
    expected = [gradient_of_energy(committee, atoms) for atoms in structures]
    assert np.abs(expected).max() > 1e-3
    assert found == pytest.approx(np.array(expected), rel=1e-8, abs=1e-12)


def test_gradient_of_one_model_with_its_uncertainty(job, committee_files) -> None:
    from committee import Committee
    from last_layer_model import LastLayerModel
    from virtual_committee import open_committee

    n_features = LastLayerModel(committee_files[0]).n_features
    path = job.folder / 'uncertainty.npz'
    means, whitenings = np.zeros((3, n_features)), np.tile(np.eye(n_features), (3, 1, 1))
    np.savez(path, displacements=np.eye(3, n_features), means=means, whitenings=whitenings)
    virtual = open_committee(committee_files[:1], path, 'float64', descriptors='gradient')
    plain = Committee(committee_files[:1], 'float64', descriptors='gradient')
    structures = [molecule('CH3CH2OH'), molecule('H2O')]
    expected = plain.predict(structures, descriptors=True).descriptors
    for members in ([0], None):
        found = virtual.predict(structures, members, descriptors=True).descriptors
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_an_unknown_kind_is_named(committee_files) -> None:
    from committee import Committee

    with pytest.raises(ValueError, match="features or gradient, not 'forces'"):
        Committee(committee_files, descriptors='forces')
