"""The addresses of the page: documents, parts of them that are loaded later, and plots and structures as JSON."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from aiida import orm
from aiida.common.exceptions import NotExistent
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from aiida_mlip_al import __version__
from aiida_mlip_al.report import html, words
from aiida_mlip_al.report.graph import RUN_TYPE

from .guard import Guard
from .nodes import view
from .outline import MAX_CHILDREN, job_states, outline, row_of
from .places import label_of_chosen_frame, label_of_test_frame
from .reader import Reader, load_run
from .structures import Page, draw_structure, explored, labels

HERE = Path(__file__).parent
RUNS_ON_A_PAGE = 20
MAX_FAILURES = 100
GZIP_FROM = 2000  # bytes
MEDIA = {'js': 'text/javascript; charset=utf-8', 'css': 'text/css; charset=utf-8', 'txt': 'text/plain; charset=utf-8'}

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(names: Iterable[str] = (), token: str | None = None) -> Guard:
    """Make the page of the profile that is loaded.

    :param names: further names by which browsers may call this machine.
    :param token: asked for if given.
    """
    return Guard(_Site().app, tuple(names), token)


class _Site:
    def __init__(self) -> None:
        self.reader = Reader()
        self.templates = html.environment(HERE)
        self.templates.filters['linked'] = linked
        self.templates.filters['when'] = lambda time: time.astimezone().isoformat(' ', 'minutes')[:16]
        self.templates.globals.update(version=__version__, stamp=static_stamp())
        self.app = Starlette(
            routes=[
                Route('/', self.runs),
                Route('/changes', self.changes),
                Route('/parts/runs', self.part_runs),
                Route('/runs/{pk:int}', self.run),
                Route('/runs/{pk:int}/changes', self.run_changes),
                Route('/runs/{pk:int}/parts/now', self.part_now),
                Route('/runs/{pk:int}/parts/report', self.part_report),
                Route('/runs/{pk:int}/parts/called/{process:int}', self.part_called),
                Route('/runs/{pk:int}/parts/labels', self.part_labels),
                Route('/runs/{pk:int}/parts/explored/{iteration:int}', self.part_explored),
                Route('/runs/{pk:int}/figures/{name}', self.figure),
                Route('/parts/node/{pk:int}', self.part_node),
                Route('/parts/test/{evaluation:int}/{row:int}', self.part_test),
                Route('/parts/chosen/{selection:int}/{rank:int}', self.part_chosen),
                Route('/structures/{pk:int}/{row:int}', self.structure),
                Route('/static/{stamp}/{name}', static),
            ],
            exception_handlers={NotExistent: _not_there, HTTPException: _refused},
        )

    def render(self, request: Request, template: str, **context: Any) -> Response:
        """Fill a template in."""
        return packed(
            request, self.templates.get_template(template).render(**context).encode(), 'text/html; charset=utf-8'
        )

    # -------------------------------------------------------------------------------------------------------- documents

    async def runs(self, request: Request) -> Response:
        """The list of runs; its rows come later."""
        return self.render(request, 'runs.html.j2')

    async def run(self, request: Request) -> Response:
        """A run; its parts come later."""
        pk = request.path_params['pk']
        label = await self.reader.ask(lambda: load_run(pk).label)
        return self.render(request, 'run.html.j2', pk=pk, label=label or 'active learning')

    # ---------------------------------------------------------------------------------------------------------- changes

    async def changes(self, _: Request) -> Response:
        """Tell by a word whether anything has changed in the database."""
        return JSONResponse({'token': await self.reader.ask(self.reader.moment)})

    async def run_changes(self, request: Request) -> Response:
        """Tell by a word whether anything of a run has changed."""
        run = await self.reader.ask(self.reader.run, request.path_params['pk'])
        return JSONResponse({'token': run.token})

    # ------------------------------------------------------------------------------------------------------------ parts

    async def part_runs(self, request: Request) -> Response:
        """Return a page of the list of runs."""
        number = _number(request)
        rows, total = await self.reader.ask(self.read_runs, number)
        page = Page(rows, number, total, size=RUNS_ON_A_PAGE)
        return self.render(request, 'runs_part.html.j2', page=page)

    def read_runs(self, number: int) -> tuple[list[Any], int]:
        """Return a page of runs, the newest first, and the number of all."""
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={'process_type': RUN_TYPE}, tag='run')
        query.order_by({'run': [{'ctime': 'desc'}, {'id': 'desc'}]})
        total = query.count()
        query.limit(RUNS_ON_A_PAGE).offset(number * RUNS_ON_A_PAGE)
        return [{'created': node.ctime, 'now': self.reader.progress(node)} for node in query.all(flat=True)], total

    async def part_now(self, request: Request) -> Response:
        """Return the outline of a run with the state of its processes."""

        def read() -> dict[str, Any]:
            run = self.reader.run(request.path_params['pk'])
            states = job_states([process for process in run.called if process.is_job])
            return {'groups': outline(run.called), 'job_states': states, 'pk': run.node.pk}

        return self.render(request, 'now.html.j2', **await self.reader.ask(read))

    async def part_called(self, request: Request) -> Response:
        """Return what a process of a run called."""

        def read() -> dict[str, Any]:
            run = self.reader.run(request.path_params['pk'])
            process = run.processes.get(request.path_params['process'])
            if process is None:
                raise NotExistent('That process is none of this run.')
            # What goes on or went wrong must not be behind two hundred that are done.
            called = sorted(process.called, key=lambda child: child.ok)
            shown = called[:MAX_CHILDREN]
            rows = [row_of(child) for child in shown]
            return {'rows': rows, 'job_states': job_states(shown), 'left': len(called) - len(shown), 'pk': run.node.pk}

        return self.render(request, 'called.html.j2', **await self.reader.ask(read))

    async def part_report(self, request: Request) -> Response:
        """Return the head and the sections of the report; its plots come later."""

        def read() -> dict[str, Any]:
            run = self.reader.run(request.path_params['pk'])
            return {**html.context(run.summary, run.heights), 'token': run.token}

        return self.render(
            request, 'report_part.html.j2', **await self.reader.ask(read), linked=True, at_most=MAX_FAILURES
        )

    async def figure(self, request: Request) -> Response:
        """Return one plot."""

        def read() -> str | None:
            return self.reader.run(request.path_params['pk']).figures.get(request.path_params['name'])

        found = await self.reader.ask(read)
        if found is None:
            raise HTTPException(404, 'There is no such plot of this run.')
        return packed(request, found.encode(), 'application/json')

    async def part_labels(self, request: Request) -> Response:
        """Return a page of the labels of a run."""

        def read() -> Page:
            run = self.reader.run(request.path_params['pk'])
            return labels(run, _number(request), request.query_params.get('split'))

        return self.render(request, 'labels.html.j2', page=await self.reader.ask(read), words=words)

    async def part_explored(self, request: Request) -> Response:
        """Return a page of the frames that an iteration explored; 0 is the last one that has judged its frames."""

        filters = dict(request.query_params)
        for bound in ('low', 'high'):
            if bound in filters and not re.fullmatch(r'\d+(\.\d+)?(e[+-]?\d+)?', filters[bound]):
                raise HTTPException(400, f'`{bound}` must be a number.')

        def read() -> dict[str, Any]:
            run = self.reader.run(request.path_params['pk'])
            judged = [turn.number for turn in run.summary.iterations if 'selection' in turn.nodes]
            iteration = request.path_params['iteration'] or (judged[-1] if judged else 0)
            page = explored(run, iteration, _number(request), filters) if iteration else Page([], 0, 0)
            return {'iterations': judged, 'page': page, 'measure': run.summary.compared}

        return self.render(
            request, 'explored.html.j2', **await self.reader.ask(read), words=words, verdicts=words.VERDICTS
        )

    async def part_node(self, request: Request) -> Response:
        """Return what is known of a node."""
        node = await self.reader.ask(view, request.path_params['pk'])
        row = _number(request, 'row')
        return self.render(request, 'node.html.j2', node=node, row=row)

    async def part_test(self, request: Request) -> Response:
        """Lead from a test frame to its label."""
        pk = await self.reader.ask(label_of_test_frame, *request.path_params.values())
        return RedirectResponse(f'/parts/node/{pk}', 303)

    async def part_chosen(self, request: Request) -> Response:
        """Lead from a chosen frame to its label."""
        pk = await self.reader.ask(label_of_chosen_frame, *request.path_params.values())
        return RedirectResponse(f'/parts/node/{pk}', 303)

    async def structure(self, request: Request) -> Response:
        """Return one structure of a node."""

        def read() -> dict[str, Any]:
            return draw_structure(orm.load_node(request.path_params['pk']), request.path_params['row'])

        return JSONResponse(await self.reader.ask(read))


def _number(request: Request, name: str = 'page') -> int:
    """Return a whole number of the query, 0 without it."""
    text = request.query_params.get(name, '0')
    if not re.fullmatch(r'\d{1,9}', text):
        raise HTTPException(400, f'`{name}` must be a whole number.')
    return int(text)


async def _not_there(_: Request, error: Exception) -> Response:
    return HTMLResponse(Markup('<p class="soft">{}</p>').format(str(error)), 404)


async def _refused(_: Request, error: Any) -> Response:
    return HTMLResponse(Markup('<p class="soft">{}</p>').format(error.detail), error.status_code)


def linked(text: str) -> Markup:
    """Write a text with every `<PK>` in it as a link."""
    parts = re.split(r'&lt;(\d+)&gt;', str(Markup.escape(text)))
    return Markup(''.join(part if k % 2 == 0 else f'<a href="#node/{part}">{part}</a>' for k, part in enumerate(parts)))


# ------------------------------------------------------------------------------------------------------------ fixed files


@cache
def static_files() -> Mapping[str, bytes]:
    """Return the scripts and styles by name."""
    own = {path.name: path.read_bytes() for path in (HERE / 'static').iterdir() if path.suffix[1:] in MEDIA}
    shared = {name: (html.FOLDER / name).read_bytes() for name in ('report.css', 'plots.js')}
    return {**own, **shared, 'plotly.js': get_plotlyjs().encode()}


@cache
def static_stamp() -> str:
    """Return what changes with the scripts and styles: a browser keeps them until then."""
    digest = hashlib.sha256()
    for name, content in sorted(static_files().items()):
        digest.update(name.encode() + content)
    return digest.hexdigest()[:12]


@cache
def _zipped(name: str) -> bytes:
    return gzip.compress(static_files()[name], 6)


def warm_up() -> None:
    """Do what the first visitor would have to wait for: compress the scripts, and let plotly load its parts."""
    for name in static_files():
        _zipped(name)
    go.Figure().add_scatter(x=[0], y=[0]).update_xaxes(type='log').to_json(engine='json')


async def static(request: Request) -> Response:
    """Return a script or a style."""
    name = request.path_params['name']
    if name not in static_files():
        raise HTTPException(404, 'There is no such file.')
    headers = {'cache-control': 'private, max-age=31536000, immutable', 'vary': 'accept-encoding'}
    zips = 'gzip' in request.headers.get('accept-encoding', '')
    if zips:
        headers['content-encoding'] = 'gzip'
    return Response(_zipped(name) if zips else static_files()[name], 200, headers, MEDIA[name.rsplit('.', 1)[1]])


def packed(request: Request, content: bytes, media: str) -> Response:
    """Answer with content, compressed if that is worth it: the page may be looked at through a slow line."""
    if len(content) < GZIP_FROM or 'gzip' not in request.headers.get('accept-encoding', ''):
        return Response(content, media_type=media)
    return Response(gzip.compress(content, 5), 200, {'content-encoding': 'gzip', 'vary': 'accept-encoding'}, media)
