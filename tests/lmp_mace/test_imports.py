"""lmp-mace is a program of jobs: it needs no AiiDA, and being imported does nothing."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / 'aiida_mlip_al' / 'lmp_mace'
ALLOWED = {'numpy', 'ase', 'torch', 'lammps', 'aiida_mlip_al'}


@pytest.mark.parametrize('path', sorted(PACKAGE.glob('*.py')), ids=lambda path: path.name)
def test_imports_only_what_a_cluster_has(path: Path) -> None:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module))
    assert {module for module in modules if module.startswith('aiida_mlip_al') and '.lmp_mace' not in module} == set()
    runners = {file.stem for file in (PACKAGE.parent / 'runners').glob('*.py')}
    roots = {module.split('.')[0] for module in modules}
    assert roots <= ALLOWED | sys.stdlib_module_names | (runners if path.name == 'runner_modules.py' else set())


def test_being_imported_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    importlib.import_module('aiida_mlip_al.lmp_mace.__main__')
    assert list(tmp_path.iterdir()) == []
