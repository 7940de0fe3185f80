"""Draw the way of a label back to what the user gave: ``verdi -p PROFILE run docs/provenance_picture.py PK FILE.svg``."""

import sys
from html import escape
from pathlib import Path

from aiida import orm

from aiida_mlip_al.data import DatasetData, DeviationData, FrameData, LabelData, ModelData, SelectionData

KINDS = (orm.StructureData, LabelData, DatasetData, ModelData, DeviationData, SelectionData, orm.TrajectoryData)
WIDTH, HEIGHT, GAP, STEP = 285, 44, 16, 72
FILL = {'user': '#fff3c4', 'data': '#d9ead3', 'process': '#f4cccc', 'more': '#eeeeee'}


def parents(node):
    """Return the nodes that a drawing goes back to, and how many of each class it leaves out."""
    if isinstance(node, orm.Data):
        return ([node.creator] if node.creator else []), {}
    shown, left_out = [], {}
    incoming = node.base.links.get_incoming().all()
    # What belongs to this frame: its structure, its trajectory, and the deviations of that one, which have the same name.
    names = {last_name(link) for link in incoming if link.node.uuid in WANTED or last_name(link) in WANTED}
    for kind in KINDS:
        links = [link for link in incoming if isinstance(link.node, kind)]
        own = [link for link in links if last_name(link) in names]
        # The whole committee and every shard, and one of everything else.
        chosen = links if kind in (ModelData, DatasetData) else (own or links)[:1]
        shown += [link.node for link in chosen]
        if len(links) > len(chosen):
            left_out[type(chosen[0].node).__name__] = len(links) - len(chosen)
    return shown, left_out


def last_name(link):
    """Return the name of a node within its namespace."""
    return link.link_label.split('__')[-1]


def caption(node):
    """Return the two lines of a node: what it is, and the one fact that says most about it."""
    if isinstance(node, orm.ProcessNode):
        return f'{node.process_label} <{node.pk}>', 'CalcJob' if isinstance(node, orm.CalcJobNode) else 'calcfunction'
    attributes = node.base.attributes
    facts = {
        FrameData: lambda: f'{attributes.get("origin").get("kind", "")}, {attributes.get("split")}',
        LabelData: lambda: f'{attributes.get("energy"):.3f} eV, {attributes.get("split")}',
        DatasetData: lambda: f'{attributes.get("n_frames")} frames, {attributes.get("theory")}',
        ModelData: lambda: f'trained on {attributes.get("trained_on")} frames',
        DeviationData: lambda: f'up to {1000 * attributes.get("max"):.0f} meV/Å',
    }
    fact = next((make() for kind, make in facts.items() if isinstance(node, kind)), '')
    return f'{type(node).__name__} <{node.pk}>', fact or ('' if node.creator else 'given by the user')


def layers(last):
    """Return the nodes by their distance from what the user gave, the edges, and what is left out at each process."""
    edges, depth, omitted = [], {}, {}

    def visit(node):
        if node.pk not in depth:
            before, omitted[node.pk] = parents(node)
            edges.extend((parent.pk, node.pk) for parent in before)
            depth[node.pk] = 1 + max((visit(parent) for parent in before), default=-1)
        return depth[node.pk]

    visit(last)
    rows = [[pk for pk in sorted(depth) if depth[pk] == level] for level in range(max(depth.values()) + 1)]
    return rows, edges, omitted


def draw(last):
    """Return the picture as SVG."""
    rows, edges, omitted = layers(last)
    width = max(len(row) for row in rows) * (WIDTH + GAP) + GAP + WIDTH
    height = len(rows) * STEP
    place = {}
    for level, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        place.update({pk: (left + index * (WIDTH + GAP), level * STEP + GAP) for index, pk in enumerate(row)})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for start, end in edges:
        (x1, y1), (x2, y2) = place[start], place[end]
        x1, y1, x2 = x1 + WIDTH / 2, y1 + HEIGHT, x2 + WIDTH / 2
        # An edge that passes other rows goes around them.
        aside = 1.5 * (WIDTH + GAP) if y2 - y1 > STEP else 0
        path = f'M {x1} {y1} C {x1 - aside} {y1 + aside / 4} {x2 - aside} {y2 - aside / 4} {x2} {y2}'
        parts.append(f'<path d="{path}" fill="none" stroke="#666666"/>')
    for pk, (x, y) in place.items():
        node = orm.load_node(pk)
        process = isinstance(node, orm.ProcessNode)
        fill = FILL['process' if process else 'data' if node.creator else 'user']
        more = ', '.join(f'+{count} {name}' for name, count in omitted[pk].items())
        title, fact = caption(node)
        parts.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="{0 if process else 8}" fill="{fill}" stroke="#444444"/>'
        )
        for line, text in ((17, title), (33, f'{fact}; {more}' if more else fact)):
            parts.append(
                f'<text x="{x + WIDTH / 2}" y="{y + line}" text-anchor="middle" fill="#111111">{escape(text)}</text>'
            )
    return '\n'.join([*parts, '</svg>']) + '\n'


if __name__ == '__main__':
    label = orm.load_node(sys.argv[1])
    names = [last_name(link) for link in label.base.links.get_incoming().all()]
    frame = next(
        link.node
        for link in label.creator.base.links.get_incoming().all()
        if link.link_label == f'structures__{names[0]}'
    )
    WANTED = {names[0], frame.uuid, frame.origin.get('parent_uuid')}
    Path(sys.argv[2]).write_text(draw(label), encoding='utf-8')
