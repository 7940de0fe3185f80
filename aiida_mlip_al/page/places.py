"""From a point of a plot to the node that it stands for."""

from __future__ import annotations

from itertools import islice

from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.common.links import LinkType

from aiida_mlip_al.data import DatasetData, FrameData, LabelData, SelectionData


def label_of_test_frame(evaluation: int, row: int) -> int:
    """Return the label of a test frame, or its dataset if it was imported.

    :param evaluation: pk of the evaluation that a committee's errors come from.
    :param row: of the frame among its test frames, in the order of its arrays.
    :raises NotExistent: if there are not so many.
    """
    datasets = orm.load_node(evaluation).base.links.get_incoming(node_class=DatasetData).all()
    for link in sorted(datasets, key=lambda item: item.link_label):
        dataset = link.node
        n_test = dataset.splits.get('test', 0)
        if row < n_test:
            frame = next(islice(dataset.iterate('test'), row, None))
            return _label_by_name(dataset, str(frame.info.get('name', ''))) or dataset.pk
        row -= n_test
    raise NotExistent(f'Evaluation {evaluation} has fewer test frames.')


def _label_by_name(dataset: DatasetData, name: str) -> int | None:
    """Return the label that a work chain returned under a name together with a dataset."""
    query = orm.QueryBuilder()
    query.append(DatasetData, filters={'id': dataset.pk}, tag='dataset')
    query.append(orm.WorkChainNode, with_outgoing='dataset', edge_filters={'type': LinkType.RETURN.value}, tag='chain')
    query.append(LabelData, with_incoming='chain', edge_filters={'label': f'labels__{name}'}, project='id')
    return query.first(flat=True)


def label_of_chosen_frame(selection: int, rank: int) -> int:
    """Return the label of a chosen frame, or the frame if it has none (yet).

    :param selection: pk of the selection.
    :param rank: of the frame in the order of choice.
    :raises NotExistent: if there is no such frame.
    """
    query = orm.QueryBuilder()
    query.append(SelectionData, filters={'id': selection}, tag='selection')
    query.append(orm.ProcessNode, with_outgoing='selection', edge_filters={'type': LinkType.CREATE.value}, tag='choice')
    query.append(FrameData, with_incoming='choice', edge_filters={'label': f'frames__frame_{rank:03d}'}, project='id')
    frame = query.first(flat=True)
    if frame is None:
        raise NotExistent(f'Selection {selection} has no frame {rank}.')
    return label_of_structure(frame) or frame


def label_of_structure(pk: int) -> int | None:
    """Return the last label of a structure, or None."""
    query = orm.QueryBuilder()
    query.append(orm.Node, filters={'id': pk}, tag='structure')
    query.append(
        orm.WorkChainNode,
        with_incoming='structure',
        filters={'process_type': 'aiida.workflows:mlip_al.label'},
        edge_project='label',
        edge_tag='given',
        tag='chain',
    )
    query.append(
        LabelData,
        with_incoming='chain',
        edge_filters={'type': LinkType.RETURN.value},
        edge_project='label',
        edge_tag='got',
        project='id',
        tag='label',
    )
    pairs = [(row['given']['label'], row['got']['label'], row['label']['id']) for row in query.dict()]
    same = [label for given, got, label in pairs if given.removeprefix('structures__') == got.removeprefix('labels__')]
    return max(same, default=None)
