"""Labelling batches that go well and badly."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read

from aiida_mlip_al.runners.frames import read_frames, read_lines

FAKE = 'fakes.calculators:Troubled'


def rattled(atoms: Atoms, n: int) -> list[Atoms]:
    frames = []
    for seed in range(n):
        frame = atoms.copy()
        frame.rattle(0.05, rng=np.random.default_rng(seed))
        frames.append(frame)
    return frames


def troubled(atoms: Atoms, troubles: Sequence[str | None]) -> list[Atoms]:
    frames = [atoms.copy() for _ in troubles]
    for number, (frame, trouble) in enumerate(zip(frames, troubles, strict=True)):
        frame.positions[0, 0] += 1e-6 * number  # ASE's calculators compute equal structures once
        if trouble:
            frame.info['trouble'] = trouble
    return frames


def report_of(job: Any) -> list[dict[str, Any]]:
    return [line for line in read_lines(job.folder / 'label.jsonl') if 'index' in line]


def test_ethanol_with_xtb(job, ethanol: Atoms) -> None:
    from tblite.ase import TBLite

    frames = rattled(ethanol, 3)
    arguments = {'method': 'GFN2-xTB', 'verbosity': 0}
    status = job.run('label', {'calculator': 'tblite.ase:TBLite', 'arguments': arguments}, frames)
    assert status['exit_code'] == 0, status['output']
    assert (status['finished'], status['n_labelled'], status['n_rejected']) == (True, 3, 0)
    assert set(status['versions']) >= {'python', 'ase', 'tblite'}
    labels = read(job.folder / 'labels.extxyz', ':')
    for index, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        frame.calc = TBLite(**arguments)
        assert label.info['index'] == index
        assert label.info['REF_energy'] == pytest.approx(frame.get_potential_energy(), abs=1e-5)
        assert label.arrays['REF_forces'] == pytest.approx(
            frame.get_forces(), abs=2e-4
        )  # xTB starts from the last density
        assert 'REF_stress' not in label.info
    assert [(line['index'], line['status'], line['reason']) for line in report_of(job)] == [
        (index, 'labelled', None) for index in range(3)
    ]


def slabs() -> list[Atoms]:
    """Return a crystal, and what is left of it without one and without two periodic directions."""
    crystal = bulk('Cu', cubic=True)
    crystal.rattle(0.1, seed=1)
    frames = [crystal.copy() for _ in range(4)]
    for frame, pbc in zip(frames, ([True] * 3, [True, True, False], [False, True, False], [False] * 3), strict=True):
        frame.pbc = pbc
        frame.cell[~frame.pbc] *= 3
    return frames


def test_stress_across_vacuum_is_masked_and_has_another_name(job) -> None:
    frames = slabs()
    status = job.run_here('label', {'calculator': 'ase.calculators.emt:EMT'}, frames)
    assert status['finished'], status['error']
    crystal, slab, wire, cluster = read_frames(job.folder / 'labels.extxyz')
    for frame in frames:
        frame.calc = EMT()
    assert crystal.info['REF_stress'] == pytest.approx(frames[0].get_stress(), abs=1e-8)
    assert 'REF_masked_stress' not in crystal.info
    for index, label, kept in ((1, slab, [0, 1, 5]), (2, wire, [1])):
        full, found = frames[index].get_stress(), label.info['REF_masked_stress']
        assert 'REF_stress' not in label.info
        np.testing.assert_array_equal(label.info['REF_stress_axes'], frames[index].pbc)
        np.testing.assert_allclose(found[kept], full[kept], atol=1e-8)
        np.testing.assert_array_equal(np.delete(found, kept), 0)
        assert np.abs(full).min() > 1e-5, 'there was something to mask'
    assert not {'REF_stress', 'REF_masked_stress', 'REF_stress_axes'} & set(cluster.info)


def test_periodic_masks_what_pbc_claims(job) -> None:
    frames = slabs()
    expected = frames[0].copy()
    expected.calc = EMT()
    job.run_here('label', {'calculator': 'ase.calculators.emt:EMT', 'periodic': [True, True, False]}, frames)
    crystal, slab, wire, cluster = read_frames(job.folder / 'labels.extxyz')
    np.testing.assert_array_equal(crystal.pbc, True)
    np.testing.assert_allclose(
        crystal.info['REF_masked_stress'], expected.get_stress() * [1, 1, 0, 0, 0, 1], rtol=0, atol=1e-8
    )
    for label, axes in ((crystal, [True, True, False]), (slab, [True, True, False]), (wire, [False, True, False])):
        np.testing.assert_array_equal(label.info['REF_stress_axes'], axes)
        assert 'REF_stress' not in label.info
    assert 'REF_masked_stress' not in cluster.info


def test_calculator_that_refuses_a_stress_labels_all_the_same(job, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: EMT, atoms: Atoms) -> None:
        raise NotImplementedError('not for slabs')

    monkeypatch.setattr(EMT, 'get_stress', refuse)
    status = job.run_here('label', {'calculator': 'ase.calculators.emt:EMT'}, slabs())
    assert status['n_labelled'] == 4
    assert all('REF_masked_stress' not in frame.info for frame in read_frames(job.folder / 'labels.extxyz'))


def test_every_trouble_is_recorded_and_the_batch_goes_on(job, ethanol: Atoms) -> None:
    expected = {
        None: None,
        'raises': 'error',
        'raises_unconverged': 'unconverged',
        'says_unconverged': 'unconverged',
        'prints_unconverged': 'unconverged',
        'not_a_number': 'non_finite',
        'huge': 'force_cap',
        'sleeps': 'timeout',
        'spins': 'timeout',
        'dies': 'error',
    }
    frames = troubled(ethanol, [item for trouble in expected for item in (trouble, None)])
    close = ethanol.copy()
    close.positions[1] = close.positions[0] + [0.3, 0, 0]
    lost = ethanol.copy()
    lost.positions[0, 0] = np.nan
    frames += [close, lost]
    status = job.run('label', {'calculator': FAKE, 'timeout_s': 1.0}, frames)
    assert status['finished'], status['output']
    reasons = [line['reason'] for line in report_of(job)]
    wanted: list[str | None] = [item for reason in expected.values() for item in (reason, None)]
    assert reasons == [*wanted, 'too_close', 'non_finite']
    labelled = [index for index, reason in enumerate(reasons) if reason is None]
    assert [frame.info['index'] for frame in read_frames(job.folder / 'labels.extxyz')] == labelled
    assert (status['n_labelled'], status['n_rejected']) == (11, 11)
    assert status['reasons'] == {
        'error': 2, 'unconverged': 3, 'non_finite': 2, 'force_cap': 1, 'timeout': 2, 'too_close': 1,
    }  # fmt: skip
    messages = {line['index']: line['message'] for line in report_of(job)}
    assert messages[2] == 'RuntimeError: the disk is full'
    assert '500.0 eV/Å' in messages[12]
    assert 'SIGKILL' in messages[18]
    timeout = report_of(job)[14]
    assert 1.0 <= timeout['wall_s'] < 3.0


def test_own_periodic_image_counts_as_too_close(job) -> None:
    flat = Atoms('Cu', cell=[1.0, 5.0, 5.0], pbc=True)
    status = job.run_here('label', {'calculator': FAKE, 'min_distance_fraction': 0.5}, [flat])
    assert status['reasons'] == {'too_close': 1}


def test_the_calculator_is_kept_and_made_anew_after_an_exception(job, ethanol: Atoms) -> None:
    config = {'calculator': FAKE, 'arguments': {'log': 'made.log'}}
    job.run_here('label', config, troubled(ethanol, [None, None, 'raises', None, None]))
    assert len((job.folder / 'made.log').read_text().split()) == 2


def test_energy_is_the_one_that_forces_derive_from(job, ethanol: Atoms) -> None:
    job.run_here('label', {'calculator': 'fakes.calculators:FreeEnergy'}, [ethanol])
    assert read_frames(job.folder / 'labels.extxyz')[0].info['REF_energy'] == pytest.approx(-1.0)


def test_old_labels_are_replaced_and_other_info_is_kept(job, ethanol: Atoms) -> None:
    ethanol.info.update(REF_energy=99.0, REF_stress=np.ones(6), REF_masked_stress=np.ones(6), split='test')
    ethanol.arrays['REF_forces'] = np.ones((9, 3))
    job.run_here('label', {'calculator': FAKE}, [ethanol])
    label = read_frames(job.folder / 'labels.extxyz')[0]
    assert label.info['REF_energy'] == 0
    assert not label.arrays['REF_forces'].any()
    assert label.info['split'] == 'test'
    assert not {'REF_stress', 'REF_masked_stress'} & set(label.info)


def test_kill_in_mid_batch_leaves_what_was_finished(job, ethanol: Atoms) -> None:
    job.prepare('label', {'calculator': FAKE}, troubled(ethanol, ['slow'] * 50))
    process = job.start('label')
    report = job.folder / 'label.jsonl'
    job.stop_when(process, lambda: report.exists() and len(report_of(job)) >= 3, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (job.folder / 'label.status.json').exists()
    labels = read_frames(job.folder / 'labels.extxyz')
    assert 3 <= len(labels) < 50
    assert [label.info['index'] for label in labels] == list(range(len(labels)))
    assert len(report_of(job)) in (len(labels), len(labels) - 1)


def test_the_child_does_not_outlive_a_killed_runner(job, ethanol: Atoms) -> None:
    config = {'calculator': FAKE, 'arguments': {'log': 'made.log'}}
    job.prepare('label', config, troubled(ethanol, [None, 'sleeps']))
    process = job.start('label')
    report = job.folder / 'label.jsonl'
    job.stop_when(process, lambda: report.exists() and len(report_of(job)) == 1, signal.SIGKILL)
    child = int((job.folder / 'made.log').read_text())
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_sigterm_ends_cleanly(job, ethanol: Atoms) -> None:
    job.prepare('label', {'calculator': FAKE}, troubled(ethanol, [None, None, 'sleeps']))
    process = job.start('label')
    report = job.folder / 'label.jsonl'
    job.stop_when(process, lambda: report.exists() and len(report_of(job)) == 2, signal.SIGTERM)
    assert process.returncode == 1
    status = job.status('label')
    assert (status['finished'], status['error'], status['n_labelled']) == (False, 'terminated', 2)
    assert len(read_frames(job.folder / 'labels.extxyz')) == 2


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'calculator': 'no_such_package:Thing'}, 'no_such_package:Thing cannot be imported'),
        ({'calculator': 'ase.calculators.emt.EMT'}, 'must be an import path such as'),
        ({'calculator': FAKE, 'arguments': {'colour': 'red'}}, 'cannot be made with arguments'),
        ({'calculator': FAKE, 'max_farce': 3}, 'unknown keys: max_farce'),
        ({}, 'must be an import path such as'),
    ],
)
def test_bad_input_ends_with_one_sentence(job, ethanol: Atoms, config: dict[str, Any], message: str) -> None:
    status = job.run_here('label', config, [ethanol])
    assert (status['exit_code'], status['finished']) == (1, False)
    assert message in status['error']


def test_missing_structures(job) -> None:
    status = job.run_here('label', {'calculator': FAKE})
    assert status['error'] == 'structures.extxyz does not exist.'
