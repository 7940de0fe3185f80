"""Input files: what is taken from the protocol, and the one sentence for each mistake."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import yaml

from aiida_mlip_al.config import ConfigError, load_config, make_config, protocol_names
from aiida_mlip_al.config.explore_table import explore_table
from aiida_mlip_al.config.load import origins, read_yaml
from aiida_mlip_al.config.models import as_chains
from aiida_mlip_al.config.protocols import merge, protocol_description, protocol_values

EXAMPLES = Path(__file__).parents[2] / 'examples'
GOOD = {
    'protocol': 'quickstart',
    'structures': ['water.xyz'],
    'labels': {'ase': {'calculator': 'ase.calculators.emt:EMT'}},
}


def changed(path, value):
    """Return the good input with one value changed, by dotted path."""
    values = copy.deepcopy(GOOD)
    section = values
    *parents, last = path.split('.')
    for key in parents:
        section = section.setdefault(key, {})
    section[last] = value
    return values


INPUT_FILES = sorted(path for path in EXAMPLES.glob('*/*.yaml') if path.parent.name != 'clusters')


@pytest.mark.parametrize('path', INPUT_FILES, ids=lambda path: path.stem)
def test_every_example_is_valid(path):
    config = load_config(path)
    assert config.labels.batch_size
    for structure in config.structures:
        assert (path.parent / structure).is_file()


@pytest.mark.parametrize('name', protocol_names())
def test_every_protocol_is_whole(name):
    assert protocol_description(name).endswith('.')
    config = make_config({**GOOD, 'protocol': name})
    assert config.protocol == name
    assert config.train.mace.warm_start is not None
    assert config.select.tolerance is not None


def test_the_file_goes_over_the_protocol_mapping_by_mapping():
    protocol = protocol_values('quickstart')
    config = make_config(changed('train.mace.num_channels', 24))
    assert config.train.mace.num_channels == 24
    assert config.train.mace.lr == protocol['train']['mace']['lr']
    config = make_config({**GOOD, 'seed': [{'rattle': {'copies': 3}}]})
    assert list(config.seed) == ['seed'], 'chains are replaced whole'
    assert merge({'a': {'b': 1, 'c': 2}}, {'a': {'b': 3}}) == {'a': {'b': 3, 'c': 2}}


def test_a_fixed_lower_level_takes_the_place_of_the_protocols_tolerance():
    config = make_config(changed('select.lower', 0.05))
    assert config.select.lower == 0.05
    assert config.select.tolerance is None


def test_origins_tell_file_protocol_and_default():
    found = {key: origin for key, _, origin in origins(changed('train.mace.lr', 0.5))}
    assert found['train.mace.lr'] == 'file'
    assert found['train.mace.num_channels'] == 'protocol'
    assert found['train.mace.ema_decay'] == 'default'
    assert found['labels.ase.calculator'] == 'file'


def test_chains_in_every_way_of_writing():
    rattle, md = {'rattle': {'copies': 2}}, {'md': {'steps': 200}}
    assert as_chains([rattle, md]) == {'seed': [rattle, md]}
    assert as_chains({**rattle, **md}) == {'seed': [rattle, md]}
    assert as_chains({'near': [rattle], 'hot': [md]}) == {'near': [rattle], 'hot': [md]}


def test_training_parameters_are_mace_arguments_and_ours():
    mace = make_config(
        changed(
            'train.mace', {'warm_start': {'gradient_steps': 5}, 'final': {'lr': 0.5}, 'extra': {'weight_decay': 0.1}}
        )
    ).train.mace
    parameters = mace.parameters()
    assert parameters['warm_start']['gradient_steps'] == 5
    assert parameters['weight_decay'] == 0.1
    assert not {'members', 'final', 'extra', 'foundation_model'} & set(parameters)
    final = mace.parameters(**mace.final)
    assert final['lr'] == 0.5
    assert 'warm_start' not in final


@pytest.mark.parametrize(
    ('path', 'value', 'sentence'),
    [
        ('lables', {}, '`lables` is not a known key; did you mean `labels`?'),
        ('select.max_label', 3, '`select.max_label` is not a known key; did you mean `max_labels`?'),
        ('train.mace.lr', -1, '`train.mace.lr`: input should be greater than 0, got -1.'),
        ('seed', [{'ratle': {}}], "unknown step 'ratle'"),
        ('seed', None, 'There is nothing to begin with'),
        ('labels.ase.calculator', 'tblite', 'There is no calculator `tblite`'),
        ('protocol', 'quick', 'The protocol `quick` is unknown; there are balanced, fast, quickstart, stringent.'),
        ('structures', [], '`structures`'),
        (
            'stop.max_labels',
            5,
            '`select.max_labels` (20, of one iteration) exceeds `stop.max_labels` (5, of the whole run)',
        ),
        ('train.mace.final', {'x': 1}, '`x` is not a known key'),
        ('train.mace.min_members', 9, 'min_members (9) exceeds members ('),
        ('explore.ase.ensemble', 'npt', "'pressure' (GPa) goes with ensemble 'npt'"),
        ('explore.ase.steps', 10, "'check_interval' (20) must not exceed 'steps' (10), or no frame is recorded"),
        ('seed', [{'md': {'barostat_mask': [False] * 3}}], "'barostat_mask' lets no axis change"),
        ('select.angle_range', [150, 30], "'angle_range' must be two rising angles"),
        ('explore.ase.temperature', -300, 'greater than 0'),
        ('select.tolerance', 100, "'tolerance' (100.0) must be below 'max_force' (50.0)"),
        (
            'stop',
            {'accurate_fraction': None, 'target_force_error': None, 'require': 'any'},
            "'require: any' needs at least one target",
        ),
        ('explore.ase.temperature', [-300], '`explore.ase.temperature.0`: input should be greater than 0, got -300.'),
        ('explore.ase.temperature', [], '`explore.ase.temperature`: list should have at least 1 item'),
        ('explore.ase.temperature', '300 K', '`explore.ase.temperature`: input should be a valid number'),
        ('explore.ase.pressure', 'high', '`explore.ase.pressure`: input should be a valid number'),
        ('codes', {'lable': 'x'}, '`lable` is not a stage'),
        ('reference_energies', {'Xx': 1.0}, '`Xx` is not an element'),
        ('select.lower', 9.0, "'upper' (0.6) must not be below 'lower' (9.0)"),
    ],
)
def test_each_mistake_gets_one_sentence(path, value, sentence):
    with pytest.raises(ConfigError) as caught:
        make_config(changed(path, value))
    assert sentence in str(caught.value)
    assert '\n' not in str(caught.value)


def test_only_rounds_of_the_file_must_fit_into_the_iterations():
    for stop in ({'max_iterations': 1}, {'max_iterations': 3, 'rounds': 3}):
        assert make_config(changed('stop', stop)).stop.max_iterations == stop['max_iterations']
    for stop in ({'max_iterations': 2, 'rounds': 5}, {'rounds': 5}):
        with pytest.raises(ConfigError, match=re.escape('`stop.rounds` (5) exceeds `stop.max_iterations` (2): raise')):
            make_config(changed('stop', stop))


def test_a_missing_section_is_named():
    with pytest.raises(ConfigError, match='`labels` is missing'):
        make_config({'structures': ['x.xyz'], 'protocol': 'quickstart'})


def test_files_are_read_safely(tmp_path):
    path = tmp_path / 'evil.yaml'
    path.write_text('!!python/object/apply:os.system ["touch /tmp/never"]')
    with pytest.raises(ConfigError, match='is not valid YAML'):
        read_yaml(path)
    with pytest.raises(ConfigError, match='cannot be read'):
        read_yaml(tmp_path / 'nowhere.yaml')
    path.write_text(yaml.safe_dump(['a', 'list']))
    with pytest.raises(ConfigError, match='keys and values'):
        load_config(path)


NAMED = {
    **GOOD,
    'calculators': {
        'cheap': {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN1-xTB'}, 'files': ['a.txt']},
        'accurate': {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN2-xTB'}, 'theory': 'GFN2'},
    },
    'seed': {'hot': [{'md': {'calculator': 'cheap', 'steps': 100, 'every': 10}}, {'rattle': {}}]},
    'labels': {'ase': {'calculator': 'accurate', 'batch_size': 3}},
}


def test_calculators_have_names():
    config = make_config(NAMED)
    md = config.seed['hot'][0]['md']
    assert (md['calculator'], md['arguments']) == ('tblite.ase:TBLite', {'method': 'GFN1-xTB'})
    assert config.seed['hot'][1] == {'rattle': {}}
    ase = config.labels.ase
    assert (ase.calculator, ase.arguments, ase.theory, ase.batch_size, ase.files) == (
        'tblite.ase:TBLite',
        {'method': 'GFN2-xTB'},
        'GFN2',
        3,
        [],
    )


def test_an_unknown_calculator_is_named():
    with pytest.raises(ConfigError, match='There is no calculator `cheep`: give an import path'):
        make_config({**NAMED, 'seed': [{'md': {'calculator': 'cheep'}}]})
    with pytest.raises(ConfigError, match=r'`calculators.accurate.calculator`'):
        make_config(
            {
                **NAMED,
                'calculators': {**NAMED['calculators'], 'accurate': {'calculator': 'nonsense'}},
                'labels': GOOD['labels'],
            }
        )


def test_seed_rounds_need_a_target():
    config = make_config(changed('seed_rounds', {'target_force_error': 0.2}))
    assert config.seed_rounds.max_rounds == 3
    with pytest.raises(ConfigError, match='`seed_rounds.target_force_error` is missing'):
        make_config(changed('seed_rounds', {'max_rounds': 2}))


def test_directions_whose_stress_counts():
    assert make_config(GOOD).labels.ase.periodic is None
    assert make_config(changed('labels.ase.periodic', [True, True, False])).labels.ase.periodic == (True, True, False)
    with pytest.raises(ConfigError, match=r'`labels\.ase\.periodic'):
        make_config(changed('labels.ase.periodic', [True, True]))


def test_settings_of_the_explorers_are_documented():
    page = Path(__file__).parents[2] / 'docs' / 'exploring.md'
    assert page.read_text() == explore_table(), 'run `python -m aiida_mlip_al.config.explore_table > docs/exploring.md`'


def test_explorer_takes_the_numbers_of_the_protocol():
    lammps = make_config({**GOOD, 'protocol': 'balanced', 'explore': {'lammps': {'steps': 70}}}).explore
    ase = make_config({**GOOD, 'protocol': 'balanced'}).explore
    assert (lammps.ase, ase.lammps) == (None, None)
    assert lammps.settings.temperatures == ase.settings.temperatures == [300.0, 600.0, 900.0]
    assert (lammps.settings.steps, ase.settings.steps) == (70, 20000)


def test_a_pool_has_no_dynamics_and_no_upper_level():
    config = make_config({**GOOD, 'explore': {'pool': {'frames': 12}}})
    assert (config.explore.ase, config.explore.lammps) == (None, None)
    assert config.explore.settings.frames == ['12']
    assert config.select.upper is None
    assert config.seed
    given = make_config({**GOOD, 'explore': {'pool': {'frames': [12, 'a.xyz']}}, 'select': {'upper': 0.7}})
    assert given.select.upper == 0.7
    labelled = make_config({**GOOD, 'labels': {'pool': {}}, 'explore': {'pool': {'frames': [12]}}, 'datasets': [13]})
    assert (labelled.seed, labelled.test) == (None, None)


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'explore': {'ase': {}, 'lammps': {}}}, 'give one engine, `ase`, `lammps` or `pool`, not ase and lammps'),
        ({'explore': {'lammps': {}}, 'codes': {'explore': 'python@gpu'}}, '`explore.lammps.code`'),
        ({'explore': {'ase': {'bias': {'colvars': 'a.in'}}}}, "'colvars' is of the engine 'lammps'"),
        ({'explore': {'pool': {}}}, '`explore.pool.frames` is missing'),
        ({'explore': {'pool': {'frames': []}}}, 'at least 1'),
        ({'explore': {'pool': {'frames': [1], 'walkers': 3}}}, 'walkers'),
        (
            {'labels': {'pool': {}}},
            '`labels.pool` has the labels of frames that `explore.pool` chooses: give that, too',
        ),
        (
            {'labels': {'pool': {}}, 'explore': {'pool': {'frames': 1}}},
            '`labels.pool` has no labels of seeds: begin with',
        ),
        (
            {'labels': {'pool': {}}, 'explore': {'pool': {'frames': 1}}, 'datasets': [2], 'seed': [{'rattle': {}}]},
            '`labels.pool` has no labels of the frames that `seed` makes',
        ),
        ({'explore': {'lammps': {'distance_limits': [{'pair': [1, 1], 'min': 1}]}}}, "'pair' names atom 1 twice"),
    ],
)
def test_explorers_that_cannot_be(values, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        make_config({**GOOD, **values})
