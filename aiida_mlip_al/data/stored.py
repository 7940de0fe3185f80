"""What is asked of many stored nodes at once: after each transaction AiiDA asks the database again for each node that is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiida import orm
from sqlalchemy import inspect


def known_pk(node: orm.Node) -> int | None:
    """Return the PK of a node, None if it is not stored, and ask the database nothing."""
    identity = inspect(node.backend_entity.bare_model).identity  # type: ignore[attr-defined]
    return None if identity is None else int(identity[0])


def refresh(nodes: Iterable[orm.Node]) -> None:
    """Read stored nodes in one question: until the transaction in which this is called has ended, using them asks no more."""
    load_nodes(known_pk(node) for node in nodes)


def attributes_of(nodes: Mapping[str, orm.Node]) -> dict[str, dict[str, Any]]:
    """Return the attributes of nodes by the same names, those of all stored nodes in one question."""
    found = _read(map(known_pk, nodes.values()), 'attributes')
    return {name: found.get(known_pk(node)) or node.base.attributes.all for name, node in nodes.items()}


def load_nodes(pks: Iterable[int | None]) -> dict[int | None, orm.Node]:
    """Return nodes by their PKs, read in one question; None among the PKs is left out."""
    return _read(pks, '*')


def _read(pks: Iterable[int | None], what: str) -> dict[int | None, Any]:
    known = list(filter(None, pks))
    query = orm.QueryBuilder().append(orm.Node, filters={'id': {'in': known}}, project=['id', what])
    return dict(query.all()) if known else {}
