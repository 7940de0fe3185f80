"""Whether what a run computes may be taken from an earlier one: as its launch says, else as the profile does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

from aiida import engine, orm
from aiida.engine import Process
from aiida.engine.processes.functions import ProcessFunctionType
from aiida.manage.caching import disable_caching, enable_caching

P = ParamSpec('P')
R_co = TypeVar('R_co', covariant=True)
# The input of a run that says it.
USE_CACHE = 'use_cache'
OURS = ('aiida.calculations:mlip_al.*', 'aiida.calculations:vasp.vasp')


@contextmanager
def caching_of(caller: orm.ProcessNode | None) -> Iterator[None]:
    """Have AiiDA look into the cache, or not, as the run says to which a process belongs.

    AiiDA's switch is one for all processes of a worker: only the moment may be inside in which a node is made.

    :param caller: of the process that is made; without one, the profile decides.
    """
    wish = wish_of(caller)
    switches = ExitStack()
    if wish is True:
        for identifier in OURS:
            switches.enter_context(enable_caching(identifier=identifier))
    elif wish is False:
        switches.enter_context(disable_caching())
    try:
        yield
    finally:
        # Closed as if nothing had happened: AiiDA's own contexts do not end after an exception.
        switches.close()


def wish_of(process: orm.ProcessNode | None) -> bool | None:
    """Return what a run says of the cache, or None if it says nothing.

    :param process: the run, or any process below it.
    """
    if process is None:
        return None
    while process.caller is not None:
        process = process.caller
    return (process.get_metadata_inputs() or {}).get(USE_CACHE)


def calcfunction(function: Callable[P, R_co]) -> ProcessFunctionType[P, R_co, orm.CalcFunctionNode]:
    """Return AiiDA's calcfunction, which is taken from the cache as the run says that calls it."""
    made: Any = engine.calcfunction(function)
    on_create = made.process_class.on_create

    def create(self: Process) -> None:
        caller = Process.current()
        with caching_of(caller.node if isinstance(caller, Process) else None):
            on_create(self)

    made.process_class.on_create = create
    return made  # type: ignore[no-any-return]
