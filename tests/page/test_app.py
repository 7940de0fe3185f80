"""The page's addresses on a stored run: what they say, what they link to, that they change nothing."""

from __future__ import annotations

import io
import json
import re
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiida import orm
from starlette.testclient import TestClient

from aiida_mlip_al.page.app import linked, make_app
from aiida_mlip_al.report.collect import collect
from aiida_mlip_al.report.figures import deviation_histograms

HOSTILE = '</script ><script>alert(1)</script><img src=x onerror="alert(2)">&{{ 7*7 }}\''


@pytest.fixture(scope='module')
def page() -> TestClient:
    return TestClient(make_app(), base_url='http://localhost')


def get(page: TestClient, path: str, status: int = 200) -> str:
    answer = page.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


def words(html: str) -> str:
    return ' '.join(unescape(re.sub(r'<[^>]+>', ' ', html)).replace('\u202f', ' ').split())


def test_the_list_tells_where_every_run_is(page, run):
    html = get(page, '/parts/runs')
    row = next(row for row in html.split('<tr>') if f'/runs/{run.node.pk}"' in row)
    assert f'water {run.node.pk} finished – 1 of 3 8 20.0 test' in words(row)


def test_the_outline_has_every_process_with_its_state(page, run):
    html = get(page, f'/runs/{run.node.pk}/parts/now')
    assert re.findall(r'id="(turn-[^"]+)"', html) == ['turn-0', 'turn-1', 'turn--1']
    children = {process.pk for process in run.node.called}
    assert set(map(int, re.findall(r'#node/(\d+)', html))) == children
    assert 'dot failed' not in html
    label = next(process for process in run.node.called if process.process_label == 'LabelWorkChain')
    called = get(page, f'/runs/{run.node.pk}/parts/called/{label.pk}')
    assert f'#node/{label.called[0].pk}' in called
    get(page, f'/runs/{run.node.pk}/parts/called/{run.node.pk}', 404)


def test_the_sections_are_those_of_the_report_with_links(page, run):
    html = get(page, f'/runs/{run.node.pk}/parts/report')
    summary = collect(run.node)
    assert 'was learned from 8 labels in 1 iteration. The force error on the test set fell from 200 to 20.0' in words(
        html
    )
    for pk in [*summary.nodes.values(), *(model.pk for model in summary.models)]:
        assert f'href="#node/{pk}"' in html
    assert 'SCF not converged' in html


def test_every_point_leads_to_a_node(page, run):
    """Follow a point of every curve of every plot: it ends at a node, or in the list of explored frames."""
    html = get(page, f'/runs/{run.node.pk}/parts/report')
    names = re.findall(r'id="plot-([a-z-]+)"', html)
    assert {
        'learning-force',
        'parity-energy',
        'parity-forces',
        'deviations',
        'calibration',
        'fates',
        'wall-time',
    } <= set(names)
    kinds = set()
    for name in names:
        figure = json.loads(get(page, f'/runs/{run.node.pk}/figures/{name}'))
        traces = [
            trace for trace in figure['data'] if trace.get('hoverinfo') != 'skip' and trace.get('mode') != 'lines'
        ]
        assert traces, name
        for trace in traces:
            place = next(filter(None, trace['meta']), None)
            # An iteration does not have every stage.
            assert all(trace['meta']) or name in ('wall-time', 'core-time'), name
            if place is None:
                continue
            kinds.add(place.split('/')[0])
            if not place.startswith('explored'):
                assert re.search(r'<h2>\w+ <span class="soft">\d+', get(page, f'/parts/{place}')), place
    assert kinds == {'node', 'test', 'chosen', 'explored'}


def test_the_bars_of_the_histogram_list_their_frames(page, run):
    trace = deviation_histograms(collect(run.node)).data[0]
    bars = [(place, n) for place, n in zip(trace.meta, trace.customdata, strict=True) if n]
    assert sum(n for _, n in bars) == run.frames
    for place, n in bars[:3] + bars[-1:]:
        assert f'of {n}' in words(get(page, f'/runs/{run.node.pk}/parts/{place}'))


def test_points_lead_to_their_own_label(page, run):
    evaluation = run.made['final_evaluate'].pk
    for row in (0, run.n_test - 1):
        label = run.made[f'label_test_frame_{row:03d}']
        assert f'LabelData <span class="soft">{label.pk}<' in get(page, f'/parts/test/{evaluation}/{row}')
    get(page, f'/parts/test/{evaluation}/{run.n_test}', 404)
    selection = run.made['selection'].pk
    label = run.made['iteration_01_label_frame_002']
    assert f'LabelData <span class="soft">{label.pk}<' in get(page, f'/parts/chosen/{selection}/2')
    get(page, f'/parts/chosen/{selection}/99', 404)


def test_a_label_tells_its_story_and_its_structure_can_be_drawn(page, run):
    label = run.made['iteration_01_label_frame_001']
    html = get(page, f'/parts/node/{label.pk}')
    for step in ('is the label of H2O with GFN2-xTB', 'is frame 1 of walker_00', 'was given by the user'):
        assert step in words(html)
    structure = json.loads(get(page, f'/structures/{label.pk}/0'))
    assert structure['symbols'] == ['O', 'H', 'H']
    assert structure['positions'][1] == pytest.approx(label.to_ase().positions[1].tolist(), abs=1e-5)
    assert structure['forces'][2] == pytest.approx(label.forces[2].tolist(), abs=1e-4)
    get(page, f'/structures/{label.pk}/1', 404)
    get(page, f'/structures/{run.made["selection"].pk}/0', 404)


def test_lists_come_in_pages_and_by_filter(page, run):
    html = get(page, f'/runs/{run.node.pk}/parts/labels')
    labels = 4 + run.n_test + run.chosen
    assert f'1 to {labels} of {labels}' in words(html)
    assert f'of {run.n_test}' in words(get(page, f'/runs/{run.node.pk}/parts/labels?split=test'))
    assert f'of {run.chosen}' in words(get(page, f'/runs/{run.node.pk}/parts/explored/1?verdict=selected'))
    assert get(page, f'/runs/{run.node.pk}/parts/explored/0') == get(page, f'/runs/{run.node.pk}/parts/explored/1')
    assert 'There is none' in get(page, f'/runs/{run.node.pk}/parts/explored/1?verdict=failed')
    for bad in ('page=x', 'page=-1', 'low=1;2', 'high=nan'):
        get(page, f'/runs/{run.node.pk}/parts/explored/1?{bad}', 400)


def test_what_is_not_there_is_not_there(page, run):
    other = run.made['selection'].pk
    for path in (
        f'/runs/{other}',
        '/runs/999999/parts/now',
        '/parts/node/999999',
        f'/runs/{run.node.pk}/figures/none',
        '/x',
    ):
        get(page, path, 404)
    stamp = re.search(r'/static/(\w+)/', get(page, '/'))[1]
    for name in ('..%2Fapp.py', 'app.py', '%2e%2e/app.py'):
        get(page, f'/static/{stamp}/{name}', 404)


def test_a_change_is_seen_and_nothing_is_changed(page, make_run):
    run = make_run(iterations=0, ended=False)
    run.iterate(until='train')
    pk = run.node.pk
    before = get(page, f'/runs/{pk}/changes')
    assert get(page, f'/runs/{pk}/changes') == before
    assert 'has been learned' in get(page, f'/runs/{pk}/parts/report')
    nodes = orm.QueryBuilder().append(orm.Node).count()
    mtimes = dict(orm.QueryBuilder().append(orm.Node, project=['id', 'mtime']).all())
    for path in ('', '/parts/now', '/parts/labels', '/parts/report', '/figures/learning-force'):
        get(page, f'/runs/{pk}{path}')
    get(page, f'/parts/node/{pk}')
    assert orm.QueryBuilder().append(orm.Node).count() == nodes
    assert dict(orm.QueryBuilder().append(orm.Node, project=['id', 'mtime']).all()) == mtimes
    job = run.process(orm.CalcJobNode, 'ExploreCalculation', run.node, 'iteration_01_explore', {}, state='waiting')
    job.base.attributes.set_many({'scheduler_state': 'queued', 'job_id': '4711'})
    during = get(page, f'/runs/{pk}/changes')
    assert during != before
    assert 'queued, job 4711' in words(get(page, f'/runs/{pk}/parts/now'))
    run.set_state(job, 'finished', 310, exit_message='It did not work.')
    assert get(page, f'/runs/{pk}/changes') not in (before, during)
    assert 'It did not work.' in get(page, f'/runs/{pk}/parts/now')
    assert 'It did not work.' in get(page, f'/runs/{pk}/parts/report')


def test_an_error_is_not_the_end_of_the_page(run, monkeypatch):
    site = TestClient(make_app(), base_url='http://localhost', raise_server_exceptions=False)
    with monkeypatch.context() as broken:
        broken.setattr(
            'aiida_mlip_al.page.app.view', lambda pk: next(orm.QueryBuilder().append(orm.Node).iterall()) + 1
        )
        assert site.get(f'/parts/node/{run.node.pk}').status_code == 500
    get(site, f'/parts/node/{run.node.pk}')
    get(site, f'/runs/{run.node.pk}/parts/now')


def test_a_failed_job_shows_its_messages_and_the_end_of_its_streams(page, make_run):
    run = make_run(iterations=0, ended=False)
    job = run.process(orm.CalcJobNode, 'ExploreCalculation', run.node, 'iteration_01_explore', {})
    run.set_state(job, 'finished', 310, exit_message='The models cannot be opened.')
    retrieved = orm.FolderData()
    retrieved.base.repository.put_object_from_filelike(
        io.BytesIO(b'x' * 9000 + b' out of memory <b>'), '_scheduler-stderr.txt'
    )
    run.create(retrieved, job, 'retrieved')
    job.logger.error('walker 3 has left')
    html = get(page, f'/parts/node/{job.pk}')
    assert 'The models cannot be opened.' in html
    assert 'out of memory &lt;b&gt;' in html
    assert html.count('x' * 100) < 80
    assert 'walker 3 has left' in html


def test_hostile_strings_stay_text(page, make_run):
    run = make_run(iterations=0, ended=False, label=HOSTILE)
    job = run.process(orm.CalcJobNode, HOSTILE, run.node, 'iteration_01_explore', {})
    run.set_state(job, 'finished', 1, exit_message=HOSTILE)
    evil = run.create(orm.Dict({HOSTILE: HOSTILE}), job, 'out')
    evil.label = HOSTILE
    for path in (
        '/parts/runs',
        f'/runs/{run.node.pk}',
        f'/runs/{run.node.pk}/parts/now',
        f'/runs/{run.node.pk}/parts/report',
        f'/parts/node/{job.pk}',
        f'/parts/node/{evil.pk}',
    ):
        html = get(page, path)
        assert '<img src=x' not in html, path
        assert '<script>alert' not in html, path
        assert HOSTILE in unescape(html), path
    assert 'judged yet' in get(page, f'/runs/{run.node.pk}/parts/explored/0?verdict=%3Cscript%3E')
    get(page, f'/runs/{run.node.pk}/parts/explored/1', 404)
    assert linked('<1> is <b> & <22>') == '<a href="#node/1">1</a> is &lt;b&gt; &amp; <a href="#node/22">22</a>'


def test_scripts_and_styles_are_local_and_kept(page):
    html = get(page, '/')
    assert all(urlsplit(link).netloc == '' for link in re.findall(r'(?:src|href)="([^"]*)"', html))
    stamp = re.search(r'/static/(\w+)/', html)[1]
    for name in ('plotly.js', '3Dmol-min.js', 'page.js', 'plots.js', 'page.css', 'report.css', '3Dmol-LICENSE.txt'):
        answer: Any = page.get(f'/static/{stamp}/{name}')
        assert answer.status_code == 200, name
        assert 'immutable' in answer.headers['cache-control']
    assert '3dmol' in page.get(f'/static/{stamp}/3Dmol-min.js').text[:4000000].lower()
