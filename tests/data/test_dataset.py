"""DatasetData: what goes in comes out, and nothing else goes in."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import QueryBuilder, load_node
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import extxyz, write

from aiida_mlip_al.data import DatasetData, LabelData
from aiida_mlip_al.data.dataset import check_same_theory
from aiida_mlip_al.data.extxyz import dump_frames, load_complete_frames, read_frames

Make = Callable[..., Any]
STRESS = [0.01, 0.02, 0.03, 0.004, 0.005, 0.006]


def assert_same_frames(found: list[Atoms], expected: list[Atoms]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.numbers, other.numbers)
        np.testing.assert_array_equal(one.pbc, other.pbc)
        np.testing.assert_array_equal(one.cell.array, other.cell.array)
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.arrays['REF_forces'], other.arrays['REF_forces'])
        assert one.info['REF_energy'] == other.info['REF_energy']
        assert one.info['split'] == other.info['split']
        assert ('REF_stress' in one.info) == ('REF_stress' in other.info)
        np.testing.assert_array_equal(one.info.get('REF_stress', 0), other.info.get('REF_stress', 0))


def test_frames_come_back_from_the_database(make_labelled: Make) -> None:
    frames = [
        make_labelled(1, 'H2O', split='train'),
        make_labelled(2, 'H2O', stress=STRESS, split='validation'),
        make_labelled(3, 'O', split='test'),
    ]
    node = DatasetData.from_ase(frames, 'xtb', 'abc').store()
    assert_same_frames(load_node(node.pk).get_ase_list(), frames)


def test_file_is_what_mace_reads(make_labelled: Make) -> None:
    node = DatasetData.from_ase([make_labelled(1, split='train')], 'xtb', 'abc')
    comment = node.get_content().splitlines()[1]
    assert 'REF_energy=' in comment
    assert 'REF_forces:R:3' in comment
    assert 'split=train' in comment


def test_attributes_summarise_the_frames(make_labelled: Make) -> None:
    frames = [
        make_labelled(1, 'H2O', split='train'),
        make_labelled(2, 'H2O', stress=STRESS, split='validation'),
        make_labelled(3, 'CH4', split='train'),
    ]
    attributes = DatasetData.from_ase(frames, 'GFN2-xTB', 'abc').base.attributes
    assert attributes.get('n_frames') == 3
    assert attributes.get('n_atoms_total') == 11
    assert attributes.get('elements') == ['C', 'H', 'O']
    assert attributes.get('formulas') == {'CH4': 1, 'H2O': 2}
    assert attributes.get('properties') == ['energy', 'forces', 'stress']
    assert attributes.get('splits') == {'train': 2, 'validation': 1, 'test': 0}
    assert attributes.get('theory') == 'GFN2-xTB'
    assert attributes.get('theory_hash') == 'abc'
    per_atom = [frame.info['REF_energy'] / len(frame) for frame in frames]
    assert attributes.get('energy_per_atom_range') == [min(per_atom), max(per_atom)]
    longest = [np.sqrt((frame.arrays['REF_forces'] ** 2).sum(axis=1)).max() for frame in frames]
    assert attributes.get('max_force_range') == pytest.approx([min(longest), max(longest)], abs=1e-14)


def test_frame_without_split_is_for_training(make_labelled: Make) -> None:
    frame = make_labelled()
    node = DatasetData.from_ase([frame], 'xtb', 'abc')
    assert node.splits == {'train': 1, 'validation': 0, 'test': 0}
    assert 'split' not in frame.info, "the caller's frame is left as it was"


def test_unlabelled_extras_do_not_reach_the_file(make_labelled: Make) -> None:
    plain, adorned = make_labelled(split='train'), make_labelled(split='train')
    adorned.calc = SinglePointCalculator(adorned, energy=1.0, forces=np.zeros((3, 3)))
    one, other = (DatasetData.from_ase([frame], 'xtb', 'abc') for frame in (plain, adorned))
    assert one.get_content() == other.get_content()


@pytest.mark.parametrize(
    ('spoil', 'sentence'),
    [
        (lambda frame: frame.info.pop('REF_energy'), 'Frame 1 (H2O) has no energy: give it in eV as `REF_energy`'),
        (lambda frame: frame.arrays.pop('REF_forces'), 'Frame 1 (H2O) has no forces: give them in eV/Å'),
        (lambda frame: frame.info.update(REF_energy=np.nan), 'Frame 1 (H2O) has a energy that is not finite'),
        (
            lambda frame: frame.arrays['REF_forces'].__setitem__((2, 1), np.inf),
            'Frame 1 (H2O) has a forces that is not',
        ),
        (lambda frame: frame.positions.__setitem__((0, 0), np.nan), 'Frame 1 (H2O) has a positions that is not finite'),
        (lambda frame: frame.info.update(REF_stress=np.full(6, np.nan)), 'Frame 1 (H2O) has a stress that is not'),
        (lambda frame: frame.info.update(REF_stress=np.eye(3)), 'Frame 1 (H2O) has a stress of shape (3, 3): give'),
        (lambda frame: frame.arrays.update(REF_forces=np.zeros((3, 2))), 'Frame 1 (H2O) has forces of shape (3, 2)'),
        (lambda frame: frame.info.update(split='holdout'), 'Frame 1 has the split `holdout`, which is none of train'),
        (lambda frame: frame.__delitem__([0, 1, 2]), 'Frame 1 () has no atoms'),
    ],
)
def test_refuses_a_bad_frame_by_its_number(make_labelled: Make, spoil: Make, sentence: str) -> None:
    frames = [make_labelled(1), make_labelled(2)]
    spoil(frames[1])
    with pytest.raises(ValueError) as caught:
        DatasetData.from_ase(frames, 'xtb', 'abc')
    assert str(caught.value).startswith(sentence)


def test_refuses_to_be_empty() -> None:
    with pytest.raises(ValueError, match='at least one labelled frame'):
        DatasetData.from_ase([], 'xtb', 'abc')
    with pytest.raises(ValueError, match='at least one labelled frame'):
        DatasetData.from_labels([])
    with pytest.raises(ValueError, match='at least one'):
        DatasetData.merge([])


def test_label_nodes_make_a_dataset(make_labelled: Make) -> None:
    frames = [make_labelled(index, split=split) for index, split in enumerate(('test', 'train'))]
    labels = [LabelData.from_ase(frame, 'xtb', 'abc', frame.info['split']) for frame in frames]
    node = DatasetData.from_labels(labels)
    assert_same_frames(node.get_ase_list(), frames)
    assert (node.theory, node.theory_hash) == ('xtb', 'abc')


def test_refuses_labels_of_two_theories(make_labelled: Make) -> None:
    labels = [
        LabelData.from_ase(make_labelled(index), name, name * 3) for index, name in enumerate(('xtb', 'xtb', 'pbe'))
    ]
    with pytest.raises(ValueError) as caught:
        DatasetData.from_labels(labels)
    assert str(caught.value) == (
        'Frame 2 was labelled with `pbe` (pbepbepb), frame 0 with `xtb` (xtbxtbxt): '
        'labels of different levels of theory cannot be mixed, so label one of them again.'
    )


def test_merging_keeps_order_and_splits(make_dataset: Make) -> None:
    one, other = make_dataset(train=1, validation=1), make_dataset(train=0, validation=0, test=2, seed=10)
    merged = DatasetData.merge([one, other])
    assert_same_frames(merged.get_ase_list(), one.get_ase_list() + other.get_ase_list())
    assert merged.splits == {'train': 1, 'validation': 1, 'test': 2}
    assert merged.theory_hash == 'xtb-hash'


def test_merging_two_theories_is_refused(make_dataset: Make) -> None:
    with pytest.raises(ValueError, match=r'^Dataset 1 was labelled with `pbe` \(pbe-hash\), Dataset 0 with `xtb`'):
        DatasetData.merge([make_dataset(), make_dataset(theory='pbe')])
    with pytest.raises(ValueError, match='^second was labelled with'):
        check_same_theory({'first': make_dataset(), 'second': make_dataset(theory='pbe')})
    check_same_theory({'first': make_dataset(), 'second': make_dataset(seed=3)})
    check_same_theory({})


def test_iterating_builds_one_frame_at_a_time(make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_dataset(train=50, validation=0).store()
    built = []
    original = extxyz._read_xyz_frame

    def count(*arguments: Any, **options: Any) -> Atoms:
        built.append(original(*arguments, **options))
        return built[-1]

    monkeypatch.setattr(extxyz, '_read_xyz_frame', count)
    frames = node.iterate()
    next(frames)
    assert len(built) == 1
    assert len(list(frames)) == 49


def test_iterating_over_splits(make_dataset: Make) -> None:
    node = make_dataset(train=3, validation=2, test=1).store()
    assert [frame.info['split'] for frame in node.iterate('test', 'train')] == ['train', 'train', 'train', 'test']
    assert len(node.get_ase_list('validation')) == 2


def test_equal_content_has_equal_hashes(make_dataset: Make) -> None:
    hashes = [make_dataset().store().base.caching.get_hash() for _ in range(2)]
    assert hashes[0] == hashes[1]
    others = {
        make_dataset(seed=1).store().base.caching.get_hash(),
        make_dataset(theory='pbe').store().base.caching.get_hash(),
        make_dataset(train=1, validation=2).store().base.caching.get_hash(),
    }
    assert len(others | {hashes[0]}) == 4


def test_reading_back_and_writing_again_changes_nothing(make_labelled: Make) -> None:
    frames = [make_labelled(1, stress=np.array(STRESS) / 3, split='train', temperature_K=300.0)]
    content = dump_frames(frames)
    assert dump_frames(read_frames(content)) == content


class TestStoring:
    """A node that was not made by a constructor, or was changed afterwards, is not stored."""

    def test_changed_file(self, make_dataset: Make) -> None:
        node = make_dataset()
        text = node.get_content().split('\n')
        text[2] = text[2].replace(text[2].split()[-1], 'nan')
        node.base.repository.put_object_from_filelike(io.BytesIO('\n'.join(text).encode()), node.FILENAME)
        with pytest.raises(ValidationError, match=r'^Frame 0 \(H2O\) has a forces that is not finite'):
            node.store()

    def test_shortened_file(self, make_dataset: Make) -> None:
        node = make_dataset(train=2, validation=0)
        text = ''.join(node.get_content().splitlines(keepends=True)[:5])
        node.base.repository.put_object_from_filelike(io.BytesIO(text.encode()), node.FILENAME)
        with pytest.raises(ValidationError, match='says 2 frames, but its file holds 1'):
            node.store()

    def test_empty_file(self) -> None:
        node = DatasetData(io.BytesIO(b''), filename='dataset.xyz')
        node.base.attributes.set('theory_hash', 'abc')
        with pytest.raises(ValidationError):
            node.store()

    def test_other_file_name(self) -> None:
        with pytest.raises(ValidationError, match='is stored as `dataset.xyz`: use one of the `from_` constructors'):
            DatasetData(io.BytesIO(b'1\n\nH 0 0 0\n'), filename='other.xyz').store()

    def test_no_theory(self, make_labelled: Make) -> None:
        with pytest.raises(ValidationError, match='needs a `theory_hash`'):
            DatasetData.from_ase([make_labelled()], 'xtb', '').store()


class TestFromFile:
    """Importing what others have labelled."""

    def test_own_keys(self, tmp_path: Path, make_labelled: Make) -> None:
        frames = [make_labelled(1, split='test'), make_labelled(2, stress=STRESS)]
        write(tmp_path / 'data.xyz', frames, format='extxyz')
        node = DatasetData.from_file(tmp_path / 'data.xyz', 'PBE')
        frames[1].info['split'] = 'train'
        assert_same_frames(node.get_ase_list(), frames)
        assert (node.theory, node.theory_hash) == ('PBE', 'PBE')

    def test_split_for_all(self, tmp_path: Path, make_labelled: Make) -> None:
        write(tmp_path / 'data.xyz', [make_labelled(1, split='train'), make_labelled(2)], format='extxyz')
        node = DatasetData.from_file(tmp_path / 'data.xyz', 'PBE', theory_hash='abc', split='validation')
        assert node.splits == {'train': 0, 'validation': 2, 'test': 0}
        assert node.theory_hash == 'abc'

    def test_the_temperature_comes_along(self, tmp_path: Path, make_labelled: Make) -> None:
        """And nothing else that the comment line has."""
        write(tmp_path / 'data.xyz', [make_labelled(1, temperature_K=450), make_labelled(2, colour='blue')])
        hot, plain = DatasetData.from_file(tmp_path / 'data.xyz', 'PBE').get_ase_list()
        assert hot.info['temperature_K'] == 450.0
        assert not {'temperature_K', 'colour'} & set(plain.info)

    def test_a_temperature_that_is_no_number_is_refused(self, tmp_path: Path, make_labelled: Make) -> None:
        frames = [make_labelled(1, temperature_K=450), make_labelled(2, temperature_K='hot')]
        write(tmp_path / 'data.xyz', frames)
        with pytest.raises(
            ValueError, match=r'Frame 1 of .*data.xyz has the temperature `hot`: give `temperature_K` as'
        ):
            DatasetData.from_file(tmp_path / 'data.xyz', 'PBE')
        with pytest.raises(ValueError, match='Frame 1 has the temperature `hot`'):
            DatasetData.from_ase(frames, 'PBE', 'pbe')

    def test_results_of_a_calculator(self, tmp_path: Path) -> None:
        atoms = bulk('Cu', cubic=True)
        forces = np.arange(12.0).reshape(4, 3)
        atoms.calc = SinglePointCalculator(atoms, energy=-3.5, forces=forces, stress=np.array(STRESS))
        write(tmp_path / 'data.traj', atoms)
        frame = DatasetData.from_file(tmp_path / 'data.traj', 'PBE').get_ase_list()[0]
        assert frame.info['REF_energy'] == -3.5
        np.testing.assert_array_equal(frame.arrays['REF_forces'], forces)
        np.testing.assert_allclose(frame.info['REF_stress'], STRESS, rtol=0, atol=1e-15)

    def test_named_keys_and_full_stress_tensor(self, tmp_path: Path) -> None:
        atoms = bulk('Cu')
        xx, yy, zz, yz, xz, xy = STRESS
        atoms.info.update(dft_energy=-3.5, dft_stress=np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
        atoms.arrays['dft_forces'] = np.array([[0.1, 0.2, 0.3]])
        write(tmp_path / 'data.xyz', atoms, format='extxyz')
        keys = {'energy': 'dft_energy', 'forces': 'dft_forces', 'stress': 'dft_stress'}
        frame = DatasetData.from_file(tmp_path / 'data.xyz', 'PBE', keys=keys).get_ase_list()[0]
        assert frame.info['REF_energy'] == -3.5
        np.testing.assert_array_equal(frame.arrays['REF_forces'], [[0.1, 0.2, 0.3]])
        np.testing.assert_array_equal(frame.info['REF_stress'], STRESS)
        assert 'dft_energy' not in frame.info

    def test_stress_across_vacuum_is_masked_once_and_stays_so(self, tmp_path: Path, make_labelled: Make) -> None:
        frames = [make_labelled(index, stress=STRESS) for index in range(2)]
        frames[0].pbc = [True, True, False]
        write(tmp_path / 'data.xyz', frames, format='extxyz')
        for _ in range(2):
            node = DatasetData.from_file(tmp_path / 'data.xyz', 'PBE')
            slab, crystal = node.get_ase_list()
            assert 'REF_stress' not in slab.info
            np.testing.assert_array_equal(slab.info['REF_masked_stress'], [*STRESS[:2], 0, 0, 0, STRESS[5]])
            np.testing.assert_array_equal(slab.info['REF_stress_axes'], [True, True, False])
            np.testing.assert_array_equal(crystal.info['REF_stress'], STRESS)
            write(tmp_path / 'data.xyz', [slab, crystal], format='extxyz')

    def test_a_named_key_stands_above_the_own_one(self, tmp_path: Path, make_labelled: Make) -> None:
        frame = make_labelled()
        frame.info['better'] = -42.0
        write(tmp_path / 'data.xyz', frame, format='extxyz')
        node = DatasetData.from_file(tmp_path / 'data.xyz', 'PBE', keys={'energy': 'better'})
        assert node.get_ase_list()[0].info['REF_energy'] == -42.0

    @pytest.mark.parametrize(('missing', 'keys'), [('energy', {'energy': 'E'}), ('forces', {'forces': 'F'})])
    def test_missing_label_names_what_is_there(
        self, tmp_path: Path, make_labelled: Make, missing: str, keys: dict[str, str]
    ) -> None:
        write(tmp_path / 'data.xyz', make_labelled(), format='extxyz')
        with pytest.raises(ValueError, match=rf'^Frame 0 of .*data.xyz has no {missing}: name the key') as caught:
            DatasetData.from_file(tmp_path / 'data.xyz', 'PBE', keys=keys)
        assert 'REF_energy, REF_forces' in str(caught.value)

    def test_bare_structures(self, tmp_path: Path) -> None:
        write(tmp_path / 'data.xyz', molecule('H2O'), format='extxyz')
        with pytest.raises(ValueError, match='Frame 0 of .* has no energy'):
            DatasetData.from_file(tmp_path / 'data.xyz', 'PBE')


def test_queried_by_attributes(make_dataset: Make) -> None:
    node = make_dataset(train=7, validation=2, theory='queried').store()
    make_dataset(train=3, validation=2, theory='queried').store()
    query = QueryBuilder().append(
        DatasetData,
        filters={
            'attributes.theory': 'queried',
            'attributes.splits.train': {'>': 5},
            'attributes.elements': {'contains': ['O']},
        },
        project=['uuid', 'attributes.n_frames'],
    )
    assert query.all() == [[node.uuid, 9]]


@pytest.mark.parametrize('cut', [0, 1, 10, 60, 120, -3, -1])
def test_a_cut_file_keeps_its_complete_frames(make_dataset: Make, cut: int) -> None:
    text = make_dataset(train=2, validation=0).get_content()
    first = len(''.join(text.splitlines(keepends=True)[:5]))
    expected = 0 if 0 <= cut < first else 1
    assert len(load_complete_frames(text[:cut])) == expected
    assert len(load_complete_frames(text)) == 2


def test_a_broken_count_ends_the_complete_frames(make_dataset: Make) -> None:
    lines = make_dataset(train=2, validation=0).get_content().splitlines(keepends=True)
    assert len(load_complete_frames(''.join([*lines[:5], 'three\n', *lines[6:]]))) == 1


class TestShards:
    """A long file becomes several datasets."""

    def test_every_frame_is_in_one_of_them(self, make_labelled: Make, tmp_path: Path) -> None:
        frames = [make_labelled(number) for number in range(7)]
        (tmp_path / 'long.xyz').write_bytes(dump_frames(frames))
        shards = list(DatasetData.shards_from_file(tmp_path / 'long.xyz', 'xtb', size=3))
        assert [shard.n_frames for shard in shards] == [3, 3, 1]
        assert {shard.theory_hash for shard in shards} == {'xtb'}
        energies = [frame.info['REF_energy'] for shard in shards for frame in shard.store().iterate()]
        assert energies == [frame.info['REF_energy'] for frame in frames]

    def test_bad_frame_has_its_number_in_the_file(self, make_labelled: Make, tmp_path: Path) -> None:
        frames = [make_labelled(number) for number in range(5)]
        del frames[4].info['REF_energy']
        (tmp_path / 'bad.xyz').write_bytes(dump_frames(frames))
        with pytest.raises(ValueError, match=r'^Frame 4 of .*bad.xyz has no energy'):
            list(DatasetData.shards_from_file(tmp_path / 'bad.xyz', 'xtb', size=2))
