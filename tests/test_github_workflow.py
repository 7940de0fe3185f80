"""GitHub runs the commands that the README names, with the Pythons that the package is for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.markdown import blocks, inline_code

ROOT = Path(__file__).parents[1]
README = ROOT / 'README.md'


@pytest.fixture(scope='module')
def jobs() -> dict[str, Any]:
    (workflow,) = (ROOT / '.github' / 'workflows').glob('*.yml')
    return yaml.safe_load(workflow.read_text())['jobs']


def commands(job: dict[str, Any]) -> list[str]:
    """Return what a job runs."""
    return [step['run'] for step in job['steps'] if 'run' in step]


def test_the_tests_are_run_by_the_command_of_the_readme(jobs: dict[str, Any]) -> None:
    lines = [line.partition('#')[0].strip() for block in blocks(README) for line in block.text.splitlines()]
    (named,) = [line for line in lines if line.startswith('bash tests/')]
    assert commands(jobs['tests']) == [f'{named} --all']


def test_the_site_is_made_by_the_commands_of_the_readme(jobs: dict[str, Any]) -> None:
    named = [code for code in inline_code(README) if re.match(r"pip install '\.\[docs\]'|sphinx-build ", code)]
    assert len(named) == 2
    assert commands(jobs['docs']) == named


def test_from_the_oldest_python_on(jobs: dict[str, Any]) -> None:
    oldest = re.search(r"^requires-python = '>=([\d.]+)'$", (ROOT / 'pyproject.toml').read_text(), re.M)
    assert oldest is not None
    versions = jobs['tests']['strategy']['matrix']['python']
    assert versions[0] == oldest[1]
    assert versions == [f'3.{minor}' for minor in range(int(oldest[1].split('.')[1]), 13)]


def test_what_a_job_takes_is_there(jobs: dict[str, Any]) -> None:
    """Files that decide about the cache, and the code itself before all else."""
    for job in jobs.values():
        first, python = [step for step in job['steps'] if 'uses' in step]
        assert first['uses'].startswith('actions/checkout@')
        assert python['uses'].startswith('actions/setup-python@')
        assert python['with']['cache'] == 'pip'
        assert all((ROOT / name).is_file() for name in python['with']['cache-dependency-path'].split())
