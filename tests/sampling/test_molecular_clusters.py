"""Clusters cut out of molecular crystals: known shells, trajectories, and no say for origin, wrapping and order of atoms."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.spacegroup import crystal
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_mlip_al.sampling.base import Seeder, SeedResult
from aiida_mlip_al.sampling.molecular_clusters import MolecularClustersParameters, molecular_clusters
from aiida_mlip_al.sampling.molecules import InfiniteNetworkError, find_molecules

SEEDER = Seeder('molecular_clusters', MolecularClustersParameters, molecular_clusters, uses_references=True)
CENTRAL = 'closest_to_central_molecule'
MASS = 'closest_to_center_of_mass'
MAX_MIN = 'max_min_distance_to_central_molecule'
MAX_MAX = 'max_max_distance_to_central_molecule'


def dry_ice() -> Atoms:
    """Four molecules; each has 12 neighbours with 3.105 Å between the closest and 5.185 Å between the farthest atoms."""
    basis = [(0, 0, 0), (0.1187,) * 3]
    return crystal(['C', 'O'], basis=basis, spacegroup=205, cellpar=[5.624] * 3 + [90] * 3)


def argon(cell: list, places: list, pbc: bool | list = True) -> Atoms:
    """Molecules of one atom, so that every distance can be read from the coordinates."""
    return Atoms(f'Ar{len(places)}', positions=places, cell=cell, pbc=pbc)


def clusters(atoms: Atoms, **parameters: object) -> list[Atoms]:
    return SEEDER([atoms], parameters).frames


def pair_distances(atoms: Atoms) -> np.ndarray:
    return np.sort(atoms.get_all_distances()[np.triu_indices(len(atoms), k=1)])


def assert_same_shape(one: Atoms, two: Atoms, atol: float = 1e-6) -> None:
    """Same atoms in the same order at the same places, up to the box."""
    np.testing.assert_array_equal(one.numbers, two.numbers)
    np.testing.assert_allclose(one.positions - one.positions[0], two.positions - two.positions[0], atol=atol)


class TestRules:
    @pytest.mark.parametrize(
        ('rule', 'distance', 'expected'),
        [(MAX_MIN, 3.1, 1), (MAX_MIN, 3.2, 13), (MAX_MAX, 1.0, 1), (MAX_MAX, 5.0, 1), (MAX_MAX, 5.5, 13)],
    )
    @pytest.mark.parametrize('atoms', [dry_ice(), dry_ice().repeat(4)], ids=['unit cell', 'supercell'])
    def test_first_shell_of_dry_ice(self, atoms: Atoms, rule: str, distance: float, expected: int) -> None:
        result = SEEDER([atoms], {'rule': rule, 'distances': [distance]})
        assert [record['n_molecules'] for record in result.records] == [expected]
        assert [len(frame) for frame in result.frames] == [3 * expected]

    @pytest.mark.parametrize(('repeat', 'images'), [(1, True), (4, True), (4, False)])
    def test_thirteen_closest_are_the_first_shell(self, repeat: int, images: bool) -> None:
        atoms = dry_ice().repeat(repeat)
        (closest,) = clusters(atoms, n_molecules=[13], images=images)
        (shell,) = clusters(atoms, rule=MAX_MIN, distances=[3.2], images=images)
        assert_same_shape(closest, shell)
        centers = closest.positions[closest.numbers == 6]
        np.testing.assert_allclose(np.linalg.norm(centers[1:] - centers[0], axis=1), 5.624 / np.sqrt(2), atol=1e-9)
        np.testing.assert_allclose(centers[1:].mean(axis=0), centers[0], atol=1e-9)
        (unit_cell,) = clusters(dry_ice(), n_molecules=[13])
        np.testing.assert_allclose(pair_distances(closest), pair_distances(unit_cell), atol=1e-8)

    def test_one_to_eight_are_nested(self) -> None:
        frames = clusters(dry_ice())
        assert [len(frame) for frame in frames] == [3 * n for n in range(1, 9)]
        for smaller in frames[:-1]:
            assert_same_shape(smaller, frames[-1][: len(smaller)])

    def test_without_images_each_molecule_is_there_once(self) -> None:
        (frame,) = clusters(dry_ice(), n_molecules=[4], images=False)
        centers = frame.positions[::3]
        np.testing.assert_allclose(np.linalg.norm(centers[1:] - centers[0], axis=1), 5.624 / np.sqrt(2), atol=1e-9)
        with pytest.raises(
            ValueError, match='clusters of up to 5 molecules were asked for, but there are 4; ask for fewer'
        ):
            clusters(dry_ice(), n_molecules=[4, 5], images=False)

    def test_closest_atoms_decide_not_closest_centres(self) -> None:
        """Two rods: the one farther away by its centre points at the central molecule."""
        cross = molecule('C2H2')
        cross.rotate(90, 'x')
        beside, ahead = cross.copy(), molecule('C2H2')
        ahead.rotate(90, 'y')
        beside.positions += [-4.0, 0, 0]
        ahead.positions += [5.0, 0, 0]
        pair = clusters(cross + beside + ahead, n_molecules=[2])[0]
        assert_same_shape(pair, cross + ahead)
        shell = clusters(cross + beside + ahead, rule=MAX_MAX, distances=[6.0])[0]
        assert_same_shape(shell, cross + beside)

    @pytest.mark.parametrize(('rule', 'expected'), [(MASS, [6, 3, 0, 11]), (CENTRAL, [6, 3, 11, 0])])
    def test_center_of_mass_is_not_the_central_molecule(self, rule: str, expected: list[int]) -> None:
        line = argon([0, 0, 0], [[x, 0, 0] for x in (0, 3, 6, 11)], pbc=False)  # centre of mass at 5
        (frame,) = clusters(line, rule=rule, n_molecules=[4])
        np.testing.assert_allclose(frame.positions[:, 0] - frame.positions[:, 0].min(), expected)

    def test_masses_decide_where_the_center_is(self) -> None:
        line = Atoms('He3Xe', positions=[[x, 0, 0] for x in (0, 4, 8, 30)])
        assert clusters(line, n_molecules=[1], identical_composition=False)[0].symbols[0] == 'Xe'
        line.symbols = 'He4'
        assert clusters(line, n_molecules=[4])[0].get_distance(0, 1) == 4

    def test_limit_is_exclusive_and_repeats_make_no_cluster(self) -> None:
        line = argon([0, 0, 0], [[0, 0, 0], [4, 0, 0], [8, 0, 0], [13, 0, 0], [-4.5, 0, 0]], pbc=False)
        result = SEEDER([line], {'rule': MAX_MIN, 'distances': [5, 4.0, 4.1, 4.2, 30, 1e-9]})
        assert [record['n_molecules'] for record in result.records] == [3, 1, 5]
        assert [record['copy'] for record in result.records] == [0, 1, 2]
        assert result.rejected == {}

    def test_slabs_have_images_in_their_plane_only(self) -> None:
        sheet = argon([4, 4, 20], [[0, 0, 3]], pbc=[True, True, False])
        frame = clusters(sheet, n_molecules=[21])[0]
        assert np.ptp(frame.positions[:, 2]) == 0
        assert np.ptp(frame.positions[:, 0]) == np.ptp(frame.positions[:, 1]) == 16

    def test_images_across_vacuum_count_as_none(self) -> None:
        alone = argon([20, 20, 20], [[18, 1, 1], [2, 1, 1]])
        with pytest.warns(UserWarning, match='through vacuum'), pytest.raises(ValueError, match='but there are 2'):
            clusters(alone, n_molecules=[3])
        with pytest.warns(UserWarning, match='through vacuum'):
            (pair,) = clusters(alone, n_molecules=[2])
        assert pair.get_distance(0, 1) == pytest.approx(4)
        (all_images,) = clusters(alone, n_molecules=[4], periodic=[True, True, True])
        assert pair_distances(all_images).max() > 15


class TestOutput:
    def test_boxes_and_records(self) -> None:
        atoms = dry_ice()
        atoms.set_tags(range(12))
        before = atoms.copy()
        result = SEEDER([atoms, dry_ice()], {'n_molecules': [2, 1], 'vacuum': 6.0}, seed=3)
        assert atoms == before
        assert [len(frame) for frame in result.frames] == [6, 3, 6, 3]
        assert [(r['source'], r['copy'], r['n_molecules'], r['seed']) for r in result.records] == [
            (0, 0, 2, 3),
            (0, 1, 1, 3),
            (1, 0, 2, 3),
            (1, 1, 1, 3),
        ]
        assert result.records[0]['parameters']['n_molecules'] == [2, 1]
        assert set(result.records[0]['parameters']) == set(MolecularClustersParameters.model_fields)
        for frame in result.frames:
            assert not frame.pbc.any()
            assert frame.info == {}
            np.testing.assert_allclose(frame.cell.array, np.diag(np.ptp(frame.positions, axis=0) + 12), atol=1e-12)
            np.testing.assert_allclose(frame.positions.min(axis=0), 6, atol=1e-12)
        (found, *_) = find_molecules(atoms)
        assert sorted(result.frames[1].get_tags()) == found.indices.tolist()

    def test_boxes_of_skewed_crystals_are_rectangular(self) -> None:
        for frame in clusters(bulk('Ar', a=5.26), vacuum=5.0):
            np.testing.assert_allclose(frame.cell.array, np.diag(np.ptp(frame.positions, axis=0) + 10), atol=1e-12)

    def test_molecules_are_whole(self) -> None:
        for frame in clusters(dry_ice(), n_molecules=[1, 13, 19]):
            bonds = np.linalg.norm(frame.positions[1::3] - frame.positions[::3], axis=1)
            np.testing.assert_allclose(bonds, 0.1187 * 5.624 * np.sqrt(3), atol=1e-9)
            assert pair_distances(frame)[2 * len(frame) // 3] > 2

    def test_expected_frames(self) -> None:
        assert MolecularClustersParameters().expected_frames(3) == 24
        assert MolecularClustersParameters(rule=MAX_MAX, distances=(3.0, 4.0)).expected_frames(3) == 6


class TestTrajectories:
    def frames(self, reference: Atoms, steps: int = 30) -> list[Atoms]:
        """Drifting, noisy, wrapped frames in a cell that changes."""
        rng = np.random.default_rng(0)
        scaled = reference.get_scaled_positions(wrap=False)
        drift = np.zeros(3)
        made = []
        for step in range(steps):
            drift += [0.07, -0.05, 0.11]
            frame = reference.copy()
            frame.set_cell(reference.cell.array * (1 + 0.03 * np.sin(step / 5)))
            frame.set_scaled_positions(scaled + drift)
            frame.positions += rng.normal(0, 0.03, frame.positions.shape)
            frame.wrap()
            made.append(frame)
        return made

    def run(self, reference: Atoms, frames: list[Atoms], **parameters: object) -> SeedResult:
        return SEEDER(frames, parameters, references=[reference] * len(frames))

    def test_same_molecules_are_cut_out_of_every_frame(self) -> None:
        reference = dry_ice()
        frames = self.frames(reference)
        (expected,) = clusters(reference, n_molecules=[13])
        result = self.run(reference, frames, n_molecules=[13])
        assert [record['source'] for record in result.records] == list(range(30))
        for step, cluster in enumerate(result.frames):
            scaled = expected.copy()
            scaled.positions *= 1 + 0.03 * np.sin(step / 5)
            moved = (cluster.positions - cluster.positions.mean(axis=0)) - (
                scaled.positions - scaled.positions.mean(axis=0)
            )
            assert np.abs(moved).max() < 0.2

    def test_frames_with_the_same_reference_are_one_trajectory(self) -> None:
        """Two steps of a quarter of the cell can be followed; both in one go cannot. An equal reference is another one."""
        reference = argon([9, 9, 9], [[0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 4]])
        near, far = reference.copy(), reference.copy()
        near.positions[2] += [2.2, 0, 0]
        far.positions[2] += [4.4, 0, 0]
        result = SEEDER([near, far], {'n_molecules': [2]}, references=[reference, reference])
        assert [record['source'] for record in result.records] == [0, 1]
        message = r'molecular_clusters: structure 1: frame 0: atom 2 .* moved by 0\.4\d of a cell vector'
        with pytest.raises(ValueError, match=message):
            SEEDER([near, far], {'n_molecules': [2]}, references=[None, reference])
        with pytest.raises(ValueError, match=message):
            SEEDER([near, far], {'n_molecules': [2]}, references=[reference, reference.copy()])
        with pytest.raises(
            ValueError, match=r'molecular_clusters: structures 1 to 3: frame 2: atom 2 .* moved by 0\.4\d'
        ):
            SEEDER([near, near, reference, far], {'n_molecules': [2]}, references=[None, *[reference] * 3])

    def test_each_reference_has_its_own_selection(self) -> None:
        one = argon([12, 12, 12], [[0, 0, 0], [4, 0, 0], [0, 5, 0]])
        two = argon([12, 12, 12], [[0, 0, 0], [5, 0, 0], [0, 4, 0]])
        middle = argon([12, 12, 12], [[0, 0, 0], [4.5, 0, 0], [0, 4.6, 0]])
        result = SEEDER([middle] * 3, {'n_molecules': [2], 'images': False}, references=[one, two, None])
        assert [frame.get_distance(0, 1) for frame in result.frames] == pytest.approx([4.5, 4.6, 4.5])

    def test_diffused_molecules_stay_with_the_cluster(self) -> None:
        reference = dry_ice().repeat((2, 1, 1))
        (expected,) = clusters(reference, n_molecules=[13])
        indices = find_molecules(reference)[3].indices
        frames = []
        for step in range(1, 11):
            frame = reference.copy()
            frame.positions[indices] += step / 10 * frame.cell.array[1]
            frame.wrap()
            frames.append(frame)
        result = self.run(reference, frames, n_molecules=[13])
        assert_same_shape(result.frames[-1], expected)
        for cluster in result.frames:
            assert pair_distances(cluster)[-1] < pair_distances(expected)[-1] + 5.624
            bonds = cluster.positions[1::3] - cluster.positions[::3]
            np.testing.assert_allclose(np.linalg.norm(bonds, axis=1), 1.1563, atol=1e-3)

    def test_torn_molecules_are_refused(self) -> None:
        """An oxygen leaves in two steps, both short enough to follow, and comes nearer to the next image of its carbon."""
        reference = dry_ice()
        carbon, oxygen, _ = (found := find_molecules(reference)[0]).indices
        outward = np.sign(found.whole(reference)[1] - found.whole(reference)[0])
        frames = [reference.copy(), reference.copy()]
        frames[0].positions[oxygen] += 0.35 * 5.624 * outward
        frames[1].positions[oxygen] += 0.70 * 5.624 * outward
        message = (
            rf'structures 0 to 1: frame 1: atoms {carbon} \(C\) and {oxygen} \(O\), bonded in the reference, are 8.0 Å'
        )
        with pytest.raises(ValueError, match=message):
            self.run(reference, frames, n_molecules=[1])

    def test_displaced_structures_need_their_reference(self) -> None:
        """The first frame has a stretched bond, and would be two molecules by itself."""
        reference = dry_ice()
        stretched = reference.copy()
        found = find_molecules(reference)[0]
        stretched.positions[found.indices[1]] += 0.5 * (found.whole(reference)[1] - found.whole(reference)[0])
        with pytest.raises(ValueError, match=r'structure 0: the molecules differ in composition \(.*CO.*O'):
            clusters(stretched, n_molecules=[1])
        (cluster,) = self.run(reference, [stretched], n_molecules=[1]).frames
        assert sorted(cluster.get_all_distances()[0])[1:] == pytest.approx([1.1563, 1.7344], abs=1e-3)


class TestErrors:
    @pytest.mark.parametrize('atoms', [bulk('NaCl', 'rocksalt', a=5.64), bulk('Si'), bulk('Cu')])
    def test_framework_solids(self, atoms: Atoms) -> None:
        with pytest.raises(InfiniteNetworkError, match='molecular_clusters: structure 1: .* an infinite network'):
            SEEDER([dry_ice(), atoms])

    def test_different_compositions(self) -> None:
        pair = molecule('H2O') + molecule('CH4') + molecule('H2O')
        pair.positions[3:] += 4
        pair.positions[8:] += 4
        message = (
            r"structure 0: the molecules differ in composition \(2 H2O, 1 CH4\); set 'identical_composition: false'"
        )
        with pytest.raises(ValueError, match=message):
            clusters(pair, n_molecules=[1])
        result = clusters(pair, n_molecules=[1, 2, 3], identical_composition=False)
        assert [Counter(frame.symbols)['C'] for frame in result] == [1, 1, 1]

    def test_too_large_clusters(self) -> None:
        pair = argon([0, 0, 0], [[0, 0, 0], [0, 0, 4]], pbc=False)
        with pytest.raises(
            ValueError, match='structure 0: clusters of up to 8 molecules were asked for, but there are 2'
        ):
            clusters(pair)
        result = SEEDER([pair, pair], {'skip_too_large': True})
        assert [record['n_molecules'] for record in result.records] == [1, 2, 1, 2]
        assert result.rejected == {'too_large': 12}
        with pytest.raises(ValueError, match='up to 4 molecules were asked for'):
            clusters(pair, n_molecules=[4, 3], skip_too_large=True)

    @pytest.mark.parametrize(
        ('parameters', 'message'),
        [
            (
                {'distances': [3.0]},
                "'distances' does not go with rule 'closest_to_central_molecule', use 'n_molecules'",
            ),
            ({'rule': MAX_MIN}, "rule 'max_min_distance_to_central_molecule' needs 'distances'"),
            ({'rule': MAX_MAX, 'n_molecules': [2], 'distances': [3]}, "'n_molecules' does not go with rule 'max_max_"),
            ({'rule': MAX_MAX, 'distances': [0]}, "'distances' should be greater than 0"),
            ({'n_molecules': [0]}, "'n_molecules' should be greater than or equal to 1"),
            ({'n_molecules': []}, "'n_molecules' .*at least 1 item"),
            ({'n_molecules': [2, 3, 2]}, r"'n_molecules' must not have a value twice, got \[2, 3, 2\]"),
            ({'rule': 'nearest'}, "'rule' should be 'closest_to_center_of_mass'"),
            ({'cutoff_scale': 0}, "'cutoff_scale' should be greater than 0"),
            ({'vacuum': -1}, "'vacuum' should be greater than 0"),
        ],
    )
    def test_parameters(self, parameters: dict, message: str) -> None:
        with pytest.raises(ValueError, match='molecular_clusters: ' + message):
            SEEDER([], parameters)

    def test_references_must_fit(self) -> None:
        with pytest.raises(ValueError, match=r'one reference \(or None\) for each of the 2 structures, got 1'):
            SEEDER([dry_ice()] * 2, references=[None])
        with pytest.raises(ValueError, match='structure 0: frame 0 does not have the atoms of the reference'):
            SEEDER([dry_ice().repeat(2)], references=[dry_ice()])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from([CENTRAL, MASS]), st.booleans(), st.integers(0, 2))
def test_origin_and_wrapping_change_no_cluster_of_dry_ice(seed: int, rule: str, images: bool, axis: int) -> None:
    """The hardest case: every distance is there many times."""
    rng = np.random.default_rng(seed)
    repeats = [1, 1, 1]
    repeats[axis] = 2
    atoms = dry_ice().repeat(repeats)
    moved = atoms.copy()
    moved.positions += rng.uniform(-30, 30, 3)
    moved.wrap()
    moved.positions += rng.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array
    for one, two in zip(*(clusters(x, rule=rule, images=images) for x in (atoms, moved)), strict=True):
        assert_same_shape(one, two)
        np.testing.assert_allclose(one.cell.array, two.cell.array, atol=1e-6)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0, 2), st.sampled_from([CENTRAL, MASS]))
def test_closest_of_random_skewed_cells(seed: int, skew: float, rule: str) -> None:
    """The nearest images are those found by trying all, and the origin and the wrapping change none."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3, 6, 3))
    cell[1, 0], cell[2, 0], cell[2, 1] = skew * rng.uniform(-1, 1, 3) * cell[[0, 0, 1], [0, 0, 1]]
    places = rng.uniform(size=(3, 3)) @ cell
    atoms = Atoms('Ar3', positions=places, cell=cell, pbc=True)
    moved = atoms.copy()
    moved.positions += rng.uniform(-30, 30, 3)
    moved.wrap()
    options = {'rule': rule, 'n_molecules': [9], 'cutoff_scale': 1e-6, 'periodic': [True] * 3}
    (one,), (two,) = clusters(atoms, **options), clusters(moved, **options)
    assert_same_shape(one, two)
    if rule == CENTRAL:
        shifts = np.array(np.meshgrid(*[np.arange(-12, 13)] * 3)).reshape(3, -1).T @ cell
        vectors = places[:, None, None] - places[None, :, None] + shifts
        expected = np.sort(np.linalg.norm(vectors, axis=3).reshape(3, -1))[:, :9]
        found = np.linalg.norm(one.positions - one.positions[0], axis=1)
        assert any(np.allclose(found, distances, atol=1e-6) for distances in expected)
