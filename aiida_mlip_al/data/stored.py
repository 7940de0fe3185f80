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


def load_nodes(pks: Iterable[int]) -> dict[int, orm.Node]:
    """Return nodes by their PKs, read in one question."""
    return _read(pks, '*')


def refresh(nodes: Iterable[orm.Node]) -> None:
    """Read stored nodes in one question: until the transaction in which this is called has ended, using them asks no more."""
    load_nodes(filter(None, map(known_pk, nodes)))


def attributes_of(nodes: Mapping[str, orm.Node]) -> dict[str, dict[str, Any]]:
    """Return the attributes of nodes by the same names, those of all stored nodes in one question."""
    pks = {name: known_pk(node) for name, node in nodes.items()}
    found = _read(filter(None, pks.values()), 'attributes')
    return {name: node.base.attributes.all if (pk := pks[name]) is None else found[pk] for name, node in nodes.items()}


def _read(pks: Iterable[int], what: str) -> dict[int, Any]:
    wanted = list(pks)
    query = orm.QueryBuilder().append(orm.Node, filters={'id': {'in': wanted}}, project=['id', what])
    return dict(query.all()) if wanted else {}
