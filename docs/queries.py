"""Ten questions to the provenance graph. Run with: verdi -p mlip-al run docs/queries.py [FORCE] [FRAME_PK]."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

from aiida import orm
from aiida.plugins import CalculationFactory, DataFactory

FrameData = DataFactory('mlip_al.frame')
LabelData = DataFactory('mlip_al.label')
DatasetData = DataFactory('mlip_al.dataset')
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


def labels_by_theory() -> Counter[str]:
    """How many labels there are of each level of theory."""
    return Counter(orm.QueryBuilder().append(LabelData, project='attributes.theory').all(flat=True))


def frames_by_origin() -> Counter[str]:
    """How many frames each seeder made, and how many the loop chose (`explore`)."""
    return Counter(orm.QueryBuilder().append(FrameData, project='attributes.origin.kind').all(flat=True))


def rejected_structures() -> list[tuple[int, str, str]]:
    """The job that rejected a structure, the structure's name in it, and the reason."""
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, tag='job', project='id')
    reports = {'attributes': {'has_key': 'rejected'}}
    query.append(orm.Dict, with_incoming='job', filters=reports, project='attributes.rejected')
    return [(job, item['structure'], item['reason']) for job, items in query.iterall() for item in items]


def core_seconds_by_job() -> Counter[str]:
    """What all jobs of a kind have cost, core-seconds."""
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, tag='job', project='attributes.process_label')
    reports = {'attributes': {'has_key': 'core_s'}}
    query.append(orm.Dict, with_incoming='job', filters=reports, project='attributes.core_s')
    costs: Counter[str] = Counter()
    for name, core_s in query.iterall():
        costs[name] += core_s
    return costs


def failed_jobs() -> list[tuple[int, str, int, str]]:
    """PK, name, exit status and message of every job that failed, also of one that was done again."""
    query = orm.QueryBuilder()
    columns = ['id', *(f'attributes.{key}' for key in ('process_label', 'exit_status', 'exit_message'))]
    query.append(orm.CalcJobNode, filters={'attributes.exit_status': {'>': 0}}, project=columns)
    return [tuple(row) for row in query.all()]


def best_models(count: int = 10) -> list[tuple[orm.Node, float]]:
    """The models with the lowest force MAE (eV/Å) on their own validation frames, with it."""
    query = orm.QueryBuilder()
    measured = {'attributes.errors': {'has_key': 'force_mae'}}
    query.append(ModelData, filters=measured, project=['*', 'attributes.errors.force_mae'])
    query.order_by({ModelData: {'attributes.errors.force_mae': {'order': 'asc', 'cast': 'f'}}})
    query.limit(count)
    return [(model, error) for model, error in query.all()]


def datasets_behind(model: orm.Node) -> list[orm.Node]:
    """The shards that a model was trained on."""
    query = orm.QueryBuilder()
    query.append(ModelData, filters={'id': model.pk}, tag='model')
    query.append(orm.CalcJobNode, with_outgoing='model', tag='training')
    query.append(DatasetData, with_outgoing='training')
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


def print_overview() -> None:
    """Print the answers that need no argument."""
    print('labels:', dict(labels_by_theory()))
    print('frames:', dict(frames_by_origin()))
    print('core-seconds:', {name: round(cost) for name, cost in core_seconds_by_job().most_common()})
    for job, structure, reason in rejected_structures():
        print(f'job {job} rejected {structure}: {reason}')
    for pk, name, status, message in failed_jobs():
        print(f'{name} <{pk}> failed with {status}: {message}')
    for model, error in best_models(3):
        shards = sorted(dataset.pk for dataset in datasets_behind(model))
        print(f'model {model.pk}: {1000 * error:.0f} meV/Å, trained on datasets {shards}')


if __name__ == '__main__':
    print_overview()
    main(*(kind(value) for kind, value in zip((float, int), sys.argv[1:], strict=False)))
