"""The uncertainty of a model, learned from frames and used in an exploration and an evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write


@pytest.fixture(scope='module')
def labelled(committee_files) -> list[Atoms]:
    """Ethanol and water with the labels of the second model."""
    from committee import Committee

    frames = []
    for seed in range(6):
        atoms = molecule('CH3CH2OH' if seed % 2 else 'H2O')
        atoms.rattle(0.1, seed=seed)
        atoms.info['split'] = ('train', 'train', 'train', 'train', 'validation', 'validation')[seed]
        frames.append(atoms)
    prediction = Committee(committee_files[1:2], 'float64').predict(frames)
    for index, atoms in enumerate(frames):
        atoms.info['REF_energy'] = prediction.energies[0, index]
        atoms.arrays['REF_forces'] = prediction.forces_of(index)[0]
    return frames


def learn(job, committee_files, labelled, **changes):
    write(job.folder / 'data.xyz', labelled)
    model = changes.pop('model', str(committee_files[0]))
    datasets = changes.pop('datasets', {'d': 'data.xyz'})
    return job.run_here('uncertainty', {'model': model, 'datasets': datasets, 'batch_size': 3, **changes})


def jacobian(model, atoms) -> np.ndarray:
    """Return the features (3n, P) of the forces on one structure, by automatic differentiation."""
    import torch

    graph, _, _ = model._graph([atoms])
    positions = graph['positions'].requires_grad_(True)
    model._pass(graph, positions)
    sums = model._last_layer.take().sum(dim=0)
    return -np.array([torch.autograd.grad(s, positions, retain_graph=True)[0].numpy().ravel() for s in sums]).T


def rock_salt(scale: float, stdev: float, seed: int = 0) -> Atoms:
    """Carbon and oxygen as in rock salt."""
    atoms = bulk('CO', 'rocksalt', a=4.2 * scale, cubic=True)
    atoms.positions += [0.12, 0.35, 0.79]
    atoms.rattle(stdev, seed=seed)
    atoms.info['split'] = 'train' if seed < 4 else 'validation'
    return atoms


@pytest.mark.parametrize('still', [rock_salt(0.97, 0.0, seed=9), rock_salt(1.0, 0.0, seed=9), Atoms('H')])
def test_frames_without_forces_tell_no_scale(job, committee_files, still) -> None:
    from committee import Committee

    frames = [rock_salt(1.0, 0.05, seed) for seed in range(6)]
    for atoms in [*frames, still]:
        prediction = Committee(committee_files[1:2], 'float64').predict([atoms])
        atoms.info.update(REF_energy=prediction.energies[0, 0], split=atoms.info.get('split', 'validation'))
        noise = np.random.default_rng(0).normal(0, 1e-4, (len(atoms), 3))
        atoms.arrays['REF_forces'] = prediction.forces_of(0)[0] + noise
    expected = learn(job, committee_files, frames)
    found = learn(job, committee_files, [*frames, still])
    assert found['exit_code'] == expected['exit_code'] == 0
    # with another frame other random directions are drawn
    assert found['alpha'] == pytest.approx(expected['alpha'], rel=0.3)


def test_covariance_and_scale_by_brute_force(job, committee_files, labelled) -> None:
    from last_layer_model import LastLayerModel

    status = learn(job, committee_files, labelled, regularisation=1e-3, samples=None)
    assert status['exit_code'] == 0, status['error']
    assert (status['n_features'], status['n_samples'], status['n_train'], status['n_validation']) == (16, 17, 4, 2)
    model = LastLayerModel(committee_files[0])
    frames = read(job.folder / 'data.xyz', ':')
    rows = [jacobian(model, atoms) for atoms in frames]
    covariance = sum(part.T @ part for part in rows[:4])
    inverse = np.linalg.inv(covariance + 1e-3 * np.trace(covariance) / 16 * np.eye(16))
    held_out = np.concatenate(rows[4:])
    errors = np.concatenate([(model.predict([a]).forces[0] - a.arrays['REF_forces']).ravel() for a in frames[4:]])
    alpha = np.sqrt(np.mean(errors**2 / np.diag(held_out @ inverse @ held_out.T)))
    assert status['alpha'] == pytest.approx(alpha, rel=1e-5)
    arrays = np.load(job.folder / 'uncertainty.npz')
    posterior = arrays['factor'] @ arrays['factor'].T
    assert posterior == pytest.approx(status['alpha'] ** 2 * inverse, rel=1e-5, abs=1e-6 * np.abs(posterior).max())
    members = np.vstack([np.zeros(16), arrays['displacements']])
    assert np.cov(members.T, bias=True) == pytest.approx(posterior, abs=1e-9 * np.abs(posterior).max())


def test_directions_are_unbiased(committee_files, labelled) -> None:
    from last_layer_model import LastLayerModel
    from uncertainty import force_rows

    model, rng = LastLayerModel(committee_files[0]), np.random.default_rng(0)
    frames = labelled[:2]
    exact = [jacobian(model, atoms) for atoms in frames]
    target = [np.sum((model.predict([atoms]).forces[0] - atoms.arrays['REF_forces']) ** 2) for atoms in frames]
    few = [force_rows(model, frames, n_frames=100, rng=rng) for _ in range(25)]
    for index, (part, square) in enumerate(zip(exact, target, strict=True)):
        assert few[0][index][0].shape == (2, 16)
        mean = np.mean([rows[index][0].T @ rows[index][0] for rows in few], axis=0)
        assert np.linalg.norm(mean - part.T @ part) < 0.3 * np.linalg.norm(part.T @ part)
        assert np.mean([rows[index][1] @ rows[index][1] for rows in few]) == pytest.approx(square, rel=0.35)
    all_of_them = force_rows(model, frames, n_frames=2, rng=rng)
    for (rows, errors), part, square in zip(all_of_them, exact, target, strict=True):
        assert rows.T @ rows == pytest.approx(part.T @ part, rel=1e-5, abs=1e-9)
        assert errors @ errors == pytest.approx(square)


@pytest.mark.slow
def test_one_model_explores_and_is_evaluated_as_a_committee(job, committee_files, labelled, ethanol) -> None:
    assert learn(job, committee_files, labelled, samples=4)['finished']
    one = {'models': [str(committee_files[0])], 'uncertainty': 'uncertainty.npz', 'dtype': 'float64'}
    walkers = [{'structure': 0, 'temperature_K': 300.0, 'seed': seed} for seed in (1, 2)]
    dynamics = {'steps': 20, 'timestep_fs': 0.5, 'min_distance_fraction': 0.3}
    explored = job.run_here(
        'explore', {**one, 'walkers': walkers, 'check_interval': 10, 'dynamics': dynamics}, [ethanol]
    )
    assert explored['finished'], explored
    frames = read(job.folder / 'walker_01.xyz', ':')
    lines = [json.loads(line) for line in (job.folder / 'walker_01.jsonl').read_text().splitlines()[:-1]]
    assert len(lines) == len(frames) == 2
    write(job.folder / 'explored.xyz', frames)
    evaluated = {**one, 'datasets': {'e': 'explored.xyz'}}
    assert job.run_here('evaluate', evaluated)['finished']
    arrays = np.load(job.folder / 'evaluation_e.npz')
    assert arrays['forces'].shape == (5, 18, 3)
    assert arrays['stresses'].shape == (5, 2, 6)
    for index, (frame, line) in enumerate(zip(frames, lines, strict=True)):
        forces = arrays['forces'][:, 9 * index : 9 * (index + 1)]
        spread = np.sqrt(((forces - forces[0]) ** 2).sum(axis=2).mean(axis=0))
        assert line['max_force_deviation'] == pytest.approx(spread.max(), rel=1e-4)
        assert line['max_force_deviation'] > 1e-3
        assert line['mahalanobis'] == pytest.approx(arrays['mahalanobis'][index], rel=1e-4)
        assert frame.get_forces() == pytest.approx(forces[0], abs=1e-6), 'the mean of the members is the model'
        assert line['energy'] == pytest.approx(arrays['energies'][0, index], abs=1e-5)


@pytest.mark.slow
def test_same_seed_same_directions(make_job, committee_files, labelled) -> None:
    found = []
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        job = make_job(name)
        assert learn(job, committee_files, labelled, seed=seed)['regularisation'] > 0
        found.append(np.load(job.folder / 'uncertainty.npz')['displacements'])
    assert found[0].shape == (16, 16)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-6


def test_bad_input_ends_with_one_sentence(job, committee_files, labelled) -> None:
    for frames, changes, message in [
        (labelled, {'sample': 3}, 'unknown keys: sample'),
        (labelled[:4], {}, 'no frame of the datasets has the split `validation`'),
        (labelled, {'model': 'absent.model'}, 'absent.model does not exist'),
    ]:
        status = learn(job, committee_files, frames, **changes)
        assert (status['exit_code'], message in status['error']) == (1, True), status['error']
