"""Evaluating datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write


@pytest.fixture
def frames() -> list[Atoms]:
    found = []
    for seed in range(5):
        atoms = molecule('CH3CH2OH') if seed % 2 else bulk('C', cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.info['split'] = 'validation' if seed == 4 else 'train'
        found.append(atoms)
    return found


def names(files: list[Path]) -> list[str]:
    return [str(file) for file in files]


@pytest.mark.slow
def test_equals_mace_calculator(job, committee_files, frames) -> None:
    from mace.calculators import MACECalculator

    write(job.folder / 'data.extxyz', frames)
    config = {
        'models': names(committee_files),
        'dtype': 'float64',
        'batch_size': 2,
        'datasets': {'all': 'data.extxyz', 'again': 'data.extxyz'},
    }
    status = job.run('evaluate', config)
    assert status['exit_code'] == 0, status['output']
    assert status['n_frames'] == {'all': 5, 'again': 5}
    assert {'torch', 'mace'} <= set(status['versions'])
    found = np.load(job.folder / 'evaluation_all.npz')
    assert found['n_atoms'].tolist() == [8, 9, 8, 9, 8]
    assert found['forces'].shape == (3, 42, 3)
    assert 'descriptors' not in found
    offsets = np.cumsum([0, *found['n_atoms']])
    reference = MACECalculator(model_paths=[str(committee_files[1])], default_dtype='float64')
    for index in (0, 3):  # the files hold eight decimals
        reference.calculate(frames[index])
        assert found['energies'][1, index] == pytest.approx(reference.results['energy'], abs=1e-6)
        forces = found['forces'][1, offsets[index] : offsets[index + 1]]
        assert forces == pytest.approx(reference.results['forces'], abs=1e-6)
        assert np.isnan(found['stresses'][:, index]).all() == (index == 3)
    reference.calculate(frames[0])
    assert found['stresses'][1, 0] == pytest.approx(reference.results['stress'], abs=1e-6)


def test_splits_choose_frames(job, committee_files, frames) -> None:
    write(job.folder / 'data.extxyz', frames)
    models = names(committee_files[:1])
    config = {'models': models, 'datasets': {'d': 'data.extxyz'}, 'splits': ['validation']}
    assert job.run_here('evaluate', config)['finished']
    assert np.load(job.folder / 'evaluation_d.npz')['n_atoms'].tolist() == [8]


@pytest.mark.parametrize(('kind', 'n_numbers'), [('features', 48), ('gradient', 16)])
def test_descriptors_where_asked_for(job, committee_files, frames, kind: str, n_numbers: int) -> None:
    write(job.folder / 'data.extxyz', frames)
    config = {'models': names(committee_files), 'datasets': {'d': 'data.extxyz'}, 'descriptors': kind}
    assert job.run_here('evaluate', config)['finished']
    assert np.load(job.folder / 'evaluation_d.npz')['descriptors'].shape == (5, n_numbers)


def test_bad_input_ends_with_one_sentence(job, committee_files, frames) -> None:
    write(job.folder / 'data.extxyz', frames)
    good = {'models': names(committee_files[:1]), 'datasets': {'d': 'data.extxyz'}}
    for change, message in [
        ({'models': []}, 'at least one model'),
        ({'datasets': {}}, 'at least one extended XYZ file'),
        ({'datasets': {'d': 'absent.xyz'}}, 'absent.xyz does not exist'),
        ({'descriptors': 'forces'}, "features or gradient, not 'forces'"),
        ({'device': 'cuda'}, 'sees no GPU'),
        ({'batchsize': 2}, 'unknown keys: batchsize'),
    ]:
        status = job.run_here('evaluate', {**good, **change})
        assert status['exit_code'] == 1
        assert message in status['error']
    write(job.folder / 'data.extxyz', [bulk('Si')])
    assert 'do not know Si' in job.run_here('evaluate', good)['error']
    write(job.folder / 'data.extxyz', frames)
    whole = (job.folder / 'data.extxyz').read_bytes()
    (job.folder / 'data.extxyz').write_bytes(whole[: len(whole) - 200])
    assert 'data.extxyz is not a complete extended XYZ file' in job.run_here('evaluate', good)['error']
