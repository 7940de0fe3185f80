"""The Verlet list against lists made anew."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_mlip_al.lmp_mace.neighbours import Neighbours, VerletList


def distances(found: Neighbours) -> np.ndarray:
    """Return (m, 3): sender, receiver and distance, sorted."""
    first, second = found.pairs
    separation = found.positions[second] - found.positions[first] + found.images @ found.cell
    rows = np.column_stack([first, second, np.round(np.linalg.norm(separation, axis=1), 9)])
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize('pbc', [(True, True, True), (True, True, False), (False, True, False), (False, False, False)])
@pytest.mark.parametrize('size', [7.0, 3.0], ids=['wide', 'narrow'])
def test_no_pair_is_missed_while_atoms_move_and_the_cell_changes(size: float, pbc: tuple[bool, bool, bool]) -> None:
    rng = np.random.default_rng(4)
    periodic = np.array(pbc)
    cell = np.array([[size, 0, 0], [0.3 * size, size, 0], [-0.2 * size, 0.4 * size, size]])
    positions, tags = rng.uniform(size=(25, 3)) @ cell, np.arange(25)
    verlet = VerletList(2.5, skin=0.8)
    velocities = rng.normal(scale=0.02, size=positions.shape)
    for step in range(120):
        strain = np.eye(3) + np.tril(rng.normal(scale=0.004, size=(3, 3)))
        cell, positions = cell @ strain, positions @ strain + velocities
        # LAMMPS wraps atoms now and then.
        seen = positions - np.floor(positions @ np.linalg.inv(cell)) * periodic @ cell if step % 7 else positions
        found = verlet.update(tags, seen, cell, periodic)
        anew = VerletList(2.5, skin=0.0).update(tags, seen, cell, periodic)
        np.testing.assert_allclose(distances(found), distances(anew), rtol=0, atol=2e-9)
        assert found.pairs.flags.c_contiguous, 'models are slower otherwise'
        whole = (found.positions - seen) @ np.linalg.inv(found.cell)
        np.testing.assert_allclose(whole, np.rint(whole) * periodic, atol=1e-9)
    assert 2 < verlet.builds < 60


def test_a_list_is_kept_while_the_box_swells_and_the_atoms_drift() -> None:
    """A uniform change of the cell moves far atoms a lot, and no pair by much."""
    cell, positions = np.eye(3) * 60.0, np.random.default_rng(1).uniform(0, 60, (200, 3))
    verlet, pbc = VerletList(5.0), np.array([True, True, True])
    verlet.update(np.arange(200), positions, cell, pbc)
    verlet.update(np.arange(200), positions * 1.05, cell * 1.05, pbc)
    assert verlet.builds == 1
    verlet.update(np.arange(200), positions * 0.8, cell * 0.8, pbc)
    assert verlet.builds == 2


def test_other_atoms_make_a_new_list() -> None:
    cell, positions = np.eye(3) * 9.0, np.random.default_rng(1).uniform(0, 9, (6, 3))
    verlet, pbc = VerletList(4.0), np.array([True, True, True])
    verlet.update(np.arange(6), positions, cell, pbc)
    verlet.update(np.arange(5), positions[:5], cell, pbc)
    verlet.update(np.arange(1, 6), positions[:5], cell, pbc)
    assert verlet.builds == 3
