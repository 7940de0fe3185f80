"""The way from a node back to the seeds, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_mlip_al.data import DatasetData, DeviationData, FrameData, LabelData, ModelData, SelectionData
from aiida_mlip_al.data.uncertainty import UncertaintyData
from aiida_mlip_al.selection.measure import MEASURES

from .words import milli, number, quantity


def story(node: orm.Data) -> list[str]:
    """Return one sentence for each step from a node back to what the user gave.

    :param node: a label, structure, model, uncertainty, dataset, deviation, selection or trajectory.
    """
    sentences: list[str] = []
    seen: set[int] = set()
    current: Any = node
    while current is not None and current.pk not in seen:
        seen.add(current.pk)
        sentence, current = _step(current)
        sentences.append(sentence)
    return sentences


def _inputs(process: Any, kind: type) -> dict[str, Any]:
    links = process.base.links.get_incoming(node_class=kind).all() if process is not None else []
    return {link.link_label: link.node for link in links}


def _by(process: Any) -> str:
    return f'{process.process_label} <{process.pk}>'


def _step(node: Any) -> tuple[str, Any]:
    creator = node.creator
    if creator is None:
        return f'{_name(node)} was given by the user.', None
    for kind, step in STEPS.items():
        if isinstance(node, kind):
            return step(node, creator)
    return f'{_name(node)} was made by {_by(creator)}.', None


def _label(node: Any, creator: Any) -> tuple[str, Any]:
    structures = {**_inputs(creator, FrameData), **_inputs(creator, orm.StructureData)}
    own = next(
        (
            link.link_label.removeprefix('labels__')
            for link in creator.base.links.get_outgoing().all()
            if link.node.pk == node.pk
        ),
        '',
    )
    structure = structures.get(f'structures__{own}')
    values = node.base.attributes.all
    how = 'found' if creator.process_label == 'read_pool_labels' else 'computed'
    text = (
        f'{_name(node)} is the label of {values["formula"]} with {values["theory"]}: '
        f'{number(values["energy"], 6)} eV, largest force {number(values["max_force"])} eV/Å; '
        f'it is a {values["split"]} frame, {how} by {_by(creator)}.'
    )
    return text, structure


def _frame(node: Any, creator: Any) -> tuple[str, Any]:
    origin = node.origin
    kind = origin.get('kind')
    if creator.process_label == 'hold_out':
        text = f'{_name(node)} ({node.get_formula()}) is held out for validation by {_by(creator)}, which has no other frame.'
    elif kind == 'explore':
        when = f' after {number(origin["time_fs"])} fs' if origin.get('time_fs') is not None else ''
        hot = f' at {number(origin["temperature_K"])} K' if origin.get('temperature_K') is not None else ''
        doubt = 'because the model was uncertain' if _chosen_by_one_model(creator) else 'because the models disagreed'
        met = f', met{hot}{when}' if hot or when else ''
        verdict = 'to audit an accurate frame' if origin.get('verdict') == 'audit' else doubt
        text = (
            f'{_name(node)} ({node.get_formula()}) is frame {origin.get("index")} of {origin.get("trajectory")}{met}; '
            f'its {_measure_of(node, creator)} and {_by(creator)} chose it {verdict}.'
        )
    elif kind == 'md':
        text = (
            f'{_name(node)} ({node.get_formula()}) is frame {origin.get("index")} of an MD at '
            f'{number(origin.get("temperature_K"))} K, taken by {_by(creator)}.'
        )
    else:
        text = f'{_name(node)} ({node.get_formula()}) was made by the seeding step `{kind}` in {_by(creator)}.'
    parent = origin.get('parent_uuid')
    nodes = {
        **_inputs(creator, orm.TrajectoryData),
        **_inputs(creator, orm.StructureData),
        **_inputs(creator, FrameData),
    }
    found = next((item for item in nodes.values() if item.uuid == parent), None)
    return text, found if found is not None else next(iter(nodes.values()), None)


def _trajectory(node: Any, creator: Any) -> tuple[str, Any]:
    made_as = node.base.links.get_incoming(link_type=LinkType.CREATE).one().link_label
    if creator.process_label == 'plan_pool':
        text = (
            f'{_name(node)} holds {node.numsteps} frames of the pool that were not labelled, found by {_by(creator)}.'
        )
        pool = made_as.split('__')[-1].rsplit('_', 1)[0]
        return text, creator.inputs.frames[pool]
    if creator.process_label == 'DeviateCalculation':
        text = (
            f'{_name(node)} has the predictions of {_predictor(creator)} for {node.numsteps} frames, by {_by(creator)}.'
        )
        return text, creator.inputs.trajectories[made_as.split('__')[-1]]
    models = list(_inputs(creator, ModelData).values())
    with_models = f' with {_predictor(creator)}' if models else ''
    text = f'{_name(node)} is MD of {node.numsteps} recorded frames by {_by(creator)}{with_models}.'
    index = int(made_as.rsplit('_', 1)[1]) if made_as.rsplit('_', 1)[-1].isdigit() else 0
    walkers = creator.inputs.walkers.get_list() if 'walkers' in creator.inputs else []
    start = walkers[index]['structure'] if index < len(walkers) else None
    structures = {**_inputs(creator, orm.StructureData), **_inputs(creator, FrameData)}
    return text, structures.get(f'structures__{start}', next(iter(structures.values()), None))


def _model(node: Any, creator: Any) -> tuple[str, Any]:
    values = node.base.attributes.all
    datasets = _inputs(creator, DatasetData)
    names = ', '.join(f'{name.removeprefix("datasets__")} <{item.pk}>' for name, item in sorted(datasets.items()))
    made_as = node.base.links.get_incoming(link_type=LinkType.CREATE).one().link_label
    own = ('initial_model', f'initial_models__{made_as.removeprefix("committee__")}')
    start = {name: model for name, model in _inputs(creator, ModelData).items() if name in own}
    warm = f', starting from model <{next(iter(start.values())).pk}>' if start else ', from scratch'
    text = (
        f'{_name(node)} was trained by {_by(creator)} on {values.get("trained_on")} frames ({names}) with seed '
        f'{values.get("seed")}{warm}.'
    )
    return text, max(datasets.values(), key=_age, default=None)


def _dataset(node: Any, creator: Any) -> tuple[str, Any]:
    text = f'{_name(node)} holds {node.n_frames} frames labelled with {node.theory}, made by {_by(creator)}.'
    frames = {**_inputs(creator, FrameData), **_inputs(creator, orm.StructureData), **_inputs(creator, DatasetData)}
    return text, next(iter(frames.values()), None)


def _selection(node: Any, creator: Any) -> tuple[str, Any]:
    counts = ', '.join(f'{count} {verdict}' for verdict, count in node.counts.items() if count)
    levels = node.thresholds
    text = f'{_name(node)} judged {node.base.attributes.get("n_frames")} frames by {_by(creator)}: {counts}; '
    measure = MEASURES[levels.get('measure', 'max')]
    method = str(levels.get('method')).replace('_', ' ')
    text += f'lower level of the {measure.title} {quantity(levels.get("lower"), measure.unit)} ({method}).'
    return text, next(iter(_inputs(creator, orm.TrajectoryData).values()), None)


def _deviation(node: Any, creator: Any) -> tuple[str, Any]:
    models = _inputs(creator, ModelData)
    what = 'uncertainty of the model' if _inputs(creator, UncertaintyData) else "committee's disagreement"
    text = f'{_name(node)} is the {what} on {node.n_frames} frames, from {_by(creator)}.'
    return text, next(iter(models.values()), None)


def _uncertainty(node: Any, creator: Any) -> tuple[str, Any]:
    model = next(iter(_inputs(creator, ModelData).values()))
    values = node.base.attributes.all
    frames = f', from {values["n_train"]} training frames' if 'n_train' in values else ''
    return f'{_name(node)} is the uncertainty of model <{model.pk}>{frames}, by {_by(creator)}.', model


def _predictor(process: Any) -> str:
    """Name the models that a process took: a committee, or one with an uncertainty."""
    pks = ', '.join(f'<{pk}>' for pk in sorted({item.pk for item in _inputs(process, ModelData).values()}))
    return f'the model {pks} and its uncertainty' if _inputs(process, UncertaintyData) else f'the committee {pks}'


def _chosen_by_one_model(choice: Any) -> bool:
    deviation = next(iter(_inputs(choice, DeviationData).values()), None)
    return deviation is not None and bool(_inputs(deviation.creator, UncertaintyData))


def _measure_of(frame: Any, choice: Any) -> str:
    """Say what was compared with the levels when a frame was chosen."""
    made = {link.link_label: link.node for link in choice.base.links.get_outgoing(link_type=LinkType.CREATE).all()}
    selection = made.get('selection')
    name: Any = 'max' if selection is None else selection.thresholds.get('measure', 'max')
    value = frame.origin.get('max_force_deviation')
    if selection is not None and name != 'max':
        label = next(label for label, node in made.items() if node.pk == frame.pk)
        value = float(selection.measure[selection.get_array('rank') == int(label.rsplit('_', 1)[1])][0])
    return f'{MEASURES[name].title} was {quantity(value, MEASURES[name].unit)}'


def _errors(node: Any, creator: Any) -> tuple[str, Any]:
    models = sorted(_inputs(creator, ModelData).values(), key=_age)
    if not models:
        return f'{_name(node)} was made by {_by(creator)}.', None
    measured = '; '.join(
        f'{split}: {errors["n_frames"]} frames, force MAE {milli(errors["force_mae"])} meV/Å'
        for split, errors in node.get_dict().items()
        if isinstance(errors, dict) and 'force_mae' in errors
    )
    text = f'{_name(node)} has the errors of {_predictor(creator)}, measured by {_by(creator)}'
    return f'{text}: {measured}.' if measured else f'{text}.', models[0]


STEPS: dict[type, Any] = {
    orm.Dict: _errors,
    LabelData: _label,
    FrameData: _frame,
    orm.TrajectoryData: _trajectory,
    ModelData: _model,
    DatasetData: _dataset,
    SelectionData: _selection,
    DeviationData: _deviation,
    UncertaintyData: _uncertainty,
}


def _age(node: Any) -> tuple[datetime, int]:
    return node.ctime, node.pk


def _name(node: Any) -> str:
    return f'{type(node).__name__} <{node.pk}>'
