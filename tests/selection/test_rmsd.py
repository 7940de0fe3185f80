"""Molecules that are alike but for a rotation."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, minimize_rotation_and_translation, molecule

from aiida_mlip_al.selection.rmsd import alike_molecules, kabsch_rmsd


def moved(atoms: Atoms, seed: int, stdev: float = 0.0) -> Atoms:
    """The molecule displaced at random, then turned and shifted."""
    copy = atoms.copy()
    copy.rattle(stdev, seed=seed)
    copy.rotate(37.0 * (seed + 1), (1, 2, 3 + seed), center='COM')
    copy.translate([seed, -2.0, 0.5])
    return copy


def test_rmsd_is_that_of_the_best_rotation() -> None:
    reference = molecule('CH3CH2OH')
    others = [moved(reference, seed, 0.1 * seed) for seed in range(5)]
    found = kabsch_rmsd(reference.positions, [atoms.positions for atoms in others])
    assert found[0] == pytest.approx(0.0, abs=1e-6)
    for atoms, value in zip(others, found, strict=True):
        minimize_rotation_and_translation(reference, atoms)
        assert value == pytest.approx(np.sqrt(((atoms.positions - reference.positions) ** 2).sum(1).mean()), abs=1e-6)


def test_mirror_image_is_another_molecule() -> None:
    chiral = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    mirrored = chiral * [1, 1, -1]
    assert kabsch_rmsd(chiral, [mirrored])[0] > 0.3
    assert kabsch_rmsd(chiral, [chiral[:, [1, 2, 0]]])[0] == pytest.approx(0.0, abs=1e-7)


def test_greedy_filter_keeps_the_first_of_like_molecules() -> None:
    ethanol, water = molecule('CH3CH2OH'), molecule('H2O')
    carbon, hydrogen = ethanol.copy(), ethanol.copy()
    carbon.positions[0] += [0.0, 0.4, 0.0]
    hydrogen.positions[-1] += [0.0, 0.4, 0.0]
    frames = [ethanol, water, moved(ethanol, 1), hydrogen, carbon, moved(carbon, 2), moved(water, 3)]
    assert alike_molecules(frames, 0.05).tolist() == [False, False, True, True, False, True, True]
    with_hydrogen = alike_molecules(frames, 0.05, exclude_hydrogen=False)
    assert with_hydrogen.tolist() == [False, False, True, False, False, True, True]


@pytest.mark.parametrize('name', ['H2O', 'NH3', 'CH4', 'CH3OH'])
def test_molecules_of_few_heavy_atoms_are_compared_by_all(name: str) -> None:
    frames = [moved(molecule(name), seed, 0.15) for seed in range(20)]
    found = alike_molecules(frames, 0.05)
    assert found.tolist() == alike_molecules(frames, 0.05, exclude_hydrogen=False).tolist()
    assert found.sum() < 10


def test_like_a_refused_one_is_not_refused_for_that() -> None:
    """A chain of small steps: each is near the one before, but only near ones of those that were kept count."""
    frames = [Atoms('N2', [[0, 0, 0], [1.0 + 0.1 * step, 0, 0]]) for step in range(5)]
    assert alike_molecules(frames, 0.08).tolist() == [False, True, False, True, False]


def test_periodic_structures_are_refused() -> None:
    with pytest.raises(ValueError, match="'rmsd' compares molecules"):
        alike_molecules([bulk('Si')], 0.05)
    assert alike_molecules([], 0.05).tolist() == []
