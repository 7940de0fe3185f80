"""Recorded outputs of jobs, and the inputs that go with them. See recorded/README.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from ase.build import molecule

RECORDED = Path(__file__).parent / 'recorded'


@pytest.fixture
def recorded() -> Callable[[str], dict[str, bytes]]:
    """Return a function that reads a recorded case: ``recorded('label/finished')`` is content by path, free to be changed."""

    def read(case: str) -> dict[str, bytes]:
        folder = RECORDED / case
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}
        assert files, f'nothing is recorded in {folder}'
        return files

    return read


@pytest.fixture
def dynamics_inputs() -> dict[str, Any]:
    """What the dynamics parsers look at."""
    walkers = [{'structure': 'water', 'temperature_K': 300.0, 'pressure_GPa': None, 'seed': seed} for seed in range(2)]
    return {'structures': {'water': orm.StructureData(ase=molecule('H2O'))}, 'walkers': orm.List(walkers)}
