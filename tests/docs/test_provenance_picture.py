"""The picture of a label's way back to what the user gave."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from aiida import orm
from helpers.stored_run import StoredRun

SCRIPT = Path(__file__).parents[2] / 'docs' / 'provenance_picture.py'
SVG = '{http://www.w3.org/2000/svg}'
USER, DATA, PROCESS = '#fff3c4', '#d9ead3', '#f4cccc'


@pytest.fixture(scope='module')
def run(aiida_profile: Any) -> StoredRun:
    computer = orm.Computer('picture', 'localhost', '', 'core.local', 'core.direct').store()
    run = StoredRun(computer)
    run.seed()
    run.iterate()
    run.finish()
    return run


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, as `verdi run` runs it: ``draw(node)`` returns the picture."""

    def call(node: Any) -> str:
        target = tmp_path / 'label.svg'
        monkeypatch.setattr(sys, 'argv', [str(SCRIPT), str(node.pk), str(target)])
        runpy.run_path(str(SCRIPT), run_name='__main__')
        return target.read_text()

    return call


def boxes(picture: str) -> dict[str, tuple[float, str, str]]:
    """Return height of place, colour and second line of each box by its first line."""
    root = ElementTree.fromstring(picture)
    assert root.tag == f'{SVG}svg'
    _, *rectangles = root.findall(f'{SVG}rect')
    texts = [text.text or '' for text in root.findall(f'{SVG}text')]
    titles = zip(rectangles, texts[::2], texts[1::2], strict=True)
    return {title: (float(box.attrib['y']), box.attrib['fill'], fact) for box, title, fact in titles}


def named(node: Any) -> str:
    """Return the first line of a node's box."""
    name = node.process_label if isinstance(node, orm.ProcessNode) else type(node).__name__
    return f'{name} <{node.pk}>'


def way_back(run: StoredRun, frame: Any, label: Any) -> list[tuple[Any, Any]]:
    """Return the steps from the given structure by MD and selection to a label."""
    select = frame.creator
    trajectory, deviations = select.inputs.trajectories.walker_00, select.inputs.deviations.walker_00
    explore = trajectory.creator
    steps = [(run.structure(), explore), (explore, trajectory), (explore, deviations), (trajectory, select)]
    return [*steps, (deviations, select), (select, frame), (frame, label.creator), (label.creator, label)]


def test_label_of_an_explored_frame(run: StoredRun, draw: Any) -> None:
    """Each step leads downward, to the label in the last row."""
    frame, label = run.made['frames']['frame_001'], run.made['iteration_01_label_frame_001']
    found = boxes(draw(label))
    for start, end in way_back(run, frame, label):
        assert found[named(start)][0] < found[named(end)][0]
    assert max(found.values())[0] == found[named(label)][0]
    deviations = frame.creator.inputs.deviations.walker_00
    assert found[named(run.structure())][1:] == (USER, 'given by the user')
    assert found[named(label)][1:] == (DATA, f'{label.energy:.3f} eV, train')
    assert found[named(label.creator)][1:] == (PROCESS, 'CalcJob; +3 FrameData')
    assert found[named(frame.creator)][1] == PROCESS
    assert found[named(deviations)][2] == f'up to {1000 * deviations.base.attributes.get("max"):.0f} meV/Å'
    others = {named(node) for name, node in run.made['frames'].items() if name != 'frame_001'}
    assert not others & set(found)


def test_edges_are_those_of_the_graph(run: StoredRun, draw: Any) -> None:
    """From the lower side of a box to the upper side of another."""
    frame, label = run.made['frames']['frame_000'], run.made['iteration_01_label_frame_000']
    root = ElementTree.fromstring(draw(label))
    _, *rectangles = root.findall(f'{SVG}rect')
    titles = [str(text.text) for text in root.findall(f'{SVG}text')][::2]
    upper, lower = {}, {}
    for box, title in zip(rectangles, titles, strict=True):
        x, y, width, height = (float(box.attrib[key]) for key in ('x', 'y', 'width', 'height'))
        upper[x + width / 2, y] = lower[x + width / 2, y + height] = title
    ends = [
        [float(value) for value in re.findall(r'-?[\d.]+', path.attrib['d'])] for path in root.findall(f'{SVG}path')
    ]
    drawn = [(lower[x1, y1], upper[x2, y2]) for x1, y1, *_, x2, y2 in ends]
    assert len(set(drawn)) == len(drawn)
    assert {(named(start), named(end)) for start, end in way_back(run, frame, label)} <= set(drawn)
    for start, end in drawn:
        pks = [int(re.findall(r'<(\d+)>', title)[0]) for title in (start, end)]
        parents = orm.load_node(pks[1]).base.links.get_incoming().all_nodes()
        assert pks[0] in {node.pk for node in parents}


def test_it_is_the_same_each_time(run: StoredRun, draw: Any) -> None:
    label = run.made['iteration_01_label_frame_002']
    assert draw(label) == draw(label)
    assert draw(label) != draw(run.made['iteration_01_label_frame_003'])


def test_label_of_a_seed_is_a_shorter_way(run: StoredRun, draw: Any) -> None:
    kinds = [title.split()[0] for title in boxes(draw(run.made['label_seeding_frame_000']))]
    assert kinds == ['StructureData', 'seed_frames', 'FrameData', 'LabelCalculation', 'LabelData']
