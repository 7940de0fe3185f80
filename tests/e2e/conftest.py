"""An installation of the user's kind: its own configuration folder, profile and daemon, spoken to by the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PROFILE = 'e2e'


@dataclass
class Installation:
    """A configuration folder and the commands that work on it."""

    folder: Path

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment of every command, taken once: pytest changes its own while commands are run in threads."""
        scripts = str(Path(sys.executable).parent)
        return {
            **os.environ,
            'AIIDA_PATH': str(self.folder),
            'OMP_NUM_THREADS': '1',
            'PATH': f'{scripts}{os.pathsep}{os.environ["PATH"]}',
            'COLUMNS': '200',
        }

    @property
    def database(self) -> Path:
        """The profile's SQLite file: a test may have made other profiles beside it."""
        profiles = json.loads((self.folder / '.aiida' / 'config.json').read_text())['profiles']
        return Path(profiles[PROFILE]['storage']['config']['filepath']) / 'database.sqlite'

    def run(self, *command: str, check: bool = True, timeout: float = 800) -> str:
        """Run a command and return all it printed."""
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False
        )
        output = done.stdout + done.stderr
        assert not check or done.returncode == 0, output
        return output

    def cli(self, *arguments: str, **options: Any) -> str:
        """Run `aiida-mlip-al` on the profile."""
        return self.run('aiida-mlip-al', '-p', PROFILE, *arguments, **options)

    def verdi(self, *arguments: str, profile: str = PROFILE, **options: Any) -> str:
        """Run `verdi` on the profile."""
        return self.run('verdi', '-p', profile, *arguments, **options)

    def ask(self, question: str, *arguments: str, profile: str = PROFILE) -> Any:
        """Call a function of questions.py in a process of its own and return its answer."""
        answer = self.run(sys.executable, str(HERE / 'questions.py'), profile, question, *map(str, arguments))
        return json.loads(answer.strip().splitlines()[-1])

    def launch(self, *options: str, config: str = 'tiny.yaml') -> int:
        """Submit a run and return its PK."""
        output = self.cli('launch', config, *options)
        found = re.search(r'process (\d+)', output)
        assert found is not None, output
        return int(found[1])


@pytest.fixture(scope='session')
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A profile made by `aiida-mlip-al setup profile`, its daemon running, and the tiny run's input file beside it."""
    made = Installation(tmp_path_factory.mktemp('e2e'))
    for name in ('tiny.yaml', 'water.xyz'):
        shutil.copy(HERE / name, made.folder)
    made.cli('setup', 'profile')
    yield made
    made.verdi('daemon', 'stop', check=False)


@pytest.fixture(scope='session')
def finished_run(installation: Installation) -> int:
    """PK of a tiny run that went through the daemon to its end."""
    output = installation.cli('launch', '--wait', 'tiny.yaml')
    found = re.search(r'process (\d+)', output)
    assert found is not None, output
    return int(found[1])
