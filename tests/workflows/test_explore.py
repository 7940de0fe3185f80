"""ExploreWorkChain through the real engine, with a real committee of untrained MACE models."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import WorkflowFactory
from helpers.time_limit import terminated_when

from aiida_mlip_al.data import ModelData


@pytest.fixture
def committee(tmp_path):
    """Three models of hydrogen and oxygen."""
    from helpers.tiny_mace import write_committee

    paths = write_committee(tmp_path, ['H', 'O'], 3)
    return {f'member_{i:02d}': ModelData.from_path(path, elements=['H', 'O']).store() for i, path in enumerate(paths)}


def run(python_code, water, committee, settings, **inputs):
    return run_get_node(
        WorkflowFactory('mlip_al.explore'),
        structures=water,
        committee=committee,
        settings=orm.Dict(settings),
        **{'ase': {'code': python_code}, 'seed': 5, **inputs},
    )


@pytest.mark.slow
def test_walkers_over_conditions_and_jobs(python_code, water, committee):
    settings = {'temperature': [200, 400], 'walkers': 3, 'walkers_per_job': 2, 'steps': 20, 'check_interval': 5}
    results, node = run(python_code, water, committee, settings)
    assert node.exit_status == 0
    names = ['job_00_walker_00', 'job_00_walker_01', 'job_01_walker_00']
    assert sorted(results['trajectories']) == sorted(results['deviations']) == names
    trajectory, deviation = results['trajectories'][names[1]], results['deviations'][names[1]]
    assert trajectory.numsteps == deviation.n_frames == 4
    assert not any(trajectory.pbc)
    np.testing.assert_array_equal(deviation.get_array('step'), [5, 10, 15, 20])
    np.testing.assert_allclose(trajectory.get_times(), [0.0025, 0.005, 0.0075, 0.01])
    assert set(deviation.get_array('target_temperature_K')) == {400.0}
    assert (deviation.max_force_deviation > 0).all()
    assert deviation.get_array('descriptors').shape[0] == 4
    assert trajectory.get_array('forces').shape == (4, 3, 3)
    assert deviation.base.attributes.get('stop_reason') == 'finished'

    # Another iteration of the loop draws other seeds, the same one the same.
    first = results['trajectories'][names[0]].get_positions()
    again, _ = run(python_code, water, committee, settings)
    np.testing.assert_array_equal(again['trajectories'][names[0]].get_positions(), first)
    history = orm.Dict({'rows': [{}]}).store()
    other, _ = run(python_code, water, committee, {**settings, 'walkers': 1}, history=history)
    assert np.abs(other['trajectories']['job_00_walker_00'].get_positions() - first).max() > 1e-4


@pytest.mark.slow
def test_each_system_explores_under_its_own_conditions(python_code, water, committee):
    from ase.build import molecule

    structures = {**water, 'hydrogen': orm.StructureData(ase=molecule('H2')).store()}
    systems = {'H2': {'temperature': 900, 'timestep_fs': 0.2, 'steps': 10}}
    settings = {'temperature': 200, 'steps': 20, 'check_interval': 5, 'systems': systems}
    results, node = run(python_code, structures, committee, settings)
    assert node.exit_status == 0
    found = {}
    for name, deviation in results['deviations'].items():
        symbols = ''.join(results['trajectories'][name].symbols)
        temperatures = deviation.get_array('target_temperature_K')
        found[name] = symbols, deviation.get_array('time_fs')[-1], set(temperatures)
    assert found == {
        'job_00_walker_00': ('OHH', 10.0, {200.0}),
        'job_01_walker_00': ('HH', 2.0, {900.0}),
    }


@pytest.mark.slow
def test_an_exploration_that_a_time_limit_cut_short_goes_on(python_code, water, committee):
    def has_frames(folder):
        return all((folder / f'walker_0{n}.xyz').exists() for n in (0, 1)) and (
            (folder / 'walker_01.jsonl').read_text().count('\n') > 2
        )

    settings = {'temperature': 100, 'walkers': 2, 'steps': 4000, 'check_interval': 10, 'timestep_fs': 0.01}
    with terminated_when('explore', has_frames) as stopped:
        results, node = run(python_code, water, committee, settings)
    assert len(stopped) == 1
    assert node.exit_status == 0
    first, second = sorted((job for job in node.called if isinstance(job, orm.CalcJobNode)), key=lambda job: job.pk)
    assert (first.exit_status, second.exit_status) == (400, 0)
    assert second.inputs.parent_folder.creator == first
    assert sorted(results['deviations']) == ['job_00_walker_00', 'job_00_walker_01']
    for name in ('walker_00', 'walker_01'):
        before, after = (job.outputs.trajectories[name].get_positions() for job in (first, second))
        assert 3 <= len(before) < len(after) == 400
        np.testing.assert_array_equal(after[: len(before)], before)
        np.testing.assert_array_equal(
            results['deviations'][f'job_00_{name}'].get_array('step'), np.arange(10, 4001, 10)
        )
    assert sorted(results['reports']) == ['job_00', 'job_00_part_01'], 'what each part cost'


@pytest.mark.parametrize('frames', [(0, 10), (4, 10)])
def test_memory_is_doubled_once_and_the_walkers_go_on(python_code, water, aiida_localhost, frames):
    """From the frames that there are before the memory is too little."""
    options = {'max_memory_kb': 1000, 'resources': {'num_machines': 1}}
    process = instantiate_process(
        get_manager().get_runner(),
        WorkflowFactory('mlip_al.explore'),
        structures=water,
        committee={'member_00': ModelData.from_bytes(b'a model', elements=['H', 'O'])},
        settings=orm.Dict({'temperature': 300, 'steps': 100}),
        ase={'code': python_code, 'metadata': {'options': options}},
        seed=5,
    )
    sent = []

    def submit(_, **inputs):
        """Of a job that runs out of memory."""
        node = orm.CalcJobNode(computer=aiida_localhost).store()
        outputs = {'remote_folder': orm.RemoteData(remote_path=f'/{len(sent)}', computer=aiida_localhost)}
        if frames[len(sent)]:
            outputs['report'] = orm.Dict({'n_frames': frames[len(sent)]})
        for name, output in outputs.items():
            output.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label=name)
            output.store()
        node.set_exit_status(110)
        node.set_process_state('finished')
        sent.append((inputs['metadata'], inputs.get('parent_folder')))
        return node

    process.submit, process.wait_for_any = submit, lambda running: None
    process.plan()
    process.ended = lambda running: [orm.load_node(pk) for pk in list(running)]
    while process.should_run_jobs():
        process.run_jobs()
        process.inspect_jobs()
    assert [metadata['options']['max_memory_kb'] for metadata, _ in sent] == [1000, 2000]
    assert [metadata['call_link_label'] for metadata, _ in sent] == ['job_00', 'job_00_part_01']
    (_, nothing), (_, folder) = sent
    assert nothing is None
    assert (folder.get_remote_path() if folder else None) == ('/0' if frames[0] else None)
    assert process.ctx.n_frames == 10


def test_a_walker_in_lammps_gets_more_memory_too(python_code, water, monkeypatch):
    runner, options = get_manager().get_runner(), {'max_memory_kb': 1000, 'resources': {'num_machines': 1}}
    committee = {f'member_0{n}': ModelData.from_bytes(f'model {n}'.encode(), elements=['H', 'O']) for n in (0, 1)}
    exploration = instantiate_process(
        runner,
        WorkflowFactory('mlip_al.explore'),
        structures=water,
        committee={name: model.store() for name, model in committee.items()},
        settings=orm.Dict({'temperature': 300, 'steps': 100}),
        lammps={'code': python_code, 'metadata': {'options': options}},
        seed=5,
    )
    begun = []
    monkeypatch.setattr(
        exploration, 'submit', lambda process, **inputs: begun.append((process, inputs)) or exploration.node
    )
    monkeypatch.setattr(exploration, 'wait_for_any', lambda running: None)
    exploration.plan()
    exploration.run_jobs()
    ((process, inputs),) = begun
    walker, sent = instantiate_process(runner, process, **inputs), []

    def submit(_, **inputs):
        sent.append(inputs['metadata'].options['max_memory_kb'])
        node = orm.CalcJobNode()
        node.set_exit_status(110)
        return node

    monkeypatch.setattr(walker, 'submit', submit)
    monkeypatch.setattr(walker, 'to_context', walker.ctx.update)
    walker.setup()
    while walker.should_run():
        walker.run_part()
        walker.inspect_part()
    assert sent == [1000, 2000]


@pytest.mark.slow
def test_walker_beyond_the_upper_level_stops_and_keeps_its_frames(python_code, water, committee):
    settings = {'temperature': 300, 'walkers': 1, 'steps': 50, 'check_interval': 5, 'upper': 1e-6}
    results, node = run(python_code, water, committee, settings)
    assert node.exit_status == 0
    deviation = results['deviations']['job_00_walker_00']
    assert deviation.base.attributes.get('stop_reason') == 'upper_level'
    assert deviation.base.attributes.get('stopped_early') is True
    assert deviation.n_frames >= 1


@pytest.mark.slow
def test_models_that_do_not_know_an_element_are_an_exit_code(python_code, committee):
    from ase.build import molecule

    stranger = {'methane': orm.StructureData(ase=molecule('CH4')).store()}
    _, node = run(python_code, stranger, committee, {'steps': 10, 'check_interval': 5})
    assert node.exit_status == 401
    assert 'C' in node.exit_message


@pytest.mark.parametrize(
    ('settings', 'sentence'),
    [
        ({'temprature': 300}, 'unknown key'),
        ({'ensemble': 'npt'}, 'pressure'),
        ({'temperature': -5}, 'greater than 0'),
        ({'check_interval': 10, 'stride': 15}, 'multiple'),
    ],
)
def test_bad_settings_are_refused(python_code, water, committee, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(python_code, water, committee, settings)
