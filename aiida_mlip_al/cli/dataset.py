"""`aiida-mlip-al dataset` and `verdi data mlip-al-dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .common import make_console, with_profile, writing


@click.group()
def dataset() -> None:
    """List, show, import and export labelled frames."""


@dataset.command('list')
@with_profile
def list_datasets() -> None:
    """List all datasets, newest first."""
    from aiida import orm

    from aiida_mlip_al.data import DatasetData

    builder = (
        orm.QueryBuilder()
        .append(DatasetData, project=['*'])
        .order_by({DatasetData: [{'ctime': 'desc'}, {'id': 'desc'}]})
    )
    rows = [
        [
            str(node.pk),
            str(node.n_frames),
            ', '.join(f'{count} {split}' for split, count in node.splits.items() if count),
            ' '.join(node.elements),
            node.theory,
            node.label,
        ]
        for node in builder.all(flat=True)
    ]
    print_table(['PK', 'frames', 'splits', 'elements', 'theory', 'label'], rows)


@dataset.command('show')
@click.argument('identifier', metavar='PK')
@with_profile
def show_dataset(identifier: str) -> None:
    """Show what the dataset PK holds and what made it."""
    node = _load(identifier)
    print_attributes(node)


@dataset.command('export')
@click.argument('identifiers', metavar='PK...', nargs=-1, required=True)
@click.option(
    '-o', '--output', type=click.Path(dir_okay=False, path_type=Path), default='dataset.xyz', show_default=True
)
@click.option(
    '--split', type=click.Choice(['train', 'validation', 'test']), multiple=True, help='Only these frames; repeat.'
)
@with_profile
def export_dataset(identifiers: tuple[str, ...], output: Path, split: tuple[str, ...]) -> None:
    """Write datasets, or all datasets of a run, as one extended XYZ file."""
    from aiida import orm

    from aiida_mlip_al.data.dataset import check_same_theory
    from aiida_mlip_al.data.extxyz import dump_frames
    from aiida_mlip_al.workflows.builder import load_typed
    from aiida_mlip_al.workflows.earlier_run import shards_of

    nodes = []
    for identifier in identifiers:
        node = load_typed(identifier, (orm.SinglefileData, orm.WorkChainNode), 'dataset or run')
        is_run = isinstance(node, orm.WorkChainNode)
        nodes += [shard for _, shard in sorted(shards_of(node).items())] if is_run else [_load(identifier)]
    check_same_theory({f'Dataset {node.pk}': node for node in nodes})
    frames = [frame for node in nodes for frame in node.iterate(*split)]
    if not frames:
        raise click.ClickException('There is no such frame.')
    with writing(output):
        output.write_bytes(dump_frames(frames))
    click.echo(f'{len(frames)} frames written to {output}')


@dataset.command('import')
@click.argument('path', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option('--theory', required=True, help='Level of theory; datasets of different levels are never mixed.')
@click.option(
    '--energy-key', help="Name of the energy in the comment line; by default REF_energy or a calculator's result."
)
@click.option('--forces-key', help='Name of the per-atom forces.')
@click.option('--stress-key', help='Name of the stress.')
@click.option(
    '--split', type=click.Choice(['train', 'validation', 'test']), help='Split of all frames; else each keeps its own.'
)
@click.option('--label', default='', help='Name of the node.')
@with_profile
def import_dataset(
    path: Path,
    theory: str,
    energy_key: str | None,
    forces_key: str | None,
    stress_key: str | None,
    split: str | None,
    label: str,
) -> None:
    """Import labelled frames from any file that ASE reads (extended XYZ, .traj, OUTCAR, vasprun.xml): eV, eV/Å, eV/Å³.

    More than 10000 become several datasets.
    """
    from aiida_mlip_al.data import DatasetData

    if '…' in theory:
        raise click.ClickException(
            f'The theory `{theory}` is cut off: give it whole, as `aiida-mlip-al dataset show PK` prints the `theory_hash`.'
        )
    given = {'energy': energy_key, 'forces': forces_key, 'stress': stress_key}
    keys = {quantity: key for quantity, key in given.items() if key}
    try:
        # All are made before the first is stored: a file with a bad frame leaves nothing behind.
        nodes = list(DatasetData.shards_from_file(path, theory, keys=keys, split=split))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except Exception as error:
        raise click.ClickException(
            f'ASE cannot read {path} ({type(error).__name__}: {error}): give extended XYZ, .traj, OUTCAR or vasprun.xml.'
        ) from error
    if not nodes:
        raise click.ClickException(f'There is no frame in {path}.')
    for number, node in enumerate(nodes, 1):
        node.label = (label or path.name) + (f' {number} of {len(nodes)}' if len(nodes) > 1 else '')
        node.store()
        click.echo(f'{node.n_frames} frames imported as dataset {node.pk}')


@dataset.command('draw')
@click.argument('identifiers', metavar='PK...', nargs=-1, required=True)
@click.option('--frames', type=click.IntRange(min=2), default=20, show_default=True, help='Frames to begin a run with.')
@click.option('--test', type=click.IntRange(min=0), default=0, show_default=True, help='Frames to test on.')
@click.option(
    '--validation-fraction',
    type=click.FloatRange(0, 1, max_open=True),
    default=0.15,
    show_default=True,
    help='Part of the frames to begin with that is held out, one at least.',
)
@click.option('--seed', type=click.IntRange(min=0), default=0, show_default=True, help='Of the draw.')
@with_profile
def draw_datasets(identifiers: tuple[str, ...], frames: int, test: int, validation_fraction: float, seed: int) -> None:
    """Draw random frames of labelled datasets to begin a run with, and others to test it on; the run may choose from the rest."""
    from aiida import orm

    from aiida_mlip_al.calculations.pool_functions import different_frames, draw, draw_dataset

    settings = {'frames': frames, 'test': test, 'validation_fraction': validation_fraction, 'seed': seed}
    shards = {f'shard_{index:02d}': _load(identifier) for index, identifier in enumerate(identifiers)}
    try:
        draw(different_frames(shards), settings)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    drawn = draw_dataset(orm.Dict(settings), **shards)
    for name, node in drawn.items():
        click.echo(f'{node.n_frames} frames to {name} {"with" if name == "begin" else "on"}: dataset {node.pk}')
    click.echo('In the input file of a run that chooses from the rest:')
    click.echo(f'datasets: [{", ".join(str(node.pk) for node in drawn.values())}]')
    click.echo(f'explore: {{pool: {{frames: [{", ".join(str(node.pk) for node in shards.values())}]}}}}')


def _load(identifier: str) -> Any:
    from aiida_mlip_al.data import DatasetData
    from aiida_mlip_al.workflows.builder import load_typed

    return load_typed(identifier, DatasetData, 'dataset')


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table, or say that there is nothing."""
    from rich.table import Table

    if not rows:
        click.echo('There is none yet.')
        return
    table = Table(box=None, padding=(0, 2), header_style='dim')
    for column in columns:
        table.add_column(column, overflow='fold')
    for row in rows:
        table.add_row(*row)
    make_console().print(table)


def print_attributes(node: Any) -> None:
    """Print a node's attributes and its creator, each on a line that is never broken: values are copied from here."""
    rows = [[key, str(value)] for key, value in sorted(node.base.attributes.all.items())]
    creator = node.creator
    made_by = 'given by the user' if creator is None else f'{creator.process_label} <{creator.pk}>'
    rows = [['PK', str(node.pk)], ['UUID', node.uuid], ['made by', made_by], *rows]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        click.echo(f'{key:<{width}}  {value}')
