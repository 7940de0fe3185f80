"""One model in the place of a committee: against automatic derivatives, and against models whose weights are changed."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule


@pytest.fixture
def structures() -> list[Atoms]:
    ethanol = molecule('CH3CH2OH')
    ethanol.rattle(0.1, seed=1)
    diamond = bulk('C', cubic=True)
    diamond.rattle(0.1, seed=2)
    return [ethanol, diamond, molecule('H2O')]


@pytest.fixture(params=[{}, {'max_l': 1}, {'heads': ('pt_head', 'Default')}], ids=['plain', 'equivariant', 'two heads'])
def model_file(request, tmp_path):
    from helpers.tiny_mace import write_committee

    return write_committee(tmp_path, ['C', 'H', 'O'], 1, channels=4, **request.param)[0]


def write_uncertainty(path, displacements, seed=0) -> None:
    n_features = displacements.shape[1]
    rng = np.random.default_rng(seed)
    means, whitenings = rng.normal(size=(3, n_features)), rng.normal(size=(3, n_features, n_features))
    np.savez(path, displacements=displacements, factor=np.eye(n_features), means=means, whitenings=whitenings)


def changed_model(path, change, head):
    """Return the model with its last layers' weights changed, in the units of the features."""
    import torch

    model = torch.load(path, weights_only=False)
    scale = float(torch.atleast_1d(model.scale_shift.scale)[head])
    begin = 0
    for readout in model.readouts:
        final = getattr(readout, 'linear_2', None) or readout.linear
        n_scalars = final.irreps_in.count('0e')
        weights = final.weight.data.reshape(n_scalars, -1)
        part = torch.from_numpy(change[begin : begin + n_scalars])
        weights[:, head] += part * n_scalars**0.5  # e3nn divides by the root of the number of inputs
        begin += n_scalars
    assert begin == len(change)
    assert scale == 0.05
    return model


def test_members_are_models_with_other_last_layers(model_file, structures, tmp_path) -> None:
    import torch
    from committee import Committee
    from last_layer_model import LastLayerModel
    from virtual_committee import VirtualCommittee

    n_features = LastLayerModel(model_file).n_features
    changes = np.random.default_rng(4).normal(size=(2, n_features))
    write_uncertainty(tmp_path / 'u.npz', changes)
    virtual = VirtualCommittee(model_file, tmp_path / 'u.npz', 'float64')
    head = len(torch.load(model_file, weights_only=False).heads) - 1
    files = [model_file]
    for number, change in enumerate(changes):
        files.append(tmp_path / f'changed_{number}.model')
        torch.save(changed_model(model_file, change, head), files[-1])
    expected = Committee(files, 'float64').predict(structures, stress=True, descriptors=True)
    found = virtual.predict(structures, stress=True, descriptors=True)
    assert len(virtual) == 3
    for name in ('energies', 'forces', 'descriptors'):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.stresses, expected.stresses, rtol=0, atol=1e-10)
    assert np.abs(expected.forces[1] - expected.forces[0]).max() > 1e-3
    assert np.isnan(found.stresses[:, 0]).all()
    for members in ([0], [1, 2], [2]):
        part = virtual.predict(structures, members, descriptors=members == [0])
        np.testing.assert_allclose(part.forces, expected.forces[members], rtol=0, atol=1e-9)
        np.testing.assert_allclose(part.energies, expected.energies[members], rtol=0, atol=1e-9)
        assert (part.mahalanobis is None) == (members == [0])


def test_derivatives_equal_the_jacobian(committee_files, structures) -> None:
    import torch
    from last_layer_model import LastLayerModel

    model = LastLayerModel(committee_files[0])
    directions = np.random.default_rng(1).normal(size=(2, 20, 3))
    found = model.derivatives(structures, list(directions))
    assert found.shape == (2, 3, model.n_features)
    offsets = [0, 9, 17, 20]
    for index, atoms in enumerate(structures):
        graph, _, _ = model._graph([atoms])
        positions = graph['positions'].requires_grad_(True)
        model._pass(graph, positions)
        sums = model._last_layer.take().sum(dim=0)
        rows = [torch.autograd.grad(value, positions, retain_graph=True)[0].numpy() for value in sums]
        own = directions[:, offsets[index] : offsets[index + 1]]
        expected = np.einsum('pia,dia->dp', np.array(rows), own)
        assert found[:, index] == pytest.approx(expected, abs=1e-7)
        assert np.abs(expected).max() > 1e-3


def test_many_members_and_the_largest_distance_of_an_atom(committee_files, structures, tmp_path) -> None:
    from last_layer_model import LastLayerModel
    from virtual_committee import VirtualCommittee

    model = LastLayerModel(committee_files[0])
    changes = np.random.default_rng(2).normal(size=(11, model.n_features))
    write_uncertainty(tmp_path / 'u.npz', changes)
    virtual = VirtualCommittee(committee_files[0], tmp_path / 'u.npz', 'float64')
    found = virtual.predict(structures)
    # forces are linear in the weights
    virtual._displacements *= 2
    doubled = virtual.predict(structures).forces
    np.testing.assert_allclose(doubled - found.forces[0], 2 * (found.forces - found.forces[0]), rtol=0, atol=1e-10)
    assert len(doubled) == 12
    arrays = np.load(tmp_path / 'u.npz')
    for index, atoms in enumerate(structures):
        features, species = model.features([atoms])
        lengths = [
            np.linalg.norm((vector - arrays['means'][element]) @ arrays['whitenings'][element])
            for vector, element in zip(features, species, strict=True)
        ]
        assert found.mahalanobis[index] == pytest.approx(max(lengths))


def test_float32_is_close(committee_files, structures, tmp_path) -> None:
    from virtual_committee import open_committee

    write_uncertainty(tmp_path / 'u.npz', np.random.default_rng(2).normal(size=(3, 16)))
    exact = open_committee(committee_files[:1], tmp_path / 'u.npz', 'float64').predict(structures)
    single = open_committee(committee_files[:1], tmp_path / 'u.npz', 'float32').predict(structures)
    assert single.forces == pytest.approx(exact.forces, abs=1e-4)
    assert single.energies == pytest.approx(exact.energies, abs=1e-4)


def test_refusals(committee_files, tmp_path) -> None:
    from virtual_committee import open_committee

    assert len(open_committee(committee_files, None, 'float64')) == 3
    write_uncertainty(tmp_path / 'u.npz', np.zeros((2, 7)))
    for files, uncertainty, message in [
        (committee_files, 'u.npz', 'belongs to one model, but models names 3'),
        (committee_files[:1], 'absent.npz', 'does not exist'),
        (committee_files[:1], 'u.npz', 'last layer of 7 features'),
    ]:
        with pytest.raises(ValueError, match=message):
            open_committee(files, tmp_path / uncertainty)
