"""`aiida-mlip-al seed|label|train|explore`: one stage alone, from the same input file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .common import with_profile
from .launch import CONFIG

WAIT = click.option('--wait', is_flag=True, help='Wait until it ends.')
DATASETS = click.option(
    '-d', '--dataset', 'datasets', multiple=True, required=True, help='DatasetData (PK or UUID); repeat.'
)


@click.command()
@CONFIG
@click.option(
    '--preview',
    type=click.Path(dir_okay=False, path_type=Path),
    metavar='FILE',
    help='Submit nothing: write the structures to FILE (extended XYZ) and print a table of them.',
)
@click.option('--label', 'labels', is_flag=True, help='Label them too: the result is a dataset.')
@WAIT
@with_profile
def seed(config: Path, preview: Path | None, labels: bool, wait: bool) -> None:
    """Make the seed structures of CONFIG."""
    from aiida_mlip_al.config import ConfigError
    from aiida_mlip_al.workflows.perturb_and_sample import PerturbAndSampleWorkChain

    inputs = _inputs(config)
    if not inputs.config.seed:
        raise ConfigError('`seed` is missing: give the steps that make structures.')
    if preview is not None:
        from .preview import show_preview

        structures = [node.get_ase() for _, node in sorted(inputs.structures.items())]
        show_preview(inputs.config.seed, structures, inputs.seed.value, preview)
        return
    fraction = {'validation_fraction': inputs.config.seed_validation_fraction}
    sample = inputs.sample(inputs.config.seed, fraction)
    if labels:
        sample['label'] = inputs.label()
    _submit(PerturbAndSampleWorkChain, {'structures': inputs.structures, 'seed': inputs.seed, **sample}, wait)


@click.command()
@CONFIG
@click.option('--from', 'source', metavar='PK', help='Label the frames that this PerturbAndSampleWorkChain made.')
@WAIT
@with_profile
def label(config: Path, source: str | None, wait: bool) -> None:
    """Label the structures of CONFIG, or the frames of a seeding."""
    from aiida import orm

    from aiida_mlip_al.config import ConfigError
    from aiida_mlip_al.workflows.builder import load_typed
    from aiida_mlip_al.workflows.label import LabelWorkChain

    inputs = _inputs(config)
    structures: Any = inputs.structures
    if source is not None:
        node = load_typed(source, orm.WorkChainNode, 'work chain')
        if 'frames' not in node.outputs:
            raise ConfigError(f'Process {node.pk} has no frames: give a PerturbAndSampleWorkChain that finished.')
        structures = dict(node.outputs.frames.items())
    _submit(LabelWorkChain, {'structures': structures, **inputs.label()}, wait)


@click.command()
@CONFIG
@DATASETS
@click.option('--final', is_flag=True, help='With the settings of the final committee.')
@WAIT
@with_profile
def train(config: Path, datasets: Sequence[str], final: bool, wait: bool) -> None:
    """Train a committee on datasets with the settings of CONFIG."""
    from aiida import orm

    from aiida_mlip_al.data import DatasetData
    from aiida_mlip_al.workflows.builder import load_typed
    from aiida_mlip_al.workflows.committee_train import CommitteeTrainWorkChain

    inputs = _inputs(config)
    shards = {f'shard_{index:02d}': load_typed(item, DatasetData, 'dataset') for index, item in enumerate(datasets)}
    changes = inputs.config.train.mace.final if final else {}
    energies = inputs.config.reference_energies
    extra = {'reference_energies': orm.Dict(energies)} if energies is not None else {}
    _submit(
        CommitteeTrainWorkChain, {'datasets': shards, 'seed': inputs.seed, **inputs.train(**changes), **extra}, wait
    )


@click.command()
@CONFIG
@click.option(
    '--from', 'source', metavar='PK', required=True, help='The run or committee training whose committee explores.'
)
@WAIT
@with_profile
def explore(config: Path, source: str, wait: bool) -> None:
    """Explore from the structures of CONFIG, or the frames of its pool, with a committee."""
    from aiida import orm

    from aiida_mlip_al.config import ConfigError
    from aiida_mlip_al.workflows.builder import load_typed
    from aiida_mlip_al.workflows.earlier_run import last_committee
    from aiida_mlip_al.workflows.explore import ExploreWorkChain

    inputs = _inputs(config)
    node = load_typed(source, orm.WorkChainNode, 'work chain')
    committee = dict(node.outputs.committee.items()) if 'committee' in node.outputs else last_committee(node)
    if not committee:
        raise ConfigError(f'Process {node.pk} has no committee.')
    exploration = inputs.explore()
    starts = {} if 'pool' in exploration else {'structures': inputs.structures}
    _submit(ExploreWorkChain, {**starts, 'committee': committee, 'seed': inputs.seed, **exploration}, wait)


def _inputs(path: Path) -> Any:
    from aiida_mlip_al.config import load_config
    from aiida_mlip_al.workflows.builder import Inputs

    return Inputs(load_config(path), path.parent)


def _submit(process: Any, inputs: dict[str, Any], wait: bool) -> None:
    import time

    from .launch import submit

    node = submit(process, inputs)
    click.echo(f'submitted {process.__name__} as process {node.pk}')
    if not wait:
        return
    while not node.is_terminated:
        time.sleep(0.5)
    for name in sorted(node.outputs):
        output = node.outputs[name]
        click.echo(f'  {name} {getattr(output, "pk", "")}'.rstrip())
    if not node.is_finished_ok:
        raise click.ClickException(f'Process {node.pk} failed: {node.exit_message or node.process_state}')
    click.echo(f'finished; `verdi process show {node.pk}`')
