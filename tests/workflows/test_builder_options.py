"""Every job of a run gets the options of its stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiida import orm
from ase import Atoms
from ase.build import bulk, molecule
from click.testing import CliRunner

from aiida_mlip_al.cli import main
from aiida_mlip_al.config import ConfigError, make_config
from aiida_mlip_al.workflows.builder import Inputs

STAGE_OF = {
    'seeding.ase': 'seed',
    'test.ase': 'seed',
    'label.ase': 'label',
    'train.mace.train': 'train',
    'explore.ase': 'explore',
    'explore.lammps': 'explore',
    'explore.convert': 'evaluate',
    'explore.deviate': 'evaluate',
    'evaluate.evaluate': 'evaluate',
}


def all_options(inputs: Mapping[str, Any], path: str = '') -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield scheduler options by the path of their namespace."""
    for name, value in inputs.items():
        if name == 'options':
            yield path.removesuffix('.metadata'), value.get_dict() if isinstance(value, orm.Dict) else value
        elif isinstance(value, Mapping):
            yield from all_options(value, f'{path}.{name}'.removeprefix('.'))


@pytest.fixture
def values(python_code: Any, tmp_path: Path) -> dict[str, Any]:
    """An input whose stages have queues of their names."""
    bulk('Cu').write(tmp_path / 'cu.xyz')
    return {
        'protocol': 'quickstart',
        'structures': ['cu.xyz'],
        'labels': {'ase': {'calculator': 'ase.calculators.emt:EMT'}},
        'codes': {'default': python_code.full_label},
        'seed': [{'md': {}}],
        'test': [{'md': {}}],
        'resources': {
            'default': {'account': 'chem42', 'num_cores_per_mpiproc': 4},
            **{stage: {'queue_name': stage} for stage in STAGE_OF.values()},
        },
    }


@pytest.mark.parametrize(('engine', 'n_jobs'), [('ase', 6), ('lammps', 8)])
def test_every_job_gets_the_options_of_its_stage(
    values: dict[str, Any], python_code: Any, tmp_path: Path, engine: str, n_jobs: int
) -> None:
    explore = {'ase': {}, 'lammps': {'pair_style': 'mliap', 'code': python_code.full_label}}
    values['explore'] = {engine: explore[engine]}
    found = dict(all_options(Inputs(make_config(values), tmp_path).run()))
    assert {path: options['queue_name'] for path, options in found.items()} == {path: STAGE_OF[path] for path in found}
    assert len(found) == n_jobs
    for options in found.values():
        assert options['account'] == 'chem42'
        assert options['resources'] == {'num_machines': 1, 'num_mpiprocs_per_machine': 1, 'num_cores_per_mpiproc': 4}
        assert options['environment_variables'] == {'OMP_NUM_THREADS': '4'}


@pytest.mark.parametrize('protocol', ['balanced', 'stringent'])
@pytest.mark.parametrize('engine', ['ase', 'lammps'])
def test_time_limits_of_the_protocol_reach_every_job_and_the_file_goes_over_them_key_by_key(
    values: dict[str, Any], python_code: Any, tmp_path: Path, protocol: str, engine: str
) -> None:
    explore = {'ase': {}, 'lammps': {'pair_style': 'mliap', 'code': python_code.full_label}}
    values.update(protocol=protocol, explore={engine: explore[engine]})

    def limits(**resources: dict[str, Any]) -> dict[str, set[int | None]]:
        found: dict[str, set[int | None]] = {}
        config = make_config({**values, 'resources': resources} if resources else values)
        for path, options in all_options(Inputs(config, tmp_path).run()):
            assert options['resources']['num_machines'] == 1
            found.setdefault(STAGE_OF[path], set()).add(options.get('max_wallclock_seconds'))
        return found

    silent = limits()
    assert set(silent) == {'seed', 'label', 'train', 'explore', 'evaluate'}
    for stage, seconds in silent.items():
        (limit,) = seconds
        assert limit is not None
        assert 3600 <= limit <= 86400, stage
    assert limits(train={'queue_name': 'gpu'}) == silent
    assert limits(train={'max_wallclock_seconds': 60}) == {**silent, 'train': {60}}
    assert limits(train={'max_wallclock_seconds': None}) == {**silent, 'train': {None}}
    shorter = {'max_wallclock_seconds': 3600}
    assert limits(default=shorter) == {stage: {3600} for stage in silent}, (
        'what is said of all stages goes over the protocol'
    )
    assert limits(default=shorter, label={'max_wallclock_seconds': 90}) == {
        **{stage: {3600} for stage in silent},
        'label': {90},
    }
    assert limits(default={'max_wallclock_seconds': None}) == {stage: {None} for stage in silent}


@pytest.mark.parametrize(
    ('structure', 'having', 'lacking'),
    [
        (molecule('H2O'), {'frequencies', 'rdf', 'drift'}, {'volume', 'bulk_modulus'}),
        (bulk('Cu'), {'volume', 'bulk_modulus', 'frequencies'}, {'rdf', 'drift'}),
        (bulk('Cu', cubic=True), {'volume', 'bulk_modulus', 'frequencies', 'rdf', 'drift'}, set()),
    ],
)
def test_a_property_that_no_structure_has_is_refused(
    values: dict[str, Any], tmp_path: Path, structure: Atoms, having: set[str], lacking: set[str]
) -> None:
    def make(*names: str) -> Any:
        changes = {'stop': {'properties': dict.fromkeys(names, 0.1)}}
        return Inputs(make_config({**values, **changes}), tmp_path).run()['properties']

    structure.write(tmp_path / 'cu.xyz')
    assert make(*having)
    for name in lacking:
        with pytest.raises(ConfigError, match=f'^None of the .* the property `{name}`: leave it'):
            make('frequencies', name)


def test_a_wrong_option_gets_one_sentence_at_the_dry_run(values: dict[str, Any], tmp_path: Path) -> None:
    values['resources']['train']['max_wallclock'] = 3600
    (tmp_path / 'run.yaml').write_text(yaml.safe_dump(values))
    done = CliRunner().invoke(main, ['launch', '--dry-run', str(tmp_path / 'run.yaml')])
    assert (done.exit_code, done.output) == (
        1,
        'Error: `resources.train.max_wallclock` is not a known key; did you mean `max_wallclock_seconds`?\n',
    )
