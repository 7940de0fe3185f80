"""Molecules in crystals: known crystals, infinite networks, and no say for origin and wrapping."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.spacegroup import crystal
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_al.sampling.molecules import InfiniteNetworkError, Molecule, find_molecules


def dry_ice() -> Atoms:
    """Carbon dioxide, Pa-3; a carbon and oxygens of each molecule lie on different sides of the cell."""
    basis = [(0, 0, 0), (0.1187,) * 3]
    return crystal(['C', 'O'], basis=basis, spacegroup=205, cellpar=[5.624] * 3 + [90] * 3)


def urea() -> Atoms:
    """Urea, P-42_1m; chains of hydrogen bonds along c."""
    basis = [(0, 0.5, 0.3283), (0, 0.5, 0.5963), (0.1447, 0.6447, 0.1784)]
    basis += [(0.2552, 0.7552, 0.2845), (0.1428, 0.6428, -0.0339)]
    symbols = ['C', 'O', 'N', 'H', 'H']
    return crystal(symbols, basis=basis, spacegroup=113, cellpar=[5.589, 5.589, 4.6947, 90, 90, 90])


def packed_water(rng: np.random.Generator, number: int, skew: float) -> Atoms:
    """Water molecules at random places of a random skewed cell, apart from each other and wrapped."""
    cell = np.diag(rng.uniform(5, 8, 3))
    cell[1, 0], cell[2, 0], cell[2, 1] = skew * rng.uniform(-1, 1, 3) * cell[[0, 0, 1], [0, 0, 1]]
    atoms = Atoms(cell=cell, pbc=True)
    while len(atoms) < 3 * number:
        water = molecule('H2O')
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.positions += rng.uniform(size=3) @ cell
        larger = atoms + water
        between = larger.get_all_distances(mic=True)[: len(atoms), len(atoms) :]
        if np.min(between, initial=np.inf) > 2.0:
            atoms = larger
        else:
            cell *= 1.02
            atoms.set_cell(cell, scale_atoms=False)
    atoms.wrap()
    return atoms


def shape(atoms: Atoms, found: Molecule) -> np.ndarray:
    """Positions relative to the centre of mass."""
    return found.whole(atoms) - found.center_of_mass


@pytest.mark.parametrize(('atoms', 'number', 'formula'), [(dry_ice(), 4, 'CO2'), (urea(), 2, 'CH4N2O')])
def test_known_crystals(atoms: Atoms, number: int, formula: str) -> None:
    molecules = find_molecules(atoms)
    assert [found.composition for found in molecules] == [formula] * number
    assert sorted(np.concatenate([found.indices for found in molecules])) == list(range(len(atoms)))
    supercell = find_molecules(atoms.repeat((1, 2, 3)))
    assert [found.composition for found in supercell] == [formula] * 6 * number


def test_dry_ice_is_made_whole() -> None:
    atoms = dry_ice()
    molecules = find_molecules(atoms)
    for found in molecules:
        assert atoms.numbers[found.indices].tolist() == [6, 8, 8]
        relative = shape(atoms, found)
        np.testing.assert_allclose(relative[0], 0, atol=1e-10)
        np.testing.assert_allclose(np.linalg.norm(relative[1:], axis=1), 0.1187 * 5.624 * np.sqrt(3), atol=1e-10)
        np.testing.assert_allclose(relative[1], -relative[2], atol=1e-10)
        carbon, *oxygens = found.indices.tolist()
        assert sorted(found.bonds.tolist()) == [[carbon, oxygen] for oxygen in oxygens]
    centers = atoms.cell.scaled_positions(np.array([found.center_of_mass for found in molecules]))
    assert {tuple(np.round(center, 9) + 0.0) for center in centers} == {
        (0, 0, 0),
        (0.5, 0.5, 0),
        (0.5, 0, 0.5),
        (0, 0.5, 0.5),
    }
    assert {tuple(image) for found in molecules for image in found.images} > {(0, 0, 0)}


def test_hydrogen_bonds_join_nothing() -> None:
    water = molecule('H2O')
    water.set_cell([3.1] * 3)
    water.pbc = True
    molecules = find_molecules(water.repeat(2))
    assert [found.composition for found in molecules] == ['H2O'] * 8
    assert [len(found.bonds) for found in molecules] == [2] * 8


def test_atoms_without_bonds_are_molecules() -> None:
    molecules = find_molecules(bulk('Ar', a=5.26, cubic=True))
    assert [(found.composition, found.indices.tolist()) for found in molecules] == [('Ar', [i]) for i in range(4)]
    assert all(found.bonds.shape == (0, 2) for found in molecules)


@pytest.mark.parametrize(
    'atoms',
    [
        bulk('NaCl', 'rocksalt', a=5.64),
        bulk('NaCl', 'rocksalt', a=5.64, cubic=True).repeat(2),
        bulk('Si'),
        bulk('Cu'),
        graphene(vacuum=10),
        Atoms('C', cell=[1.3, 0, 0], pbc=[True, False, False]),
    ],
)
def test_infinite_networks_are_refused(atoms: Atoms) -> None:
    with pytest.raises(
        InfiniteNetworkError, match='an infinite network without molecules; lower .*, or leave the step'
    ):
        find_molecules(atoms)


def test_cutoff_scale_decides_what_is_bonded() -> None:
    assert len(find_molecules(bulk('Cu', cubic=True), cutoff_scale=0.9)) == 4
    pair = Atoms('H2', positions=[[0, 0, 0], [0, 0, 0.8]])
    assert [len(find_molecules(pair, scale)) for scale in (1.2, 1.4)] == [2, 1]


@pytest.mark.parametrize('cell', [None, [9, 9, 9]])
def test_without_periodic_boundaries(cell: list | None) -> None:
    pair = molecule('H2O') + molecule('CH4')
    pair.positions[3:] += 5
    pair.set_cell(cell)
    pair.positions -= 20
    water, methane = find_molecules(pair)
    assert (water.composition, methane.composition) == ('H2O', 'CH4')
    assert not np.any(water.images)
    np.testing.assert_allclose(water.center_of_mass, pair[:3].get_center_of_mass(), atol=1e-12)
    np.testing.assert_array_equal(methane.whole(pair), pair.positions[3:])


def test_a_boundary_that_is_not_periodic_is_not_crossed() -> None:
    atoms = molecule('N2')
    atoms.set_cell([4, 4, 1.5])
    atoms.pbc = [True, True, False]
    atoms.positions += [3.9, 0, 7]
    (found,) = find_molecules(atoms)
    np.testing.assert_array_equal(found.images, 0)
    assert found.center_of_mass[2] == pytest.approx(7)


@pytest.mark.parametrize(
    ('atoms', 'message'),
    [
        (Atoms('H', pbc=True), 'crystal 7: a periodic cell vector is zero'),
        (Atoms(), 'crystal 7: there are no atoms'),
        (bulk('Cu'), 'crystal 7: covalent bonds join atom 0 .Cu. to its own image'),
    ],
)
def test_errors_say_where(atoms: Atoms, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_molecules(atoms, where='crystal 7')


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.floats(0, 1.5))
def test_origin_and_wrapping_change_nothing(seed: int, number: int, skew: float) -> None:
    rng = np.random.default_rng(seed)
    atoms = packed_water(rng, number, skew)
    moved = atoms.copy()
    moved.positions += rng.uniform(-30, 30, 3)
    moved.wrap()
    moved.positions += rng.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array
    before, after = find_molecules(atoms), find_molecules(moved)
    assert [found.indices.tolist() for found in before] == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(number)]
    for one, two in zip(before, after, strict=True):
        assert one.indices.tolist() == two.indices.tolist()
        np.testing.assert_allclose(shape(atoms, one), shape(moved, two), atol=1e-9)
        np.testing.assert_allclose(
            np.linalg.norm(shape(moved, two)[0] - shape(moved, two)[1:], axis=1), 0.9686, atol=1e-3
        )
    scaled = moved.cell.scaled_positions(np.array([found.center_of_mass for found in after]))
    assert np.all((scaled > -1e-8) & (scaled < 1))
