"""Slabs keep the crystal inside, and get vacuum outside."""

from itertools import product
from math import gcd
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aiida_mlip_al.sampling import Seeder
from aiida_mlip_al.sampling.slab import SlabParameters, slab

sample = Seeder('slab', SlabParameters, slab)


def environments(atoms: Atoms, cutoff: float) -> list[np.ndarray]:
    """Distances to the neighbours of each atom, and the signed volume of the first three, which a mirror image changes."""
    first, vectors = neighbor_list('iD', atoms, cutoff)
    found = []
    for index in range(len(atoms)):
        mine = vectors[first == index]
        mine = mine[np.argsort(np.linalg.norm(mine, axis=1))]
        found.append(np.append(np.linalg.norm(mine, axis=1), np.linalg.det(mine[:3]) if len(mine) > 2 else 0))
    return found


def test_copper_111_is_ase_own() -> None:
    (frame,) = sample([bulk('Cu', a=3.61)], {'miller': [[1, 1, 1]], 'min_thickness': 8}).frames
    # Primitive cell: (111) of its own axes is {111} of the cubic ones.
    expected = fcc111('Cu', (1, 1, 5), a=3.61, vacuum=7.5)
    assert len(frame) == 5
    np.testing.assert_allclose(np.sort(frame.positions[:, 2]), expected.positions[:, 2], atol=1e-10)
    np.testing.assert_allclose(frame.cell.areas()[2], expected.cell.areas()[2])
    distances = neighbor_list('d', frame, 7.0)
    np.testing.assert_allclose(np.sort(distances), np.sort(neighbor_list('d', expected, 7.0)), atol=1e-10)


def test_defaults_on_conventional_salt() -> None:
    atoms = bulk('NaCl', 'rocksalt', a=5.64, cubic=True)
    result = sample([atoms])
    assert [record['copy'] for record in result.records] == [0, 1, 2]
    # Layers of 8 atoms, 5.64 / sqrt(h² + k² + l²) apart and themselves 0.5 of that thick.
    expected = [round(1 + np.ceil((10 - d / 2) / d)) for d in 5.64 / np.sqrt([3, 2, 1])]
    assert [len(frame) for frame in result.frames] == [8 * n for n in expected]
    for frame in result.frames:
        assert frame.pbc.tolist() == [True, True, False]
        np.testing.assert_allclose(frame.cell.array[2, :2], 0, atol=1e-12)
        np.testing.assert_allclose(frame.cell.array[:2, 2], 0, atol=1e-12)
        height = frame.positions[:, 2]
        assert np.ptp(height) >= 10
        assert frame.cell[2, 2] - np.ptp(height) == pytest.approx(15)
        assert height.min() == pytest.approx(7.5)
        assert np.count_nonzero(frame.symbols == 'Na') == len(frame) / 2


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    miller=st.tuples(*[st.integers(-2, 2)] * 3),
    flip=st.booleans(),
)
def test_inside_is_the_crystal_whatever_its_cell(seed: int, miller: tuple[int, int, int], flip: bool) -> None:
    assume(gcd(*miller) > 0)
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * 4 + rng.uniform(-1.2, 1.2, (3, 3))
    if flip:
        cell[0] *= -1
    atoms = Atoms('CNO', scaled_positions=rng.random((3, 3)), cell=cell, pbc=True)
    assume(abs(np.linalg.det(cell)) > 20)
    cutoff = 4.5
    parameters = {'miller': [miller], 'min_thickness': 2 * cutoff + 6, 'vacuum': 12}
    (frame,) = sample([atoms], parameters).frames
    z = frame.positions[:, 2]
    inner = np.flatnonzero((z - z.min() > cutoff) & (z.max() - z > cutoff))
    assert set(frame.numbers[inner]) == {6, 7, 8}
    expected, found = environments(atoms, cutoff), environments(frame, cutoff)
    for index in inner:
        np.testing.assert_allclose(found[index], expected[frame.numbers[index] - 6], atol=1e-6)
    # The distance of the lattice planes is 1 / |h b1 + k b2 + l b3|.
    plane = np.array(miller) // gcd(*miller)
    spacing = 1 / np.linalg.norm(plane @ atoms.cell.reciprocal().array)
    assert atoms.get_volume() / frame.cell.areas()[2] == pytest.approx(spacing)
    one_less = len(frame) - len(atoms)
    assert np.ptp(frame.positions[:one_less, 2]) < parameters['min_thickness'] <= np.ptp(z)


def test_common_factor_changes_nothing() -> None:
    atoms = bulk('NaCl', 'rocksalt', a=5.64, cubic=True)
    single, double = sample([atoms], {'miller': [[1, 1, 0], [2, 2, 0]]}).frames
    assert single == double


def test_tags_stay_with_their_atoms() -> None:
    atoms = bulk('NaCl', 'rocksalt', a=5.64)
    assert not sample([atoms]).frames[0].has('tags')
    atoms.set_tags(atoms.numbers)
    for frame in sample([atoms]).frames:
        np.testing.assert_array_equal(frame.get_tags(), frame.numbers)


@pytest.mark.parametrize(
    ('atoms', 'parameters', 'message'),
    [
        (bulk('Cu'), {'miller': [[1, 1, 1], [0, 0, 0]]}, r"'miller' has the indices \(0, 0, 0\), which name no plane"),
        (bulk('Cu'), {'miller': []}, "'miller' "),
        (bulk('Cu'), {'miller': [[1, 0]]}, "'miller' "),
        (fcc111('Cu', (1, 1, 3), vacuum=6), {}, 'structure 0: slabs are cut out of crystals'),
        (molecule('H2O'), {}, 'slabs are cut out of crystals'),
        (
            bulk('Cu', cubic=True) * 2,
            {'miller': [[1, 0, 0]], 'max_atoms': 63},
            r"structure 0: a \(1, 0, 0\) slab of 2 layers with 32 atoms each exceeds 'max_atoms' 63",
        ),
    ],
)
def test_what_cannot_be_done_is_said(atoms: Atoms, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match='slab: .*' + message):
        sample([atoms], parameters)


@pytest.mark.filterwarnings('ignore:slab')
def test_crystal_with_vacuum_is_refused_even_if_its_pbc_is_three_dimensional() -> None:
    atoms = fcc111('Cu', (1, 1, 3), vacuum=6)
    atoms.pbc = True
    with pytest.raises(ValueError, match='which have three periodic directions, not 2'):
        sample([atoms])


def test_every_low_plane_of_a_primitive_cell_is_cut() -> None:
    planes = [plane for plane in product(range(-1, 2), repeat=3) if any(plane)]
    frames = sample([bulk('Si')], {'miller': planes}).frames
    assert all(np.isclose(neighbor_list('d', frame, 2.6), 5.43 * np.sqrt(3) / 4).all() for frame in frames)
