"""The wheel: what is in it, and that it works where the source tree is not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from aiida_mlip_al import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'aiida_mlip_al'
pytestmark = pytest.mark.slow

# Loads every entry point of the wheel, and says where each came from.
LOAD = """
import json, sys, warnings
warnings.simplefilter('ignore')
from importlib.metadata import distribution
loaded = [(point.name, point.load()) for point in distribution('aiida-mlip-al').entry_points]
modules = {name: module.__file__ for name, module in sys.modules.items() if name.split('.')[0] == 'aiida_mlip_al'}
print(json.dumps([[name for name, _ in loaded], modules]))
"""


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source tree."""
    folder = tmp_path_factory.mktemp('wheel')
    command = [sys.executable, '-m', 'hatchling', 'build', '--target', 'wheel', '--directory', str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob('*.whl')
    return built


@pytest.fixture(scope='module')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the wheel, and finds everything else in the one that runs the tests."""
    folder = tmp_path_factory.mktemp('installed')
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(folder)], check=True)
    python = folder / 'bin' / 'python'
    command = [sys.executable, '-m', 'pip', '--python', str(python), 'install', '--quiet', '--no-deps', str(wheel)]
    subprocess.run([*command, '--disable-pip-version-check', '--no-index'], check=True, capture_output=True)
    (site,) = (folder / 'lib').glob('python*/site-packages')
    # A plain path: the `.pth` files behind it, that of an editable installation among them, are not read.
    (site / 'others.pth').write_text(f'{sysconfig.get_path("purelib")}\n{sysconfig.get_path("platlib")}\n')
    return folder / 'bin'


def run_there(folder: Path, command: str, *arguments: str, **environment: str) -> str:
    """Run a command of the environment, away from the source tree."""
    clean = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run(
        [str(folder / command), *arguments],
        cwd=folder,
        env={**clean, 'AIIDA_PATH': str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if '.dist-info/' not in name}
        assert any(name.endswith('.dist-info/licenses/LICENSE') for name in archive.namelist())
    files = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts and path.suffix != '.pyc'
    }
    assert inside == files
    for pattern in (
        'py.typed',
        'workflows/protocols/fast.yaml',
        'workflows/protocols/vasp/fast.yaml',
        'runners/train.py',
        'lammps/walker.in.j2',
        'report/report.html.j2',
        'report/plots.js',
        'report/report.css',
        'page/base.html.j2',
        'page/static/3Dmol-min.js',
        'page/static/3Dmol-LICENSE.txt',
    ):
        assert f'aiida_mlip_al/{pattern}' in inside


def test_its_entry_points_are_loaded_from_it(installed: Path) -> None:
    names, modules = json.loads(run_there(installed, 'python', '-c', LOAD).splitlines()[-1])
    named = re.findall(r"^'?([\w.-]+)'? = 'aiida_mlip_al[\w.]*:\w+'$", (ROOT / 'pyproject.toml').read_text(), re.M)
    assert sorted(names) == sorted(named)
    there = installed.resolve().parent
    assert len(modules) > len(names) / 2
    assert [path for path in modules.values() if there not in Path(path).resolve().parents] == []


def test_its_commands_answer(installed: Path) -> None:
    assert __version__ in run_there(installed, 'aiida-mlip-al', '--version')
    assert 'launch' in run_there(installed, 'aiida-mlip-al', '--help')
    assert 'LAMMPS' in run_there(installed, 'lmp-mace', '--help')


def test_it_reads_its_data_files(installed: Path) -> None:
    """The table of the protocols is made of YAML files."""
    table = run_there(installed, 'python', '-m', 'aiida_mlip_al.config.protocol_table')
    assert table == (ROOT / 'docs' / 'protocols.md').read_text()
