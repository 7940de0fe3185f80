"""Walkers planned for LAMMPS, and joined of the parts between their interruptions."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from ase.build import bulk, molecule

from aiida_mlip_al.calculations.lammps_functions import join_walker, plan_lammps
from aiida_mlip_al.data import DeviationData


def part(steps, mark):
    """Return trajectory, deviations and thermo of a part whose numbers all are ``mark``."""
    steps = np.array(steps)
    trajectory = orm.TrajectoryData()
    trajectory.set_trajectory(
        symbols=['Cu'],
        positions=np.full((len(steps), 1, 3), float(mark)),
        stepids=steps,
        cells=np.ones((len(steps), 3, 3)),
        pbc=[True] * 3,
    )
    trajectory.base.attributes.set('stop_reason', 'killed')
    columns = {name: np.full(len(steps), float(mark)) for name in DeviationData.REQUIRED}
    deviation = DeviationData.from_arrays({**columns, 'step': steps}, stopped_early=True, stop_reason='killed')
    thermo = orm.ArrayData()
    thermo.set_array('Step', steps.astype(float))
    return {'trajectories': trajectory, 'deviations': deviation, 'thermo': thermo}


def restart(step):
    """Return a restart file of a step."""
    node = orm.SinglefileData.from_string('state', filename='continue.restart')
    node.base.attributes.set('step', step)
    return node


def joined(parts, restarts):
    """Join parts given as (steps, mark), None for one that left nothing."""
    inputs = {'reports': {}, 'restarts': {f'part_{index:02d}': restart(step) for index, step in restarts.items()}}
    for index, found in enumerate(parts):
        label = f'part_{index:02d}'
        last = None if found is None else float(max(found[0]))
        inputs['reports'][label] = orm.Dict({'ends': {}, 'last_step': last, 'wall_s': 1.0, 'core_s': 2.0})
        for kind, node in ({} if found is None else part(*found)).items():
            inputs.setdefault(kind, {})[label] = node
    return join_walker(**inputs)


@pytest.mark.parametrize(
    ('parts', 'restarts', 'steps', 'marks'),
    [
        # A part repeats the step that it begins with, and what the one before did after its restart file counts no more.
        ([([10, 20, 30], 1), ([20, 30, 40], 2)], {1: 20}, [10, 20, 30, 40], [1, 1, 2, 2]),
        # A part that left nothing takes nothing away.
        ([([10, 20, 30], 1), None], {1: 20}, [10, 20, 30], [1, 1, 1]),
        ([([10, 20], 1), None], {}, [10, 20], [1, 1]),
        ([([10, 20, 30], 1), None, ([20, 30], 3)], {1: 20, 2: 20}, [10, 20, 30], [1, 1, 3]),
        # A part without a restart file began at the start.
        ([([10, 20], 1), ([10, 20, 30], 2)], {}, [10, 20, 30], [2, 2, 2]),
        ([None, None], {}, None, None),
    ],
)
def test_parts_are_joined(parts, restarts, steps, marks):
    result = joined(parts, restarts)
    report = result['report'].get_dict()
    assert (report['wall_s'], report['core_s'], report['n_parts']) == (len(parts), 2 * len(parts), len(parts))
    if steps is None:
        assert set(result) == {'report'}
        assert (report['n_frames'], report['last_step']) == (0, None)
        return
    assert (report['n_frames'], report['last_step']) == (len(steps), steps[-1])
    np.testing.assert_array_equal(result['trajectory'].get_stepids(), steps)
    np.testing.assert_array_equal(result['trajectory'].get_positions()[:, 0, 0], marks)
    np.testing.assert_array_equal(result['deviation'].get_array('step'), steps)
    np.testing.assert_array_equal(result['deviation'].max_force_deviation, marks)
    np.testing.assert_array_equal(result['thermo'].get_array('Step'), steps)
    assert result['deviation'].base.attributes.get('stop_reason') == 'killed'


def test_every_walker_gets_its_script_and_box(make_model):
    settings = orm.Dict({'walkers': 3, 'temperature': [200, 400], 'steps': 20, 'upper': 0.5})
    plan = plan_lammps(
        settings,
        orm.Int(3),
        structures={'copper': orm.StructureData(ase=bulk('Cu', cubic=True))},
        committee={f'member_{index:02d}': make_model(elements=('Cu',)) for index in range(2)},
    )
    assert sorted(plan['scripts']) == sorted(plan['boxes']) == sorted(plan['walkers']) == ['job_00', 'job_01', 'job_02']
    script = plan['scripts']['job_01'].get_content()
    assert 'velocity all create 400' in script
    assert 'pair_style      mace model_00.model model_01.model' in script
    assert plan['boxes']['job_01'].filename == 'structure.data'
    assert '4 atoms' in plan['boxes']['job_01'].get_content()
    seeds = {walker['seed'] for walker in plan['walkers'].values()}
    assert len(seeds) == 3


def test_structures_that_do_not_fit_start_no_walker(make_model):
    structures = {
        'atom': orm.StructureData(ase=bulk('Cu')),
        'molecule': orm.StructureData(ase=molecule('H2O')),
        'crystal': orm.StructureData(ase=bulk('Cu', cubic=True)),
    }
    settings = {'walkers': 2, 'ensemble': 'npt', 'pressure': 0.0, 'barostat_mask': 'isotropic'}
    plan = plan_lammps(
        orm.Dict(settings),
        orm.Int(3),
        structures=structures,
        committee={'member_00': make_model(elements=('Cu', 'H', 'O'))},
    )
    assert {walker['structure'] for walker in plan['walkers'].values()} == {'crystal'}
    refused = plan['refused'].get_dict()
    assert set(refused) == {'atom', 'molecule'}
    assert 'One atom alone' in refused['atom']
    assert 'no pressure along x, y, z' in refused['molecule']
