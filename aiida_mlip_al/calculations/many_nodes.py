"""ManyNodes: a process whose inputs or outputs are many nodes does not pay for each of them again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from aiida import orm
from aiida.common.links import LinkType, validate_link_label
from aiida.manage import get_manager
from aiida.orm.entities import EntityTypes
from aiida.orm.utils.links import LinkManager, LinkTriple
from plumpy.utils import AttributesFrozendict

from aiida_mlip_al.data.stored import known_pk, load_nodes, refresh

# A transaction of this many new nodes takes some tenths of a second; SQLite makes others wait for as long.
CHUNK = 10
# So many nodes of a namespace are read when they are asked for, not held.
MANY = 50


class ManyNodes:
    """Mix-in for calculations and work chains.

    Before each link AiiDA asks the database with several queries whether it would contradict another one. The links of a node
    that is not stored yet, or of the outputs of one process under names of its own, cannot. With each change of state AiiDA
    writes a checkpoint with all inputs and outputs; here nodes that are linked are not in it, but are found again by their links,
    and the text of the other inputs, which never change, is made once. With each commit SQLAlchemy goes through all nodes in
    memory, and what is read of them next is asked of the database again; here a work chain holds neither many inputs nor, until
    it finishes, the outputs that are linked, and nodes are stored together.
    """

    node: orm.ProcessNode

    def on_create(self) -> None:
        """Let go of the inputs as soon as they are linked: they can be read again."""
        super().on_create()  # type: ignore[misc]
        if self._holds_little:
            self._raw_inputs = let_go(self.raw_inputs or {})  # type: ignore[attr-defined]
            self._parsed_inputs = let_go(self.inputs)  # type: ignore[attr-defined]

    def _create_and_setup_db_record(self) -> Any:
        """Store the process's node with all its links, in one transaction."""
        inputs = {name: node for name, node in self._flat_inputs().items() if node is not None}  # type: ignore[attr-defined]
        with one_transaction():
            if not self._holds_little:
                refresh(inputs.values())
            pid = super()._create_and_setup_db_record()  # type: ignore[misc]
            if self._holds_little:
                self._insert_links(LinkType.INPUT_WORK, inputs)
        return pid

    def _setup_inputs(self) -> None:
        """Link the inputs to the process's node, which is not stored yet; to that of a work chain when it is."""
        link_type = LinkType.INPUT_CALC if isinstance(self.node, orm.CalculationNode) else LinkType.INPUT_WORK
        for name, node in self._flat_inputs().items():  # type: ignore[attr-defined]
            if node is not None:
                validate_link_label(name)
                if not self._holds_little:
                    self.node.base.links.incoming_cache.append(LinkTriple(node, link_type, name))
        if isinstance(self.node, orm.CalcJobNode) and not self.node.computer:
            self.node.computer = self.inputs.code.computer  # type: ignore[attr-defined]

    def encode_input_args(self, inputs: Any) -> Any:
        """Return the text of inputs or outputs for a checkpoint, which is written after :meth:`update_outputs`."""
        texts: dict[int, Any] = self.__dict__.setdefault('_texts', {})
        if inputs is self.outputs and self._stores_provenance:  # type: ignore[attr-defined]
            return super().encode_input_args({})  # type: ignore[misc]
        if inputs is not self.inputs and inputs is not self.raw_inputs:  # type: ignore[attr-defined]
            return super().encode_input_args(inputs)  # type: ignore[misc]
        if id(inputs) not in texts:
            left = without_nodes(inputs) if self._stores_provenance else inputs
            texts[id(inputs)] = super().encode_input_args(left)  # type: ignore[misc]
        return texts[id(inputs)]

    def load_instance_state(self, saved_state: Any, load_context: Any) -> None:
        """Go on from a checkpoint."""
        super().load_instance_state(saved_state, load_context)  # type: ignore[misc]
        if self._stores_provenance:
            links = self._stored_links()
            self._linked = set(links.all_link_labels())
            self._outputs = {} if self._holds_little else links.nested()
            inputs = self.node.base.links.get_incoming(link_type=(LinkType.INPUT_CALC, LinkType.INPUT_WORK)).nested()
            inputs = let_go(inputs) if self._holds_little else inputs
            self._raw_inputs = merged(self.raw_inputs or {}, inputs)  # type: ignore[attr-defined]
            self._parsed_inputs = merged(self.inputs, inputs)  # type: ignore[attr-defined]

    def on_finish(self, result: Any, successful: bool) -> None:
        """Let the outputs be checked and given to who waits for them: all of them."""
        if self._holds_little:
            self._outputs = merged(self.outputs, self._stored_links().nested(), dict)  # type: ignore[attr-defined]
        super().on_finish(result, successful)  # type: ignore[misc]

    @property
    def _stores_provenance(self) -> bool:
        return self.metadata.store_provenance is not False  # type: ignore[attr-defined]

    @property
    def _holds_little(self) -> bool:
        """Whether this is a work chain.

        AiiDA makes a node's hash of its links while it stores it. The cache asks for a job's, and for no work chain's: that one
        is linked afterwards.
        """
        return self._stores_provenance and issubclass(self._node_class, orm.WorkflowNode)  # type: ignore[attr-defined]

    def update_outputs(self) -> None:
        """Store and link the outputs that are new since the last call."""
        if not self._stores_provenance:
            return
        outputs = self._flat_outputs()  # type: ignore[attr-defined]
        known: set[str] = self.__dict__.setdefault('_linked', set())
        if known.issuperset(outputs):
            return
        new = {name: node for name, node in outputs.items() if name not in known}
        if isinstance(self.node, orm.CalculationNode) and any(known_pk(node) for node in new.values()):
            # AiiDA's engine stores and links some outputs of a job itself.
            linked = self._stored_links(only_uuid=True).all_link_labels()
            new = {name: node for name, node in new.items() if name not in linked}
            for name, node in new.items():
                if known_pk(node) and (creator := node.creator):
                    raise ValueError(f'The output `{name}` <{node.pk}> was created by another process <{creator.pk}>.')
        for name in new:
            validate_link_label(name)
        if isinstance(self.node, orm.CalculationNode):
            self._create(new)
        else:
            self._insert_links(LinkType.RETURN, new)
            if not self.has_terminated():  # type: ignore[attr-defined]
                self._outputs = {}
        known.update(outputs)

    def _stored_links(self, only_uuid: bool = False) -> LinkManager:
        return self.node.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN), only_uuid=only_uuid)

    def _create(self, outputs: dict[str, orm.Data]) -> None:
        items = iter(outputs.items())
        while chunk := list(islice(items, CHUNK)):
            with one_transaction():
                self._insert_links(LinkType.CREATE, dict(chunk))

    def _insert_links(self, link_type: LinkType, nodes: Mapping[str, orm.Data]) -> None:
        """Link nodes, which are stored if they are not, with one statement."""
        own = self.node.pk
        rows: list[dict[str, Any]] = []
        for name, node in nodes.items():
            other = known_pk(node) or node.store().pk
            source, target = (other, own) if link_type is LinkType.INPUT_WORK else (own, other)
            rows.append({'input_id': source, 'output_id': target, 'label': name, 'type': link_type.value})
        if rows:
            self.node.backend.bulk_insert(EntityTypes.LINK, rows)


@contextmanager
def one_transaction() -> Iterator[None]:
    """Read and write as one, after what other processes are writing.

    SQLite has a transaction wait for those of others for five seconds, but refuses it at once if it has read before it writes,
    as AiiDA's does when it stores a node: here it asks for the right to write at first.
    """
    storage = get_manager().get_profile_storage()
    session = storage.get_session()
    connection = session.connection()
    begins = connection.dialect.name == 'sqlite' and not connection.connection.in_transaction
    if begins:
        connection.exec_driver_sql('BEGIN IMMEDIATE')
    try:
        with storage.transaction():
            yield
    except BaseException:
        if begins:
            session.rollback()
        raise


def without_nodes(values: Mapping[str, Any]) -> Any:
    """Return nested mappings, of the same types, less all data nodes."""
    left = {
        name: without_nodes(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if not isinstance(value, (orm.Data, StoredNodes))
    }
    return type(values)(left)  # type: ignore[call-arg]


class StoredNodes(AttributesFrozendict):
    """Nodes by name, given by their PKs and read from the database when they are asked for."""

    def __getitem__(self, name: str) -> orm.Node:
        return orm.load_node(super().__getitem__(name))

    def pk_of(self, name: str) -> int:
        """Return the PK of a node."""
        return super().__getitem__(name)


def nodes_of(namespace: Mapping[str, orm.Node], names: Iterable[str]) -> dict[str, orm.Node]:
    """Return some nodes of a namespace; if they are not held, they are read in one question to the database."""
    if not isinstance(namespace, StoredNodes):
        return {name: namespace[name] for name in names}
    pks = {name: namespace.pk_of(name) for name in names}
    nodes = load_nodes(pks.values())
    return {name: nodes[pk] for name, pk in pks.items()}


def let_go(values: Any) -> Any:
    """Return nested mappings of stored nodes, where those of many nodes are replaced by :class:`StoredNodes`."""
    if len(values) > MANY and all(isinstance(value, orm.Node) for value in values.values()):
        return StoredNodes({name: known_pk(node) for name, node in values.items()})
    left = {name: let_go(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return values if all(left[name] is value for name, value in values.items()) else type(values)(left)


def merged(values: Mapping[str, Any], nodes: Mapping[str, Any], kind: type = AttributesFrozendict) -> Any:
    """Return nested mappings with nodes put back in their places.

    :param values: without the nodes, or with some of them.
    :param nodes: the nodes.
    :param kind: of the mappings.
    """
    put_back = {
        name: merged(values.get(name, {}), node, kind) if is_namespace(node) else node for name, node in nodes.items()
    }
    return kind({**values, **put_back})


def is_namespace(value: Any) -> bool:
    """Return whether a value is a mapping that holds its nodes."""
    return isinstance(value, Mapping) and not isinstance(value, StoredNodes)
