"""One node: its story, its facts, its messages and what it is linked to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_mlip_al.report.graph import RUN_TYPE, failure_of
from aiida_mlip_al.report.story import story
from aiida_mlip_al.report.words import duration, flatten

from .places import label_of_structure
from .structures import count_frames

MAX_LINKS = 30
MAX_FACTS = 120
MAX_MESSAGES = 60
TAIL_BYTES = 6000


@dataclass
class Link:
    """A node beside this one."""

    label: str
    pk: int
    kind: str


@dataclass
class Links:
    """Nodes beside this one, the first of them and their number."""

    title: str
    shown: list[Link]
    total: int


@dataclass
class NodeView:
    """What the page shows of a node.

    :param story: the way back to the seeds, of data.
    :param facts: name and value.
    :param messages: time, level and text of what a process reported.
    :param tails: end of a job's error and output streams, by name.
    :param n_structures: how many structures it holds.
    :param more_facts: number of facts left out.
    """

    pk: int
    uuid: str
    kind: str
    label: str
    created: Any
    is_run: bool
    state: str = ''
    failure: str = ''
    story: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    more_facts: int = 0
    messages: list[tuple[str, str, str]] = field(default_factory=list)
    tails: dict[str, str] = field(default_factory=dict)
    links: list[Links] = field(default_factory=list)
    n_structures: int = 0
    learned_as: int | None = None


def view(pk: int) -> NodeView:
    """Describe a node.

    :raises NotExistent: if there is none of that pk.
    """
    node: Any = orm.load_node(pk)
    is_process = isinstance(node, orm.ProcessNode)
    shown = NodeView(
        pk=node.pk,
        uuid=node.uuid,
        kind=(node.process_label or type(node).__name__) if is_process else type(node).__name__,
        label=node.label,
        created=node.ctime,
        is_run=node.process_type == RUN_TYPE,
    )
    facts = _process(node, shown) if is_process else _data(node, shown)
    shown.facts, shown.more_facts = facts[:MAX_FACTS], max(0, len(facts) - MAX_FACTS)
    shown.links = [
        links
        for title, found in (
            ('Called by', _linked(node, 'incoming', (LinkType.CALL_WORK, LinkType.CALL_CALC))),
            ('Made by', _linked(node, 'incoming', (LinkType.CREATE,))),
            ('Inputs', _linked(node, 'incoming', (LinkType.INPUT_CALC, LinkType.INPUT_WORK))),
            ('Called', _linked(node, 'outgoing', (LinkType.CALL_WORK, LinkType.CALL_CALC))),
            ('Outputs', _linked(node, 'outgoing', (LinkType.CREATE, LinkType.RETURN))),
            ('Used by', _linked(node, 'outgoing', (LinkType.INPUT_CALC, LinkType.INPUT_WORK))),
        )
        if (links := Links(title, *found)).total
    ]
    return shown


def _process(node: Any, shown: NodeView) -> list[tuple[str, str]]:
    state = node.process_state.value if node.process_state else 'created'
    shown.state, shown.failure = state, failure_of(node) or ''
    facts = {
        'state': state + (', paused' if node.paused else ''),
        'status': node.process_status,
        'exit status': node.exit_status,
        'exit message': node.exit_message,
        'time': duration((node.mtime - node.ctime).total_seconds()),
    }
    if isinstance(node, orm.CalcJobNode):
        state_of_job = node.get_scheduler_state()
        facts |= {
            'computer': node.computer.label if node.computer else None,
            'job': node.get_job_id(),
            'scheduler': state_of_job.value if state_of_job else None,
            'folder': node.get_remote_workdir(),
        }
        shown.tails = {name: text for name, text in _streams(node).items() if text}
    if node.exception:
        shown.tails = {'exception': _tail(node.exception), **shown.tails}
    logs = orm.Log.collection.get_logs_for(node)
    shown.messages = [(f'{log.time:%Y-%m-%d %H:%M:%S}', log.levelname, log.message) for log in logs[-MAX_MESSAGES:]]
    return [(name, str(value)) for name, value in facts.items() if value not in (None, '')]


def _streams(node: orm.CalcJobNode) -> dict[str, str]:
    return {
        'error stream': _tail(node.get_scheduler_stderr() or ''),
        'output stream': _tail(node.get_scheduler_stdout() or ''),
    }


def _tail(text: str) -> str:
    text = text.strip()
    return text if len(text) <= TAIL_BYTES else f'… {text[-TAIL_BYTES:]}'


def _data(node: Any, shown: NodeView) -> list[tuple[str, str]]:
    shown.story = story(node)
    shown.n_structures = count_frames(node)
    if isinstance(node, orm.StructureData):
        shown.learned_as = label_of_structure(node.pk)
        return flatten({'formula': node.get_formula(), **node.base.attributes.get('origin', {})})
    return flatten({key: value for key, value in node.base.attributes.all.items() if not key.startswith('array|')})


def _linked(node: Any, side: str, kinds: tuple[LinkType, ...]) -> tuple[list[Link], int]:
    """Return the first neighbours of some kinds of links, and their number: a work chain may have thousands."""
    query = orm.QueryBuilder()
    query.append(orm.Node, filters={'id': node.pk}, tag='this')
    query.append(
        orm.Node,
        **{'with_outgoing' if side == 'incoming' else 'with_incoming': 'this'},
        edge_filters={'type': {'in': [kind.value for kind in kinds]}},
        edge_project='label',
        project=['id', 'node_type', 'attributes.process_label'],
        tag='other',
    )
    query.order_by([{'other': {'id': 'asc'}}])
    total = query.count()
    query.limit(MAX_LINKS)
    rows = [Link(str(label), pk, name or _kind(kind)) for pk, kind, name, label in query.iterall()]
    return rows, total


def _kind(node_type: str) -> str:
    return node_type.rstrip('.').rsplit('.', 1)[-1]
