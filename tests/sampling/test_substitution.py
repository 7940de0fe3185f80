"""Elements are replaced, mixed and swapped in the numbers asked for."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_al.sampling import RejectionLimitError, Seeder
from aiida_mlip_al.sampling.substitution import SubstitutionParameters, substitution

sample = Seeder('substitution', SubstitutionParameters, substitution)


def salt() -> Atoms:
    return bulk('NaCl', 'rocksalt', a=5.64, cubic=True)


def silicon() -> Atoms:
    return bulk('Si', cubic=True)


def composition(atoms: Atoms) -> dict[str, int]:
    return dict(Counter(atoms.symbols))


class TestMap:
    def test_all_atoms_are_replaced_once(self) -> None:
        (frame,) = sample([salt()], {'map': {'Na': 'K'}}).frames
        np.testing.assert_array_equal(frame.symbols == 'K', salt().symbols == 'Na')
        assert composition(frame) == {'K': 4, 'Cl': 4}
        np.testing.assert_array_equal(frame.positions, salt().positions)

    def test_elements_can_change_places(self) -> None:
        (frame,) = sample([salt()], {'map': {'Na': 'Cl', 'Cl': 'Na'}}).frames
        assert np.all(frame.numbers == 28 - salt().numbers)

    def test_fraction_is_random_and_leaves_others_alone(self) -> None:
        frames = sample([salt()], {'map': {'Na': {'K': 0.25, 'Rb': 0.5}}, 'copies': 100}).frames
        assert all(composition(frame) == {'Na': 1, 'K': 1, 'Rb': 2, 'Cl': 4} for frame in frames)
        sodium = salt().symbols == 'Na'
        assert all(np.all(frame.symbols[~sodium] == 'Cl') for frame in frames)
        # Each of the 12 arrangements of K, Na, Rb, Rb on four sites comes up.
        assert len({tuple(frame.symbols[sodium]) for frame in frames}) == 12

    def test_source_is_the_element_as_it_came(self) -> None:
        frames = sample([salt()], {'map': {'Na': {'Cl': 0.5}, 'Cl': {'Na': 0.5}}, 'copies': 20}).frames
        changed = [np.bincount(salt().numbers[frame.numbers != salt().numbers], minlength=18) for frame in frames]
        assert all(counts[11] == counts[17] == 2 for counts in changed)


class TestConcentrations:
    def test_listed_elements_share_their_sites(self) -> None:
        alloy = salt()
        alloy.symbols[0] = 'K'
        frames = sample([alloy], {'concentrations': {'K': 0.5, 'Na': 0.5}, 'copies': 50}).frames
        assert all(composition(frame) == {'Na': 2, 'K': 2, 'Cl': 4} for frame in frames)
        assert len({tuple(frame.numbers) for frame in frames}) == 6
        assert all(np.array_equal(frame.symbols == 'Cl', salt().symbols == 'Cl') for frame in frames)

    def test_largest_remainder(self) -> None:
        frames = sample(
            [silicon()], {'concentrations': {'Si': 0.2, 'Ge': 0.45, 'C': 0.35}, 'copies': 3, 'min_distance_fraction': 0}
        )
        # Shares 1.6, 3.6 and 2.8 of 8 sites.
        assert [composition(frame) for frame in frames.frames] == [{'Si': 2, 'Ge': 3, 'C': 3}] * 3

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(
        weights=st.lists(st.floats(0.1, 1), min_size=2, max_size=4), repeat=st.integers(2, 4), seed=st.integers(0, 99)
    )
    def test_numbers_are_within_one_of_the_shares(self, weights: list[float], repeat: int, seed: int) -> None:
        shares = dict(zip(['Si', 'Ge', 'Sn', 'C'], np.array(weights) / sum(weights), strict=False))
        atoms = silicon().repeat((repeat, 2, 1))
        parameters = {'concentrations': shares, 'copies': 1, 'min_distance_fraction': 0}
        (frame,) = sample([atoms], parameters, seed).frames
        assert len(frame) == len(atoms)
        for symbol, share in shares.items():
            assert abs(composition(frame).get(symbol, 0) - share * len(atoms)) < 1


class TestSwap:
    def test_atoms_of_different_elements_change_places(self) -> None:
        frames = sample([salt()], {'swap_fraction': 0.5, 'copies': 200}).frames
        for frame in frames:
            np.testing.assert_array_equal(frame.numbers, salt().numbers)
            moved = np.flatnonzero(np.any(frame.positions != salt().positions, axis=1))
            assert len(moved) == 4
            # A swapped sodium sits on a chlorine site.
            for atom in moved:
                site = np.argmin(np.linalg.norm(salt().positions - frame.positions[atom], axis=1))
                np.testing.assert_array_equal(frame.positions[atom], salt().positions[site])
                assert salt().numbers[site] != frame.numbers[atom]
        # Which two of each four sites are emptied.
        occupied = {tuple(map(tuple, frame.positions[frame.numbers == 11].round(6).tolist())) for frame in frames}
        assert len({frozenset(sites) for sites in occupied}) == 36

    def test_least_is_one_pair(self) -> None:
        (frame,) = sample([salt()], {'swap_fraction': 0.01, 'copies': 1}).frames
        assert np.count_nonzero(np.any(frame.positions != salt().positions, axis=1)) == 2

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(counts=st.lists(st.integers(1, 5), min_size=2, max_size=4), seed=st.integers(0, 99))
    def test_every_possible_number_of_pairs_is_reached(self, counts: list[int], seed: int) -> None:
        numbers = np.repeat([6, 7, 8, 9][: len(counts)], counts)
        n = len(numbers)
        atoms = Atoms(numbers, positions=10.0 * np.arange(3 * n).reshape(n, 3))
        pairs = min(n // 2, n - max(counts))
        (frame,) = sample([atoms], {'swap_fraction': 2 * pairs / n, 'copies': 1}, seed).frames
        site = np.abs(frame.positions[:, None, 0] - atoms.positions[None, :, 0]).argmin(axis=1)
        assert sorted(site) == list(range(n))
        moved = site != np.arange(n)
        assert np.count_nonzero(moved) == 2 * pairs
        assert np.all(numbers[site[moved]] != numbers[moved])
        if pairs < n // 2:
            with pytest.raises(ValueError, match=f'has {pairs} pairs of different elements'):
                sample([atoms], {'swap_fraction': 2 * (pairs + 1) / n})


def test_more_copies_keep_the_first() -> None:
    parameters = {'concentrations': {'Si': 0.5, 'Ge': 0.5}}
    few = sample([silicon(), silicon()], parameters | {'copies': 2}, seed=3).frames
    many = sample([silicon(), silicon()], parameters, seed=3).frames
    assert len(many) == 20
    assert many[:2] + many[10:12] == few
    assert sample([silicon()], parameters, seed=4).frames != many[:10]


def test_large_atoms_on_small_sites_are_an_error() -> None:
    diamond = bulk('C', cubic=True)
    with pytest.raises(RejectionLimitError, match='too_close: 1'):
        sample([diamond], {'map': {'C': 'Cs'}})
    with pytest.raises(RejectionLimitError, match='no attempt out of 9 .*too_close: 9'):
        sample([diamond], {'map': {'C': {'Cs': 0.5}}, 'max_attempts': 9})


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({}, "give exactly one of 'map', 'swap_fraction' and 'concentrations', got none"),
        ({'map': {'Na': 'K'}, 'swap_fraction': 0.1}, 'got map and swap_fraction'),
        ({'map': {'Na': 'Kx'}}, "'map' has the unknown element 'Kx'"),
        ({'map': {'X': 'K'}}, "'map' has the unknown element 'X'"),
        ({'map': {'Na': {'Kx': 0.5}}}, "'map' .*has the unknown element 'Kx'"),
        ({'map': {'Na': {'K': 1.5}}}, "'map' .*should be less than or equal to 1"),
        ({'map': {'Na': {'K': 0.7, 'Rb': 0.7}}}, "'map' replaces more than all Na"),
        ({'map': {'Na': 'Na'}}, "'map' replaces Na by itself"),
        ({'map': {}}, "'map' "),
        ({'map': {'Na': 'K'}, 'copies': 2}, "leaves nothing to chance, so that all 'copies' would be the same"),
        ({'swap_fraction': 0}, "'swap_fraction' should be greater than 0"),
        ({'concentrations': {'Na': 0.5, 'K': 0.4}}, "'concentrations' must add up to 1, got 0.9"),
        ({'concentrations': {'Na': 0.5, 'Q': 0.5}}, "'concentrations' has the unknown element 'Q'"),
        ({'map': {'Si': 'Ge'}}, 'structure 0: there is no Si to replace in Cl4Na4'),
        ({'concentrations': {'Si': 0.5, 'Ge': 0.5}}, 'structure 0: none of Si, Ge is in Cl4Na4'),
        ({'map': {'Na': {'K': 0.05}}}, 'structure 0: 4 sites are too few for a fraction 0.05 of K'),
        ({'concentrations': {'Na': 0.95, 'K': 0.05}}, '4 sites are too few for a fraction 0.05 of K'),
    ],
)
def test_what_cannot_be_done_is_said(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match='substitution: .*' + message) as told:
        sample([salt()], parameters)
    assert '\n' not in str(told.value)


def test_single_element_cannot_be_swapped() -> None:
    with pytest.raises(ValueError, match="a 'swap_fraction' of 0.2 means 1 swaps, but Si8 has 0 pairs"):
        sample([silicon()], {'swap_fraction': 0.2})
