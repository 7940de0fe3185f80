"""DatasetData: labelled frames of one level of theory in one extended XYZ file, ready to train on."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData
from ase import Atoms
from ase.io import iread

from .extxyz import (
    ENERGY_KEY,
    FORCES_KEY,
    SPLITS,
    STRESS_AXES_KEY,
    STRESS_KEY,
    check_labelled,
    dump_frames,
    find_label,
    iterate_frames,
    labelled_atoms,
    temperature_of,
)
from .label import LabelData

# A larger file becomes several shards.
SHARD_SIZE = 10_000


class DatasetData(SinglefileData):
    """A shard of labelled frames. Every frame has ``REF_energy``, ``REF_forces``, a ``split``, and perhaps ``REF_stress``.

    Slabs and wires have a ``REF_masked_stress`` instead, which no training reads: MACE's own stress of such a structure refers
    to another volume than that of its cell.

    Attributes: ``n_frames``, ``n_atoms_total``, ``elements``, ``formulas``, ``properties``, ``theory``, ``theory_hash``,
    ``splits`` (counts), ``energy_per_atom_range`` (eV), ``max_force_range`` (eV/Å).
    """

    FILENAME = 'dataset.xyz'
    _checked_content = ''

    @classmethod
    def from_ase(cls, frames: Iterable[Atoms], theory: str, theory_hash: str) -> DatasetData:
        """Build an unstored dataset from labelled frames; a frame without a ``split`` goes to ``train``.

        :param frames: read only; results of an attached calculator are not kept.
        :raises ValueError: naming the first frame whose label is missing, misshapen or not finite, or whose temperature is none.
        """
        frames = [frame.copy() for frame in frames]
        if not frames:
            raise ValueError('A dataset needs at least one labelled frame.')
        for index, frame in enumerate(frames):
            check_labelled(frame, f'Frame {index} ({frame.get_chemical_formula()})')
            temperature_of(frame, f'Frame {index}')
            split = frame.info.setdefault('split', 'train')
            if split not in SPLITS:
                raise ValueError(f'Frame {index} has the split `{split}`, which is none of {", ".join(SPLITS)}.')
        content = dump_frames(frames)
        node = cls(io.BytesIO(content), filename=cls.FILENAME)
        node.base.attributes.set_many({'theory': theory, 'theory_hash': theory_hash, **_summary(frames)})
        node._checked_content = hashlib.sha256(content).hexdigest()
        return node

    @classmethod
    def from_labels(cls, labels: Iterable[LabelData]) -> DatasetData:
        """Build an unstored dataset from labels.

        :raises ValueError: if the labels are of more than one level of theory; the sentence names the first odd one.
        """
        labels = list(labels)
        for index, label in enumerate(labels):
            if label.theory_hash != labels[0].theory_hash:
                raise ValueError(_mixed_theory(f'Frame {index}', label, 'frame 0', labels[0]))
        theory = labels[0].base.attributes.get('theory') if labels else ''
        return cls.from_ase((label.to_ase() for label in labels), theory, labels[0].theory_hash if labels else '')

    @classmethod
    def merge(cls, datasets: Iterable[DatasetData]) -> DatasetData:
        """Build one unstored dataset from several of the same level of theory, keeping order and splits.

        :raises ValueError: if the levels of theory differ.
        """
        datasets = list(datasets)
        check_same_theory({f'Dataset {index}': dataset for index, dataset in enumerate(datasets)})
        frames = [frame for dataset in datasets for frame in dataset.iterate()]
        theory, theory_hash = (datasets[0].theory, datasets[0].theory_hash) if datasets else ('', '')
        return cls.from_ase(frames, theory, theory_hash)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        theory: str,
        theory_hash: str | None = None,
        keys: Mapping[str, str] | None = None,
        split: str | None = None,
    ) -> DatasetData:
        """Build an unstored dataset from any trajectory file that ASE reads; see :meth:`shards_from_file`."""
        return cls.from_ase(_read_labelled(path, keys or {}, split), theory, theory_hash or theory)

    @classmethod
    def shards_from_file(
        cls,
        path: str | Path,
        theory: str,
        theory_hash: str | None = None,
        keys: Mapping[str, str] | None = None,
        split: str | None = None,
        size: int = SHARD_SIZE,
    ) -> Iterator[DatasetData]:
        """Yield unstored datasets from any trajectory file that ASE reads, without holding more than one of them.

        :param theory: human name of the level of theory; also its fingerprint if ``theory_hash`` is not given.
        :param keys: under which names the file holds ``energy``, ``forces`` and ``stress``; without it the ``REF_`` keys
            are looked for, then the results of an attached calculator: its free energy where it has one.
        :param split: the split of all frames; without it each frame keeps its own, or is ``train``.
        :param size: most frames in one.
        :raises ValueError: naming the first frame without a label.
        """
        frames = _read_labelled(path, keys or {}, split)
        while shard := list(islice(frames, size)):
            yield cls.from_ase(shard, theory, theory_hash or theory)

    def _validate(self) -> bool:
        super()._validate()
        if self.filename != self.FILENAME:
            raise ValidationError(f'A dataset is stored as `{self.FILENAME}`: use one of the `from_` constructors.')
        if not self.base.attributes.get('theory_hash', ''):
            raise ValidationError('A dataset needs a `theory_hash`, so that levels of theory are never mixed.')
        if self._checked_content == hashlib.sha256(self.get_content('rb')).hexdigest():
            return True
        try:
            frames = list(self.iterate())
            for index, frame in enumerate(frames):
                check_labelled(frame, f'Frame {index} ({frame.get_chemical_formula()})')
        except ValueError as error:
            raise ValidationError(str(error)) from error
        if not frames or len(frames) != self.n_frames:
            raise ValidationError(f'The dataset says {self.n_frames} frames, but its file holds {len(frames)}.')
        return True

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.base.attributes.get('n_frames', 0)

    @property
    def theory(self) -> str:
        """Human name of the level of theory."""
        return self.base.attributes.get('theory')

    @property
    def theory_hash(self) -> str:
        """Fingerprint of everything that fixes the level of theory."""
        return self.base.attributes.get('theory_hash')

    @property
    def elements(self) -> list[str]:
        """Chemical symbols, sorted."""
        return list(self.base.attributes.get('elements'))

    @property
    def splits(self) -> dict[str, int]:
        """Number of frames in each split."""
        return dict(self.base.attributes.get('splits'))

    def iterate(self, *splits: str) -> Iterator[Atoms]:
        """Yield the frames one by one without loading the whole file; only those of ``splits`` if any are given."""
        with self.open(mode='r') as handle:
            for frame in iterate_frames(handle):
                if not splits or frame.info['split'] in splits:
                    yield frame

    def get_ase_list(self, *splits: str) -> list[Atoms]:
        """Return the frames as a list; only those of ``splits`` if any are given."""
        return list(self.iterate(*splits))


def check_same_theory(datasets: Mapping[str, DatasetData]) -> None:
    """Raise ``ValueError`` with one sentence if the datasets are of more than one level of theory."""
    items = list(datasets.items())
    for name, dataset in items[1:]:
        if dataset.theory_hash != items[0][1].theory_hash:
            raise ValueError(_mixed_theory(name, dataset, items[0][0], items[0][1]))


def _mixed_theory(name: str, one: LabelData | DatasetData, other_name: str, other: LabelData | DatasetData) -> str:
    def theory(node: LabelData | DatasetData) -> str:
        return f'`{node.base.attributes.get("theory")}` ({node.theory_hash[:8]})'

    return (
        f'{name} was labelled with {theory(one)}, {other_name} with {theory(other)}: '
        'labels of different levels of theory cannot be mixed, so label one of them again.'
    )


def _read_labelled(path: str | Path, keys: Mapping[str, str], split: str | None) -> Iterator[Atoms]:
    for index, atoms in enumerate(iread(path, index=':')):
        energy, forces, stress = find_label(atoms, keys)
        if energy is None or forces is None:
            missing = 'energy' if energy is None else 'forces'
            known = ', '.join(sorted([*map(str, atoms.info), *atoms.arrays])) or 'none'
            raise ValueError(
                f'Frame {index} of {path} has no {missing}: name the key it is stored under (the file has: {known}).'
            )
        split_of_frame = split or atoms.info.get('split', 'train')
        axes = atoms.info.get(STRESS_AXES_KEY)
        temperature = temperature_of(atoms, f'Frame {index} of {path}')
        info = {} if temperature is None else {'temperature_K': temperature}
        yield labelled_atoms(atoms, energy, forces, stress, axes, split=split_of_frame, **info)


def _summary(frames: list[Atoms]) -> dict[str, Any]:
    per_atom = [frame.info[ENERGY_KEY] / len(frame) for frame in frames]
    max_force = [float(np.linalg.norm(frame.arrays[FORCES_KEY], axis=1).max()) for frame in frames]
    return {
        'n_frames': len(frames),
        'n_atoms_total': sum(map(len, frames)),
        'elements': sorted({symbol for frame in frames for symbol in frame.get_chemical_symbols()}),
        'formulas': dict(sorted(Counter(frame.get_chemical_formula() for frame in frames).items())),
        'properties': ['energy', 'forces', *(['stress'] if any(STRESS_KEY in frame.info for frame in frames) else [])],
        'splits': {split: sum(frame.info['split'] == split for frame in frames) for split in SPLITS},
        'energy_per_atom_range': [float(min(per_atom)), float(max(per_atom))],
        'max_force_range': [min(max_force), max(max_force)],
    }
