"""`aiida-mlip-al serve`."""

from __future__ import annotations

import webbrowser

import click

from .common import load_run, with_profile


@click.command()
@click.argument('run', metavar='[PK]', required=False)
@click.option(
    '--host', default='127.0.0.1', show_default=True, help='Where to listen; beyond this machine a token is asked for.'
)
@click.option('--port', type=click.IntRange(0, 65535), default=8642, show_default=True, help='0 for any that is free.')
@click.option('--token', 'ask', is_flag=True, help='Ask for a token on this machine too: others may be logged in here.')
@click.option('--name', 'names', multiple=True, help='A further name by which browsers call this machine; repeat.')
@click.option('--open', 'open_browser', is_flag=True, help='Open it in the browser.')
@with_profile
def serve(run: str | None, host: str, port: int, ask: bool, names: tuple[str, ...], open_browser: bool) -> None:
    """Show runs, or the run PK, on a local web page that follows them; it only reads."""
    from aiida_mlip_al.page.guard import is_loopback
    from aiida_mlip_al.page.server import address_of, make_token, open_socket
    from aiida_mlip_al.page.server import serve as serve_page

    pk = None if run is None else load_run(run).pk
    try:
        listener = open_socket(host, port)
    except OSError as error:
        raise click.ClickException(
            f'{host}:{port} cannot be used ({error.strerror or error}): choose another --port, or 0 for any that is free.'
        ) from error
    token = make_token() if ask or not is_loopback(host) else None
    address = address_of(host, listener.getsockname()[1], pk, token)
    click.echo(f'page: {address}\nCtrl-C ends it; the runs go on.')
    if not is_loopback(host):
        click.echo('The way to it is not encrypted: `ssh -L` to this machine is the safer one.', err=True)
    if open_browser:
        webbrowser.open(address)
    serve_page(listener, host, names, token)
