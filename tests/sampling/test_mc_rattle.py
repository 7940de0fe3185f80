"""Monte Carlo rattle through hiPhive."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aiida_mlip_al.sampling import SEEDERS, RejectionLimitError
from aiida_mlip_al.sampling.checks import min_distance_ratio

sample = SEEDERS['rattle']


def copper() -> Atoms:
    return bulk('Cu', cubic=True) * 2


def test_missing_hiphive_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'hiphive.structure_generation', None)
    with pytest.raises(ValueError, match=r"rattle: 'kind: mc' needs hiPhive; install it with `pip install"):
        sample([copper()], {'kind': 'mc'})


def test_iterations_belong_to_mc() -> None:
    with pytest.raises(ValueError, match="rattle: 'n_iter' goes with 'kind: mc'"):
        sample([copper()], {'n_iter': 5})


class TestWithHiphive:
    @pytest.fixture(autouse=True)
    def hiphive(self) -> None:
        pytest.importorskip('hiphive')

    @pytest.mark.parametrize('n_iter', [4, None])
    def test_displacements_grow_with_the_root_of_the_iterations(self, n_iter: int | None) -> None:
        parameters = {'kind': 'mc', 'stdev': 0.02, 'n_iter': n_iter, 'copies': 6, 'min_distance_fraction': 0.5}
        frames = sample([copper()], parameters, seed=1).frames
        moved = np.array([frame.positions - copper().positions for frame in frames])
        assert moved.std() == pytest.approx(0.02 * np.sqrt(n_iter or 10), rel=0.08)
        assert abs(moved.mean()) < 0.01
        assert all(np.array_equal(frame.cell.array, copper().cell.array) for frame in frames)

    def test_atoms_keep_their_distance(self) -> None:
        loose = sample([copper()], {'stdev': 0.3, 'min_distance_fraction': 0, 'copies': 5}).frames
        assert max(map(min_distance_ratio, loose)) < 0.75
        # The nearest neighbours are 0.97 of the radii sum apart at the start.
        parameters = {'kind': 'mc', 'stdev': 0.095, 'min_distance_fraction': 0.8, 'copies': 3, 'max_attempts': 5}
        moved = sample([copper()], parameters)
        assert min(map(min_distance_ratio, moved.frames)) >= 0.8
        assert np.std(moved.frames[0].positions - copper().positions) > 0.15

    def test_least_distance_is_that_of_the_closest_pair(self) -> None:
        # 0.8 of the C-O radii sum would be more than the O-H bond, and no move would ever be accepted.
        parameters = {'kind': 'mc', 'stdev': 0.01, 'min_distance_fraction': 0.8, 'copies': 3, 'max_attempts': 2}
        frames = sample([molecule('CH3OH')], parameters).frames
        assert min(map(min_distance_ratio, frames)) >= 0.8

    def test_atoms_far_apart_at_the_start_are_seen_when_they_meet(self) -> None:
        # All but the first two are beyond twice the least distance, where hiPhive by itself does not look.
        atoms = Atoms('H6', positions=[[x, 0, 0] for x in (0, 0.65, 1.95, 3.25, 4.55, 5.85)])
        parameters = {'kind': 'mc', 'stdev': 0.5, 'min_distance_fraction': 0.9, 'copies': 30, 'n_iter': 4}
        assert sample([atoms], parameters, seed=1).rejected.get('too_close', 0) <= 1

    def test_copies_and_seeds_have_streams_of_their_own(self) -> None:
        parameters = {'kind': 'mc', 'copies': 2, 'n_iter': 2}
        atoms = bulk('Cu', cubic=True)
        few = sample([atoms, atoms], parameters, seed=4).frames
        many = sample([atoms, atoms], parameters | {'copies': 4}, seed=4).frames
        assert many[:2] + many[4:6] == few
        assert len({frame.positions.tobytes() for frame in many}) == 8
        assert sample([atoms], parameters, seed=5).frames[0] != few[0]

    def test_hopeless_rattle_is_an_error(self) -> None:
        tight = {'kind': 'mc', 'stdev': 1e-3, 'min_distance_fraction': 0.95, 'max_attempts': 1}
        with pytest.raises(RejectionLimitError, match='rattle: structure 0.* hiPhive gave up'):
            sample([Atoms('H2', positions=[[0, 0, 0], [0, 0, 0.2]])], tight)
