"""LabelParser: every accepted structure gets its label, every other one its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase.build import molecule

from aiida_mlip_al.data import FrameData
from aiida_mlip_al.data.extxyz import read_frames
from aiida_mlip_al.parsers.label import theory_of

Make = Callable[..., Any]


@pytest.fixture
def inputs() -> dict[str, Any]:
    """Four waters, the third of which is for validation and comes from dynamics at 450 K."""
    structures = {f'frame_{index:03d}': FrameData.from_ase(molecule('H2O')) for index in (0, 1, 3)}
    structures['frame_002'] = FrameData.from_ase(molecule('H2O'), 'validation', temperature_K=450.0)
    calculator = {'calculator': 'fakes.calculators:Troubled', 'arguments': {'stiffness': 10.0}}
    return {'structures': structures, 'calculator': orm.Dict(calculator)}


def test_finished(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    files = recorded('label/finished')
    outputs, status, _ = parse_retrieved('mlip_al.label', inputs, files)
    assert status == 0
    assert sorted(outputs['labels']) == ['frame_001', 'frame_002']
    second, third = read_frames(files['labels.extxyz'])
    label = outputs['labels']['frame_002']
    assert label.energy == third.info['REF_energy'] != second.info['REF_energy']
    np.testing.assert_array_equal(label.forces, third.arrays['REF_forces'])
    np.testing.assert_array_equal(label.get_array('positions'), molecule('H2O').positions)
    assert label.stress is None
    assert label.split == 'validation'
    assert label.base.attributes.get('temperature_K') == 450.0
    assert outputs['labels']['frame_001'].split == 'train'
    assert label.base.attributes.get('theory') == 'Troubled(stiffness=10.0)'


def test_dataset_leads_back_to_the_labels(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    outputs, _, _ = parse_retrieved('mlip_al.label', inputs, recorded('label/finished'))
    frames = outputs['dataset'].get_ase_list()
    assert [frame.info['name'] for frame in frames] == ['frame_001', 'frame_002']
    assert [frame.info['split'] for frame in frames] == ['train', 'validation']
    for frame in frames:
        label = outputs['labels'][frame.info['name']]
        assert frame.info['REF_energy'] == label.energy
        np.testing.assert_array_equal(frame.arrays['REF_forces'], label.forces)
    assert outputs['dataset'].theory_hash == outputs['labels']['frame_001'].theory_hash


def test_masked_stress_is_kept_and_never_trained_on(
    parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]
) -> None:
    files = recorded('label/finished')
    inputs['structures']['frame_001'].set_cell([[5.0, 0, 0], [0, 6.0, 0], [0, 0, 20.0]])
    inputs['structures']['frame_001'].set_pbc([True, True, True])
    masked = ' REF_masked_stress="0.01 0.02 0 0 0 0.03" REF_stress_axes="T T F" pbc='
    files['labels.extxyz'] = files['labels.extxyz'].decode().replace(' pbc=', masked, 1)
    outputs, status, _ = parse_retrieved('mlip_al.label', inputs, files)
    assert status == 0
    label = outputs['labels']['frame_001']
    np.testing.assert_array_equal(label.stress, [0.01, 0.02, 0, 0, 0, 0.03])
    assert label.stress_axes == [True, True, False]
    assert label.base.attributes.get('pressure_GPa') is None
    frame = outputs['dataset'].get_ase_list()[0]
    np.testing.assert_array_equal(frame.info['REF_masked_stress'], label.stress)
    assert 'REF_stress' not in frame.info
    assert outputs['dataset'].base.attributes.get('properties') == ['energy', 'forces']


def test_report_gives_every_reason(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    files = recorded('label/finished')
    report = parse_retrieved('mlip_al.label', inputs, files).outputs['report'].get_dict()
    ended = json.loads(files['label.status.json'])
    assert report.pop('theory_hash')
    assert report == {
        'n_structures': 4,
        'n_labelled': 2,
        'n_rejected': 2,
        'n_unfinished': 0,
        'reasons': {'unconverged': 1, 'force_cap': 1},
        'rejected': [
            {
                'structure': 'frame_000',
                'reason': 'unconverged',
                'message': 'RuntimeError: SCF not converged in 10 cycles',
            },
            {
                'structure': 'frame_003',
                'reason': 'force_cap',
                'message': 'the largest force is 500.0 eV/Å, above max_force = 50 eV/Å.',
            },
        ],
        'wall_s': ended['wall_s'],
        'core_s': ended['cpu_s'],
        'theory': 'Troubled(stiffness=10.0)',
    }


def test_all_rejected(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    outputs, status, message = parse_retrieved('mlip_al.label', inputs, recorded('label/all_rejected'))
    assert (status, message) == (320, 'No structure of the batch got a label: 4 force_cap')
    assert set(outputs) == {'report'}
    assert outputs['report']['reasons'] == {'force_cap': 4}


@pytest.mark.parametrize('case', ['killed', 'terminated'])
@pytest.mark.parametrize(('scheduler', 'expected'), [(None, 400), (120, 120), (110, 110)])
def test_stopped_job_keeps_what_it_had_finished(
    parse_retrieved: Make, recorded: Make, inputs: dict[str, Any], case: str, scheduler: int | None, expected: int
) -> None:
    outputs, status, _ = parse_retrieved('mlip_al.label', inputs, recorded(f'label/{case}'), scheduler)
    assert status == expected
    assert sorted(outputs['labels']) == ['frame_000', 'frame_001', 'frame_002']
    assert outputs['dataset'].n_frames == 3
    report = outputs['report'].get_dict()
    assert (report['n_labelled'], report['n_rejected'], report['n_unfinished']) == (3, 0, 1)
    assert report['wall_s'] > 0


def test_cut_files(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    """A label counts when both its frame and its line are whole."""
    files = recorded('label/killed')
    files['labels.extxyz'] = files['labels.extxyz'][:-20]
    outputs, status, _ = parse_retrieved('mlip_al.label', inputs, files)
    assert (status, sorted(outputs['labels'])) == (400, ['frame_000', 'frame_001'])
    files = recorded('label/killed')
    files['label.jsonl'] = files['label.jsonl'][:-20]
    outputs, status, _ = parse_retrieved('mlip_al.label', inputs, files)
    assert (status, sorted(outputs['labels'])) == (400, ['frame_000', 'frame_001'])
    assert outputs['report']['n_unfinished'] == 2


def test_finished_job_that_lost_a_label_is_not_good(
    parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]
) -> None:
    files = recorded('label/finished')
    files['labels.extxyz'] = files['labels.extxyz'][:-20]
    outputs, status, _ = parse_retrieved('mlip_al.label', inputs, files)
    assert (status, outputs['report']['n_unfinished']) == (400, 1)


def test_number_that_is_not_finite_is_no_label(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    files = recorded('label/finished')
    lines = files['labels.extxyz'].decode().splitlines(keepends=True)
    words = lines[2].split()
    lines[2] = ' '.join([*words[:-1], 'NaN\n'])
    outputs, status, _ = parse_retrieved('mlip_al.label', inputs, {**files, 'labels.extxyz': ''.join(lines)})
    assert status == 0
    assert sorted(outputs['labels']) == ['frame_002']
    assert outputs['report']['reasons'] == {'unconverged': 1, 'force_cap': 1, 'error': 1}
    rejected = {item['structure']: item['message'] for item in outputs['report']['rejected']}
    assert 'not finite' in rejected['frame_001']


def test_runner_failed(parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
    outputs, status, message = parse_retrieved('mlip_al.label', inputs, recorded('label/no_calculator'))
    assert status == 310
    assert message.startswith('The runner stopped: ')
    assert 'nowhere' in message
    assert outputs['report']['n_unfinished'] == 4


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({}, 'The job left no results: it printed nothing.'),
        ({'label.out': 'python: command not found\n'}, 'The job left no results: python: command not found'),
        ({'label.out': 'x\n', 'label.jsonl': '', 'labels.extxyz': ''}, 'The job left no results: x'),
    ],
)
def test_nothing_left(parse_retrieved: Make, inputs: dict[str, Any], files: dict[str, str], message: str) -> None:
    assert parse_retrieved('mlip_al.label', inputs, files)[1:] == (300, message)
    assert parse_retrieved('mlip_al.label', inputs, files, scheduler=120).status == 120


class TestTheory:
    """Everything that fixes the level of theory changes its fingerprint, and nothing else does."""

    CALCULATOR = {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN2-xTB', 'verbosity': 0}}
    VERSIONS = {'tblite': '0.5.0', 'numpy': '2.0'}

    def hash_of(self, **changes: Any) -> str:
        files = changes.pop('files', {})
        versions = changes.pop('versions', self.VERSIONS)
        return theory_of({**self.CALCULATOR, **changes}, files, versions)[1]

    def test_what_changes_it(self) -> None:
        hashes = {
            self.hash_of(),
            self.hash_of(calculator='tblite.ase:Other'),
            self.hash_of(arguments={'method': 'GFN1-xTB'}),
            self.hash_of(files={'teacher.model': 'abc'}),
            self.hash_of(files={'teacher.model': 'abd'}),
            self.hash_of(versions={'tblite': '0.6.0'}),
        }
        assert len(hashes) == 6

    def test_what_does_not(self) -> None:
        assert self.hash_of() == self.hash_of(arguments={'method': 'GFN2-xTB', 'verbosity': 3})
        assert self.hash_of() == self.hash_of(versions={'tblite': '0.5.0', 'numpy': '1.0'})
        assert self.hash_of() == self.hash_of(max_force=20.0, timeout_s=3, theory='another name')
        assert self.hash_of() == self.hash_of(periodic=[True, True, False])

    def test_name(self) -> None:
        assert theory_of(self.CALCULATOR, {}, {})[0] == 'TBLite(method=GFN2-xTB)'
        assert theory_of({**self.CALCULATOR, 'theory': 'mine'}, {}, {})[0] == 'mine'

    def test_files_of_the_job_count(self, parse_retrieved: Make, recorded: Make, inputs: dict[str, Any]) -> None:
        def hash_of_job(content: str) -> str:
            teacher = orm.SinglefileData.from_string(content, filename='teacher.model')
            given = {**inputs, 'files': {'teacher': teacher}}
            outputs = parse_retrieved('mlip_al.label', given, recorded('label/finished')).outputs
            return str(outputs['dataset'].theory_hash)

        assert hash_of_job('weights') == hash_of_job('weights')
        assert hash_of_job('weights') != hash_of_job('other weights')
