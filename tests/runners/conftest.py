"""Runners in job folders, as a job runs them."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

ROOT = Path(__file__).parents[2]
RUNNERS = ROOT / 'aiida_mlip_al' / 'runners'
TESTS = ROOT / 'tests'
sys.path.insert(0, str(RUNNERS))
TASKS = {
    'label': 'label',
    'md': 'simulate',
    'relax': 'relax',
    'explore': 'explore',
    'evaluate': 'evaluate',
    'properties': 'properties',
    'uncertainty': 'learn',
}


class Job:
    """A job folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(RUNNERS, folder / 'runners', ignore=shutil.ignore_patterns('__pycache__'))

    def prepare(self, name: str, config: dict[str, Any], structures: Sequence[Atoms] | None = None) -> None:
        """Write the input files; what an earlier run did does not count."""
        (self.folder / f'{name}.status.json').unlink(missing_ok=True)
        (self.folder / f'{name}.json').write_text(json.dumps(config))
        if structures is not None:
            write(self.folder / 'structures.extxyz', structures, format='extxyz')

    def start(self, name: str) -> subprocess.Popen[str]:
        """Start a runner."""
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(TESTS)}
        command = [sys.executable, '-W', 'ignore', f'runners/{name}.py', f'{name}.json']
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, name: str, config: dict[str, Any], structures: Sequence[Atoms] | None = None) -> dict[str, Any]:
        """Run a runner to its end and return its status file, with the exit code and the output added."""
        self.prepare(name, config, structures)
        process = self.start(name)
        output, _ = process.communicate(timeout=250)
        return {**self.status(name), 'exit_code': process.returncode, 'output': output}

    def run_here(self, name: str, config: dict[str, Any], structures: Sequence[Atoms] | None = None) -> dict[str, Any]:
        """Do what `run` does inside this process, which spares the imports; the output is not caught."""
        self.prepare(name, config, structures)
        task = getattr(importlib.import_module(name), TASKS[name])
        handler, folder, arguments = signal.getsignal(signal.SIGTERM), Path.cwd(), sys.argv
        os.chdir(self.folder)
        sys.argv = [f'{name}.py', f'{name}.json']
        try:
            with pytest.raises(SystemExit) as end:
                importlib.import_module('status').run(task)
        finally:
            os.chdir(folder)
            sys.argv = arguments
            signal.signal(signal.SIGTERM, handler)
        return {**self.status(name), 'exit_code': end.value.code}

    def status(self, name: str) -> dict[str, Any]:
        """Return the status file."""
        return json.loads((self.folder / f'{name}.status.json').read_text())

    def stop_when(self, process: subprocess.Popen[str], ready: Callable[[], bool], signum: signal.Signals) -> str:
        """Send a signal as soon as a condition holds, wait for the end, and return the output."""
        deadline = time.monotonic() + 180
        while not ready():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, 'the condition never held'
            time.sleep(0.01)
        process.send_signal(signum)
        return process.communicate(timeout=60)[0]


@pytest.fixture(autouse=True)
def double_precision():
    """Undo what a float32 committee sets for the whole process."""
    yield
    if 'torch' in sys.modules:
        sys.modules['torch'].set_default_dtype(sys.modules['torch'].float64)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """An empty job folder."""
    return Job(tmp_path)


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[[str], Job]:
    """A factory of empty job folders."""

    def make(name: str) -> Job:
        (tmp_path / name).mkdir()
        return Job(tmp_path / name)

    return make


@pytest.fixture
def ethanol() -> Atoms:
    """The molecule of ASE's data set."""
    return molecule('CH3CH2OH')


@pytest.fixture(scope='session')
def committee_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small untrained MACE models for H, C and O."""
    from helpers.tiny_mace import write_committee

    energies = {'H': -13.6, 'C': -1030.0, 'O': -2040.0}
    return write_committee(
        tmp_path_factory.mktemp('committee'), ['H', 'C', 'O'], 3, atomic_energies=energies, scale=1.0
    )
