"""Pool: a work chain that refills its places as processes end, rather than waiting until all of them have."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from aiida import orm
from aiida.engine import ProcessState, WorkChain

from aiida_mlip_al.data.stored import load_nodes

from .submit_once import SubmitOnce


class Pool(SubmitOnce, WorkChain):
    """A work chain whose outline goes on whenever one of the processes ends that a step waits for.

    AiiDA resumes a work chain when all awaited processes have ended. Here the first one does; the step that fills the pool
    passes all that are in flight to :meth:`wait_for_any` again, and the one after takes those that :meth:`ended`.
    """

    def wait_for_any(self, running: Collection[int]) -> None:
        """Go on with the next step when one of the processes has ended.

        :param running: their PKs.
        """
        nodes = load_nodes(running)
        self.to_context(**{f'process_{pk}': nodes[pk] for pk in running})

    def ended(self, running: Collection[int]) -> list[orm.ProcessNode]:
        """Return those of the processes that have ended.

        :param running: their PKs.
        """
        nodes = load_nodes(running)
        ended = [nodes[pk] for pk in running if nodes[pk].is_terminated]
        for node in ended:
            self.ctx.pop(f'process_{node.pk}', None)
        return ended

    def _action_awaitables(self) -> None:
        """Subscribe to each process once, however often it is waited for."""
        subscribed = self.__dict__.setdefault('_subscribed', set())
        for awaitable in self._awaitables:
            # What has ended meanwhile may have said so when nobody was waiting for it.
            if awaitable.pk in subscribed and not orm.load_node(awaitable.pk).is_terminated:
                continue
            subscribed.add(awaitable.pk)
            callback = partial(self.call_soon, self._on_awaitable_finished, awaitable)
            self.runner.call_on_process_finish(awaitable.pk, callback)

    def _on_awaitable_finished(self, awaitable: Any) -> None:
        """Go on although others are still running."""
        # The subscription may be of an earlier step, with another object for the same process.
        awaited = next((item for item in self._awaitables if item.pk == awaitable.pk), None)
        if awaited is None:
            return
        super()._on_awaitable_finished(awaited)
        if self.state == ProcessState.WAITING:
            self.resume()
