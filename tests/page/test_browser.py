"""The page as `aiida-mlip-al serve` serves it, in a real browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from helpers.browser import Browser

from aiida_mlip_al.page.app import make_app
from aiida_mlip_al.page.server import address_of, open_socket

pytestmark = [pytest.mark.services, pytest.mark.slow]

READY = 'document.documentElement?.dataset.ready'
TOKEN = 'a-token-of-the-test'


@pytest.fixture(scope='module')
def port(aiida_profile: Any) -> Iterator[int]:
    """Serve the tests' profile, with a token."""
    listener = open_socket('127.0.0.1', 0)
    server = uvicorn.Server(uvicorn.Config(make_app(token=TOKEN), log_level='warning', access_log=False))
    thread = threading.Thread(target=server.run, kwargs={'sockets': [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A window that must not complain and must not ask anyone else."""
    with Browser(tmp_path) as browser:
        yield browser
        assert browser.console == []
        assert {urlsplit(url).hostname for url in browser.requests if url.startswith('http')} == {'127.0.0.1'}


@pytest.mark.parametrize('dark', [False, True])
@pytest.mark.parametrize('width', [360, 1400])
def test_the_page_loads_and_fits(browser, port, run, width, dark):
    browser.size(width, dark=dark)
    browser.open(address_of('127.0.0.1', port, run.node.pk, TOKEN))
    browser.wait(READY)
    assert 'token' not in browser.value('location.href')
    paper = browser.value('getComputedStyle(document.body).backgroundColor')
    assert paper == ('rgb(20, 23, 27)' if dark else 'rgb(255, 255, 255)')
    # A plot is drawn when it comes near, and all are when one has scrolled through.
    n_plots = browser.value('document.querySelectorAll(".plot").length')
    assert n_plots >= 8
    for step in range(n_plots):
        browser.value(f'document.querySelectorAll(".plot")[{step}].scrollIntoView({{behavior: "instant"}})')
        browser.wait(f'document.querySelectorAll(".plot")[{step}].querySelector(".main-svg")')
    assert browser.value('document.documentElement.scrollWidth') <= width
    ink = browser.value('getComputedStyle(document.querySelector("#plot-fates .xtick text")).fill')
    assert ink == ('rgb(230, 232, 235)' if dark else 'rgb(27, 31, 36)')


def test_a_point_leads_to_its_node_and_the_structure_is_drawn(browser, port, run):
    browser.size(1400)
    browser.open(address_of('127.0.0.1', port, run.node.pk, TOKEN))
    browser.wait(READY)
    browser.value('document.querySelector("#plot-calibration").scrollIntoView({block: "center", behavior: "instant"})')
    browser.wait('document.querySelector("#plot-calibration[data-links] .point")')
    time.sleep(1)
    browser.click('#plot-calibration .point')
    browser.wait('!document.querySelector("#panel").hidden')
    label = browser.value('document.querySelector("#panel h2").textContent')
    assert label.split()[0] == 'LabelData'
    assert int(label.split()[1]) in {run.made[f'iteration_01_label_frame_{rank:03d}'].pk for rank in range(run.chosen)}
    assert 'was given by the user' in browser.value('document.querySelector(".story").textContent')
    browser.wait('document.querySelector(".viewer canvas") && document.querySelector(".controls span").textContent')
    browser.wait('document.querySelector(".controls label:not([hidden])")')
    browser.click('.controls input[type=checkbox]')
    # Something is drawn: the picture has more than its background.
    colours = (
        '(() => { const from = document.querySelector(".viewer canvas"); const to = document.createElement("canvas"); '
        'to.width = to.height = 60; const pen = to.getContext("2d"); pen.drawImage(from, 0, 0, 60, 60); '
        'return new Set(new Uint32Array(pen.getImageData(0, 0, 60, 60).data.buffer)).size; })()'
    )
    browser.wait(f'new Promise(done => requestAnimationFrame(() => done({colours} > 5)))')
    browser.click('#panel .close')
    assert browser.value('document.querySelector("#panel").hidden && location.hash === ""')
    browser.value('location.hash = "explored/1?verdict=selected"')
    browser.wait(f'document.querySelectorAll("#explored tbody tr").length === {run.chosen}')


def test_all_points_of_the_parity_plot_are_drawn_and_lead_to_their_frame(browser, port, run):
    browser.size(1400)
    browser.open(address_of('127.0.0.1', port, run.node.pk, TOKEN))
    browser.wait(READY)
    browser.value(
        'document.querySelector("#plot-parity-forces").scrollIntoView({block: "center", behavior: "instant"})'
    )
    browser.wait('document.querySelector("#plot-parity-forces[data-links] .point")')
    assert browser.value('document.querySelectorAll("#plot-parity-forces .point").length') == 9 * run.n_test
    time.sleep(1)
    browser.click('#plot-parity-forces .point')
    browser.wait('!document.querySelector("#panel").hidden')
    label = run.made['label_test_frame_000'].pk
    assert browser.value('document.querySelector("#panel h2").textContent').split()[:2] == ['LabelData', f'{label}']


def test_what_happens_is_seen_without_a_reload(browser, port, make_run):
    run = make_run(iterations=0, ended=False)
    browser.size(1400)
    browser.open(address_of('127.0.0.1', port, None, TOKEN))
    browser.wait(f'document.querySelector(\'#runs a[href="/runs/{run.node.pk}"]\')')
    browser.click(f'#runs a[href="/runs/{run.node.pk}"]')
    browser.wait(f'location.pathname === "/runs/{run.node.pk}" && {READY}')
    assert browser.value('document.querySelectorAll(".turn").length') == 1
    assert not browser.value('document.querySelector("#plot-learning-force")')
    browser.value('document.querySelector("details[data-called]").open = true')
    browser.wait('document.querySelector("details[data-called] .children .processes")')
    run.iterate(until='train')
    browser.wait('document.querySelector("#plot-learning-force .main-svg")')
    assert browser.value('document.querySelectorAll(".turn").length') == 2
    assert browser.value('document.querySelector("details[data-called]").open'), 'what was open stays open'
    browser.value('void (window.kept = document.querySelector("#plot-learning-force"))')
    run.node.base.attributes.set('process_state', 'finished')
    run.node.base.attributes.set('exit_status', 403)
    browser.wait('document.querySelector("#head .state.bad")')
    assert browser.value('window.kept === document.querySelector("#plot-learning-force")'), (
        'a plot that is drawn is kept'
    )
