"""Distances, forces and temperatures that are not physical."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii

from aiida_mlip_al.runners.checks import DistanceLimit, check_pairs, largest_force, temperature_limit, too_close
from aiida_mlip_al.runners.neighbours import neighbour_list


@pytest.mark.parametrize('scale', [0.499, 0.501])
def test_the_limit_is_a_fraction_of_the_covalent_radii(scale: float) -> None:
    pair = Atoms('CO', [[0, 0, 0], [scale * (covalent_radii[6] + covalent_radii[8]), 0, 0]])
    assert (too_close(pair, 0.5) is not None) == (scale < 0.5)


def test_the_worst_pair_is_named() -> None:
    atoms = molecule('CH3CH2OH')
    atoms.positions[8] = atoms.positions[2] + [0, 0, 0.2]
    atoms.positions[7] = atoms.positions[1] + [0, 0, 0.3]
    assert str(too_close(atoms, 0.5)).startswith('O2 and H8 are 0.200 Å apart')


def test_images_count_and_the_check_can_be_switched_off() -> None:
    across = Atoms('Cu2', [[0.1, 2, 2], [3.9, 2, 2]], cell=[4, 4, 4])
    assert too_close(across, 0.5) is None
    across.pbc = True
    assert 'Cu0 and Cu1 are 0.200 Å apart' in str(too_close(across, 0.5))
    assert too_close(across, 0) is None


@pytest.mark.parametrize(
    ('limit', 'sentence'),
    [
        ({'min': 0.1}, None),
        ({'min': 0.1, 'max': 0.3}, None),
        ({'max': 0.1}, 'Cu0 and O1 are 0.200 Å apart, more than the 0.1 Å allowed.'),
        ({'min': 0.25, 'max': None}, 'Cu0 and O1 are 0.200 Å apart, less than the 0.25 Å allowed.'),
    ],
)
def test_limits_are_on_the_nearest_images(limit: dict[str, float], sentence: str | None) -> None:
    across = Atoms('CuO', [[0.1, 2, 2], [3.9, 2, 2]], cell=[4, 4, 4])
    open_limit = DistanceLimit.from_dict({'pair': [0, 1], **limit})
    assert (open_limit.complaint(across) is None) == (open_limit.max is None), '3.8 Å without images'
    across.pbc = True
    assert DistanceLimit.from_dict({'pair': [0, 1], **limit}).complaint(across) == sentence


def test_limits_that_make_no_sense() -> None:
    for pair in ([0], [1, 1], [0, -1], [0, 1, 2]):
        with pytest.raises(ValueError, match='must be two atoms, counted from 0'):
            DistanceLimit.from_dict({'pair': pair, 'max': 1.0})
    with pytest.raises(ValueError, match='has the keys pair, min, max, not maximum, pair'):
        DistanceLimit.from_dict({'pair': [0, 1], 'maximum': 1.0})
    limits = [DistanceLimit((0, 2), max=3.0)]
    check_pairs(limits, molecule('H2O'))
    with pytest.raises(ValueError, match='on the atoms 0 and 2, but H2 has the atoms 0 to 1'):
        check_pairs(limits, molecule('H2'))


def test_force_is_a_vector_norm() -> None:
    assert largest_force(np.array([[3.0, 4.0, 0.0], [4.5, 0.0, 0.0]])) == pytest.approx(5.0)
    assert np.isnan(largest_force(np.array([[np.nan, 0, 0]])))


def test_few_atoms_may_fluctuate() -> None:
    assert temperature_limit(300, 5, 300) == 1500
    draws = np.random.default_rng(0).chisquare(3, size=100_000) / 3
    assert (draws > 5).sum() > 50, 'two atoms exceed five times the target by chance'
    assert draws.max() < temperature_limit(1, 5, 3) < 20


@pytest.mark.parametrize('pbc', [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize('cubic', [True, False])
def test_neighbours_agree_with_ase(pbc: tuple[int, int, int], cubic: bool) -> None:
    from ase.neighborlist import neighbor_list

    atoms = bulk('C', cubic=cubic) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    atoms.positions += [50, -30, 7]
    atoms.pbc = pbc
    pairs, images = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, 4.0)
    first, second, shifts = neighbor_list('ijS', atoms, 4.0)
    found = sorted(map(tuple, np.column_stack([*pairs, images]).astype(int).tolist()))
    assert found == sorted(map(tuple, np.column_stack([first, second, shifts]).tolist()))


def test_neighbours_of_many_open_atoms() -> None:
    atoms = bulk('Cu', cubic=True) * (4, 4, 4)
    atoms.pbc = False
    pairs, images = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, 2.6)
    distances = atoms.get_all_distances()
    np.fill_diagonal(distances, 99)
    assert pairs.shape[1] == (distances < 2.6).sum() > 0
    assert not images.any()
