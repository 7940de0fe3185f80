"""How Sphinx makes the site: ``sphinx-build -W docs OUTPUT``. The pages are Markdown that GitHub shows, too."""

from __future__ import annotations

import os
import tempfile
import warnings
from typing import Any

# AiiDA writes a configuration as soon as it is imported: this one goes with the build.
_FOLDER = tempfile.TemporaryDirectory(prefix='aiida-docs-')
os.environ['AIIDA_PATH'] = _FOLDER.name
warnings.simplefilter('ignore')

from aiida.manage.configuration import get_config, load_profile  # noqa: E402
from aiida.storage.sqlite_temp import SqliteTempBackend  # noqa: E402

from aiida_mlip_al import __version__  # noqa: E402

# The directives for processes build their specifications, and those need a profile.
_PROFILE = SqliteTempBackend.create_profile('docs', filepath=_FOLDER.name)
get_config(create=True).add_profile(_PROFILE)
load_profile(_PROFILE.name, allow_switch=True)

project = 'aiida-mlip-al'
release = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx_click', 'aiida.sphinxext']
html_theme = 'furo'
html_title = f'{project} {release}'
# Indented blocks are of any kind, so they are shown as they are.
highlight_language = 'none'
myst_heading_anchors = 4
default_role = 'code'
autodoc_member_order = 'bysource'
# AiiDA gives every class of nodes a few pydantic models of its own.
autodoc_default_options = {'members': True, 'exclude-members': 'AttributesModel, Model, ReadModel, WriteModel'}

# Links to files outside of this folder are for GitHub; tests/docs/test_pages.py follows every link.
suppress_warnings = ['myst.xref_missing']


def bars_as_they_are(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep ``|F|`` of a docstring from being a substitution."""
    lines[:] = [line.replace('|', '\\|') for line in lines]


def setup(app: Any) -> None:
    """Connect the hook."""
    app.connect('autodoc-process-docstring', bars_as_they_are)
