"""What a run has left, finished or not: its shards, its newest committee, and how another run begins with them."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.data import DatasetData, ModelData


def shards_of(node: orm.WorkChainNode) -> dict[str, DatasetData]:
    """Return the datasets of a run by name, also of labellings that have ended when the run had failed.

    :param node: an ActiveLearningWorkChain.
    """
    shards = dict(node.outputs.datasets.items()) if 'datasets' in node.outputs else {}
    attached = {shard.uuid for shard in shards.values()}
    for label, labelling in labellings_of(node).items():
        if 'dataset' in labelling.outputs and labelling.outputs.dataset.uuid not in attached:
            # `iteration_01_label` labels the shard `iteration_01`, and `label_seeding` the shard `seeds`.
            name = label.removesuffix('_label').removeprefix('label_').replace('seeding', 'seeds')
            shards[name] = labelling.outputs.dataset
    return shards


def labellings_of(node: orm.WorkChainNode) -> dict[str, orm.WorkChainNode]:
    """Return the LabelWorkChains of a run by their call link labels."""
    calls = node.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all()
    return {link.link_label: link.node for link in calls if link.node.process_label == 'LabelWorkChain'}


def last_committee(node: orm.WorkChainNode) -> dict[str, ModelData]:
    """Return the newest committee of a run, that of the end or of the last iteration; empty if there is none."""
    outputs = node.outputs
    if 'final' in outputs and 'committee' in outputs.final:
        return dict(outputs.final.committee.items())
    iterations = dict(outputs.iterations.items()) if 'iterations' in outputs else {}
    for name in sorted(iterations, reverse=True):
        if 'committee' in iterations[name]:
            return dict(iterations[name].committee.items())
    return {}


def continue_from(inputs: dict[str, Any], node: orm.WorkChainNode) -> dict[str, Any]:
    """Return a run's inputs with the datasets, the committee and the reference energies of an earlier run.

    :param inputs: from :meth:`.builder.Inputs.run`.
    :param node: an ActiveLearningWorkChain, finished or not.
    :raises ConfigError: if the run left no dataset, or has ended while some of its labels are still on their way.
    """
    coming = [child for child in labellings_of(node).values() if not child.is_terminated]
    if coming and node.is_terminated:
        raise ConfigError(
            f'Labels of run {node.pk} are still on their way, in <{coming[0].pk}>: continue when they have come, or give them up '
            f'with `verdi process kill {coming[0].pk}`.'
        )
    shards = shards_of(node)
    if not shards:
        raise ConfigError(f'Run {node.pk} left no labelled dataset to continue from.')
    continued = {name: value for name, value in inputs.items() if name not in ('seeding', 'seed_rounds', 'test')}
    continued['datasets'] = {**shards, **inputs.get('datasets', {})}
    if 'test' in inputs and not any(dataset.splits.get('test') for dataset in continued['datasets'].values()):
        continued['test'] = inputs['test']
    committee = last_committee(node)
    if committee:
        continued['committee'] = committee
    energies = _reference_energies(node)
    if energies is not None:
        continued['reference_energies'] = energies
    # Shards of earlier runs keep their names; new iterations are numbered after them.
    return {**continued, 'datasets': {_earlier(name): shard for name, shard in continued['datasets'].items()}}


def _earlier(name: str) -> str:
    return name if name.startswith(('given_', 'earlier_')) else f'earlier_{name}'


def _reference_energies(node: orm.WorkChainNode) -> orm.Dict | None:
    for child in sorted(node.called, key=lambda called: (called.ctime, called.pk), reverse=True):
        if child.process_label == 'CommitteeTrainWorkChain' and 'reference_energies' in child.outputs:
            return child.outputs.reference_energies
    return None
