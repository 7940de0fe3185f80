"""What is asked of many stored nodes is one question."""

from __future__ import annotations

from typing import Any

import pytest
from aiida import orm
from helpers.statements import statements

from aiida_mlip_al.calculations.many_nodes import one_transaction
from aiida_mlip_al.data.stored import attributes_of, known_pk, refresh


@pytest.fixture
def nodes(aiida_profile: Any) -> dict[str, orm.Int]:
    """Return stored nodes whose columns the last commit has expired."""
    return {f'number_{value}': orm.Int(value).store() for value in range(5)}


def test_pk_is_known(nodes: dict[str, orm.Int]) -> None:
    with statements() as asked:
        found = [known_pk(node) for node in nodes.values()]
    assert asked == []
    assert found == [node.pk for node in nodes.values()]


def test_node_that_is_not_stored_has_no_pk(aiida_profile: Any) -> None:
    assert known_pk(orm.Int(1)) is None


def test_node_whose_transaction_failed_has_no_pk(aiida_profile: Any) -> None:
    node = orm.Int(1)

    def fail() -> None:
        with one_transaction():
            node.store()
            raise KeyError(known_pk(node))

    with pytest.raises(KeyError) as error:
        fail()
    assert isinstance(error.value.args[0], int)
    assert known_pk(node) is None


def test_attributes_of_all(nodes: dict[str, orm.Int]) -> None:
    given: dict[str, orm.Node] = {**nodes, 'new': orm.Dict({'a': 1}), 'empty': orm.Data().store()}
    with statements() as asked:
        found = attributes_of(nodes)
    assert len(asked) == 1
    assert [found[name]['value'] for name in nodes] == list(range(5))
    assert attributes_of(given) == {**found, 'new': {'a': 1}, 'empty': {}}
    assert attributes_of({}) == {}


def test_nodes_stay_fresh_until_the_transaction_ends(nodes: dict[str, orm.Int]) -> None:
    with one_transaction():
        refresh([*nodes.values(), orm.Int(7)])
        with statements() as asked:
            assert [node.value for node in nodes.values()] == list(range(5))
    assert asked == []
    with statements() as asked:
        assert nodes['number_3'].value == 3
    assert asked != []
