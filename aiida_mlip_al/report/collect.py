"""From the provenance graph to the description of a run."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType

from aiida_mlip_al import __version__
from aiida_mlip_al.data import DatasetData, DeviationData, ModelData
from aiida_mlip_al.selection.measure import MEASURES, Measure

from .graph import Process, count_labels, failure_of, read_processes, shared_time, state_of, wall_seconds
from .summary import Errors, Failure, FinalSummary, IterationSummary, ModelSummary, Outcomes, Parity, RunSummary
from .words import level_note, stop_clause

#: Outputs of an iteration that the summary names by their pk.
ITERATION_NODES = ('selection', 'new_labels', 'late_labels', 'errors', 'history')


def collect(run: orm.WorkChainNode) -> RunSummary:
    """Describe a run as far as it has come.

    :param run: an ActiveLearningWorkChain, running or ended.
    """
    called = read_processes(run)
    outputs = run.base.links.get_outgoing(link_type=LinkType.RETURN).nested()
    inputs = run.base.links.get_incoming(link_type=LinkType.INPUT_WORK).nested()
    datasets = dict(outputs.get('datasets', {}))
    select, stop = inputs['select'].get_dict(), inputs['stop'].get_dict()
    name, single = select.get('measure', 'max'), 'uncertainty' in inputs['train']
    iterations = _iterations(outputs, called, MEASURES[name])
    final = _final(outputs, called, iterations, single)
    theory = next((dataset.theory for dataset in datasets.values()), '')
    return RunSummary(
        label=run.label or 'active learning',
        pk=run.pk,
        uuid=run.uuid,
        state=state_of(run),
        created=run.ctime,
        exit_status=run.exit_status,
        message=failure_of(run) or '',
        stop_reason=stop_clause(_latest_history(outputs)),
        wall_s=wall_seconds(run),
        version=__version__,
        theory=theory,
        elements=sorted({element for dataset in datasets.values() for element in dataset.elements}),
        formulas=sorted({node.get_formula() for node in inputs['structures'].values()}),
        targets=_targets(select, stop),
        measure=name,
        single_model=single,
        confidence=stop.get('confidence', 0.95),
        settings=_settings(inputs),
        labels_in_hand=count_labels(run, called),
        iterations=iterations,
        final=final,
        parity=_parity(called),
        models=_models(outputs),
        failures=_failures(called),
        nodes=_nodes(run, datasets, iterations, final),
    )


def _latest_history(outputs: dict[str, Any]) -> dict[str, Any]:
    histories = [output['history'] for output in _iteration_outputs(outputs).values() if 'history' in output]
    return histories[-1].get_dict() if histories else {}


def _iteration_outputs(outputs: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(outputs.get('iterations', {}).items()))


def errors_from(values: dict[str, Any] | None) -> Errors | None:
    """Return errors as the evaluation's Dict has them, or None."""
    if not values:
        return None
    return Errors(
        energy_mae=values['energy_mae'],
        force_mae=values['force_mae'],
        force_rmse=values['force_rmse'],
        stress_mae=values.get('stress_mae'),
    )


def _iterations(outputs: dict[str, Any], called: list[Process], measure: Measure) -> list[IterationSummary]:
    rows = {row['iteration']: row for row in _latest_history(outputs).get('rows', [])}
    by_name = _iteration_outputs(outputs)
    numbers = sorted({child.iteration for child in called if child.iteration > 0})
    summaries = []
    for number in numbers:
        output = by_name.get(f'iteration_{number:02d}', {})
        row = rows.get(number, {})
        errors = output['errors'].get_dict() if 'errors' in output else {}
        n_train = errors.get('train', {}).get('n_frames', 0)
        n_validation = errors.get('validation', {}).get('n_frames', 0)
        selection, new = output.get('selection'), output.get('new_labels')
        thresholds = selection.thresholds if selection is not None else {}
        mine = [
            child for child in called if child.iteration == number or (child.iteration == 0 and number == numbers[0])
        ]
        if number == numbers[-1]:
            mine += [child for child in called if child.iteration == -1]
        summaries.append(
            IterationSummary(
                number=number,
                n_labels=n_train + n_validation,
                n_train=n_train,
                n_validation=n_validation,
                new_labels=new.n_frames if new is not None else 0,
                validation_errors=errors_from(errors.get('validation')),
                test_errors=errors_from(errors.get('test')),
                new_label_errors=_new_label_errors(row),
                deviations=_deviations(output, measure),
                lower=thresholds.get('lower'),
                upper=thresholds.get('upper'),
                level_note=level_note(thresholds, measure.unit),
                fates=selection.counts if selection is not None else {},
                factor=thresholds.get('factor'),
                coverage=thresholds.get('coverage'),
                guaranteed=thresholds.get('guaranteed', True),
                accurate_fraction=row.get('accurate_fraction'),
                outcomes=_outcomes(new, output.get('late_labels'), measure),
                wall_s=shared_time(mine),
                core_s=_core_seconds(mine),
                processes={child.stage: child.pk for child in mine if child.iteration == number},
                stopped_walkers={str(reason): count for reason, count in row.get('stops', {}).items()},
                nodes={kind: output[kind].pk for kind in ITERATION_NODES if kind in output},
            )
        )
    return summaries


def _core_seconds(called: list[Process]) -> dict[str, float]:
    core: dict[str, float] = defaultdict(float)
    for child in called:
        core[child.stage] += child.core_seconds()
    return {stage: seconds for stage, seconds in core.items() if seconds}


def _new_label_errors(row: dict[str, Any]) -> Errors | None:
    if row.get('new_label_force_mae') is None:
        return None
    return Errors(
        energy_mae=row['new_label_energy_mae'],
        force_mae=row['new_label_force_mae'],
        force_rmse=row['new_label_force_rmse'],
    )


def _deviations(output: Any, measure: Measure) -> np.ndarray:
    if 'selection' in output:
        return output['selection'].measure
    nodes = [node for _, node in sorted(output.get('deviations', {}).items())]
    columns = [column for node in nodes if (column := node.get(measure.column)) is not None]
    return np.concatenate(columns) if columns else np.empty(0)


def _outcomes(new: DeviationData | None, late: DeviationData | None, measure: Measure) -> Outcomes | None:
    """Read the errors of the labels of an iteration; ``late`` has those of ``new`` once more, and the late ones."""
    node = new if late is None else late
    if node is None or (claimed := node.get(measure.column)) is None:
        return None
    audit, none = node.get('audit'), np.zeros(len(claimed), dtype=bool)
    return Outcomes(
        measure=claimed,
        error=node.get_array('max_force_error'),
        audit=none if audit is None else audit > 0.5,
        late=none if late is None else ~np.isin(node.get_array('rank'), [] if new is None else new.get_array('rank')),
        rank=node.get('rank'),
    )


def _final(
    outputs: dict[str, Any], called: list[Process], iterations: list[IterationSummary], single: bool
) -> FinalSummary | None:
    node = outputs.get('final', {}).get('errors')
    if node is None:
        return None
    errors = node.get_dict()
    test = errors.get('test')
    return FinalSummary(
        n_train=errors.get('train', {}).get('n_frames', 0),
        n_validation=errors.get('validation', {}).get('n_frames', 0),
        errors=errors_from(test),
        validation_errors=errors_from(errors.get('validation')),
        first_errors=iterations[0].test_errors if iterations else None,
        by_temperature=[
            (item['temperature_K'], item['n_frames'], Errors(**_plain(item)))
            for item in (test or {}).get('by_temperature', [])
        ],
        member_errors=[
            Errors(
                energy_mae=item['energy_mae'],
                force_mae=item['force_mae'],
                force_rmse=item.get('force_rmse', float('nan')),
            )
            # Those of one model are virtual: changes of its last layer, no potentials that anyone would use.
            for item in ([] if single else (test or {}).get('members', []))
        ],
        processes={child.label.removeprefix('final_'): child.pk for child in called if child.iteration == -1},
        nodes={'errors': node.pk},
    )


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return {key: item.get(key) for key in ('energy_mae', 'force_mae', 'force_rmse')}


def _parity(called: list[Process]) -> Parity | None:
    evaluations = [process for process in called if process.label.endswith('_evaluate') and process.ok]
    if not evaluations:
        return None
    last = evaluations[-1]
    outputs = orm.load_node(last.pk).outputs
    if 'test' not in outputs.parity:
        return None
    node = outputs.parity.test
    arrays = {name: node.get_array(name) for name in node.get_arraynames()}
    return Parity(
        energy_reference=arrays['energy_reference'],
        energy_predicted=arrays['energy_predicted'],
        force_reference=arrays['forces_reference'],
        force_predicted=arrays['forces_predicted'],
        stress_reference=arrays.get('stress_reference'),
        stress_predicted=arrays.get('stress_predicted'),
        temperature=outputs.deviations.test.get('temperature_K'),
        n_atoms=outputs.deviations.test.get('n_atoms'),
        committee='final' if last.iteration == -1 else f'iteration {last.iteration}',
        evaluation=last.pk,
    )


def _models(outputs: dict[str, Any]) -> list[ModelSummary]:
    models = []
    for name, output in _iteration_outputs(outputs).items():
        if 'committee' in output:
            number = int(name.removeprefix('iteration_'))
            models += [_model(f'iteration {number}', *item) for item in sorted(output['committee'].items())]
    members = outputs.get('final', {}).get('committee', {})
    return models + [_model('final', *item) for item in sorted(members.items())]


def _model(committee: str, name: str, node: ModelData) -> ModelSummary:
    attributes = node.base.attributes.all
    return ModelSummary(
        name=name,
        pk=node.pk,
        committee=committee,
        seed=attributes.get('seed'),
        trained_on=attributes.get('trained_on'),
        epochs=attributes.get('epochs'),
        energy_mae=node.errors.get('energy_mae'),
        force_mae=node.errors.get('force_mae'),
        r_max=attributes.get('r_max'),
        n_parameters=attributes.get('n_parameters'),
        elements=node.elements,
        dtype=attributes.get('dtype', ''),
    )


def _failures(called: list[Process]) -> list[Failure]:
    failures = []
    for child in called:
        for process in child.jobs() or [child]:
            if process.failure:
                failures.append(Failure(stage=child.stage, pk=process.pk, reason=process.failure))
    labels = {job.pk for child in called if child.stage == 'label' for job in child.jobs()}
    query = orm.QueryBuilder()
    query.append(orm.CalcJobNode, filters={'id': {'in': sorted(labels) or [-1]}}, tag='job', project='id')
    query.append(orm.Dict, with_incoming='job', project='attributes.rejected')
    for pk, rejected in query.iterall():
        for item in rejected or []:
            text = f'{item["structure"]}: {item["reason"]}. {item["message"]}'.strip()
            failures.append(Failure(stage='label', pk=pk, reason=text))
    return failures


def _targets(select: dict[str, Any], stop: dict[str, Any]) -> dict[str, float]:
    targets = {
        'tolerance': select.get('tolerance'),
        'target_force_error': stop.get('target_force_error'),
        'test_force_error': stop.get('test_force_error'),
        'accurate_fraction': stop.get('accurate_fraction'),
        'false_negative_rate': stop.get('false_negative_rate'),
        'max_labels': stop.get('max_labels'),
        'max_iterations': stop.get('max_iterations'),
    }
    return {name: float(value) for name, value in targets.items() if value is not None}


def _settings(inputs: Any) -> dict[str, Any]:
    """Return every number that was given to the run, by section."""
    settings: dict[str, Any] = {'random_seed': inputs['seed'].value}
    for namespace in ('seeding', 'test'):
        if namespace in inputs:
            settings[namespace] = {name: chain.get_list() for name, chain in inputs[namespace]['chains'].items()}
    if 'ase' in inputs['label']:
        settings['labels'] = inputs['label']['ase']['calculator'].get_dict()
    train = inputs['train']
    settings['train'] = {'members': train['members'].value, **train['mace']['train']['parameters'].get_dict()}
    if 'final' in inputs:
        own = settings['train']
        settings['final'] = {key: value for key, value in inputs['final'].get_dict().items() if own.get(key) != value}
    settings['explore'] = inputs['explore']['settings'].get_dict()
    settings['select'] = inputs['select'].get_dict()
    settings['stop'] = inputs['stop'].get_dict()
    return settings


def _nodes(
    run: orm.WorkChainNode,
    datasets: dict[str, DatasetData],
    iterations: list[IterationSummary],
    final: FinalSummary | None,
) -> dict[str, int]:
    nodes = {'run': run.pk}
    nodes.update({f'dataset {name}': node.pk for name, node in datasets.items()})
    for turn in iterations:
        name = f'iteration {turn.number:02d}'
        nodes.update({f'{name}: {kind.replace("_", " ")}': pk for kind, pk in turn.nodes.items()})
    if final is not None:
        nodes.update({f'final: {kind}': pk for kind, pk in final.nodes.items()})
    return nodes
