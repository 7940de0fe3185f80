"""Mistakes that are found before anything is submitted."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
from aiida import orm
from ase.build import bulk, molecule

from aiida_mlip_al.config import ConfigError, make_config
from aiida_mlip_al.workflows.active_learning import ActiveLearningWorkChain
from aiida_mlip_al.workflows.builder import Inputs, make_builder
from aiida_mlip_al.workflows.committee_train import validate_inputs
from aiida_mlip_al.workflows.installed_here import check_calculator, check_mace_arguments

EMT = 'ase.calculators.emt:EMT'


@pytest.fixture
def values(python_code: Any, tmp_path: Any) -> dict[str, Any]:
    """An input without mistakes."""
    molecule('H2O').write(tmp_path / 'water.xyz')
    return {
        'protocol': 'quickstart',
        'structures': ['water.xyz'],
        'labels': {'ase': {'calculator': EMT}},
        'codes': {'default': python_code.full_label},
        'seed': [{'rattle': {'copies': 6}}],
    }


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'labels': {'ase': {'calculator': 'ase.calculators.emt:EMTT'}}}, 'perhaps you mean `EMT`'),
        ({'seed': [{'md': {'calculator': 'ase.calculators.emt:EM'}}]}, 'There is no `EM` in `ase.calculators.emt`'),
        ({'train': {'mace': {'extra': {'foo': 1}}}}, 'mace_run_train has no argument `foo`'),
        ({'train': {'mace': {'final': {'extra': {'weight_decy': 1}}}}}, 'perhaps you mean `weight_decay`'),
        ({'labels': {'ase': {'calculator': EMT, 'periodic': [False, False, True]}}}, 'along cell vector 3'),
        ({'select': {'max_labels': 4, 'label_budget': 5}}, '`select.label_budget` (5) counts the seeds'),
        ({'select': {'max_labels': 4}, 'stop': {'max_labels': 5}}, '`stop.max_labels` (5) counts the seeds'),
    ],
)
def test_mistakes_that_would_show_in_a_job(
    values: dict[str, Any], changes: dict[str, Any], sentence: str, tmp_path: Any
) -> None:
    Inputs(make_config(values), tmp_path).run()
    with pytest.raises(ConfigError) as caught:
        Inputs(make_config({**values, **changes}), tmp_path).run()
    assert sentence in str(caught.value)


def test_what_is_not_installed_here_is_left_to_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    check_calculator('no.such.package:Calculator')
    given = builtins.__import__

    def without_mace(name: str, *rest: Any) -> Any:
        if name.startswith('mace'):
            raise ImportError
        return given(name, *rest)

    monkeypatch.setattr(builtins, '__import__', without_mace)
    check_mace_arguments({'foo': 1})


def test_an_element_that_no_dataset_has(values: dict[str, Any], make_dataset: Any, tmp_path: Any) -> None:
    given = {**values, 'seed': None, 'test': None, 'datasets': [str(make_dataset().store().pk)]}

    def refusal(changes: dict[str, Any]) -> Any:
        inputs = Inputs(make_config({**given, **changes}), tmp_path).run()
        builder = make_builder(ActiveLearningWorkChain, inputs)
        return ActiveLearningWorkChain.spec().inputs.validate(builder._inputs(prune=True))

    assert refusal({}) is None
    bulk('NaCl', 'rocksalt', a=5.6).write(tmp_path / 'salt.xyz')
    both = {'structures': ['water.xyz', 'salt.xyz']}
    assert 'The structures have Cl, and no frame to learn from' in refusal(both).message
    assert refusal({**both, 'seed': values['seed']}) is None
    energies = {'reference_energies': {'H': 1.0, 'O': 1.0, 'Na': 1.0, 'Cl': 1.0}}
    assert refusal({**both, **energies}) is None


def test_a_committee_is_not_trained_on_test_frames_alone(make_dataset: Any) -> None:
    inputs = {'members': orm.Int(2), 'min_members': orm.Int(2), 'members_per_job': 1, 'max_concurrent': 1}
    tested = make_dataset(train=0, validation=0, test=2)
    assert 'has the split `train`' in str(validate_inputs({**inputs, 'datasets': {'a': tested}}))
    assert validate_inputs({**inputs, 'datasets': {'a': tested, 'b': make_dataset()}}) is None
