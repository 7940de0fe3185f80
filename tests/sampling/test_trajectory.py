"""Frames of a trajectory are taken where they should."""

from itertools import pairwise
from typing import Any

import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_al.sampling import Seeder
from aiida_mlip_al.sampling.trajectory import TrajectoryParameters, trajectory

sample = Seeder('trajectory', TrajectoryParameters, trajectory)


def frames(n: int) -> list[Atoms]:
    return [Atoms('H', positions=[[i, 0, 0]]) for i in range(n)]


@pytest.mark.parametrize(
    ('parameters', 'expected'),
    [
        ({}, list(range(10))),
        ({'every': 3}, [0, 3, 6, 9]),
        ({'discard_frames': 2}, [2, 3, 4, 5, 6, 7, 8, 9]),
        ({'discard_frames': 2, 'every': 3}, [2, 5, 8]),
        # As floating-point numbers, 0.7 / 0.1 is a little less than 7 and 2.1 / 0.3 a little more.
        ({'discard_time_fs': 0.7, 'timestep_fs': 0.1}, [7, 8, 9]),
        ({'discard_time_fs': 2.1, 'timestep_fs': 0.3}, [7, 8, 9]),
        ({'discard_time_fs': 45.0, 'timestep_fs': 10.0}, [5, 6, 7, 8, 9]),
        ({'max_frames': 5}, [1, 3, 5, 7, 9]),
        ({'max_frames': 20}, list(range(10))),
        ({'discard_frames': 1, 'every': 2, 'max_frames': 2}, [3, 9]),
        ({'discard_frames': 9}, [9]),
    ],
)
def test_known_choices(parameters: dict[str, Any], expected: list[int]) -> None:
    result = sample(frames(10), parameters)
    assert [frame.positions[0, 0] for frame in result.frames] == expected
    assert [record['source'] for record in result.records] == expected


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 60),
    every=st.integers(1, 7),
    discard=st.floats(0.1, 20),
    timestep=st.floats(0.1, 5),
    most=st.integers(1, 30),
)
def test_time_is_discarded_and_the_rest_even(n: int, every: int, discard: float, timestep: float, most: int) -> None:
    parameters = {'every': every, 'discard_time_fs': discard, 'timestep_fs': timestep, 'max_frames': most}
    late = [i for i in range(n) if i * timestep >= discard * (1 - 1e-9)]
    if not late:
        with pytest.raises(ValueError, match='nothing is left'):
            sample(frames(n), parameters)
        return
    taken = [record['source'] for record in sample(frames(n), parameters).records]
    assert len(taken) == min(most, len(late[::every])) == TrajectoryParameters(**parameters).expected_frames(n)
    assert set(taken) <= set(late[::every])
    gaps = {later - earlier for earlier, later in pairwise(taken)}
    assert max(gaps, default=0) - min(gaps, default=0) <= every


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'discard_frames': 10}, 'nothing is left of 10 frames when 10 are discarded; discard less'),
        ({'discard_time_fs': 1000, 'timestep_fs': 50}, 'nothing is left of 10 frames when 20 are discarded'),
        (
            {'discard_frames': 1, 'discard_time_fs': 1, 'timestep_fs': 1},
            "'discard_frames' or 'discard_time_fs', not both",
        ),
        ({'discard_time_fs': 1}, "'discard_time_fs' and 'timestep_fs' .* go together"),
        ({'timestep_fs': 1}, "'discard_time_fs' and 'timestep_fs' .* go together"),
        ({'every': 0}, "'every' should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_done_is_said(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match='trajectory: .*' + message):
        sample(frames(10), parameters)
