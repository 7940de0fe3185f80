"""The input script of a walker."""

from __future__ import annotations

import pytest
from ase.build import bulk, fcc111, molecule

from aiida_mlip_al.lammps.box import Box
from aiida_mlip_al.lammps.script import max_temperature, walker_script
from aiida_mlip_al.lammps.settings import LammpsExploreSettings
from aiida_mlip_al.sampling.base import wrong_parameters


def script(atoms=None, walker=None, biased=False, template=None, n_models=3, **settings):
    """Return the lines of a script, blanks squeezed and continued lines joined."""
    atoms = bulk('GaAs', 'zincblende', a=5.65) if atoms is None else atoms
    walker = {'temperature_K': 300.0, 'pressure_GPa': None, 'seed': 11, **(walker or {})}
    text = walker_script(
        LammpsExploreSettings(**{'steps': 1000, **settings}), walker, Box(atoms), n_models, biased, template
    )
    return [' '.join(line.split()) for line in text.replace('&\n', ' ').splitlines()]


def test_committee_line_and_elements_are_in_the_order_of_the_types():
    lines = script(upper=0.5, check_interval=20, dtype='float64')
    models = 'model_00.model model_01.model model_02.model'
    assert (
        f'pair_style mace {models} out_freq 20 out_file model_devi.out records walker.jsonl upper 0.5 dtype float64'
        in lines
    )
    assert not any('upper' in line for line in script(upper=0.5, n_models=1))
    assert any('records walker.jsonl descriptors gradient dtype' in line for line in script(descriptors='gradient'))
    assert 'pair_coeff * * As Ga' in lines
    assert 'dump_modify walker sort id flush yes element As Ga format float %.12g' in lines
    masses = [line for line in lines if line.startswith('variable stranger')]
    assert ['74.9216' in masses[0], '69.723' in masses[1]] == [True, True]


@pytest.mark.parametrize(
    ('pair_style', 'style', 'coeff'),
    [
        ('mliap', 'pair_style mliap unified model_00.model-mliap_lammps.pt 0', 'pair_coeff * * As Ga'),
        ('mace', 'pair_style mace no_domain_decomposition', 'pair_coeff * * model_00.model-lammps.pt As Ga'),
        ('symmetrix', 'pair_style symmetrix/mace', 'pair_coeff * * model_00.json As Ga'),
    ],
)
def test_native_lammps_reads_one_model(pair_style, style, coeff):
    lines = script(pair_style=pair_style, upper=0.5)
    assert style in lines
    assert coeff in lines


@pytest.mark.parametrize(
    ('settings', 'walker', 'expected'),
    [
        ({'ensemble': 'nve'}, {}, ['fix move all nve']),
        (
            {'friction_per_fs': 0.02},
            {},
            ['fix move all nve', 'fix bath all langevin 300 300 0.05 $(12+step)'],
        ),
        ({'thermostat': 'nose-hoover', 'taut_fs': 50}, {}, ['fix move all nvt temp 300 300 0.05']),
        ({'thermostat': 'csvr'}, {}, ['fix move all nve', 'fix bath all temp/csvr 300 300 0.1 $(12+step)']),
        (
            {'ensemble': 'npt', 'pressure': 2.0, 'thermostat': 'nose-hoover', 'barostat_mask': 'isotropic'},
            {'pressure_GPa': 2.0},
            ['fix move all npt temp 300 300 0.1 iso 20000 20000 1'],
        ),
        (
            {'ensemble': 'npt', 'pressure': 2.0, 'thermostat': 'csvr'},
            {'pressure_GPa': 2.0},
            ['fix move all nph tri 20000 20000 1', 'fix bath all temp/csvr 300 300 0.1 $(12+step)'],
        ),
        (
            {'ensemble': 'npt', 'pressure': 0.0, 'thermostat': 'nose-hoover', 'barostat_mask': [True, False, True]},
            {'pressure_GPa': 0.0},
            ['fix move all npt temp 300 300 0.1 x 0 0 1 z 0 0 1'],
        ),
    ],
)
def test_ensembles(settings, walker, expected):
    lines = script(walker=walker, **settings)
    for line in expected:
        assert line in lines
    assert 'run 1000 upto start 0 stop 1000' in lines


def test_ramp_begins_after_the_equilibration_and_survives_a_restart():
    lines = script(
        walker={'temperature_K': [300.0, 600.0]},
        temperature_ramp=[300, 600],
        thermostat='nose-hoover',
        equilibration=200,
    )
    before = next(line for line in lines if line.startswith('if "$(step) < 200"'))
    assert '"fix move all nvt temp 300 300 0.1"' in before
    assert '"run 200 upto"' in before
    assert 'fix move all nvt temp 300 600 0.1' in lines
    assert 'run 1200 upto start 200 stop 1200' in lines


def test_what_acts_besides():
    lines = script(
        bulk('GaAs', 'zincblende', a=5.65, cubic=True),
        swaps=[{'elements': ['Ga', 'As'], 'every': 50, 'attempts': 5}],
        strain_rate={'z': 0.01},
        minimize={'force_tolerance': 0.1, 'max_steps': 20},
        distance_limits=[{'pair': [0, 1], 'min': 1.5, 'max': 4.0}],
        before_run='fix wall all momentum 5 linear 1 0 0',
        after_run='print "the end"',
        restart_interval=77,
    )
    assert 'fix swap_1 all atom/swap 50 5 13 300 types 2 1' in lines
    assert 'fix strain_z all deform 1 z erate 0.01 remap x' in lines
    assert any('"minimize 0 0.1 20 200" "reset_timestep 0"' in line for line in lines)
    assert 'variable pair_1_x equal x[1]-x[2]' in lines
    assert lines.index('fix strain_z all deform 1 z erate 0.01 remap x') > lines.index('fix move all nve')
    assert 'fix distance_limit_1a all halt 10 v_pair_1 < 1.5 error soft message yes' in lines
    assert 'fix distance_limit_1b all halt 10 v_pair_1 > 4 error soft message yes' in lines
    assert 'restart 77 walker.*.restart' in lines
    order = [
        lines.index(line)
        for line in ('fix wall all momentum 5 linear 1 0 0', 'run 1000 upto start 0 stop 1000', 'print "the end"')
    ]
    assert order == sorted(order)


def test_images_count_along_periodic_directions_only():
    slab = fcc111('Cu', (2, 2, 1), vacuum=5)
    lines = script(slab, distance_limits=[{'pair': [0, 1], 'max': 2.0}])
    assert 'variable pair_1_c equal 0' in lines
    assert 'variable pair_1_b equal round((v_pair_1_y-v_pair_1_c*yz)/ly)' in lines


@pytest.mark.parametrize(
    ('bias', 'line'),
    [
        ({'colvars': 'a.in'}, 'fix bias all colvars colvars.in output walker'),
        ({'plumed': 'a.dat'}, 'fix bias all plumed plumedfile plumed.dat outfile plumed.out'),
    ],
)
def test_bias_acts_from_its_iteration_on(bias, line):
    assert line in script(bias=bias, biased=True)
    assert line not in script(bias=bias, biased=False)


def test_users_own_template():
    assert script(template='run {{ last_step }} # {{ elements }}') == ['run 1000 # As Ga']
    with pytest.raises(ValueError, match=r"template .* cannot be filled in: 'steps' is undefined"):
        script(template='run {{ steps }}')


@pytest.mark.parametrize(
    ('atoms', 'settings', 'message'),
    [
        (fcc111('Cu', (1, 1, 2), vacuum=5), {'ensemble': 'npt', 'pressure': 0}, 'There is no pressure along z'),
        (
            molecule('H2O'),
            {'ensemble': 'npt', 'pressure': 0, 'barostat_mask': [True, False, False]},
            'There is no pressure along x, y, z',
        ),
        (bulk('Cu'), {}, r'One atom alone \(Cu\) has no temperature'),
        (
            bulk('Cu') * 2,
            {'strain_rate': {'x': 0.1}},
            'would shear the tilted cell of Cu8: give a cell at right angles',
        ),
        (
            fcc111('Cu', (2, 2, 1), vacuum=5),
            {'strain_rate': {'xz': 0.1}},
            '`strain_rate` of xz needs .* periodic along z',
        ),
        (bulk('Cu') * 2, {'distance_limits': [{'pair': [0, 1], 'max': 2.2}]}, 'beyond 2.08 Å, half the least height'),
        (
            bulk('Cu') * 2,
            {'swaps': [{'elements': ['Cu', 'Au']}]},
            '`swaps` exchanges Au, of which the structure Cu8 has none',
        ),
        (bulk('Cu') * 2, {'distance_limits': [{'pair': [0, 8], 'min': 1}]}, '`distance_limits` names atom 8, but'),
    ],
)
def test_settings_that_do_not_fit_the_structure(atoms, settings, message):
    with pytest.raises(ValueError, match=message):
        script(atoms, walker={'pressure_GPa': 0.0}, **settings)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'thermostat': 'bussi'}, 'thermostat'),
        ({'ensemble': 'npt', 'pressure': 0, 'strain_rate': {'z': 0.1}}, 'the axis z cannot follow both'),
        ({'ensemble': 'npt', 'pressure': 0, 'strain_rate': {'xy': 0.1}}, 'the axis xy cannot follow both'),
        ({'swaps': [{'elements': ['Cu', 'Cu']}]}, 'give two elements, not Cu and Cu'),
        ({'stride': 15}, 'must be a multiple'),
        ({'bias': {}}, "give either 'plumed' or 'colvars'"),
    ],
)
def test_senseless_settings(values, message):
    assert message in str(wrong_parameters('explore', LammpsExploreSettings, values))


def test_a_strained_axis_beside_free_ones_is_fine():
    values = {'ensemble': 'npt', 'pressure': 0, 'barostat_mask': [True, True, False], 'strain_rate': {'z': 0.1}}
    assert wrong_parameters('explore', LammpsExploreSettings, values) is None


def test_temperature_limit_of_many_and_of_few_atoms():
    """Of three degrees of freedom a temperature of 14.3 times the target is exceeded with a probability of 1e-9."""
    assert max_temperature(300.0, 5.0, 1000) == 1500.0
    assert max_temperature(300.0, 5.0, 2) == pytest.approx(300 * 14.8, rel=0.05)
