"""What is asked of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiida.manage import get_manager
from sqlalchemy import event


@contextmanager
def statements() -> Iterator[list[str]]:
    """Yield a list that gets each SQL statement of the profile, less those that begin and end transactions."""
    engine, found = get_manager().get_profile_storage().get_session().get_bind(), []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(('BEGIN', 'SAVEPOINT', 'RELEASE')):
            found.append(statement)

    event.listen(engine, 'before_cursor_execute', note)
    try:
        yield found
    finally:
        event.remove(engine, 'before_cursor_execute', note)
