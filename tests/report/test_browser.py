"""The report in a real browser: it draws, says nothing on the console, and fits narrow windows."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import plotly.graph_objects as go
import pytest
from helpers.browser import Browser

from aiida_mlip_al.report.html import draw, render

pytestmark = [pytest.mark.services, pytest.mark.slow]

# The window of headless Chromium is never narrower than 500 pixels, so that the narrow page stands in a frame.
FRAME = """<body style="margin:0"><iframe id="page" style="border:0;width:{width}px;height:900px" src="page.html"></iframe>
<script>addEventListener("load", () => setTimeout(() => {{
const inner = document.getElementById("page").contentWindow;
document.title = `scroll ${{inner.document.documentElement.scrollWidth}} of ${{inner.innerWidth}}, ` +
  `plots ${{inner.document.querySelectorAll(".main-svg").length}}`;
}}, 3000))</script>"""
PLOTTED = '[...document.querySelectorAll(".plot")].filter(plot => plot.querySelector(".point")).length'


@pytest.mark.parametrize('width', [360, 1400])
def test_page_draws_and_fits(summary, tmp_path, width):
    browser = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    assert browser is not None, 'no Chromium here: `bash tests/run.sh --services` installs it'
    (tmp_path / 'page.html').write_text(render(summary))
    (tmp_path / 'frame.html').write_text(FRAME.format(width=width))
    command = [
        browser, '--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run',
        '--disable-sync', '--disable-component-update', '--allow-file-access-from-files', '--enable-logging=stderr',
        f'--user-data-dir={tmp_path / "user"}', f'--window-size={max(width, 500)},1000', '--virtual-time-budget=8000',
        '--dump-dom', (tmp_path / 'frame.html').as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
    assert console == []
    found = re.search(r'scroll (\d+) of (\d+), plots (\d+)', done.stdout)
    assert found is not None, done.stdout[-500:]
    scroll, inner, plots = map(int, found.groups())
    assert scroll <= inner, 'the page scrolls sideways'
    assert plots >= 6


def test_every_point_is_drawn(summary, tmp_path):
    assert summary.parity is not None
    summary.parity.evaluation = 571
    summary.parity.n_atoms = np.full(120, 9)
    summary.final.nodes = {'errors': 570}
    (tmp_path / 'page.html').write_text(render(summary))
    expected = {name: sum(map(n_points, figure.data)) for name, figure in draw(summary).items()}
    with Browser(tmp_path / 'user') as browser:
        browser.size(1400)
        browser.open((tmp_path / 'page.html').as_uri())
        browser.wait(f'{PLOTTED} === {len(expected)}')
        drawn = browser.value(
            'Object.fromEntries([...document.querySelectorAll(".plot")].map(plot => '
            '[plot.id.slice(5), plot.querySelectorAll(".point").length]))'
        )
    assert drawn == expected


def n_points(trace: go.Scatter | go.Bar) -> int:
    """Count what a trace draws a mark for."""
    return len(trace.x) if trace.type == 'bar' or 'markers' in trace.mode else 0
