"""Structures: what the run labelled, what became of what it explored, and one of them to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.exceptions import NotExistent
from ase import Atoms

from aiida_mlip_al.calculations.functions import frame_of
from aiida_mlip_al.data import DatasetData, LabelData, SelectionData
from aiida_mlip_al.data.extxyz import FORCES_KEY
from aiida_mlip_al.selection.verdict import Verdict

from .reader import SeenRun

PAGE_SIZE = 50
ARRAYS = ('trajectory', 'frame', 'verdict', 'rank')


@dataclass
class Page:
    """A page of a long list.

    :param number: from 0.
    :param total: number of rows of all pages.
    :param filters: what was asked for.
    :param size: rows on a page.
    """

    rows: list[dict[str, Any]]
    number: int
    total: int
    filters: dict[str, str] = field(default_factory=dict)
    size: int = PAGE_SIZE

    @property
    def last(self) -> int:
        """Number of the last page."""
        return max(0, (self.total - 1) // self.size)

    @property
    def first_row(self) -> int:
        """Number of the first row, from 1."""
        return self.number * self.size + 1


def labels(run: SeenRun, number: int, split: str | None) -> Page:
    """Return a page of the labels of a run, the newest first.

    :param number: of the page, from 0.
    :param split: only those of one split.
    """
    chains = {child.pk: child for child in run.called if child.name == 'LabelWorkChain'}
    query = orm.QueryBuilder()
    query.append(orm.WorkChainNode, filters={'id': {'in': list(chains) or [-1]}}, tag='chain', project='id')
    query.append(
        LabelData,
        with_incoming='chain',
        filters={'attributes.split': split} if split else {},
        edge_project='label',
        project=['id', *(f'attributes.{key}' for key in ('formula', 'split', 'energy_per_atom', 'max_force'))],
        tag='label',
    )
    query.order_by({'label': [{'ctime': 'desc'}, {'id': 'desc'}]})
    total = query.count()
    query.limit(PAGE_SIZE).offset(number * PAGE_SIZE)
    names = ('pk', 'formula', 'split', 'energy_per_atom', 'max_force', 'name')
    rows = []
    for chain, *values in query.iterall():
        row = dict(zip(names, values, strict=True))
        row['name'] = str(row['name']).removeprefix('labels__')
        rows.append({**row, 'iteration': chains[chain].iteration, 'from': chains[chain].label})
    return Page(rows, number, total, {'split': split} if split else {})


def explored(run: SeenRun, iteration: int, number: int, filters: Mapping[str, str]) -> Page:
    """Return a page of the frames that an iteration explored, the largest measure first.

    :param number: of the page, from 0.
    :param filters: ``verdict``; ``low`` and ``high``, of the measure, in its unit.
    :raises NotExistent: if there is no selection of that iteration (yet).
    """
    pk = next((turn.nodes.get('selection') for turn in run.summary.iterations if turn.number == iteration), None)
    if pk is None:
        raise NotExistent(f'Iteration {iteration} has judged no frames yet.')
    selection: Any = orm.load_node(pk)
    arrays = {name: selection.get_array(name) for name in ARRAYS}
    deviation = selection.measure
    wanted = np.ones(len(deviation), dtype=bool)
    if 'verdict' in filters:
        codes = [verdict.code for verdict in Verdict if verdict.value == filters['verdict']]
        wanted &= np.isin(arrays['verdict'], codes)
    if 'low' in filters:
        wanted &= deviation >= float(filters['low'])
    if 'high' in filters:
        wanted &= deviation < float(filters['high'])
    found = np.flatnonzero(wanted)
    found = found[np.argsort(-deviation[found], kind='stable')]
    trajectories = _trajectories(selection)
    rows = [
        {
            'trajectory': trajectories[int(arrays['trajectory'][row])],
            'frame': int(arrays['frame'][row]),
            'verdict': Verdict.from_code(int(arrays['verdict'][row])).value,
            'deviation': float(deviation[row]),
            'rank': int(arrays['rank'][row]),
        }
        for row in found[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
    ]
    shown = {key: filters[key] for key in ('verdict', 'low', 'high') if key in filters}
    return Page(rows, number, len(found), {'iteration': str(iteration), 'selection': str(pk), **shown})


def _trajectories(selection: SelectionData) -> list[int]:
    """Return the pk of every trajectory that a selection judged, in its order."""
    links = selection.creator.base.links.get_incoming(node_class=orm.TrajectoryData).all()
    by_name = {link.link_label.removeprefix('trajectories__'): link.node.pk for link in links}
    return [by_name[name] for name in selection.base.attributes.get('trajectories')]


def count_frames(node: orm.Data) -> int:
    """Return how many structures a node holds: 0 if it is none."""
    if isinstance(node, orm.TrajectoryData):
        return node.numsteps
    if isinstance(node, DatasetData):
        return node.n_frames
    return int(isinstance(node, orm.StructureData | LabelData))


def draw_structure(node: orm.Data, row: int) -> dict[str, Any]:
    """Return one structure as plain numbers: Å, and eV/Å for forces.

    :param row: of a trajectory or a dataset.
    :raises NotExistent: if there is none.
    """
    if not 0 <= row < count_frames(node):
        raise NotExistent(f'Node {node.pk} has no structure {row}.')
    atoms = _atoms(node, row)
    forces = atoms.arrays.get(FORCES_KEY)
    return {
        'formula': atoms.get_chemical_formula(),
        'symbols': atoms.get_chemical_symbols(),
        'positions': np.round(atoms.positions, 5).tolist(),
        'cell': np.round(atoms.cell.array, 5).tolist() if atoms.pbc.any() else None,
        'forces': None if forces is None else np.round(forces, 4).tolist(),
    }


def _atoms(node: Any, row: int) -> Atoms:
    if isinstance(node, orm.TrajectoryData):
        atoms = frame_of(node, row)
        if 'forces' in node.get_arraynames():
            atoms.arrays[FORCES_KEY] = node.get_array('forces')[row]
        return atoms
    if isinstance(node, DatasetData):
        return next(islice(node.iterate(), row, None))
    return node.to_ase() if isinstance(node, LabelData) else node.get_ase()
