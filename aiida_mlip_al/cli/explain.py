"""`aiida-mlip-al explain`."""

from __future__ import annotations

import click

from .common import with_profile


@click.command()
@click.argument('identifier', metavar='UUID')
@with_profile
def explain(identifier: str) -> None:
    """Tell, in words, the way from a label, structure or model (UUID or PK) back to its seeds."""
    from aiida import orm

    from aiida_mlip_al.report.story import story
    from aiida_mlip_al.workflows.builder import load_typed

    node = load_typed(identifier, orm.Node, 'data')
    if not isinstance(node, orm.Data):
        raise click.ClickException(
            f'Node {node.pk} is a {type(node).__name__}, and explain tells where data came from: give a label, frame, model, '
            'dataset, selection or trajectory.'
        )
    for number, sentence in enumerate(story(node), start=1):
        click.echo(f'{number}. {sentence}')
