"""What the page reads: one thread that asks the database, and what it found last time.

A node belongs to the thread that loaded it: only plain values leave :meth:`Reader.ask`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.manage import get_manager

from aiida_mlip_al.report.collect import collect
from aiida_mlip_al.report.graph import RUN_TYPE, Process, read_processes
from aiida_mlip_al.report.html import draw
from aiida_mlip_al.report.progress import Progress, progress
from aiida_mlip_al.report.summary import RunSummary

RUNS_IN_MEMORY = 8

Result = TypeVar('Result')


@dataclass
class SeenRun:
    """What was read of a run at one moment; the summary and its plots are made when they are first asked for.

    :param token: changes when something of the run has changed.
    :param moment: of the database, when it was read.
    :param called: what the run called directly.
    """

    node: orm.WorkChainNode
    token: str
    moment: str
    called: list[Process]

    @cached_property
    def summary(self) -> RunSummary:
        """The run in numbers."""
        return collect(self.node)

    @cached_property
    def figures(self) -> dict[str, str]:
        """Every plot as JSON, by name."""
        return {name: figure.to_json(engine='json') for name, figure in self.drawn.items()}

    @cached_property
    def heights(self) -> dict[str, int]:
        """The height of every plot in pixels, by name."""
        return {name: figure.layout.height for name, figure in self.drawn.items()}

    @cached_property
    def drawn(self) -> dict[str, Any]:
        """Every plot, by name."""
        return draw(self.summary)

    @cached_property
    def processes(self) -> dict[int, Process]:
        """Every process below the run, by pk."""
        found: dict[int, Process] = {}
        left = list(self.called)
        while left:
            process = left.pop()
            found[process.pk] = process
            left += process.called
        return found


@dataclass
class Reader:
    """Reads the profile that is loaded. Everything that asks the database goes through :meth:`ask`."""

    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, 'aiida'))
    _runs: OrderedDict[int, SeenRun] = field(default_factory=OrderedDict)
    _ended: dict[int, Progress] = field(default_factory=dict)

    async def ask(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in the thread that reads."""
        call = partial(self._read, function, *arguments)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except NotExistent:
            raise
        except Exception:
            # The session of a thread in which something broke may be of no use any more: another thread has another one.
            self._thread.shutdown(wait=False)
            self._thread = ThreadPoolExecutor(1, 'aiida')
            self._runs.clear()
            raise

    @staticmethod
    def _read(function: Callable[..., Result], *arguments: Any) -> Result:
        session = get_manager().get_profile_storage().get_session()  # type: ignore[attr-defined]
        # What is open from the last question would hide what has happened since.
        session.rollback()
        try:
            return function(*arguments)
        finally:
            session.rollback()

    def moment(self) -> str:
        """Return what changes whenever a node is made or changed: two look-ups in an index."""
        latest = []
        for column in ('id', 'mtime'):
            query = orm.QueryBuilder().append(orm.Node, project=column).order_by({orm.Node: {column: 'desc'}}).limit(1)
            latest.append(str(query.first(flat=True)))
        return ' '.join(latest)

    def run(self, pk: int) -> SeenRun:
        """Return a run as it is now; nothing is read again if nothing has changed.

        :raises NotExistent: if there is no active-learning run of that pk.
        """
        known, moment = self._runs.get(pk), self.moment()
        if known is not None and known.moment == moment:
            return known
        node = load_run(pk)
        called = read_processes(node)
        token = _fingerprint(node, called)
        if known is not None and known.token == token:
            known.moment = moment
            return known
        self._runs[pk] = SeenRun(node, token, moment, called)
        self._runs.move_to_end(pk)
        while len(self._runs) > RUNS_IN_MEMORY:
            self._runs.popitem(last=False)
        return self._runs[pk]

    def progress(self, node: orm.WorkChainNode) -> Progress:
        """Return where a run is; one that has ended is read once."""
        if node.pk not in self._ended:
            now = progress(node)
            if not now.ended:
                return now
            self._ended[node.pk] = now
        return self._ended[node.pk]


def load_run(pk: int) -> orm.WorkChainNode:
    """Return an active-learning run.

    :raises NotExistent: if there is none of that pk.
    """
    node = orm.load_node(pk)
    if node.process_type != RUN_TYPE:
        raise NotExistent(f'Node {pk} is no active-learning run.')
    return node


def _fingerprint(node: orm.WorkChainNode, called: list[Process]) -> str:
    digest = hashlib.sha256(f'{node.mtime} {node.label}'.encode())
    left = list(called)
    while left:
        process = left.pop()
        digest.update(f'{process.pk} {process.state} {process.exit_status} {process.paused};'.encode())
        left += process.called
    return digest.hexdigest()[:16]
