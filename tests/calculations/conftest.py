"""Inputs of every CalcJob, each the smallest that is accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from ase.build import molecule

from aiida_mlip_al.data import FrameData
from aiida_mlip_al.data.pool import trajectories_of


@pytest.fixture
def structures() -> dict[str, orm.StructureData]:
    """Two structures, given in another order than that of their names."""
    return {'water': orm.StructureData(ase=molecule('H2O')), 'methane': FrameData.from_ase(molecule('CH4'))}


@pytest.fixture
def label_inputs(python_code: Any, structures: dict[str, orm.StructureData]) -> dict[str, Any]:
    """Inputs of LabelCalculation."""
    return {
        'code': python_code,
        'structures': structures,
        'calculator': orm.Dict({'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN2-xTB'}}),
    }


@pytest.fixture
def dynamics_inputs(python_code: Any, structures: dict[str, orm.StructureData]) -> dict[str, Any]:
    """What MdCalculation and ExploreCalculation share."""
    return {
        'code': python_code,
        'structures': structures,
        'dynamics': orm.Dict({'ensemble': 'nvt', 'steps': 20, 'stride': 5}),
        'walkers': orm.List(
            [
                {'structure': 'water', 'temperature_K': 300.0, 'pressure_GPa': None, 'seed': 1},
                {'structure': 'methane', 'temperature_K': [100.0, 300.0], 'pressure_GPa': None, 'seed': 2},
            ]
        ),
    }


@pytest.fixture
def md_inputs(dynamics_inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs of MdCalculation."""
    return {**dynamics_inputs, 'calculator': orm.Dict({'calculator': 'ase.calculators.emt:EMT'})}


@pytest.fixture
def committee(make_model: Callable[..., Any]) -> dict[str, Any]:
    """Two models, given in another order than that of their names."""
    return {'member_01': make_model(b'second', ('C', 'H', 'O')), 'member_00': make_model(b'first', ('C', 'H', 'O'))}


@pytest.fixture
def explore_inputs(dynamics_inputs: dict[str, Any], committee: dict[str, Any]) -> dict[str, Any]:
    """Inputs of ExploreCalculation."""
    return {**dynamics_inputs, 'committee': committee, 'check': orm.Dict({'check_interval': 5, 'upper': 2.0})}


@pytest.fixture
def evaluate_inputs(python_code: Any, committee: dict[str, Any], make_dataset: Callable[..., Any]) -> dict[str, Any]:
    """Inputs of EvaluateCalculation."""
    return {
        'code': python_code,
        'committee': committee,
        'datasets': {'seeds': make_dataset(), 'extra': make_dataset(seed=9)},
    }


@pytest.fixture
def deviate_inputs(python_code: Any, committee: dict[str, Any]) -> dict[str, Any]:
    """Inputs of DeviateCalculation."""
    (trajectory,) = trajectories_of([(0, molecule('H2O'))])
    return {'code': python_code, 'committee': committee, 'trajectories': {'pool': trajectory}}


@pytest.fixture
def train_inputs(python_code: Any, make_dataset: Callable[..., Any]) -> dict[str, Any]:
    """Inputs of MaceTrainCalculation."""
    return {
        'code': python_code,
        'datasets': {'seeds': make_dataset(), 'extra': make_dataset(validation=0, seed=9)},
        'parameters': orm.Dict({'gradient_steps': 100, 'r_max': 4.0, 'lr': 0.01}),
        'seed': orm.Int(7),
        'reference_energies': orm.Dict({'O': -440.0, 'H': -13.5}),
    }
