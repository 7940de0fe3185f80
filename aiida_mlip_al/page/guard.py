"""Who may look: this machine's own browser, or one that brings the token. Nobody may do anything but read."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlencode

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = 'mlip-al-token'
#: A page is its own and nothing else: no script, style, picture or connection from another place, no frame around it.
POLICY = '; '.join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # plotly writes its styles into the page
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    ]
)
HEADERS = {
    'content-security-policy': POLICY,
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
}


def is_loopback(host: str) -> bool:
    """Return whether an address or a name is that of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == 'localhost'


@dataclass(frozen=True)
class Guard:
    """An ASGI layer around the page.

    * Only GET and HEAD.
    * The Host header must be an address in digits, `localhost`, or one of ``names``: against DNS rebinding, where another
      site lets its own name point here so that its scripts may read what this page shows.
    * With a token, the first request brings it in the URL; a cookie carries it from then on, and it leaves the address bar.

    :param app: the page.
    :param names: further names of this machine.
    :param token: asked for if there is one.
    """

    app: ASGIApp
    names: Iterable[str] = ()
    token: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or pass on."""
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault('cache-control', 'no-store')
            await send(message)

        answer = self.refuse(scope) or self.admit(scope)
        await (answer or self.app)(scope, receive, send_with_headers)

    def refuse(self, scope: Scope) -> Response | None:
        """Return a refusal of what no browser of a user of this page would ask, or None."""
        if scope['method'] not in ('GET', 'HEAD'):
            return PlainTextResponse('This page can only be read.', 405, {'allow': 'GET, HEAD'})
        name = _host_name(Headers(scope=scope).get('host', ''))
        if not (_is_address(name) or name in {'localhost', *map(str.lower, self.names)}):
            return PlainTextResponse(
                f'This page does not know itself by the name {name!r}; start it with --name for another one.', 403
            )
        return None

    def admit(self, scope: Scope) -> Response | None:
        """Return what to do with someone who has not shown the token yet, or None if it is shown or not asked for."""
        if self.token is None:
            return None
        query = QueryParams(scope['query_string'])
        if 'token' in query:
            if not self.matches(query['token']):
                return PlainTextResponse('The token is wrong.', 401)
            rest = urlencode([(key, value) for key, value in query.multi_items() if key != 'token'])
            # One slash at the beginning: two would lead to another site.
            path = '/' + quote(scope['path'].lstrip('/'))
            answer = RedirectResponse(f'{path}?{rest}' if rest else path, 303)
            answer.set_cookie(_cookie_name(scope), self.token, httponly=True, samesite='lax')
            return answer
        try:
            found = SimpleCookie(Headers(scope=scope).get('cookie', '')).get(_cookie_name(scope))
        except CookieError:
            found = None
        if found is not None and self.matches(found.value):
            return None
        return PlainTextResponse('This page wants its token: open the address that `aiida-mlip-al serve` printed.', 401)

    def matches(self, given: str) -> bool:
        """Compare a token in a time that tells nothing about it."""
        return hmac.compare_digest(given.encode(), (self.token or '').encode())


def _cookie_name(scope: Scope) -> str:
    """Return the name of the cookie: cookies are shared by all ports of a machine, tokens are not."""
    port = (scope.get('server') or ('', ''))[1]
    return f'{COOKIE}-{port}'


def _host_name(header: str) -> str:
    """Return the name in a Host header, without the port and the brackets of an IPv6 address."""
    if header.startswith('['):
        return header[1:].partition(']')[0]
    return header.rsplit(':', 1)[0].lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
