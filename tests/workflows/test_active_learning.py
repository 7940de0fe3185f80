"""Steps of ActiveLearningWorkChain by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from ase import Atoms
from ase.build import bulk, molecule

from aiida_mlip_al.workflows.active_learning import ActiveLearningWorkChain
from aiida_mlip_al.workflows.explore import exploration_settings
from aiida_mlip_al.workflows.run_inputs import undescribed


@pytest.fixture
def builder(python_code: Any) -> Callable[..., Any]:
    """Return a factory of builders of a run of water and copper: ``builder(explore)``."""

    def make(explore: dict[str, Any], select: dict[str, Any] | None = None, **others: Any) -> Any:
        structures = [orm.StructureData(ase=atoms) for atoms in (molecule('H2O'), bulk('Cu', cubic=True))]
        return ActiveLearningWorkChain.get_builder_from_protocol(
            structures,
            'quickstart',
            {
                'seed': [{'rattle': {'copies': 2}}],
                'labels': {'ase': {'calculator': 'ase.calculators.emt:EMT'}},
                'explore': {'ase': explore},
                'select': select or {},
                'codes': {'default': python_code.full_label},
                **others,
            },
        )

    return make


@pytest.fixture
def process(builder: Callable[..., Any]) -> Callable[..., Any]:
    """Return a factory of runs that were set up and no more: ``process(explore)``."""

    def make(explore: dict[str, Any]) -> Any:
        made = instantiate_process(get_manager().get_runner(), builder(explore))
        made.setup()
        return made

    return make


def test_each_system_has_starts_for_its_walkers(process: Callable[..., Any]) -> None:
    run = process({'walkers': 2, 'systems': {'Cu': {'walkers': 4}}})
    more = [orm.StructureData(ase=bulk('Cu').repeat(n + 1)).store() for n in range(5)]
    run.ctx.starts += [(node.pk, 'Cu') for node in more]
    run.ctx.iteration = 1
    starts = run.choose_starts(exploration_settings(run.inputs.explore))
    assert [min(node.get_kind_names()) for node in starts.values()] == ['H', *['Cu'] * 4]
    assert len({node.pk for node in starts.values()}) == 5
    assert sorted(starts) == [f'start_{index:02d}' for index in range(5)]


def test_walkers_do_not_start_from_isolated_atoms(process: Callable[..., Any]) -> None:
    run = process({'walkers': 3, 'systems': {'H2O': {'walkers': 1}}})
    atoms = [orm.StructureData(ase=Atoms('Cu', cell=[9, 9, 9])).store() for _ in range(20)]
    run.ctx.starts += [(node.pk, 'Cu') for node in atoms]
    run.ctx.iteration = 1
    starts = run.choose_starts(exploration_settings(run.inputs.explore))
    assert [len(node.sites) for node in starts.values()] == [4, 3]
    run.ctx.starts = [(node.pk, 'Cu') for node in atoms]
    assert len(run.choose_starts(exploration_settings(run.inputs.explore))) == 3


@pytest.mark.parametrize(('ensemble', 'pressure'), [('npt', {'pressure': 0.0}), ('nvt', {})])
def test_npt_of_molecules_alone_is_refused(
    builder: Callable[..., Any], ensemble: str, pressure: dict[str, float]
) -> None:
    given = builder({'ensemble': ensemble, **pressure})._inputs(prune=True)
    validate = ActiveLearningWorkChain.spec().inputs.validate
    assert validate(given) is None
    water = {name: node for name, node in given['structures'].items() if 'Cu' not in node.get_kind_names()}
    error = validate({**given, 'structures': water})
    expected = 'H2O is not periodic in three directions, and has no pressure: choose the ensemble `nvt` for it.'
    assert (error is None) == (ensemble == 'nvt')
    assert error is None or expected in str(error)


@pytest.mark.parametrize(
    ('measure', 'sentence'),
    [
        ('mahalanobis', 'The measure `mahalanobis` is that of one model: give `train.uncertainty`.'),
        (
            'stress',
            'The measure `stress` needs structures, and frames of a pool, that are periodic in three directions.',
        ),
    ],
)
def test_what_the_exploration_does_not_record_is_refused(
    builder: Callable[..., Any], measure: str, sentence: str
) -> None:
    given = builder({}, {'measure': measure, 'lower': 0.1})
    assert given.explore.settings.get_dict().get('stress_deviation', False) is (measure == 'stress')
    error = ActiveLearningWorkChain.spec().inputs.validate(given._inputs(prune=True))
    assert sentence in str(error)


@pytest.mark.parametrize('train', [{}, {'uncertainty': {'llpr': {}}}])
def test_a_run_begins_with_a_frame_for_validation(
    builder: Callable[..., Any], make_dataset: Callable[..., Any], train: dict[str, Any]
) -> None:
    def message(datasets: list[Any], **changes: Any) -> str:
        given = builder({}, train=train, datasets=[str(node.store().pk) for node in datasets], **changes)
        return str(ActiveLearningWorkChain.spec().inputs.validate(given._inputs(prune=True)))

    sentence = 'There is no frame for validation to begin with, which training needs: set `seed_validation_fraction`'
    only_train, both = make_dataset(validation=0), make_dataset()
    energies = {'H': 1.0, 'O': 1.0, 'Cu': 1.0}
    begun = message([both], seed=None, reference_energies=energies)
    assert message([only_train]) == message([both], seed_validation_fraction=0) == begun == 'None'
    for silent in ({'seed_validation_fraction': 0}, {'seed': None}):
        assert sentence in message([only_train], **silent)
    assert sentence in message([], seed_validation_fraction=0)


def test_labels_without_one_for_validation_end_the_run(process: Callable[..., Any], make_dataset: Any) -> None:
    run = process({})
    run.ctx.seeded, run.ctx.datasets = [], {'seeds': make_dataset(validation=0)}
    failed = run.inspect_label_seeds()
    assert (failed.status, failed.message.partition(', which')[0]) == (
        402,
        'Labelling failed: no frame for validation got a label',
    )
    run.ctx.datasets['given'] = make_dataset()
    assert run.inspect_label_seeds() is None


def test_all_describe_frames_by_what_the_selection_compares(builder: Callable[..., Any]) -> None:
    given = builder({}, {'descriptors': 'gradient', 'lower': 0.1})
    assert given.explore.settings['descriptors'] == 'gradient'
    validate = ActiveLearningWorkChain.spec().inputs.validate
    assert validate(given._inputs(prune=True)) is None
    settings, given.evaluate.evaluate.settings = given.evaluate.evaluate.settings, orm.Dict({})
    assert 'say so in `evaluate.evaluate.settings`, too' in str(validate(given._inputs(prune=True)))
    given.evaluate.evaluate.settings = settings
    given.explore.settings = orm.Dict({})
    assert 'by `descriptors: gradient`: say so in `explore.settings`, too' in str(validate(given._inputs(prune=True)))


def test_frames_of_a_native_lammps_are_described_alike_too(builder: Callable[..., Any]) -> None:
    given = builder({}, {'descriptors': 'gradient', 'lower': 0.1})._inputs(prune=True)
    given['explore']['deviate'] = {'settings': orm.Dict({'descriptors': 'gradient'})}
    assert undescribed(given) is None
    given['explore']['deviate'] = {'settings': orm.Dict({'dtype': 'float64'})}
    assert 'say so in `explore.deviate.settings`, too' in str(undescribed(given))


def test_conditions_for_a_stranger_are_refused(builder: Callable[..., Any]) -> None:
    given = builder({'systems': {'NaCl': {'walkers': 4}}})
    error = ActiveLearningWorkChain.spec().inputs.validate(given._inputs(prune=True))
    assert '`systems` of the exploration names ClNa, but the structures are Cu, H2O.' in str(error)
