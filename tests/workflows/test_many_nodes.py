"""ManyNodes: the provenance is that of AiiDA's own processes."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import WorkChain, calcfunction, run_get_node
from aiida.manage import get_manager
from aiida.plugins import CalculationFactory
from helpers.statements import statements
from plumpy.persistence import Bundle, LoadSaveContext

from aiida_mlip_al.calculations.many_nodes import CHUNK, MANY, ManyNodes, one_transaction


class PassOn(WorkChain):
    """Return the inputs, the first of them a step earlier than the others."""

    @classmethod
    def define(cls, spec: Any) -> None:
        super().define(spec)
        spec.input_namespace('given', dynamic=True, valid_type=orm.Data)
        spec.output_namespace('found', dynamic=True, valid_type=orm.Data)
        spec.outline(cls.first, cls.others)

    def first(self) -> None:
        self.out('found.a', self.inputs.given.a)

    def others(self) -> None:
        for name, node in self.inputs.given.items():
            self.out(f'found.{name}', node)


class PassManyOn(ManyNodes, PassOn):
    """The same with cheap links."""


def links(node: orm.ProcessNode) -> set[tuple[str, str, str]]:
    both = [*node.base.links.get_incoming().all(), *node.base.links.get_outgoing().all()]
    found = [(link.node.uuid, link.link_type.value, link.link_label) for link in both]
    assert len(found) == len(set(found)), 'no link is there twice'
    return set(found)


def sqlite_database() -> str:
    """Return the profile's database; skip the test on another one."""
    url = get_manager().get_profile_storage().get_session().get_bind().url
    if 'sqlite' not in url.drivername:
        pytest.skip('only SQLite has one writer at a time')
    return str(url.database)


@contextmanager
def others_write() -> Iterator[None]:
    """Have another connection hold the right to write to the SQLite database for 0.3 s of each 0.4 s."""
    database, done = sqlite_database(), threading.Event()

    def write() -> None:
        connection = sqlite3.connect(database, isolation_level=None)
        while not done.is_set():
            connection.execute('BEGIN IMMEDIATE')
            time.sleep(0.3)
            connection.execute('ROLLBACK')
            time.sleep(0.1)
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_transaction_waits_for_those_of_others() -> None:
    node = orm.Int(1).store()
    with others_write():
        for value in range(3):
            with one_transaction():
                assert node.value == 1
                orm.Int(value).store()


def test_transaction_that_fails_leaves_nothing_and_lets_others_write() -> None:
    node = orm.Int(1)

    def fail() -> None:
        with one_transaction():
            raise KeyError(node.store().pk)

    with pytest.raises(KeyError):
        fail()
    with sqlite3.connect(sqlite_database(), timeout=0) as another:
        another.execute('BEGIN IMMEDIATE')
    assert orm.QueryBuilder().append(orm.Int, filters={'uuid': node.uuid}).count() == 0
    assert orm.Int(2).store().is_stored


def test_work_chain_has_the_links_of_a_plain_one() -> None:
    given = {name: orm.Int(index).store() for index, name in enumerate('abc')}
    plain, many = (run_get_node(process, given=given)[1] for process in (PassOn, PassManyOn))
    assert plain.is_finished_ok
    assert many.is_finished_ok
    assert links(many) == links(plain)
    assert len(links(many)) == 6


def test_many_inputs_are_linked_with_one_statement() -> None:
    """However many there are, so that no transaction takes long."""
    numbers = [orm.Int(index).store() for index in range(2 * MANY)]
    runner = get_manager().create_runner(communicator=None)
    counts = []
    for given in (numbers, numbers[:2]):
        inputs = {'given': {f'number_{index:02d}': node for index, node in enumerate(given)}}
        with statements() as asked:
            process = PassManyOn(inputs=inputs, runner=runner)
        assert len(links(process.node)) == len(given)
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_text_of_the_inputs_is_made_once_for_all_checkpoints() -> None:
    given = {f'number_{index}': orm.Int(index).store() for index in range(3)}
    process = PassManyOn(inputs={'given': given}, runner=get_manager().create_runner(communicator=None))
    text = process.encode_input_args(process.inputs)
    assert process.encode_input_args(process.inputs) is text
    assert not any(node.uuid in text for node in given.values())


def test_inputs_are_there_after_a_restart() -> None:
    given = {f'number_{index}': orm.Int(index).store() for index in range(3)}
    runner = get_manager().create_runner(communicator=None)
    process = PassManyOn(inputs={'given': given, 'metadata': {'label': 'numbers'}}, runner=runner)
    again = Bundle(process).unbundle(LoadSaveContext(runner=runner))
    for before, after in ((process.inputs, again.inputs), (process.raw_inputs, again.raw_inputs)):
        assert {name: node.pk for name, node in after.given.items()} == {name: node.pk for name, node in given.items()}
        assert type(after) is type(before)
        assert after.metadata == before.metadata
    assert type(again.inputs.given) is type(process.inputs.given)
    assert again.inputs.metadata.label == 'numbers'


def test_hostile_name_is_refused() -> None:
    with pytest.raises(ValueError, match='only alphanumeric and underscores'):
        run_get_node(PassManyOn, given={'a': orm.Int(1), 'b; touch marker': orm.Int(2)})


def test_output_of_another_process_is_refused(python_code: Any, emt: Any, copper: Any) -> None:
    @calcfunction
    def another() -> orm.Dict:
        return orm.Dict({'n_labelled': 0})

    inputs = {'code': python_code, 'calculator': emt, 'structures': copper(1)}
    runner = get_manager().create_runner(communicator=None)
    process = CalculationFactory('mlip_al.label')(inputs=inputs, runner=runner)
    process.out('report', another())
    with pytest.raises(ValueError, match='`report` <.*> was created by another process'):
        process.update_outputs()
    assert process.node.base.links.get_outgoing().all() == []


@pytest.mark.slow
def test_job_is_done_while_others_write(python_code: Any, emt: Any, copper: Any) -> None:
    with others_write():
        inputs = {'code': python_code, 'calculator': emt, 'structures': copper(CHUNK + 2)}
        results, node = run_get_node(CalculationFactory('mlip_al.label'), **inputs)
    assert node.is_finished_ok, node.exception or node.exit_message
    assert len(results['labels']) == CHUNK + 2


@pytest.mark.slow
def test_job_creates_each_label_once(python_code: Any, emt: Any, copper: Any) -> None:
    structures = copper(CHUNK + 2)
    results, node = run_get_node(
        CalculationFactory('mlip_al.label'), code=python_code, calculator=emt, structures=structures
    )
    assert node.is_finished_ok, node.exit_message
    inputs = node.base.links.get_incoming(link_type=LinkType.INPUT_CALC)
    assert {name: inputs.get_node_by_label(f'structures__{name}').pk for name in structures} == {
        name: structure.pk for name, structure in structures.items()
    }
    assert len(inputs.all()) == len(structures) + 2
    created = node.base.links.get_outgoing(link_type=LinkType.CREATE).all_link_labels()
    expected = {f'labels__{name}' for name in structures} | {'dataset', 'report', 'retrieved', 'remote_folder'}
    assert sorted(created) == sorted(expected)
    for name, label in results['labels'].items():
        assert orm.load_node(label.pk).creator == node, name
        assert label.base.caching.get_hash() == label.base.caching.compute_hash()


def test_outputs_that_are_linked_are_not_written_or_linked_again() -> None:
    given = {f'number_{index}': orm.Int(index).store() for index in range(3)}
    runner = get_manager().create_runner(communicator=None)
    process = PassManyOn(inputs={'given': {'a': orm.Int(7).store(), **given}}, runner=runner)
    process.out('found.a', process.inputs.given.a)
    process.update_outputs()
    bundle = Bundle(process)
    assert process.inputs.given.a.uuid not in str(bundle)
    again = bundle.unbundle(LoadSaveContext(runner=runner))
    for name, node in given.items():
        again.out(f'found.{name}', node)
    again.update_outputs()
    assert len(links(process.node)) == 4 + 4


def test_results_are_complete_after_a_restart() -> None:
    """What was linked before is not held by the process that goes on, and is among its results all the same."""
    given = {'a': orm.Int(7).store(), **{f'number_{index}': orm.Int(index).store() for index in range(3)}}
    runner = get_manager().create_runner(communicator=None)
    process = PassManyOn(inputs={'given': given}, runner=runner)
    process.out('found.number_2', given['number_2'])
    process.update_outputs()
    again = Bundle(process).unbundle(LoadSaveContext(runner=runner))
    assert again.outputs == {}
    results = again.execute()
    assert {name: node.uuid for name, node in results['found'].items()} == {n: node.uuid for n, node in given.items()}
    assert len(links(process.node)) == 4 + 4


@pytest.mark.parametrize('restarts', [False, True])
def test_many_inputs_and_outputs_are_not_held(restarts: bool) -> None:
    """Neither in the process that was created nor in one that goes on from a checkpoint."""
    given = {f'number_{index:02d}': orm.Int(index).store() for index in range(MANY + 1)}
    runner = get_manager().create_runner(communicator=None)
    process = PassManyOn(inputs={'given': given, 'metadata': {'label': 'numbers'}}, runner=runner)
    if restarts:
        process = Bundle(process).unbundle(LoadSaveContext(runner=runner))
    for inputs in (process.inputs, process.raw_inputs):
        assert all(isinstance(held, int) for held in inputs['given']._dict.values())
        assert inputs.given.number_07.value == 7
        assert {name: node.uuid for name, node in inputs['given'].items()} == {
            n: node.uuid for n, node in given.items()
        }
    process.out('found.a', process.inputs.given['number_00'])
    process.update_outputs()
    assert process.outputs == {}
    bundle = Bundle(process)
    assert not any(node.uuid in str(bundle) for node in given.values())


def test_results_of_many_are_complete() -> None:
    given = {'a': orm.Int(-1), **{f'number_{index:02d}': orm.Int(index) for index in range(MANY + 1)}}
    plain, many = (run_get_node(process, given=given) for process in (PassOn, PassManyOn))
    assert many[1].is_finished_ok, many[1].exception
    assert type(many[0]['found']) is dict
    assert {name: node.value for name, node in many[0]['found'].items()} == {
        name: node.value for name, node in plain[0]['found'].items()
    }
    assert links(many[1]) == links(plain[1])
