"""A run as a notebook sees it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from aiida import orm
from helpers.stored_run import ATOMS, StoredRun
from helpers.tiny_mace import write_committee

from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.run import Run, load_run
from aiida_mlip_al.selection.deviation import force_deviation


@pytest.fixture(scope='module')
def stored(aiida_profile: Any, tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    computer = orm.Computer('notebook', 'localhost', '', 'core.local', 'core.direct').store()
    paths = write_committee(tmp_path_factory.mktemp('models'), ['H', 'O'], 2)
    run = StoredRun(computer, models=[path.read_bytes() for path in paths])
    run.seed()
    run.iterate()
    run.finish()
    return run


@pytest.fixture(scope='module')
def run(stored: StoredRun) -> Run:
    return load_run(stored.node.pk)


def test_the_history_is_a_table_with_a_row_for_each_committee(run):
    table = run.history
    assert list(table.index) == [1, 'final']
    assert table['test_force_mae'].tolist() == pytest.approx([0.2, 0.02])
    assert table['new_label_force_mae'][1] == pytest.approx(0.3)
    assert np.isnan(table['new_label_force_mae']['final'])
    assert table['n_train'].tolist() == [4, 8]
    assert table['n_explored'][1] == 24
    assert all(np.issubdtype(kind, np.number) for kind in table.dtypes)
    assert 'fell from 200 to 20.0 meV/Å' in repr(run)


def test_the_dataset_is_every_labelled_frame_by_its_split(run, stored):
    assert {split: len(frames) for split, frames in run.dataset.items()} == {'train': 8, 'validation': 0, 'test': 5}
    assert {atoms.info['shard'] for atoms in run.dataset['train']} == {'seeds', 'iteration_01'}
    test = stored.made['label_test_frame_000']
    assert run.dataset['test'][0].info['REF_energy'] == pytest.approx(test.energy, abs=1e-6)
    assert set(run.shards) == {'seeds', 'test', 'iteration_01'}


def test_the_calculator_is_the_mean_of_the_final_committee_and_knows_how_they_disagree(run, stored, tmp_path):
    from ase.calculators.calculator import PropertyNotImplementedError

    assert {name: node.pk for name, node in run.committee.items()} == {
        name: node.pk for name, node in stored.committee.items()
    }
    atoms = ATOMS.copy()
    atoms.calc = run.calculator()
    from mace.calculators import MACECalculator

    members = []
    for name in ('member_00', 'member_01'):
        path = tmp_path / f'{name}.model'
        path.write_bytes(run.committee[name].get_content(mode='rb'))
        single = ATOMS.copy()
        single.calc = MACECalculator(model_paths=[str(path)], device='cpu', default_dtype='float64')
        members.append((single.get_potential_energy(), single.get_forces()))
    assert atoms.get_potential_energy() == pytest.approx(np.mean([energy for energy, _ in members]), abs=1e-8)
    np.testing.assert_allclose(atoms.get_forces(), np.mean([forces for _, forces in members], axis=0), atol=1e-8)
    expected = force_deviation(np.array([forces for _, forces in members]))
    assert expected.max() > 1e-4
    np.testing.assert_allclose(atoms.calc.results['force_deviation'], expected, atol=1e-8)
    assert atoms.calc.results['max_force_deviation'] == pytest.approx(expected.max(), abs=1e-8)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    atoms.set_cell([8, 8, 8])
    atoms.pbc = True
    assert atoms.get_stress().shape == (6,)
    atoms.numbers[0] = 6
    with pytest.raises(ValueError, match='do not know C'):
        atoms.get_potential_energy()


def test_plots_are_those_of_the_report(run):
    assert run.plot_learning_curve().data[0].name == 'test'
    assert len(run.plot_parity('energy').data[1].x) == 5
    assert len(run.plot_parity().data[1].x) == 45
    for plot in (run.plot_deviations, run.plot_calibration, run.plot_fates, run.plot_cost):
        assert plot().data
    with pytest.raises(ValueError, match='nothing to plot'):
        run.plot_parity('stress')


def test_what_is_no_run_is_refused(run, stored):
    with pytest.raises(ConfigError, match='is a LabelWorkChain'):
        load_run(next(node.pk for node in stored.node.called if node.process_label == 'LabelWorkChain'))
    with pytest.raises(ConfigError, match='no process node'):
        load_run('999999')


@pytest.mark.slow
def test_loading_a_run_needs_no_torch():
    program = "import sys, aiida_mlip_al.run; print([name for name in ('torch', 'mace') if name in sys.modules])"
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'
