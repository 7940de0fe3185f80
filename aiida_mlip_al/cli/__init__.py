"""The command line: `aiida-mlip-al`. Commands import AiiDA when they run, so that help is instant."""

from __future__ import annotations

import importlib
from typing import Any

import click

from aiida_mlip_al import __version__

COMMANDS = {
    'quickstart': 'quickstart:quickstart',
    'setup': 'setup:setup',
    'launch': 'launch:launch',
    'seed': 'stages:seed',
    'label': 'stages:label',
    'train': 'stages:train',
    'explore': 'stages:explore',
    'status': 'status:status',
    'report': 'status:report',
    'serve': 'serve:serve',
    'dataset': 'dataset:dataset',
    'model': 'model:model',
    'explain': 'explain:explain',
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is called or its help is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a user's way."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(':')
        return getattr(importlib.import_module(f'aiida_mlip_al.cli.{module}'), name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a database that others keep busy is no reason for a traceback."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if 'database is locked' not in str(error):
                raise
            raise click.ClickException(
                'Others were writing to the SQLite database for longer than this command could wait: repeat it. Nothing is lost. '
                'If this comes often, the machine is overloaded, or it is time for PostgreSQL (docs/production.md).'
            ) from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Suggest the command that was probably meant."""
        from difflib import get_close_matches

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = get_close_matches(args[0], COMMANDS, n=1)
            if close:
                error.message += f' Did you mean `{close[0]}`?'
            raise


@click.group(cls=LazyGroup, context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, prog_name='aiida-mlip-al')
@click.option(
    '-p',
    '--profile',
    envvar='AIIDA_MLIP_AL_PROFILE',
    help='AiiDA profile; `mlip-al` if it exists, else the default one.',
)
@click.pass_context
def main(ctx: click.Context, profile: str | None) -> None:
    """Active learning of machine-learning interatomic potentials with full provenance."""
    ctx.obj = {'profile': profile}
