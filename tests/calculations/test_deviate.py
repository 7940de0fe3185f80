"""DeviateCalculation: a committee on the frames of trajectories."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase.build import bulk
from ase.io import read
from helpers.tiny_mace import write_committee

from aiida_mlip_al.calculations.base import RUNNERS
from aiida_mlip_al.calculations.functions import frame_of
from aiida_mlip_al.data import ModelData
from aiida_mlip_al.selection.deviation import force_deviation

Make = Callable[..., Any]
SYMBOLS = ['Cu', 'Au', 'Cu', 'Au']


def trajectory(n_frames: int = 3, seed: int = 0, symbols: list[str] = SYMBOLS) -> orm.TrajectoryData:
    """An alloy in a tilted cell; atoms have left it."""
    rng = np.random.default_rng(seed)
    atoms = bulk('Cu', 'fcc', a=3.9, cubic=True)
    cell = atoms.cell.array + np.array([[0, 0, 0], [0.3, 0, 0], [-0.2, 0.1, 0]])
    positions = atoms.positions + rng.normal(scale=0.1, size=(n_frames, 4, 3)) + 2 * cell[0]
    node = orm.TrajectoryData()
    node.set_trajectory(
        symbols=symbols,
        positions=positions,
        stepids=np.arange(10, 10 * n_frames + 1, 10),
        cells=np.array([cell] * n_frames),
        times=np.arange(1, n_frames + 1) * 0.02,
        pbc=[True, True, True],
    )
    node.set_array('energies', np.zeros(n_frames))
    return node


@pytest.fixture
def inputs(python_code: Any, make_model: Make) -> dict[str, Any]:
    elements = ('Au', 'Cu')
    return {
        'code': python_code,
        'committee': {'member_01': make_model(b'second', elements), 'member_00': make_model(b'first', elements)},
        'trajectories': {'late': trajectory(2, seed=1), 'early': trajectory()},
    }


def test_job(generate_calc_job: Make, inputs: dict[str, Any]) -> None:
    _, folder, calcinfo = generate_calc_job('mlip_al.deviate', inputs)
    assert json.loads((folder / 'evaluate.json').read_text()) == {
        'models': ['model_00.model', 'model_01.model'],
        'dtype': 'float64',
        'device': 'cpu',
        'batch_size': 16,
        'datasets': {'early': 'early.xyz', 'late': 'late.xyz'},
        'descriptors': 'features',
    }
    committee = inputs['committee']
    assert calcinfo.local_copy_list == [
        (committee['member_00'].uuid, 'mace.model', 'model_00.model'),
        (committee['member_01'].uuid, 'mace.model', 'model_01.model'),
    ]
    assert calcinfo.codes_info[0].cmdline_params == ['runners/evaluate.py', 'evaluate.json']
    assert calcinfo.retrieve_list == ['evaluate.out', 'evaluate.status.json', ('evaluation_*.npz', '.', 0)]
    frames = read(folder / 'early.xyz', index=':')
    assert [frame.get_chemical_symbols() for frame in frames] == [SYMBOLS] * 3
    positions = inputs['trajectories']['early'].get_positions()
    np.testing.assert_allclose([frame.positions for frame in frames], positions, rtol=0, atol=1e-8)
    np.testing.assert_allclose(frames[2].cell.array, inputs['trajectories']['early'].get_cells()[2], atol=1e-8)
    assert frames[0].pbc.all()


def test_settings(generate_calc_job: Make, inputs: dict[str, Any]) -> None:
    inputs['settings'] = orm.Dict({'dtype': 'float32', 'batch_size': 4, 'descriptors': None})
    settings = json.loads((generate_calc_job('mlip_al.deviate', inputs).folder / 'evaluate.json').read_text())
    assert (settings['dtype'], settings['batch_size'], settings['descriptors']) == ('float32', 4, None)


def test_frames_that_are_not_finite_are_not_evaluated(generate_calc_job: Make, inputs: dict[str, Any]) -> None:
    broken, lost = trajectory(), trajectory()
    positions, cells = broken.get_positions(), lost.get_cells()
    positions[2, 1, 0] = np.nan
    cells[0, 0, 0] = np.inf
    broken.set_array('positions', positions)
    lost.set_array('cells', cells)
    inputs['trajectories'].update(broken=broken, lost=lost)
    folder = generate_calc_job('mlip_al.deviate', inputs).folder
    assert len(read(folder / 'broken.xyz', index=':')) == 2
    assert not (folder / 'lost.xyz').exists()
    assert list(json.loads((folder / 'evaluate.json').read_text())['datasets']) == ['broken', 'early', 'late']
    inputs['trajectories'] = {'lost': lost}
    with pytest.raises(ValueError, match='There is no frame to evaluate'):
        generate_calc_job('mlip_al.deviate', inputs)


def test_of_independent_frames_only_the_bad_are_not_evaluated(generate_calc_job: Make, inputs: dict[str, Any]) -> None:
    pool = trajectory()
    cells = pool.get_cells()
    cells[0, 0, 0] = np.inf
    pool.set_array('cells', cells)
    pool.base.attributes.set('independent', True)
    inputs['trajectories'] = {'pool': pool}
    frames = read(generate_calc_job('mlip_al.deviate', inputs).folder / 'pool.xyz', index=':')
    np.testing.assert_allclose([frame.positions for frame in frames], pool.get_positions()[1:], rtol=0, atol=1e-8)


def test_what_is_refused(generate_calc_job: Make, inputs: dict[str, Any], make_model: Make) -> None:
    oxide = {**inputs, 'trajectories': {'oxide': trajectory(symbols=['Cu', 'O', 'Cu', 'O'])}}
    with pytest.raises(ValueError, match='The models do not know O of `oxide`: train them'):
        generate_calc_job('mlip_al.deviate', oxide)
    with pytest.raises(ValueError, match='at least two models, but `committee` has 1'):
        generate_calc_job('mlip_al.deviate', {**inputs, 'committee': {'only': make_model(b'first', ('Au', 'Cu'))}})
    inputs['committee']['member_02'] = make_model(b'third', ('H', 'O'))
    with pytest.raises(ValueError, match='must know the same elements'):
        generate_calc_job('mlip_al.deviate', inputs)


@pytest.mark.slow
def test_models_on_frames(
    generate_calc_job: Make,
    parse_retrieved: Make,
    inputs: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The runner itself on the files of the job, against the models on a frame of the trajectory."""
    monkeypatch.syspath_prepend(RUNNERS)
    import torch

    dtype = torch.get_default_dtype()
    models = write_committee(tmp_path / 'models', ('Au', 'Cu'), 2, scale=10.0)
    inputs['committee'] = {
        f'member_{number:02d}': ModelData.from_path(path, elements=('Au', 'Cu')) for number, path in enumerate(models)
    }
    _, folder, _ = generate_calc_job('mlip_al.deviate', inputs)
    for path in models:
        shutil.copy(path, folder)
    monkeypatch.chdir(folder)
    status: dict[str, Any] = {'versions': {}}
    importlib.import_module('evaluate').evaluate(json.loads(Path('evaluate.json').read_text()), status)
    assert status['n_frames'] == {'early': 3, 'late': 2}

    files: dict[str, Any] = {path.name: path.read_bytes() for path in folder.glob('evaluation_*.npz')}
    files['evaluate.status.json'] = '{"finished": true}'
    outputs, exit_status, message = parse_retrieved('mlip_al.deviate', inputs, files)
    assert (exit_status, message) == (0, None)
    committee = importlib.import_module('committee').Committee(models, 'float64')
    wanted = committee.predict([frame_of(inputs['trajectories']['early'], 2)])
    torch.set_default_dtype(dtype)
    per_atom = force_deviation(wanted.forces)
    assert per_atom.max() > 2 * per_atom.min() > 0.001
    deviation, frames = outputs['deviations']['early'], outputs['trajectories']['early']
    assert sorted(outputs['deviations']) == sorted(outputs['trajectories']) == ['early', 'late']
    for name, value in (('max', per_atom.max()), ('mean', per_atom.mean()), ('min', per_atom.min())):
        assert deviation.get_array(f'{name}_force_deviation')[2] == pytest.approx(value, rel=1e-5)
    assert deviation.get_array('descriptors').shape == (3, 2 * 2 * 8)
    assert frames.get_array('energies')[2] == pytest.approx(wanted.energies.mean(), abs=1e-6)
    np.testing.assert_allclose(frames.get_array('forces')[2], wanted.forces.mean(axis=0), atol=1e-6)
