"""Runners stand alone: a cluster's Python has neither AiiDA nor this package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

RUNNERS = Path(__file__).parents[2] / 'aiida_mlip_al' / 'runners'
ALLOWED = {'numpy', 'scipy', 'ase', 'torch', 'mace', 'matscipy', 'yaml', 'e3nn', 'plumed'}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path.name} has a relative import, which a script cannot resolve'
            found.add(str(node.module).split('.')[0])
    return found


@pytest.mark.parametrize('path', sorted(RUNNERS.glob('*.py')), ids=lambda path: path.name)
def test_imports_only_what_a_cluster_has(path: Path) -> None:
    siblings = {file.stem for file in RUNNERS.glob('*.py')}
    assert imported(path) <= ALLOWED | siblings | sys.stdlib_module_names


def test_labelling_starts_without_torch() -> None:
    command = f"import sys; sys.path.insert(0, {str(RUNNERS)!r}); import label, md; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, '-c', command], check=True)
