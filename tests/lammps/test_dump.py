"""Dumps as LAMMPS writes them, and as a killed job leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiida_mlip_al.lammps.dump import Dump, read_dump

RECORDED = Path(__file__).parent / 'recorded'


def recorded(case: str) -> str:
    return (RECORDED / f'{case}.dump').read_text()


def frame(step: int, shift: float = 0.0, *, elements: str = 'Cu Au', columns: str = 'id element xu yu zu') -> str:
    first, second = elements.split()
    return (
        f'ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 5\n0 6\n'
        f'ITEM: ATOMS {columns} \n2 {second} {1 + shift} 2 3 \n1 {first} {4 + shift} 5 6 \n'
    )


def test_triclinic_box_and_scrambled_atoms() -> None:
    dump = read_dump(recorded('finished'))
    assert len(dump) == 3
    assert dump.steps.tolist() == [0, 5, 10]
    assert dump.periodic == (True, True, True)
    # prism 0 2 0 1 0 1 0.3 -0.2 0.1 in units of 5.3 Å.
    cell = [[10.6, 0.0, 0.0], [1.59, 5.3, 0.0], [-1.06, 0.53, 5.3]]
    np.testing.assert_allclose(dump.cells, [cell] * 3, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dump.origins, 0.0, atol=1e-12)
    assert dump.elements.tolist() == [['Ar', 'Kr', 'Ar', 'Kr', 'Ar', 'Ar', 'Ar', 'Ar']] * 3
    assert list(dump.columns) == ['id', 'type', 'xu', 'yu', 'zu', 'vx', 'vy', 'vz', 'fx', 'fy', 'fz']
    assert dump.columns['id'].tolist() == [list(range(1, 9))] * 3
    assert dump.columns['type'][1].tolist() == [1, 2, 1, 2, 1, 1, 1, 1]
    positions, forces = dump.vectors('xu', 'yu', 'zu'), dump.vectors('fx', 'fy', 'fz')
    assert positions.shape == forces.shape == (3, 8, 3)
    # Lines of the file: atom 6 of the first frame, atom 2 of the last.
    assert positions[0, 5].tolist() == [10.6, 2.65, 2.65]
    assert forces[2, 1].tolist() == [0.401541, -0.671305, 0.239552]
    assert dump.finite.all()


def test_negative_tilt_and_origin() -> None:
    """Lower corner (1, 2, 3), lengths 4, 5, 6, tilt xy -1, xz 0.5, yz -2."""
    text = frame(0).replace('BOUNDS pp', 'BOUNDS xy xz yz pp').replace('0 4\n0 5\n0 6', '0 5.5 -1\n0 7 0.5\n3 9 -2')
    dump = read_dump(text)
    assert dump.cells.tolist() == [[[4, 0, 0], [-1, 5, 0], [0.5, -2, 6]]]
    assert dump.origins.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ('letters', 'periodic'), [('pp ff ss', (True, False, False)), ('fs mm pp', (False, False, True))]
)
def test_boundary_letters(letters: str, periodic: tuple[bool, ...]) -> None:
    assert read_dump(frame(0).replace('pp pp pp', letters)).periodic == periodic


def test_units_and_time_between_the_frames() -> None:
    dump = read_dump(recorded('slab'))
    assert dump.steps.tolist() == [0, 5]
    assert dump.periodic == (True, True, False)
    assert dump.vectors('xu', 'yu', 'zu').shape == (2, 4, 3)


def test_numbers_that_are_not_finite() -> None:
    dump = read_dump(recorded('nan'))
    assert dump.finite.tolist() == [True, True, False]
    assert np.isnan(dump.vectors('xu', 'yu', 'zu')[2]).all(axis=1).tolist() == [True, True, False, False]
    infinite = read_dump(frame(0).replace('4.0', '-inf'))
    assert np.isnan(infinite.columns['xu'][0]).tolist() == [True, False]
    assert infinite.finite.tolist() == [False]


def test_lost_atoms_end_the_trajectory() -> None:
    dump = read_dump(recorded('lost_atoms'))
    assert recorded('lost_atoms').count('ITEM: TIMESTEP') == 3
    assert dump.steps.tolist() == [0, 5]
    assert dump.columns['xu'].shape == (2, 8)


@pytest.mark.parametrize('text', ['', 'ITEM: TIMESTEP\n', recorded('killed_before_step_0'), 'garbage\n'])
def test_no_frame(text: str) -> None:
    dump = read_dump(text)
    assert len(dump) == 0
    assert dump.cells.shape == (0, 3, 3)
    assert dump.vectors('xu', 'yu', 'zu').shape == (0, 0, 3)
    assert dump.finite.shape == (0,)


def test_cut_anywhere_leaves_the_complete_frames() -> None:
    text = recorded('slab')
    starts = [place for place in range(len(text)) if text.startswith('ITEM: UNITS', place)]
    starts += [place for place in range(len(text)) if text.startswith('ITEM: TIME\n', place)]
    second = sorted(starts)[-1]
    whole = read_dump(text)
    for end in range(len(text)):
        dump = read_dump(text[:end])
        assert len(dump) == (0 if end < second else 1), end
        if len(dump):
            np.testing.assert_array_equal(dump.columns['zu'], whole.columns['zu'][:1])


@pytest.mark.parametrize('garbage', ['\0\0\0\n', '3 Cu 1 2 3\n', 'ITEM: TIMESTEP\n\0\0\nITEM: ATOMS'])
def test_garbage_at_the_end(garbage: str) -> None:
    dump = read_dump(frame(0) + frame(5, 1.0) + garbage)
    assert dump.columns['xu'].tolist() == [[4, 1], [5, 2]]


@pytest.mark.parametrize('wrong', ['ITEM: NUMBER OF ATOMS\n2\n', '0 5\n', 'pp pp pp', '2 Au'])
def test_garbled_frame_is_left_out(wrong: str) -> None:
    assert read_dump(frame(0) + frame(5).replace(wrong, '') + frame(10)).steps.tolist() == [0, 10]


def test_frame_cut_in_a_line_before_the_next_one() -> None:
    """A job that goes on writing to the file of a killed one."""
    cut = frame(5)[:-5]
    assert read_dump(frame(0) + cut + frame(5, 1.0)).columns['xu'].tolist() == [[4, 1], [5, 2]]


def test_later_frames_take_the_place_of_earlier_ones() -> None:
    again = read_dump(frame(0) + frame(5) + frame(5, 1.0))
    assert again.steps.tolist() == [0, 5]
    assert again.columns['xu'].tolist() == [[4, 1], [5, 2]]
    continued = read_dump(''.join([frame(0), frame(5), frame(10), frame(15), frame(5, 1.0), frame(10, 1.0)]))
    assert continued.steps.tolist() == [0, 5, 10]
    assert continued.columns['xu'][:, 0].tolist() == [4, 5, 5]


def test_swaps_change_elements() -> None:
    dump = read_dump(frame(0) + frame(5, elements='Au Cu'))
    assert dump.elements.tolist() == [['Cu', 'Au'], ['Au', 'Cu']]


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match='needs the columns id and element'):
        read_dump(frame(0, columns='id type xu yu zu'))
    with pytest.raises(ValueError, match='no column vx: add it'):
        read_dump(frame(0)).vectors('vx', 'vy', 'vz')
    with pytest.raises(ValueError, match='triclinic/general'):
        read_dump(frame(0).replace('BOUNDS', 'BOUNDS abc origin'))


def test_empty_dump_is_the_default() -> None:
    assert Dump().periodic == (False, False, False)
