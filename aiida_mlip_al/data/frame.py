"""FrameData: a structure that the loop made or chose, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.orm import StructureData
from aiida.orm.nodes.caching import NodeCaching
from ase import Atoms

from aiida_mlip_al.sampling.walkers import reduced_formula


class FrameCaching(NodeCaching):
    """Leave the parent's uuid out of the hash: a run made again from the cache has the same frames, but other uuids."""

    def get_objects_to_hash(self) -> dict[str, Any]:
        """Return what is hashed."""
        objects = super().get_objects_to_hash()
        origin = {key: value for key, value in self._node.origin.items() if key != 'parent_uuid'}
        return {**objects, 'attributes': {**objects['attributes'], 'origin': origin}}


class FrameData(StructureData):
    """A ``StructureData`` with an ``origin`` (what made it, from which parent, at which row and condition) and a ``split``.

    The split (``train``, ``validation`` or ``test``) is decided here, once, and goes with the frame into its label.
    """

    _CLS_NODE_CACHING = FrameCaching

    @classmethod
    def from_ase(cls, atoms: Atoms, split: str = 'train', **origin: Any) -> FrameData:
        """Build an unstored frame.

        :param atoms: the structure; a calculator or velocities are not kept.
        :param split: ``train``, ``validation`` or ``test``.
        :param origin: what is known of ``kind``, ``parent_uuid``, ``index``, ``time_fs``, ``temperature_K``,
            ``pressure_GPa``, ``seed``, ``max_force_deviation`` (eV/Å) and ``verdict``; unknown keys are kept too.
        """
        plain = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        node = cls(ase=plain)
        node.base.attributes.set('origin', {key: value for key, value in origin.items() if value is not None})
        node.base.attributes.set('split', split)
        return node

    @property
    def origin(self) -> dict[str, Any]:
        """Where the frame came from."""
        return dict(self.base.attributes.get('origin', {}))

    @property
    def split(self) -> str:
        """``train``, ``validation`` or ``test``."""
        return self.base.attributes.get('split', 'train')

    def to_ase(self) -> Atoms:
        """Return the structure as ``ase.Atoms``."""
        return self.get_ase()


def formula_of(structure: StructureData) -> str:
    """Return the reduced formula of a structure, which names its system."""
    return reduced_formula(structure.get_formula())


def atoms_of(structure: StructureData, attributes: Mapping[str, Any] | None = None) -> Atoms:
    """Return numbers, positions, cell and pbc of a structure in one question to the database; ``get_ase`` asks a dozen.

    :param attributes: all of the structure's, if they have been read; then none is asked.
    """
    attributes = attributes or structure.base.attributes.all
    kinds = {kind['name']: kind for kind in attributes['kinds']}
    if any(len(kind['symbols']) != 1 or kind['weights'] != [1.0] for kind in kinds.values()):
        return structure.get_ase()
    return Atoms(
        symbols=[kinds[site['kind_name']]['symbols'][0] for site in attributes['sites']],
        positions=[site['position'] for site in attributes['sites']],
        cell=attributes['cell'],
        pbc=[attributes[f'pbc{axis}'] for axis in (1, 2, 3)],
    )
