"""`aiida-mlip-al model` and `verdi data mlip-al-model`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from .common import told, with_profile, writing
from .dataset import print_attributes, print_table


@click.group()
def model() -> None:
    """List, show, import, export and evaluate potentials."""


@model.command('list')
@with_profile
def list_models() -> None:
    """List all models, newest first."""
    from aiida import orm

    from aiida_mlip_al.data import ModelData
    from aiida_mlip_al.report.words import milli

    builder = (
        orm.QueryBuilder().append(ModelData, project=['*']).order_by({ModelData: [{'ctime': 'desc'}, {'id': 'desc'}]})
    )
    rows = []
    for node in builder.all(flat=True):
        values = node.base.attributes.all
        rows.append(
            [
                str(node.pk),
                values['architecture'],
                ' '.join(node.elements),
                str(values.get('trained_on') or '–'),
                milli(node.errors.get('force_mae')),
                str(values.get('seed', '–')),
                node.label,
            ]
        )
    columns = ['PK', 'architecture', 'elements', 'frames', 'force MAE on validation, meV/Å', 'seed', 'label']
    print_table(columns, rows)


@model.command('show')
@click.argument('identifier', metavar='PK')
@with_profile
def show_model(identifier: str) -> None:
    """Show what is known of the model PK."""
    print_attributes(_load(identifier))


@model.command('export')
@click.argument('identifier', metavar='PK')
@click.option('-o', '--output', type=click.Path(path_type=Path), help='File, or folder for the committee of a run.')
@with_profile
def export_model(identifier: str, output: Path | None) -> None:
    """Write the model PK, or the last committee of the run PK, to files that MACE's ASE calculator reads."""
    from aiida import orm

    from aiida_mlip_al.workflows.builder import load_typed
    from aiida_mlip_al.workflows.earlier_run import last_committee

    node = load_typed(identifier, (orm.SinglefileData, orm.WorkChainNode), 'model or run')
    if isinstance(node, orm.WorkChainNode):
        committee = last_committee(node)
        if not committee:
            raise click.ClickException(f'Run {node.pk} has no committee yet.')
        folder = output or Path('committee')
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        files = {folder / f'{name}.model': member for name, member in committee.items()}
    else:
        files = {output or Path(f'model_{node.pk}.model'): _load(identifier)}
    for path, member in files.items():
        with writing(path):
            path.write_bytes(member.get_content(mode='rb'))
        click.echo(f'{path}')


@model.command('import')
@click.argument('path', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option('--label', default='', help='Name of the node.')
@click.option(
    '--element', 'elements', multiple=True, help='An element that the model knows; repeat. Checked before training.'
)
@with_profile
def import_model(path: Path, label: str, elements: tuple[str, ...]) -> None:
    """Import a MACE model file, for example a foundation model.

    A model file is a pickle, and one from a stranger can run code when it is opened: it is opened in jobs only.
    """
    from aiida_mlip_al.workflows.builder import read_model

    node = read_model(path, elements)
    node.label = label or path.name
    node.store()
    click.echo(f'model {node.pk}, sha256 {node.base.attributes.get("sha256")}')
    click.echo('It is a pickle: opening it runs whatever code it carries, so use only files whose origin you trust.')


@model.command('eval')
@click.argument('identifiers', metavar='PK...', nargs=-1, required=True)
@click.option('-d', '--dataset', 'datasets', multiple=True, required=True, help='DatasetData (PK or UUID); repeat.')
@click.option('--code', default='python@localhost', show_default=True, help='The Python that evaluates.')
@with_profile
def evaluate_models(identifiers: tuple[str, ...], datasets: tuple[str, ...], code: str) -> None:
    """Evaluate models, as one committee, on datasets."""
    from aiida_mlip_al.calculations.evaluate import EvaluateCalculation
    from aiida_mlip_al.data import DatasetData
    from aiida_mlip_al.report.words import milli
    from aiida_mlip_al.workflows.builder import load_stage_code, load_typed

    from .launch import submit

    node = submit(
        EvaluateCalculation,
        {
            'code': load_stage_code(code, 'evaluate'),
            'committee': {f'member_{index:02d}': _load(item) for index, item in enumerate(identifiers)},
            'datasets': {f'shard_{i:02d}': load_typed(item, DatasetData, 'dataset') for i, item in enumerate(datasets)},
        },
    )
    click.echo(f'submitted as process {node.pk}')
    while not node.is_terminated:
        time.sleep(0.5)
    if not node.is_finished_ok:
        raise click.ClickException(f'Process {node.pk} failed: {node.exit_message or node.process_state}')
    rows = [
        [
            split,
            str(value['n_frames']),
            milli(value['force_mae']),
            milli(value['force_rmse']),
            milli(value['energy_mae']),
        ]
        for split, value in node.outputs.errors.get_dict().items()
        if isinstance(value, dict)
    ]
    print_table(['split', 'frames', 'force MAE, meV/Å', 'force RMSE, meV/Å', 'energy MAE, meV/atom'], rows)


def _load(identifier: str) -> Any:
    from aiida_mlip_al.data import ModelData
    from aiida_mlip_al.workflows.builder import load_typed

    return told(load_typed)(identifier, ModelData, 'model')
