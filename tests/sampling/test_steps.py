"""Chains of steps: validation, seeds, parents, stretches around jobs."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aiida_mlip_al.sampling import (
    JOB_STEPS,
    SEEDERS,
    MdStep,
    Seeder,
    SeedResult,
    StepParameters,
    evenly_spaced,
    job_positions,
    md_walkers,
    parse_steps,
    run_steps,
    step_seeds,
    validate_steps,
)
from aiida_mlip_al.sampling.base import make_record, stream_seed

Steps = list[dict[str, Any]]


def salt() -> Atoms:
    return bulk('NaCl', 'rocksalt', a=5.64)


def test_registry_keys_are_the_names_and_have_described_parameters() -> None:
    assert all(name == seeder.name for name, seeder in SEEDERS.items())
    assert not set(SEEDERS) & set(JOB_STEPS)
    for model in [*(seeder.parameters for seeder in SEEDERS.values()), *JOB_STEPS.values()]:
        assert all(field.description for field in model.model_fields.values())


def test_valid_chain() -> None:
    steps: Steps = [{'supercell': {'matrix': [2, 2, 2]}}, {'rattle': None}, {'md': {}}, {'isolated_atoms': {'box': 15}}]
    assert validate_steps(steps) is None
    assert [name for name, _ in parse_steps(steps)] == ['supercell', 'rattle', 'md', 'isolated_atoms']
    assert job_positions(steps) == [2]


@pytest.mark.parametrize(
    ('steps', 'message'),
    [
        ([], 'the steps must be a list of one or more'),
        ('rattle', 'the steps must be a list of one or more'),
        ([{'rattle': {}, 'md': {}}], 'step 1 must be one name with its parameters'),
        ([{'input': {}}, 'rattle'], 'step 2 must be one name with its parameters'),
        ([{'ratle': {}}], "step 1: unknown step 'ratle', allowed are input, keep, supercell, volume_scan"),
        ([{'rattle': [1]}], 'step 1: rattle: the parameters must be keys and values, got [1]'),
        (
            [{'rattle': {'stddev': 0.1}}],
            "step 1: rattle: unknown key 'stddev', allowed are copies, kind, max_attempts, min_distance_fraction, n_iter, stdev",
        ),
        ([{'rattle': {'stdev': -1}}], "step 1: rattle: 'stdev' should be greater than 0, got -1"),
        ([{'rattle': {'stdev': float('nan')}}], "step 1: rattle: 'stdev' should be a finite number, got nan"),
        ([{'rattle': {'copies': 0}}], "step 1: rattle: 'copies' should be greater than or equal to 1, got 0"),
        ([{'lattice_perturbation': {'cell_fraction': 0.5}}], "'cell_fraction' should be less than 0.5, got 0.5"),
        ([{'volume_scan': None}], "volume_scan: 'quantity' is required, 'volume' (three periodic directions) or"),
        ([{'volume_scan': {'quantity': 'scale'}}], "'quantity' should be 'volume' or 'length', got 'scale'"),
        ([{'volume_scan': {'quantity': 'length', 'factors': [1, 0]}}], "'factors' should be greater than 0, got 0"),
        (
            [{'supercell': {'matrix': [2, 2, 2], 'min_image_distance': 5}}],
            "supercell: give 'matrix' or 'min_image_distance', not both",
        ),
        (
            [{'supercell': {'matrix': [-1, -1, 1]}}],
            "supercell: 'matrix' needs repetitions of at least 1, got [-1, -1, 1]",
        ),
        ([{'supercell': {'matrix': [[0, 1, 0], [1, 0, 0], [0, 0, 1]]}}], "'matrix' needs a positive determinant"),
        ([{'supercell': {'matrix': [1.5, 1, 1]}}], "supercell: 'matrix' "),
        ([{'md': {'temperature': 0}}], "md: 'temperature' should be greater than 0"),
        ([{'md': {'temperature': []}}], "md: 'temperature' "),
        ([{'md': {'steps': 10, 'every': 20}}], "md: 'every' (20) must not exceed 'steps'"),
        ([{'md': {'ensemble': 'npt'}}], "md: 'pressure' (GPa) goes with ensemble 'npt'"),
        ([{'md': {'pressure': 1}}], "md: 'pressure' (GPa) goes with ensemble 'npt'"),
        ([{'md': {'arguments': {'method': 'GFN2-xTB'}}}], "md: 'arguments' need a 'calculator'"),
        (
            [{'md': {'calculator': 'tblite'}}],
            "md: 'calculator' must read 'module:name', such as 'tblite.ase:TBLite', got 'tblite'",
        ),
    ],
)
def test_mistakes_are_told_in_one_sentence(steps: list, message: str) -> None:
    told = validate_steps(steps)
    assert told is not None
    assert message in told
    assert '\n' not in told


def test_chain_records_every_ancestor() -> None:
    steps: Steps = [
        {'supercell': {'matrix': [1, 1, 2]}},
        {'lattice_perturbation': {'copies': 2}},
        {'rattle': {'copies': 3}},
    ]
    result = run_steps([salt(), salt()], steps, seed=7)
    assert len(result.frames) == 2 * 2 * 3
    record = result.records[-1]
    assert (record['seeder'], record['source'], record['copy'], record['seed']) == ('rattle', 3, 2, 7)
    parent = record['parent']
    assert parent is not None
    assert (parent['seeder'], parent['source'], parent['copy']) == ('lattice_perturbation', 1, 1)
    assert parent['parent'] is not None
    assert parent['parent']['seeder'] == 'supercell'
    assert parent['parent']['parent'] is None
    assert json.loads(json.dumps(result.records)) == result.records
    assert len(result.frames[0]) == 4


def test_frame_can_be_made_again_from_its_record() -> None:
    result = run_steps([salt()], [{'rattle': {'copies': 2}}, {'rattle': {'copies': 2}}], seed=7)
    record = result.records[3]
    assert record['parent'] is not None
    first = SEEDERS['rattle']([salt()], record['parent']['parameters'], record['parent']['seed'])
    second = SEEDERS['rattle'](first.frames, record['parameters'], record['seed'])
    assert second.frames[3] == result.frames[3]


def test_repeated_step_has_other_random_numbers() -> None:
    steps = [{'rattle': {'copies': 1}}, {'rattle': {'copies': 1}}]
    once = run_steps([salt()], steps[:1], seed=3).frames[0].positions - salt().positions
    twice = run_steps([salt()], steps, seed=3).frames[0].positions - salt().positions
    assert np.abs(twice - 2 * once).max() > 1e-3
    first, second = step_seeds(steps, 3)
    assert first == 3
    assert second != 3


def test_inserted_step_leaves_other_seeds_alone() -> None:
    assert step_seeds([{'supercell': {}}, {'md': {}}, {'rattle': {}}, {'md': {}}], 9)[:3] == [9, 9, 9]


def test_streams_differ_by_seed_name_and_every_index() -> None:
    seeds = [
        stream_seed(*key) for key in [(1, 'a'), (2, 'a'), (1, 'b'), (1, 'a', 1), (1, 'a', 1, 0, 2), (1, 'a', 0, 1, 2)]
    ]
    assert len(set(seeds)) == len(seeds)
    assert stream_seed(1, 'a', 1) == seeds[3]
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_isolated_atoms_are_added() -> None:
    result = run_steps([salt()], [{'rattle': {'copies': 2}}, {'isolated_atoms': {}}], seed=1)
    assert [frame.get_chemical_formula() for frame in result.frames] == ['ClNa', 'ClNa', 'Na', 'Cl']
    assert [record['seeder'] for record in result.records] == ['rattle', 'rattle', 'isolated_atoms', 'isolated_atoms']
    assert result.records[2]['parent'] == result.records[0]


def test_structures_that_no_step_made_are_inputs() -> None:
    result = run_steps([salt(), molecule('H2')], [{'isolated_atoms': {}}], seed=1)
    assert [record['seeder'] for record in result.records] == ['input', 'input', *['isolated_atoms'] * 3]
    assert [record['source'] for record in result.records[:2]] == [0, 1]


def test_stretches_around_a_job_make_the_whole_chain() -> None:
    steps: Steps = [{'rattle': {'copies': 2}}, {'md': {}}, {'rattle': {'copies': 2}}]
    before = run_steps([salt()], steps, seed=3, stop=1)
    after = run_steps(before.frames, steps, seed=3, start=2)
    whole = run_steps([salt()], [steps[0], steps[2]], seed=3)
    assert after.frames == whole.frames
    assert [record['parent'] for record in after.records] == [None] * 4
    assert [record['parent'] for record in whole.records] == [before.records[i] for i in (0, 0, 1, 1)]
    with pytest.raises(ValueError, match="step 'md' needs a job"):
        run_steps([salt()], steps, seed=3)


def test_kept_structures_are_set_aside_and_the_chain_goes_on() -> None:
    steps: Steps = [{'rattle': {'copies': 2}}, {'keep': {}}, {'rattle': {'copies': 3}}]
    result = run_steps([salt()], steps, seed=3)
    assert len(result.frames) == 6
    first = run_steps([salt()], steps[:1], seed=3)
    assert [frame for frame, _ in result.kept] == first.frames
    assert [record['parent'] for _, record in result.kept] == first.records
    assert result.frames == run_steps([salt()], [steps[0], steps[2]], seed=3).frames, (
        'the steps after it are as without it'
    )


def test_references_follow_the_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Atoms | None]] = []

    def look(
        structures: Sequence[Atoms], parameters: StepParameters, seed: int, references: Sequence[Atoms | None]
    ) -> SeedResult:
        seen.append(list(references))
        records = [make_record('look', parameters, seed, source) for source in range(len(structures))]
        return SeedResult([atoms.copy() for atoms in structures], records)

    monkeypatch.setitem(SEEDERS, 'look', Seeder('look', StepParameters, look, uses_references=True))
    equilibrium = salt()
    hot = equilibrium.copy()
    hot.rattle(0.1, seed=1)
    chain: Steps = [
        {'look': {}},
        {'rattle': {'copies': 2}},
        {'look': {}},
        {'supercell': {'matrix': [2, 1, 1]}},
        {'look': {}},
    ]
    run_steps([hot, salt()], chain, seed=1, references=[equilibrium, None])
    assert seen[0] == [equilibrium, None]
    assert seen[1] == [equilibrium, equilibrium, salt(), salt()], 'or else the structure that was rattled'
    assert seen[2] == [None] * 4, 'a supercell has other atoms'
    with pytest.raises(ValueError, match='one reference .* for each of the 2 structures, got 1'):
        run_steps([salt(), salt()], chain, seed=3, references=[None])


def test_empty_stretch_passes_inputs_on() -> None:
    result = run_steps([salt()], [{'md': {}}], seed=3, stop=0)
    assert result.frames == [salt()]
    assert result.records[0]['seeder'] == 'input'


def test_walkers_are_the_product_and_keep_their_seeds() -> None:
    step = MdStep(temperature=[300, 600], walkers_per_structure=2)
    walkers = md_walkers(step, 3, seed=1)
    assert [(w['structure'], w['temperature_K'], w['pressure_GPa']) for w in walkers[:5]] == [
        (0, 300, None),
        (0, 300, None),
        (0, 600, None),
        (0, 600, None),
        (1, 300, None),
    ]
    assert len({w['seed'] for w in walkers}) == len(walkers) == 12
    more = md_walkers(MdStep(temperature=[300, 600], walkers_per_structure=3), 4, seed=1)
    assert [w for w in more if w in walkers] == walkers
    assert md_walkers(MdStep(ensemble='npt', pressure=[0, 5]), 1, seed=1)[1]['pressure_GPa'] == 5
    assert md_walkers(step, 3, seed=2) != walkers


@pytest.mark.parametrize(
    ('n_frames', 'maximum', 'expected'),
    [
        (5, None, [0, 1, 2, 3, 4]),
        (3, 5, [0, 1, 2]),
        (10, 5, [1, 3, 5, 7, 9]),
        (10, 1, [9]),
        (7, 3, [1, 3, 6]),
        (0, 4, []),
    ],
)
def test_evenly_spaced(n_frames: int, maximum: int | None, expected: list[int]) -> None:
    assert evenly_spaced(n_frames, maximum) == expected


@pytest.mark.parametrize(
    ('step', 'known'),
    [
        ({'rattle': {'copies': 1}}, [True]),
        ({'substitution': {'swap_fraction': 0.5, 'copies': 1}}, [False]),
        ({'isolated_atoms': {}}, [True, False, False]),
    ],
)
def test_reference_only_where_the_atoms_are_the_same(
    monkeypatch: pytest.MonkeyPatch, step: dict[str, Any], known: list[bool]
) -> None:
    """Exchanged atoms, and structures added from nowhere, have no equilibrium structure to follow back to."""
    seen: list[Atoms | None] = []

    def spy(
        structures: Sequence[Atoms], parameters: StepParameters, seed: int, references: Sequence[Atoms | None]
    ) -> SeedResult:
        seen.extend(references)
        return SeedResult([], [])

    monkeypatch.setitem(SEEDERS, 'spy', Seeder('spy', StepParameters, spy, uses_references=True))
    equilibrium = bulk('NaCl', 'rocksalt', a=5.64, cubic=True)
    run_steps([equilibrium], [step, {'spy': {}}], seed=1, references=[equilibrium])
    assert [reference is equilibrium for reference in seen] == known
