"""Walkers over structures, conditions and jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiida_mlip_al.sampling.base import parse_parameters, wrong_parameters
from aiida_mlip_al.sampling.spread import by_system, spread_systems, spread_walkers
from aiida_mlip_al.sampling.walkers import DYNAMICS_KEYS, AseExploreSettings, dynamics_of, reduced_formula


def settings(**values: Any) -> AseExploreSettings:
    return parse_parameters('explore', AseExploreSettings, values)


def conditions(walkers: list[dict[str, Any]]) -> list[tuple[str, Any, Any]]:
    return [(walker['structure'], walker['temperature_K'], walker['pressure_GPa']) for walker in walkers]


def test_structure_and_condition_change_from_walker_to_walker() -> None:
    walkers = spread_walkers(settings(walkers=5, temperature=[300.0, 600.0]), ['a', 'b', 'c'], seed=1)
    assert conditions(walkers) == [
        ('a', 300.0, None),
        ('b', 600.0, None),
        ('c', 300.0, None),
        ('a', 600.0, None),
        ('b', 300.0, None),
    ]


@pytest.mark.parametrize(('n_structures', 'n_conditions'), [(1, 1), (3, 2), (2, 2), (4, 6), (6, 4), (5, 1)])
def test_no_pair_comes_again_before_every_pair_was_there(n_structures: int, n_conditions: int) -> None:
    names = [f's{index}' for index in range(n_structures)]
    n_pairs = n_structures * n_conditions
    temperatures = [100.0 * (index + 1) for index in range(n_conditions)]
    chosen = settings(walkers=2 * n_pairs, walkers_per_job=1000, temperature=temperatures)
    walkers = spread_walkers(chosen, names, seed=1)
    pairs = conditions(walkers)
    assert len(set(pairs[:n_pairs])) == len(set(pairs[n_pairs:])) == n_pairs


def test_temperatures_and_pressures() -> None:
    chosen = settings(walkers=4, ensemble='npt', temperature=[300.0, 600.0], pressure=[0.0, 1.0])
    walkers = spread_walkers(chosen, ['a'], seed=1)
    assert conditions(walkers) == [('a', 300.0, 0.0), ('a', 600.0, 0.0), ('a', 300.0, 1.0), ('a', 600.0, 1.0)]


def test_ramps_replace_conditions() -> None:
    chosen = settings(
        walkers=2, ensemble='npt', pressure=0.0, temperature_ramp=[100.0, 900.0], pressure_ramp=[0.0, 5.0]
    )
    walkers = spread_walkers(chosen, ['a'], seed=1)
    assert conditions(walkers) == [('a', [100.0, 900.0], [0.0, 5.0])] * 2


def test_jobs_are_filled_one_after_another() -> None:
    jobs = spread_systems(settings(walkers=5, walkers_per_job=2), {'a': 'Cu'}, seed=1)
    assert {name: len(walkers) for name, (_, walkers) in jobs.items()} == {'job_00': 2, 'job_01': 2, 'job_02': 1}


def test_job_names_sort_as_they_are_numbered() -> None:
    jobs = spread_systems(settings(walkers=12, walkers_per_job=1), {'a': 'Cu'}, seed=1)
    assert sorted(jobs) == list(jobs)


@pytest.mark.parametrize(
    ('formula', 'reduced'),
    [('C2H6O', 'C2H6O'), ('CH3CH2OH', 'C2H6O'), ('Na4Cl4', 'ClNa'), (['Cu'] * 32, 'Cu'), ('H64O32', 'H2O')],
)
def test_reduced_formula_is_that_of_the_cell_and_its_supercells(formula: str | list[str], reduced: str) -> None:
    assert reduced_formula(formula) == reduced


def test_each_system_has_its_own_conditions_and_walkers() -> None:
    own = {'Cu': {'ensemble': 'npt', 'pressure': 0.0, 'temperature': [900.0], 'walkers': 3}}
    chosen = settings(temperature=300.0, walkers=2, walkers_per_job=2, systems=own)
    jobs = spread_systems(chosen, {'a': 'C2H6O', 'b': 'Cu', 'c': 'Cu'}, seed=1)
    assert {name: (used.ensemble, conditions(walkers)) for name, (used, walkers) in jobs.items()} == {
        'job_00': ('nvt', [('a', 300.0, None)] * 2),
        'job_01': ('npt', [('b', 900.0, 0.0), ('c', 900.0, 0.0)]),
        'job_02': ('npt', [('c', 900.0, 0.0)]),
    }
    seeds = [walker['seed'] for _, walkers in jobs.values() for walker in walkers]
    assert len(set(seeds)) == 5


def test_structures_that_no_system_names_have_the_common_settings() -> None:
    chosen = settings(walkers=2, systems={'Cu': {'walkers': 5}})
    found = by_system(chosen, {1: 'Cu', 2: 'Ag', 3: 'Cu', 4: 'Au'})
    assert [(own.walkers, keys) for own, keys in found] == [(2, [2, 4]), (5, [1, 3])]
    assert [keys for _, keys in by_system(chosen, {1: 'Cu'})] == [[1]]


def test_a_system_may_be_written_as_any_formula_of_its_composition() -> None:
    chosen = settings(systems={'NaCl': {'walkers': 2}, 'CH3CH2OH': {'walkers': 3}})
    assert {formula: chosen.of_system(formula).walkers for formula in ('ClNa', 'C2H6O', 'Cu')} == {
        'ClNa': 2,
        'C2H6O': 3,
        'Cu': 1,
    }


def test_a_condition_of_a_system_replaces_the_ramp_of_all() -> None:
    chosen = settings(temperature_ramp=[100.0, 900.0], systems={'Cu': {'temperature': 50.0}})
    assert conditions(spread_walkers(chosen.of_system('Cu'), ['a'], 1)) == [('a', 50.0, None)]
    assert conditions(spread_walkers(chosen.of_system('Ag'), ['a'], 1)) == [('a', [100.0, 900.0], None)]


@pytest.mark.parametrize(
    ('systems', 'sentence'),
    [
        ({'Cu': {'dtype': 'float64'}}, "'dtype' cannot differ from system to system"),
        ({'Cu4': {'walkers': 2}, 'Cu': {}}, "'Cu4' and 'Cu' are one system"),
        ({'copper.cif': {'walkers': 2}}, "'copper.cif' is no chemical formula"),
        ({'Cu': {'ensemble': 'npt'}}, "'pressure' .GPa. goes with ensemble 'npt'"),
        ({'Cu': {'temperature': -5}}, "system Cu: 'temperature'"),
    ],
)
def test_wrong_system_is_refused_in_one_sentence(systems: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        settings(systems=systems)
    assert '\n' not in str(caught.value)


def test_seeds() -> None:
    def seeds(walkers: int, seed: int = 1, *stream: int) -> list[int]:
        made = spread_walkers(settings(walkers=walkers), ['a', 'b'], seed, *stream)
        return [walker['seed'] for walker in made]

    assert len(set(seeds(16))) == 16
    assert seeds(16)[:4] == seeds(4), 'more walkers leave the first ones as they were'
    assert not set(seeds(4)) & set(seeds(4, 2))
    assert not set(seeds(4, 1, 0)) & set(seeds(4, 1, 1)), 'another iteration draws others'
    assert seeds(4, 1, 3) == seeds(4, 1, 3)


def test_what_the_runners_call_dynamics() -> None:
    found = dynamics_of(settings(steps=100, timestep_fs=1.0, thermostat='bussi'), stride=20)
    assert set(found) == {*DYNAMICS_KEYS, 'stride'}
    assert (found['steps'], found['timestep_fs'], found['thermostat'], found['stride']) == (100, 1.0, 'bussi', 20)


def test_distance_limits_are_passed_on_where_there_are_some() -> None:
    limits = [{'pair': [0, 3], 'max': 2.0}, {'pair': [1, 2], 'min': 1.0, 'max': 3.0}]
    found = dynamics_of(settings(distance_limits=limits), stride=10)
    assert set(found) == {*DYNAMICS_KEYS, 'stride', 'distance_limits'}
    assert found['distance_limits'] == [{'min': 0.0, **limits[0]}, limits[1]]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'ensemble': 'nph'}, "explore: 'ensemble' should be 'nve', 'nvt' or 'npt', got 'nph'"),
        ({'ensemble': 'npt'}, "explore: 'pressure' (GPa) goes with ensemble 'npt' and only with it"),
        ({'pressure': 1.0}, "explore: 'pressure' (GPa) goes with ensemble 'npt' and only with it"),
        ({'pressure_ramp': [0.0, 1.0]}, "explore: 'pressure' (GPa) goes with ensemble 'npt' and only with it"),
        ({'stride': 15}, "explore: 'stride' (15) must be a multiple of 'check_interval' (10)"),
        (
            {'steps': 100, 'check_interval': 200},
            "explore: 'check_interval' (200) must not exceed 'steps' (100), or no frame is recorded",
        ),
        ({'steps': 100, 'stride': 110}, "explore: 'stride' (110) must not exceed 'steps' (100)"),
        (
            {'check_interval': 200, 'systems': {'Cu': {'steps': 100}}},
            "explore: system Cu: 'check_interval' (200) must not exceed 'steps' (100)",
        ),
        ({'temperature': -5.0}, "explore: 'temperature' "),
        ({'temperature': []}, "explore: 'temperature' "),
        ({'temperature_ramp': [300.0]}, "explore: 'temperature_ramp' "),
        ({'temperature_ramp': [-300.0, 300.0]}, "explore: 'temperature_ramp' "),
        ({'walkers': 0}, "explore: 'walkers' should be greater than or equal to 1, got 0"),
        ({'timestep_fs': 20.0}, "explore: 'timestep_fs' should be less than or equal to 10, got 20.0"),
        ({'barostat_mask': [True]}, "explore: 'barostat_mask' "),
        (
            {'barostat_mask': [False] * 3, 'ensemble': 'npt', 'pressure': 0.0},
            "explore: 'barostat_mask' lets no axis change: choose the ensemble 'nvt', or set an axis to true",
        ),
        ({'distance_limits': [{'pair': [1, 1], 'max': 2.0}]}, "explore: 'distance_limits' 'pair' names atom 1 twice"),
        (
            {'distance_limits': [{'pair': [0, 1]}]},
            "explore: 'distance_limits' a distance limit needs 'min', 'max' or both",
        ),
        (
            {'bias': {'plumed': 'p.dat', 'colvars': 'c.in'}},
            "explore: 'bias' give either 'plumed' or 'colvars', an input file",
        ),
        ({'bias': {'colvars': 'c.in'}}, "explore: the engine 'ase' is biased by 'plumed'"),
        ({'temperatures': 300.0}, "explore: unknown key 'temperatures', allowed are "),
    ],
)
def test_refused(values: dict[str, Any], sentence: str) -> None:
    message = wrong_parameters('explore', AseExploreSettings, values)
    assert message is not None
    assert message.startswith(sentence)


def test_pressure_ramp_needs_no_pressure() -> None:
    assert wrong_parameters('explore', AseExploreSettings, {'ensemble': 'npt', 'pressure_ramp': [0.0, 1.0]}) is None


def test_accepted() -> None:
    assert wrong_parameters('explore', AseExploreSettings, {}) is None
    assert (
        wrong_parameters(
            'explore', AseExploreSettings, {'ensemble': 'npt', 'pressure': [0.0, 1.0], 'temperature': 300, 'stride': 20}
        )
        is None
    )
