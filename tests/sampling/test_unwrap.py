"""Following atoms through wrapped trajectories."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.spacegroup import crystal
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_al.sampling.molecules import find_molecules
from aiida_mlip_al.sampling.unwrap import unwrap


def dry_ice() -> Atoms:
    basis = [(0, 0, 0), (0.1187,) * 3]
    return crystal(['C', 'O'], basis=basis, spacegroup=205, cellpar=[5.624] * 3 + [90] * 3)


def trajectory(
    reference: Atoms, rng: np.random.Generator, steps: int, drift: np.ndarray, move: float, strain: float = 0.03
) -> list[Atoms]:
    """Walk of all atoms by up to ``move`` of a cell vector a step, with a drift and a changing cell; not wrapped."""
    scaled = reference.get_scaled_positions(wrap=False)
    frames = []
    for _ in range(steps):
        random = rng.uniform(-move, move, scaled.shape)
        scaled = scaled + drift + random - random.mean(axis=0)
        frame = reference.copy()
        frame.set_cell(reference.cell.array @ (np.eye(3) + rng.uniform(-strain, strain, (3, 3))))
        frame.positions = scaled @ frame.cell.array
        frames.append(frame)
    return frames


def wrapped(frames: list[Atoms]) -> list[Atoms]:
    copies = [frame.copy() for frame in frames]
    for copy in copies:
        copy.wrap()
    return copies


def assert_equal_positions(found: list[Atoms], expected: list[Atoms]) -> None:
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.positions, two.positions, atol=1e-8)
        np.testing.assert_array_equal(one.cell.array, two.cell.array)


def test_wrapped_npt_trajectory_keeps_molecules_where_a_constant_shift_tears_them() -> None:
    reference = dry_ice().repeat(2)
    rng = np.random.default_rng(0)
    true = trajectory(reference, rng, 50, rng.normal(0, 0.02, 3), 0.003)
    frames = wrapped(true)
    molecules = find_molecules(reference)

    def largest_radius(atoms: Atoms) -> float:
        wholes = [found.whole(atoms) for found in molecules]
        return max(np.linalg.norm(whole - whole.mean(axis=0), axis=1).max() for whole in wholes)

    assert max(largest_radius(frame) for frame in frames) > 7
    followed = unwrap(reference, frames)
    assert max(largest_radius(frame) for frame in followed) < 1.6
    assert_equal_positions(followed, true)


def test_drift_is_taken_out_before_the_image_is_chosen() -> None:
    reference = dry_ice()
    true = trajectory(reference, np.random.default_rng(1), 20, np.array([0.45, -0.3, 0.49]), 0.1)
    assert_equal_positions(unwrap(reference, wrapped(true)), true)


def test_wrapping_of_half_the_atoms_at_once_is_no_drift() -> None:
    reference = Atoms('Ar4', positions=[[0.1, 0, 0], [0.1, 3, 0], [3, 0, 0], [3, 3, 0]], cell=[6] * 3, pbc=True)
    true = reference.copy()
    true.positions[:2, 0] -= 0.2
    true.positions[2:, 0] += 0.2
    (frame,) = wrapped([true])
    assert frame.positions[0, 0] == pytest.approx(5.9)
    assert_equal_positions(unwrap(reference, [frame]), [true])


def test_a_drift_beyond_half_a_cell_is_undone_for_all_atoms_alike() -> None:
    reference = dry_ice()
    true = trajectory(reference, np.random.default_rng(2), 3, np.array([0.7, 0, 0]), 0.01)
    once = unwrap(reference, true)
    for number, (one, two) in enumerate(zip(once, true, strict=True), start=1):
        np.testing.assert_allclose(two.positions - one.positions, [number * two.cell.array[0]] * 12, atol=1e-9)
    assert unwrap(reference, once) == once


def test_unwrapped_frames_come_back_to_the_bit() -> None:
    reference = dry_ice()
    frames = trajectory(reference, np.random.default_rng(3), 10, np.array([0.05, 0.02, 0.3]), 0.1)
    before = [frame.copy() for frame in frames]
    assert unwrap(reference, frames) == frames == before


def test_the_references_images_are_kept() -> None:
    reference = dry_ice()
    elsewhere = reference.copy()
    images = np.random.default_rng(4).integers(-3, 4, (12, 3))
    elsewhere.positions += images @ elsewhere.cell.array
    (found,) = unwrap(elsewhere, [reference])
    np.testing.assert_allclose(found.positions, elsewhere.positions, atol=1e-9)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0, 3), st.tuples(*[st.booleans()] * 3))
def test_any_cell_and_any_wrapping(seed: int, number: int, skew: float, pbc: tuple[bool, bool, bool]) -> None:
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(2, 9, 3)) + skew * np.tril(rng.uniform(-5, 5, (3, 3)), -1)
    reference = Atoms(f'He{number}', scaled_positions=rng.uniform(-1, 2, (number, 3)), cell=cell, pbc=pbc)
    true = trajectory(reference, rng, 8, rng.uniform(-0.3, 0.3, 3), 0.09)
    frames = wrapped(true)
    for frame in frames:
        frame.positions += np.where(pbc, rng.integers(-2, 3, (number, 3)), 0) @ frame.cell.array
    followed = unwrap(reference, frames)
    assert_equal_positions(followed, true)
    assert unwrap(reference, followed) == followed


def test_molecules_without_boundaries_pass_through() -> None:
    water = molecule('H2O')
    far = water.copy()
    far.positions[1] += 100
    assert unwrap(water, [far]) == [far]


def test_directions_that_are_not_periodic_have_no_images() -> None:
    reference = Atoms('He3', positions=[[0, 0, 1], [2, 2, 1], [4, 4, 1]], cell=[6, 6, 6], pbc=[True, True, False])
    true = reference.copy()
    true.positions[0] += [-1, 0, 21.4]
    true.positions[1] += [0, 0, -8.6]
    assert_equal_positions(unwrap(reference, wrapped([true])), [true])


def test_a_step_of_nearly_half_a_cell_is_refused() -> None:
    reference = dry_ice().repeat(2)
    far = reference.copy()
    far.positions[5, 1] += 0.42 * far.cell[1, 1]
    near = reference.copy()
    near.positions[5, 1] += 0.38 * far.cell[1, 1]
    unwrap(reference, [near, reference])
    message = (
        r'run 3: frame 2: atom 5 \(O\) moved by 0.42 of a cell vector since the frame before.*record frames more often, '
        'or use a larger supercell'
    )
    with pytest.raises(ValueError, match=message):
        unwrap(reference, [near, reference, far], where='run 3')


def test_positions_that_are_no_numbers_are_refused() -> None:
    frame = dry_ice()
    frame.positions[3] = np.nan
    with pytest.raises(ValueError, match=r'frame 0: atom 0 \(C\) moved by nan'):
        unwrap(dry_ice(), [frame])


def test_other_systems_are_refused() -> None:
    reference = dry_ice()
    permuted = reference[[11, *range(1, 11), 0]]
    with pytest.raises(ValueError, match='frame 1 does not have the atoms of the reference in the same order'):
        unwrap(reference, [reference, permuted])
    with pytest.raises(ValueError, match='frame 0 does not have the atoms of the reference .*C32O64.*C4O8'):
        unwrap(reference, [reference.repeat(2)])
    slab = reference.copy()
    slab.pbc = [True, True, False]
    with pytest.raises(ValueError, match=r'frame 0 has periodic boundaries \[True, True, False\]'):
        unwrap(reference, [slab])
    flat = reference.copy()
    flat.set_cell([5, 5, 0])
    with pytest.raises(ValueError, match='frame 0: a periodic cell vector is zero'):
        unwrap(reference, [flat])
