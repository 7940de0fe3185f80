"""ShellLabelParser: the level of theory of a program, and what becomes of a job that was stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase import Atoms
from ase.build import molecule

from aiida_mlip_al.config.shell import ShellSettings
from aiida_mlip_al.data import FrameData
from aiida_mlip_al.data.extxyz import dump_frames
from aiida_mlip_al.data.labelling import Theory
from aiida_mlip_al.parsers.shell_label import ShellLabelParser, theory_of

Make = Callable[..., Any]


def labelled(atoms: Atoms, energy: float) -> Atoms:
    frame = atoms.copy()
    frame.info['REF_energy'] = energy
    frame.arrays['REF_forces'] = np.full((len(atoms), 3), 0.5)
    return frame


@pytest.fixture
def inputs(python_code: Any) -> dict[str, Any]:
    """Two waters, the second of which is for validation and comes from dynamics at 450 K."""
    second = molecule('H2O')
    second.positions[0] += 0.1
    structures = {
        'frame_000': FrameData.from_ase(molecule('H2O')),
        'frame_001': FrameData.from_ase(second, 'validation', temperature_K=450.0),
    }
    return {'code': python_code, 'structures': structures, 'settings': orm.Dict({'theory': 'mine'})}


@pytest.fixture
def left(inputs: dict[str, Any]) -> dict[str, str | bytes]:
    """What a good job leaves."""
    frames = [labelled(node.get_ase(), -1.0 - index) for index, node in enumerate(inputs['structures'].values())]
    return {'labels.extxyz': dump_frames(frames), 'stdout': '', 'stderr': 'a warning\n', 'status': '0 10.0 12.5\n'}


def test_finished(parse_retrieved: Make, inputs: dict[str, Any], left: dict[str, Any]) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.shell_label', inputs, left)
    assert status == 0, 'what a program prints to stderr does not matter'
    label = outputs['labels']['frame_001']
    assert (label.energy, label.split) == (-2.0, 'validation')
    assert label.base.attributes.get('temperature_K') == 450.0
    assert label.base.attributes.get('theory') == 'mine'
    np.testing.assert_array_equal(label.get_array('positions'), inputs['structures']['frame_001'].get_ase().positions)
    assert [frame.info['name'] for frame in outputs['dataset'].iterate()] == ['frame_000', 'frame_001']
    report = outputs['report'].get_dict()
    assert (report['wall_s'], report['core_s'], report['exit_status']) == (2.5, 2.5, 0)
    assert (report['n_structures'], report['n_labelled'], report['n_rejected'], report['n_unfinished']) == (2, 2, 0, 0)
    assert report['theory_hash'] == label.theory_hash == outputs['dataset'].theory_hash


@pytest.mark.parametrize(
    ('files', 'scheduler', 'status', 'sentence', 'labels'),
    [
        ({'status': ''}, None, 400, 'was stopped before its end', 1),
        ({'status': ''}, 120, 120, 'said the scheduler', 1),
        ({'status': '9 1 2', 'labels.extxyz': b''}, None, 401, 'status 9: a warning', 0),
        ({'status': '127 1 2', 'labels.extxyz': b''}, None, 310, 'a warning', 0),
        ({'labels.extxyz': b''}, None, 320, '2 not_reached', 0),
    ],
)
def test_other_ends(
    parse_retrieved: Make,
    inputs: dict[str, Any],
    left: dict[str, Any],
    files: dict[str, Any],
    scheduler: int | None,
    status: int,
    sentence: str,
    labels: int,
) -> None:
    cut = {'labels.extxyz': left['labels.extxyz'][:-20]}
    outputs, found, text = parse_retrieved('mlip_al.shell_label', inputs, {**left, **cut, **files}, scheduler)
    assert found == status
    assert sentence in text
    assert len(outputs.get('labels', {})) == outputs['report']['n_labelled'] == labels


def test_nothing_was_retrieved(parse_retrieved: Make, inputs: dict[str, Any]) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.shell_label', inputs, {})
    assert status == 400
    assert outputs['report']['n_unfinished'] == 2


def file(content: str, name: str = 'basis.dat') -> orm.SinglefileData:
    return orm.SinglefileData.from_string(content, filename=name)


@pytest.fixture
def theory(aiida_localhost: Any) -> Callable[..., Theory]:
    def make(executable: str = '/opt/qe-7.3/bin/pw.x', prepend: str = '', **changes: Any) -> Theory:
        code = orm.InstalledCode(
            label='pw', computer=aiida_localhost, filepath_executable=executable, prepend_text=prepend
        )
        files = changes.pop('files', {'basis': file('numbers')})
        arguments = changes.pop('arguments', ['-in', 'pw.in'])
        template, before = changes.pop('template', '{{ structure }}'), changes.pop('before', '')
        given = {
            'input': {'format': 'espresso-in', 'arguments': {'kspacing': 0.2}},
            'output': {'filename': 'stdout', 'format': 'espresso-out'},
        }
        return theory_of(ShellSettings(**{**given, **changes}), code, arguments, files, template, before)

    return make


def test_everything_that_fixes_the_level_of_theory_changes_its_fingerprint(theory: Callable[..., Theory]) -> None:
    theories = [
        theory(),
        theory(executable='/opt/qe-7.2/bin/pw.x'),
        theory(prepend='module load qe/7.2'),
        theory(before='module load qe/7.2'),
        theory(version='7.3'),
        theory(version='7.2'),
        theory(arguments=['-in', 'pw.in', '-x']),
        theory(input={'format': 'espresso-in', 'arguments': {'kspacing': 0.1}}),
        theory(input={'format': 'aims'}),
        theory(template='{{ structure }} '),
        theory(template=None),
        theory(files={'basis': file('other numbers')}),
        theory(files={'basis': file('numbers', 'other.dat')}),
        theory(files={}),
        theory(keys={'energy': 'energy'}),
    ]
    assert len({item.fingerprint for item in theories}) == len(theories)


def test_nothing_else_does(theory: Callable[..., Theory]) -> None:
    same = [
        theory(theory='another name'),
        theory(max_force=10.0, min_distance_fraction=0.4, periodic=[True, True, False]),
        theory(unconverged=['quantum_espresso']),
        theory(output={'filename': 'pw.out', 'format': 'espresso-out'}),
        theory(files={'renamed': file('numbers')}),
    ]
    assert {item.fingerprint for item in same} == {theory().fingerprint}
    elsewhere = theory('/usr/bin/pw.x', prepend='module load qe', before='x', version='7.3')
    assert elsewhere.fingerprint == theory(version='7.3').fingerprint


def test_name_for_people(theory: Callable[..., Theory]) -> None:
    assert theory().name == 'pw.x -in pw.in'
    assert theory(theory='PBE, 40 Ry').name == 'PBE, 40 Ry'


def test_content_of_a_portable_code_counts(tmp_path: Any) -> None:
    found = set()
    for content in ('print(1)', 'print(2)'):
        (tmp_path / 'label.py').write_text(content)
        code = orm.PortableCode(label='x', filepath_executable='label.py', filepath_files=tmp_path)
        found.add(theory_of(ShellSettings(), code, [], {}).fingerprint)
    assert len(found) == 2


@pytest.mark.parametrize(
    ('resources', 'cores'),
    [
        ({'num_machines': 1}, 1),
        ({'num_machines': 2, 'num_mpiprocs_per_machine': 8}, 16),
        ({'num_machines': 2, 'num_mpiprocs_per_machine': 8, 'num_cores_per_mpiproc': 4}, 64),
        ({'tot_num_mpiprocs': 12, 'parallel_env': 'mpi'}, 12),
    ],
)
def test_cores(generate_calc_job_node: Make, inputs: dict[str, Any], resources: dict[str, Any], cores: int) -> None:
    node = generate_calc_job_node('mlip_al.shell_label', inputs, {}, {'resources': resources})
    assert ShellLabelParser(node).cores == cores
