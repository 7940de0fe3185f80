"""The choice of frames."""

import numpy as np
import pytest
from ase import Atoms

from aiida_mlip_al.selection import Selection, SelectionSettings, TrustLevels, decode, select_frames

LEVELS = TrustLevels(0.1, 1.0)


def verdicts(selection: Selection) -> list[str]:
    return [str(verdict) for verdict in decode(selection.verdicts)]


def line(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_every_verdict_in_one_call() -> None:
    selection = select_frames(
        [0.05, 0.2, 0.3, 0.4, 0.25, 2.0, np.nan, 0.5, 0.5, 0.02],
        LEVELS,
        SelectionSettings(max_labels=3, audit_fraction=0.3, duplicate_tolerance=1e-3, seed=1),
        max_force=[1, 1, 1, 1, 1, 1, 1, 99, 1, 1],
        descriptors=line(0, 4, 8, 20, 4, 9, 9, 9, 9, 0),
        training_descriptors=line(0, 8),
        unphysical=[None] * 8 + ['too_close', None],
    )
    audited, spared = (0, 9) if selection.verdicts[0] == 6 else (9, 0)
    expected = [
        '',
        'duplicate',
        'duplicate',
        'selected',
        'selected',
        'failed',
        'unphysical',
        'unphysical',
        'unphysical',
        '',
    ]
    expected[audited], expected[spared] = 'audit', 'accurate'
    assert verdicts(selection) == expected
    assert selection.chosen.tolist() == [3, 4, audited]
    assert selection.ranks[3:5].tolist() == [0, 1]
    assert selection.ranks[audited] == 2
    assert (np.delete(selection.ranks, [3, 4, audited]) == -1).all()
    assert selection.reasons[6:9] == ('non_finite', 'force_cap', 'too_close')
    assert selection.reason_counts == {'force_cap': 1, 'non_finite': 1, 'too_close': 1}
    assert selection.counts == {
        'accurate': 1,
        'candidate': 0,
        'failed': 1,
        'unphysical': 3,
        'duplicate': 2,
        'over_budget': 0,
        'audit': 1,
        'selected': 2,
    }
    assert selection.accurate_fraction == 0.2
    assert selection.n_candidates == 2


def test_rejected_frames_free_their_slots() -> None:
    deviation = [0.9, 0.8, 0.7, 0.6, 0.5]
    settings = SelectionSettings(max_labels=2, audit_fraction=0, diversity='top', duplicate_tolerance=1e-6)
    descriptors = line(0, 0, 1, 2, 3)
    assert select_frames(deviation, LEVELS, settings, descriptors=descriptors).chosen.tolist() == [0, 2]
    refilled = select_frames(
        deviation, LEVELS, settings, descriptors=descriptors, unphysical=['too_close', None, None, None, None]
    )
    assert refilled.chosen.tolist() == [1, 2]
    assert verdicts(refilled) == ['unphysical', 'selected', 'selected', 'over_budget', 'over_budget']


def test_farthest_point_keeps_away_from_the_training_set() -> None:
    settings = SelectionSettings(max_labels=3, audit_fraction=0)
    deviation = [0.2, 0.9, 0.3, 0.4, 0.5]
    descriptors = line(0, 1, 2, 5, 10)
    seeded = select_frames(deviation, LEVELS, settings, descriptors=descriptors, training_descriptors=line(9, 12))
    assert seeded.chosen.tolist() == [0, 3, 2]


def test_largest_cluster_is_where_the_frames_are() -> None:
    chosen = {
        diversity: select_frames(
            [0.5] * 5,
            LEVELS,
            SelectionSettings(1, 0, diversity=diversity),  # type: ignore[arg-type]
            descriptors=line(150, -30, -29, -28, -27),
            training_descriptors=line(0, 100),
        ).chosen.tolist()
        for diversity in ('farthest_point', 'largest_cluster')
    }
    assert chosen == {'farthest_point': [0], 'largest_cluster': [1]}


def test_distances_of_gradients_are_not_scaled() -> None:
    descriptors = np.array([[9.0, 0.0], [0.0, 3.0], [-9.0, 0.0], [-9.0, 0.0]])
    chosen = {
        kind: select_frames(
            [0.5, 0.5, 0.9, 0.4],
            LEVELS,
            SelectionSettings(4, 0, diversity='farthest_point', descriptors=kind),  # type: ignore[arg-type]
            descriptors=descriptors,
            training_descriptors=np.array([[0.0, 0.0], [0.5, 0.0]]),
        )
        for kind in ('features', 'gradient')
    }
    assert chosen['features'].chosen.tolist() == [1, 2, 0]
    assert chosen['gradient'].chosen.tolist() == [2, 0, 1]
    assert all(verdicts(one)[3] == 'duplicate' for one in chosen.values())


@pytest.mark.parametrize('training', [None, np.empty((0, 1)), np.empty(0)])
def test_without_training_set_the_highest_deviation_comes_first(training: np.ndarray | None) -> None:
    settings = SelectionSettings(max_labels=3, audit_fraction=0)
    selection = select_frames(
        [0.2, 0.9, 0.3, 0.4, 0.5],
        LEVELS,
        settings,
        descriptors=line(0, 1, 2, 5, 10),
        training_descriptors=training,
    )
    assert selection.chosen.tolist() == [1, 4, 3]


def test_of_two_like_candidates_the_less_certain_stays() -> None:
    selection = select_frames(
        [0.2, 0.8, 0.3], LEVELS, SelectionSettings(audit_fraction=0), descriptors=line(1, 1.0001, 5)
    )
    assert verdicts(selection) == ['duplicate', 'selected', 'selected']


def test_duplicates_are_judged_on_the_scale_of_all_frames() -> None:
    settings = SelectionSettings(audit_fraction=0, duplicate_tolerance=0.01)
    close = line(1, 1.0001, -50, 50)
    assert select_frames([0.2, 0.2, 0.01, 0.01], LEVELS, settings, descriptors=close).counts['duplicate'] == 1
    assert select_frames([0.2, 0.2], LEVELS, settings, descriptors=close[:2]).counts['duplicate'] == 0


def test_no_search_for_duplicates_if_not_wanted_or_not_possible() -> None:
    settings = SelectionSettings(audit_fraction=0, duplicate_tolerance=None)
    assert select_frames([0.2, 0.2], LEVELS, settings, descriptors=line(1, 1)).counts['selected'] == 2
    top = SelectionSettings(audit_fraction=0, diversity='top')
    assert select_frames([0.2, 0.3], LEVELS, top).chosen.tolist() == [1, 0]
    for diversity in ('largest_cluster', 'farthest_point'):
        with pytest.raises(ValueError, match=f"'{diversity}' needs descriptors"):
            select_frames([0.2, 0.3], LEVELS, SelectionSettings(diversity=diversity))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('max_labels', 'fraction', 'n_accurate', 'n_audit'),
    [
        (20, 0.05, 90, 1),
        (20, 0.1, 90, 2),
        (10, 0.05, 90, 1),
        (10, 0.25, 90, 3),
        (20, 0, 90, 0),
        (20, 1, 5, 5),
        (1, 0.05, 9, 0),
        (1, 0.5, 9, 0),
        (2, 0.9, 9, 1),
        (20, 0.99, 90, 19),
        (1, 1, 9, 1),
        (0, 0.5, 9, 0),
        (20, 0.05, 0, 0),
    ],
)
def test_audit_counts_within_the_budget(max_labels: int, fraction: float, n_accurate: int, n_audit: int) -> None:
    deviation = [0.05] * n_accurate + [0.5] * 50
    settings = SelectionSettings(max_labels=max_labels, audit_fraction=fraction, diversity='random')
    selection = select_frames(deviation, LEVELS, settings)
    counts = selection.counts
    assert counts['audit'] == n_audit
    assert counts['selected'] == max_labels - n_audit
    assert counts['over_budget'] == 50 - counts['selected']
    assert sorted(selection.ranks[selection.ranks >= 0]) == list(range(max_labels))
    assert (selection.ranks[selection.verdicts == 6] >= counts['selected']).all()
    assert (selection.accurate_fraction, selection.n_candidates) == (n_accurate / len(deviation), 50)


def test_audit_is_random_and_seeded() -> None:
    deviation = [0.05] * 100
    drawn = [
        tuple(select_frames(deviation, LEVELS, SelectionSettings(seed=s, diversity='top')).chosen.tolist())
        for s in [*range(40), 0]
    ]
    assert drawn[0] == drawn[-1]
    assert len(set(drawn)) > 25


@pytest.mark.parametrize('diversity', ['farthest_point', 'largest_cluster', 'top', 'random'])
def test_result_depends_on_the_input_alone(diversity: str) -> None:
    rng = np.random.default_rng(0)
    deviation, descriptors = rng.uniform(0, 1.2, 300), rng.normal(size=(300, 6))
    settings = SelectionSettings(max_labels=30, diversity=diversity, seed=3)  # type: ignore[arg-type]
    first, second = (
        select_frames(deviation, LEVELS, settings, descriptors=descriptors, training_descriptors=descriptors[:20] + 1)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.verdicts, second.verdicts)
    np.testing.assert_array_equal(first.ranks, second.ranks)
    assert first.counts['selected'] + first.counts['audit'] == 30


def test_random_differs_by_seed_and_top_does_not() -> None:
    deviation = np.linspace(0.2, 0.9, 50)

    def chosen(diversity: str, seed: int) -> list[int]:
        settings = SelectionSettings(5, 0, diversity, seed=seed)  # type: ignore[arg-type]
        return select_frames(deviation, LEVELS, settings).chosen.tolist()

    assert chosen('random', 1) != chosen('random', 2)
    assert chosen('top', 1) == chosen('top', 2) == [49, 48, 47, 46, 45]


def test_one_trajectory_cannot_take_the_whole_budget() -> None:
    deviation = [0.9, 0.8, 0.7, 0.6, 0.5]
    trajectory = [0, 0, 0, 1, 1]
    settings = SelectionSettings(3, 0, 'top', max_per_trajectory=2)
    assert select_frames(deviation, LEVELS, settings, trajectory=trajectory).chosen.tolist() == [0, 1, 3]
    fair = SelectionSettings(4, 0, 'top', max_per_trajectory='fair')
    assert select_frames(deviation, LEVELS, fair, trajectory=trajectory).chosen.tolist() == [0, 3, 1, 4]
    far = SelectionSettings(3, 0, max_per_trajectory=1)
    selection = select_frames(deviation, LEVELS, far, trajectory=trajectory, descriptors=line(0, 1, 9, 5, 6))
    assert selection.chosen.tolist() == [0, 4]


def test_frames_and_training_rows_that_are_not_finite_do_no_harm() -> None:
    selection = select_frames(
        [0.2, 0.3, 0.05, np.nan],
        LEVELS,
        SelectionSettings(audit_fraction=0),
        max_force=[1, np.nan, 1, 1],
        descriptors=[[0.0, 1.0], [1.0, 1.0], [np.nan, 0.0], [2.0, 2.0]],
        training_descriptors=[[5.0, 5.0], [np.nan, 0.0]],
    )
    assert verdicts(selection) == ['selected', 'unphysical', 'unphysical', 'unphysical']
    assert set(selection.reasons[1:]) == {'non_finite'}


def test_absurd_descriptors_of_unphysical_frames_do_not_make_others_alike() -> None:
    selection = select_frames(
        [0.2, 0.3, 0.4],
        LEVELS,
        SelectionSettings(audit_fraction=0),
        descriptors=line(0, 1, 1e9),
        unphysical=[None, None, 'too_close'],
    )
    assert verdicts(selection) == ['selected', 'selected', 'unphysical']


def test_no_frames() -> None:
    empty: list[list[list[float]] | np.ndarray | None] = [None, [], np.empty((0, 4))]
    for descriptors in empty:
        selection = select_frames([], LEVELS, SelectionSettings(), max_force=[], descriptors=descriptors)
        assert len(selection.verdicts) == len(selection.ranks) == len(selection.chosen) == 0
        assert sum(selection.counts.values()) == 0
        assert np.isnan(selection.accurate_fraction)


def test_only_unphysical_frames() -> None:
    selection = select_frames([np.nan] * 3, LEVELS, SelectionSettings(), descriptors=np.zeros((3, 2)))
    assert verdicts(selection) == ['unphysical'] * 3
    assert selection.accurate_fraction == 0


@pytest.mark.parametrize('name', ['max_force', 'descriptors', 'trajectory', 'unphysical'])
def test_lengths_must_agree(name: str) -> None:
    values = {'max_force': [1.0], 'descriptors': [[1.0]], 'trajectory': [0], 'unphysical': [None]}
    with pytest.raises(ValueError, match=f"'{name}' must have one entry for each of the 2 frames, got 1"):
        select_frames([0.2, 0.3], LEVELS, SelectionSettings(diversity='top'), **{name: values[name]})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'wrong',
    [
        {'max_labels': -1},
        {'audit_fraction': 1.1},
        {'diversity': 'best'},
        {'duplicate_tolerance': -0.1},
        {'max_per_trajectory': 0},
        {'max_per_system': 0},
        {'strata': 'colour'},
        {'min_rmsd': 0},
        {'max_force': 0},
        {'seed': -1},
    ],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' must"):
        SelectionSettings(**wrong)


def test_two_systems_share_the_budget() -> None:
    """A large system whose deviations are all higher must not take every label."""
    deviation = [0.9] * 20 + [0.2] * 6
    system = [1] * 20 + [0] * 6

    def shares(max_labels: int, **settings: object) -> tuple[int, int]:
        chosen = select_frames(
            deviation, LEVELS, SelectionSettings(max_labels, 0, 'top', **settings), system=system, composition=system
        ).chosen  # type: ignore[arg-type]
        return int((chosen < 20).sum()), int((chosen >= 20).sum())

    assert shares(8) == (8, 0)
    assert shares(8, max_per_system=3) == (3, 3)
    assert shares(8, max_per_system='fair') == (4, 4)
    assert shares(8, max_per_composition='fair') == (4, 4)
    assert shares(20, max_per_system='fair') == (14, 6), 'what one system leaves goes to the other'
    assert shares(99, max_per_system='fair') == (20, 6)


def test_farthest_points_share_the_budget_too() -> None:
    rng = np.random.default_rng(2)
    descriptors = np.concatenate([rng.normal(size=(30, 3)) * 10, 100 + rng.normal(size=(30, 3))])
    system = [0] * 30 + [1] * 30

    def share(of: str | None) -> int:
        settings = SelectionSettings(10, 0, max_per_system=of)  # type: ignore[arg-type]
        chosen = select_frames([0.5] * 60, LEVELS, settings, descriptors=descriptors, system=system).chosen
        return int((chosen < 30).sum())

    assert share(None) > 7
    assert share('fair') == 5


@pytest.mark.parametrize('diversity', ['top', 'random', 'stratified', 'farthest_point', 'largest_cluster'])
def test_fair_shares_differ_by_one_at_most(diversity: str) -> None:
    rng = np.random.default_rng(3)
    system = np.repeat(np.arange(10), 5)
    descriptors = rng.normal(size=(50, 3)) * (1 + system[:, None])
    settings = SelectionSettings(11, 0, diversity, max_per_system='fair')  # type: ignore[arg-type]
    chosen = select_frames(rng.uniform(0.2, 0.9, 50), LEVELS, settings, descriptors=descriptors, system=system).chosen
    assert sorted(np.bincount(system[chosen])) == [1] * 9 + [2]


def test_stratified_choice_is_flat_over_what_is_asked_for() -> None:
    deviation = np.concatenate([np.linspace(0.11, 0.2, 90), [0.95, 0.9]])
    temperature = [300.0] * 60 + [600.0] * 32
    trajectory = [0] * 10 + [1] * 82

    def chosen(strata: str) -> np.ndarray:
        settings = SelectionSettings(8, 0, 'stratified', strata=strata)  # type: ignore[arg-type]
        return select_frames(deviation, LEVELS, settings, temperature=temperature, trajectory=trajectory).chosen

    assert {90, 91} <= set(chosen('deviation').tolist())
    assert np.sum(chosen('temperature') < 60) == 4
    assert np.sum(chosen('trajectory') < 10) == 4


def test_rmsd_takes_the_most_uncertain_of_like_molecules() -> None:
    lengths = [1.0, 1.3, 1.02, 1.6, 1.31]
    settings = SelectionSettings(2, 0, 'rmsd', min_rmsd=0.05)
    asked: list[int] = []

    def structure(index: int) -> Atoms:
        asked.append(index)
        return Atoms('N2', [[0, 0, 0], [lengths[index], 0, 0]])

    selection = select_frames([0.3, 0.5, 0.4, 0.2, 0.05], LEVELS, settings, structure=structure)
    assert verdicts(selection) == ['duplicate', 'selected', 'selected', 'over_budget', 'accurate']
    assert selection.chosen.tolist() == [1, 2]
    assert sorted(asked) == [0, 1, 2, 3], 'only candidates are built'
    with pytest.raises(ValueError, match="'rmsd' needs the structures"):
        select_frames([0.3], LEVELS, settings)
