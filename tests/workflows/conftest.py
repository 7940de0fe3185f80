"""Inputs that the work chains' tests share: cheap labels, tiny models, the real engine."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk, molecule

FAKES = Path(__file__).parents[1] / 'fakes'


@pytest.fixture(autouse=True)
def fresh_profile(aiida_profile_clean: Any) -> None:
    """Begin every test with an empty profile."""


@pytest.fixture
def emt() -> Any:
    """EMT as a label engine's calculator."""
    from aiida import orm

    return orm.Dict({'calculator': 'ase.calculators.emt:EMT', 'arguments': {}, 'theory': 'EMT'})


@pytest.fixture
def copper() -> Callable[..., dict[str, Any]]:
    """Return a factory of distorted copper cells as stored structures: ``copper(4, squeezed=(1,))``."""
    from aiida import orm

    def make(count: int, squeezed: tuple[int, ...] = ()) -> dict[str, Any]:
        structures = {}
        for index in range(count):
            atoms = bulk('Cu', cubic=True)
            atoms.rattle(0.05, seed=index)
            if index in squeezed:
                atoms.positions[1] = atoms.positions[0] + [0.3, 0.0, 0.0]
            structures[f'frame_{index:03d}'] = orm.StructureData(ase=atoms).store()
        return structures

    return make


@pytest.fixture
def water() -> dict[str, Any]:
    """A water molecule by name."""
    from aiida import orm

    return {'water': orm.StructureData(ase=molecule('H2O')).store()}


@pytest.fixture
def fake_calculator() -> Callable[..., dict[str, Any]]:
    """Return a factory of label inputs with a calculator of tests/fakes: ``fake_calculator('Name', key=value)``."""
    from aiida import orm

    def make(name: str, **arguments: Any) -> dict[str, Any]:
        text = (FAKES / 'calculators.py').read_bytes()
        return {
            'calculator': orm.Dict({'calculator': f'calculators:{name}', 'arguments': arguments}),
            'files': {'fakes': orm.SinglefileData(io.BytesIO(text), filename='calculators.py')},
            'metadata': {
                'options': {
                    'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
                    'environment_variables': {'OMP_NUM_THREADS': '1', 'PYTHONPATH': '.'},
                }
            },
        }

    return make


@pytest.fixture
def standin(aiida_code_installed: Callable[..., Any], tmp_path: Path) -> Any:
    """The stand-in for VASP as a code, with a potential family."""
    from fakes.potcars import upload_family
    from workflows.vasp_fixtures import STANDIN, StandIn

    code = aiida_code_installed(label='vasp', default_calc_job_plugin='vasp.vasp', filepath_executable=str(STANDIN))
    family = upload_family(tmp_path / 'potcars', ['Cu', 'Ni', 'Al', 'Au'])
    made = StandIn(code, family, tmp_path)
    made.faults()
    return made
