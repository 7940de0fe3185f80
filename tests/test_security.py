"""Files and words from strangers: nothing that they carry is run, and nothing of it reaches a shell."""

from __future__ import annotations

import ast
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from aiida import orm
from ase.build import molecule
from click.testing import CliRunner

import aiida_mlip_al
from aiida_mlip_al.cli import main
from aiida_mlip_al.config import ConfigError, load_config, make_config
from aiida_mlip_al.data import ModelData

PACKAGE = Path(aiida_mlip_al.__file__).parent
# What runs inside a job, where model files have to be opened.
IN_JOBS = ('runners', 'lmp_mace')
RUNS_CODE = {
    ('yaml', 'load'),
    ('yaml', 'unsafe_load'),
    ('pickle', 'load'),
    ('pickle', 'loads'),
    ('torch', 'load'),
    ('os', 'system'),
    ('os', 'popen'),
}


class Payload:
    """A pickle that makes a file when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def calls_that_run_code(path: Path) -> list[str]:
    """Return the calls of a source file that can run what somebody else wrote."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            if (function.value.id, function.attr) in RUNS_CODE:
                found.append(f'{path.name}:{node.lineno} {function.value.id}.{function.attr}')
        elif isinstance(function, ast.Name) and function.id in {'eval', 'exec'}:
            found.append(f'{path.name}:{node.lineno} {function.id}')
        found += [f'{path.name}:{node.lineno} shell=True' for word in node.keywords if word.arg == 'shell']
    return found


def test_nothing_outside_of_jobs_can_run_what_a_file_carries() -> None:
    sources = [path for path in PACKAGE.rglob('*.py') if path.relative_to(PACKAGE).parts[0] not in IN_JOBS]
    assert len(sources) > 100
    assert [call for path in sources for call in calls_that_run_code(path)] == []
    in_jobs = [
        call for folder in IN_JOBS for path in (PACKAGE / folder).glob('*.py') for call in calls_that_run_code(path)
    ]
    assert any('torch.load' in call for call in in_jobs), 'this search finds what it looks for'


def test_model_of_a_stranger_is_not_opened(aiida_profile_clean: Any, tmp_path: Path) -> None:
    marker, path = tmp_path / 'marker', tmp_path / 'strange.model'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('strange/data.pkl', pickle.dumps(['mace.modules', Payload(marker)]))
    done = CliRunner().invoke(main, ['model', 'import', str(path), '--label', '$(touch marker)'])
    assert done.exit_code == 0, done.output
    node = orm.QueryBuilder().append(ModelData).one()[0]
    assert node.base.attributes.get('sha256') in done.output
    assert 'use only files whose origin you trust' in done.output
    for command in (['list'], ['show', str(node.pk)], ['export', str(node.pk), '-o', str(tmp_path / 'copy.model')]):
        assert CliRunner().invoke(main, ['model', *command]).exit_code == 0
    assert not marker.exists()
    pickle.loads(zipfile.ZipFile(path).read('strange/data.pkl'))
    assert marker.exists(), 'it was a payload'


def test_input_file_makes_no_objects(tmp_path: Path) -> None:
    marker, path = tmp_path / 'marker', tmp_path / 'run.yaml'
    path.write_text(f'label: !!python/object/apply:os.system ["touch {marker}"]\n')
    with pytest.raises(ConfigError, match='python/object/apply'):
        load_config(path)
    assert not marker.exists()


def test_hostile_words_stay_data(python_code: Any, generate_calc_job: Any, tmp_path: Path) -> None:
    """Names, labels and arguments of a job stand in files that are read, never in the script that a shell runs."""
    hostile = '"; touch marker; $(touch marker) `touch marker` \'\n#SBATCH --uid=0'
    structure = orm.StructureData(ase=molecule('H2O', vacuum=3.0))
    structure.label = hostile
    calculator = {'calculator': 'ase.calculators.emt:EMT', 'arguments': {'label': hostile}, 'theory': hostile}
    job = generate_calc_job(
        'mlip_al.label',
        {
            'code': python_code,
            'structures': {'frame_000': structure},
            'calculator': orm.Dict(calculator),
            'metadata': {'label': hostile, 'description': hostile},
        },
    )
    written = {path.name for path in job.folder.rglob('*') if path.is_file() and 'touch marker' in path.read_text()}
    assert written == {'label.json'}
    assert job.calcinfo.codes_info[0].cmdline_params == ['runners/label.py', 'label.json']


@pytest.mark.parametrize('name', ['$(touch marker)', 'a; touch marker', '../outside', 'a/b', 'a\nb'])
def test_names_of_chains_are_words(name: str, tmp_path: Path) -> None:
    values = {
        'structures': ['water.xyz'],
        'labels': {'ase': {'calculator': 'ase.calculators.emt:EMT'}},
        'seed': {name: [{'rattle': {}}]},
    }
    with pytest.raises(ConfigError, match='needs a name of letters, digits and underscores'):
        make_config(values)
