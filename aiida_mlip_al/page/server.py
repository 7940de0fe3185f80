"""Serving the page."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterable

import uvicorn

from .app import make_app, warm_up
from .guard import is_loopback


def open_socket(host: str, port: int) -> socket.socket:
    """Take a port.

    :param host: address or name of this machine to listen at.
    :param port: 0 for any that is free.
    :raises OSError: if it is taken or not of this machine.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family)


def make_token() -> str:
    """Draw a token that nobody guesses."""
    return secrets.token_urlsafe(24)


def address_of(host: str, port: int, run: int | None, token: str | None) -> str:
    """Return the address to open.

    :param run: pk of the run whose page it is; None for the list.
    """
    name = {'0.0.0.0': socket.getfqdn(), '::': socket.getfqdn()}.get(host, f'[{host}]' if ':' in host else host)
    return f'http://{name}:{port}/{"" if run is None else f"runs/{run}"}{"" if token is None else f"?token={token}"}'


def serve(listener: socket.socket, host: str, names: Iterable[str], token: str | None) -> None:
    """Serve the loaded profile until interrupted.

    :param listener: an open socket.
    :param host: what it listens at.
    :param names: further names by which browsers may call this machine.
    :param token: asked for if given.
    """
    own = () if is_loopback(host) else (host, socket.gethostname(), socket.getfqdn())
    app = make_app((*own, *names), token)
    threading.Thread(target=warm_up, daemon=True).start()
    config = uvicorn.Config(app, log_level='warning', access_log=False, server_header=False, proxy_headers=False)
    uvicorn.Server(config).run(sockets=[listener])
