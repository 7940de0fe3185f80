"""Three questions to the provenance graph. Run with: verdi -p mlip-al run docs/queries.py [FORCE] [FRAME_PK]."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from aiida import orm
from aiida.plugins import CalculationFactory, DataFactory

FrameData = DataFactory('mlip_al.frame')
LabelData = DataFactory('mlip_al.label')
ModelData = DataFactory('mlip_al.model')
SelectionData = DataFactory('mlip_al.selection')
DeviationData = DataFactory('mlip_al.deviation')
ExploreCalculation = CalculationFactory('mlip_al.explore')


def labels_above(force: float) -> list[orm.Node]:
    """All labels whose largest force exceeds ``force`` (eV/Å), the largest first."""
    query = orm.QueryBuilder()
    query.append(LabelData, filters={'attributes.max_force': {'>': force}})
    query.order_by({LabelData: {'attributes.max_force': {'order': 'desc', 'cast': 'f'}}})
    return query.all(flat=True)


def most_uncertain(count: int = 10) -> Iterator[tuple[orm.Node, float, float]]:
    """The structures with the highest deviation at selection, with it and the true largest force error (eV/Å).

    The error is that of the committee that chose the structure, measured when its label came.
    """
    query = orm.QueryBuilder()
    query.append(orm.CalcFunctionNode, filters={'label': 'assess_labels'}, tag='assess')
    query.append(DeviationData, with_incoming='assess', project='*')
    query.append(SelectionData, with_outgoing='assess', tag='selection')
    query.append(orm.CalcFunctionNode, with_outgoing='selection', tag='select')
    query.append(FrameData, with_incoming='select', tag='frame', project='*', edge_project='label')
    query.order_by({'frame': {'attributes.origin.max_force_deviation': {'order': 'desc', 'cast': 'f'}}})
    query.limit(count)
    for errors, frame, name in query.iterall():
        # A frame is named after its rank in the selection; the errors have one row for each rank that got a label.
        rows = (errors.get_array('rank') == int(name.rsplit('_', 1)[1])).nonzero()[0]
        error = float(errors.get_array('max_force_error')[rows[0]]) if len(rows) else float('nan')
        yield frame, frame.origin['max_force_deviation'], error


def committee_that_chose(frame: orm.Node) -> list[orm.Node]:
    """The models whose disagreement made the loop choose a structure."""
    query = orm.QueryBuilder()
    query.append(orm.TrajectoryData, filters={'uuid': frame.origin['parent_uuid']}, tag='trajectory')
    query.append(ExploreCalculation, with_outgoing='trajectory', tag='explore')
    query.append(ModelData, with_outgoing='explore')
    return query.distinct().all(flat=True)


def main(force: float = 5.0, pk: int | None = None) -> None:
    """Print the answers."""
    labels = labels_above(force)
    print(f'{len(labels)} labels with a force above {force} eV/Å')
    for label in labels[:5]:
        print(
            f'  {label.pk}: {label.base.attributes.get("formula")}, {label.base.attributes.get("max_force"):.2f} eV/Å'
        )
    uncertain = list(most_uncertain())
    print(f'the {len(uncertain)} structures with the highest deviation at selection')
    for frame, deviation, error in uncertain:
        print(f'  {frame.pk}: deviation {deviation:.3f} eV/Å, largest force error {error:.3f} eV/Å')
    if pk is None and not uncertain:
        return
    frame = orm.load_node(pk) if pk is not None else uncertain[0][0]
    models = committee_that_chose(frame)
    print(f'structure {frame.pk} was chosen by the committee {sorted(model.pk for model in models)}')


if __name__ == '__main__':
    main(*(kind(value) for kind, value in zip((float, int), sys.argv[1:], strict=False)))
