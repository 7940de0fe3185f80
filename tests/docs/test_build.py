"""Sphinx makes the site without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / 'docs'


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_site_is_built_without_warnings(tmp_path: Path) -> None:
    """In a process of its own: the build has a profile of its own."""
    command = [
        sys.executable,
        '-m',
        'sphinx',
        '-W',
        '--keep-going',
        '-q',
        '-b',
        'html',
        str(DOCS),
        str(tmp_path / 'html'),
    ]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [*command, '-d', str(tmp_path / 'doctrees')], capture_output=True, text=True, env=environment, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if re.search(r'WARNING|ERROR|[Ee]xception', line)]
    assert (done.returncode, complaints) == (0, []), done.stderr
    html = tmp_path / 'html'
    site = {str(path.relative_to(html)): path.read_text() for path in html.rglob('*.html')}
    assert {str(page.relative_to(DOCS).with_suffix('.html')) for page in DOCS.rglob('*.md')} <= set(site)
    # What the directives make of the code, and what furo makes of links between pages.
    assert 'should_iterate' in site['processes.html']
    assert '--dry-run' in site['cli.html']
    assert 'max_force_deviation' in site['api.html']
    assert 'href="thresholds.html#verdicts"' in site['report.html']
    assert {'provenance.svg', 'data_model.svg'} <= {path.name for path in (html / '_images').iterdir()}
