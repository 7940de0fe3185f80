"""Relaxations that go well and badly."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from scipy.optimize import minimize_scalar

from aiida_mlip_al.runners.frames import read_frames, read_lines

EMT_PATH = {'calculator': 'ase.calculators.emt:EMT'}
FAKE = {'calculator': 'fakes.calculators:Troubled'}


def energy_of(atoms: Atoms) -> float:
    atoms = atoms.copy()
    atoms.calc = EMT()
    return float(atoms.get_potential_energy())


def relaxed(job: Any, structures: list[Atoms], **config: Any) -> list[Atoms]:
    """Run the runner, expect no failure, and return the relaxed structures."""
    status = job.run_here('relax', {**EMT_PATH, 'optimizer': 'BFGS', **config}, structures)
    assert status['finished'], status['error']
    assert (status['n_converged'], status['n_failed']) == (len(structures), 0), report_of(job)
    frames = read_frames(job.folder / 'relaxed.extxyz')
    for index, (before, after) in enumerate(zip(structures, frames, strict=True)):
        assert (after.info['index'], after.info['converged']) == (index, True)
        np.testing.assert_array_equal(after.numbers, before.numbers)
        np.testing.assert_array_equal(after.pbc, before.pbc)
        assert after.get_potential_energy() == pytest.approx(energy_of(after), abs=1e-6)
    return frames


def report_of(job: Any) -> list[dict[str, Any]]:
    return read_lines(job.folder / 'relax.jsonl')


def copper(a: float) -> Atoms:
    return bulk('Cu', a=a, cubic=True)


@pytest.fixture(scope='module')
def lattice_constant() -> float:
    """Where the energy of EMT copper is least, Å."""
    return float(minimize_scalar(lambda a: energy_of(copper(a)), bounds=(3.4, 3.8), method='bounded').x)


def slab(a: float = 3.7, pbc: Any = (True, True, False)) -> Atoms:
    atoms = fcc111('Cu', (1, 1, 2), a=a, vacuum=6)
    atoms.rattle(0.02, seed=1)
    atoms.pbc = pbc
    return atoms


@pytest.mark.parametrize('optimizer', ['FIRE', 'BFGS', 'LBFGS'])
def test_atoms_go_home_and_the_cell_stays(job, optimizer: str) -> None:
    atoms = copper(3.7) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    (after,) = relaxed(job, [atoms], fmax=0.005, optimizer=optimizer)
    np.testing.assert_array_equal(after.cell.array, atoms.cell.array)
    assert after.get_potential_energy() / len(atoms) == pytest.approx(energy_of(copper(3.7)) / 4, abs=1e-5)
    assert np.linalg.norm(after.get_forces(), axis=1).max() == pytest.approx(after.info['fmax'], rel=1e-3)
    assert 1e-6 < after.info['fmax'] < 0.005
    (line,) = report_of(job)
    assert line.pop('wall_s') > 0
    assert line == {
        'index': 0, 'converged': True, 'reason': None, 'message': '', 'n_steps': after.info['n_steps'],
    }  # fmt: skip
    assert 5 < line['n_steps'] < 200


def test_molecule(job) -> None:
    atoms = molecule('CH3CH2OH')
    atoms.rattle(0.05, seed=1)
    arguments = {'method': 'GFN2-xTB', 'verbosity': 0}
    status = job.run('relax', {'calculator': 'tblite.ase:TBLite', 'arguments': arguments}, [atoms])
    assert status['exit_code'] == 0, status['output']
    assert set(status['versions']) >= {'python', 'ase', 'tblite'}
    (after,) = read_frames(job.folder / 'relaxed.extxyz')
    assert not after.pbc.any()
    assert after.get_distance(0, 1) == pytest.approx(1.51, abs=0.02)  # C-C
    assert after.get_distance(1, 2) == pytest.approx(1.41, abs=0.02)  # C-O


@pytest.mark.parametrize('cell', ['full', 'isotropic', [True] * 6])
def test_crystal_finds_its_lattice_constant(job, lattice_constant: float, cell: Any) -> None:
    (after,) = relaxed(job, [copper(3.75)], fmax=1e-3, cell=cell)
    np.testing.assert_allclose(after.cell.array, lattice_constant * np.eye(3), atol=2e-3)


def test_full_cell_loses_its_shear_and_isotropic_keeps_it(job, make_job, lattice_constant: float) -> None:
    atoms = copper(3.65)
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.02, 0], [0.02, 0.99, 0], [0, 0, 1]], scale_atoms=True)
    (free,) = relaxed(job, [atoms], fmax=1e-3, cell='full')
    np.testing.assert_allclose(free.cell.lengths(), lattice_constant, atol=3e-3)
    np.testing.assert_allclose(free.cell.angles(), 90, atol=0.1)
    (shaped,) = relaxed(make_job('isotropic'), [atoms], fmax=1e-3, cell='isotropic')
    np.testing.assert_allclose(shaped.cell.array / shaped.cell[0, 0], atoms.cell.array / atoms.cell[0, 0], atol=1e-9)
    assert abs(shaped.cell[0, 0] / atoms.cell[0, 0] - 1) > 1e-3


def test_pressure(job, lattice_constant: float) -> None:
    (after,) = relaxed(job, [copper(3.6)], fmax=1e-4, cell='full', pressure_GPa=10.0)
    after.calc = EMT()
    np.testing.assert_allclose(after.get_stress() / units.GPa, [-10, -10, -10, 0, 0, 0], atol=0.02)
    assert after.cell[0, 0] < lattice_constant - 0.05


@pytest.mark.parametrize('mask', [[True, False, False, False, False, False], [False, False, True, False, False, False]])
def test_strains_by_name(job, mask: list[bool]) -> None:
    atoms = copper(3.7)
    (after,) = relaxed(job, [atoms], fmax=1e-3, cell=mask)
    change = np.abs(after.cell.array - atoms.cell.array)
    axis = 0 if mask[0] else 2
    assert change[axis, axis] > 0.02
    change[axis, axis] = 0
    np.testing.assert_allclose(change, 0, atol=1e-12)


def strained_in_plane(atoms: Atoms, strain: float) -> Atoms:
    frame = atoms.copy()
    frame.set_cell(atoms.cell.array * [[1 + strain], [1 + strain], [1]])
    frame.positions[:, :2] *= 1 + strain
    return frame


class TestSlab:
    """The plane relaxes, the vacuum vector stays to the bit."""

    @pytest.mark.parametrize('cell', ['full', 'isotropic'])
    def test_plane_relaxes_and_vacuum_stays(self, job, cell: str) -> None:
        atoms = slab()
        (after,) = relaxed(job, [atoms], fmax=1e-3, cell=cell)
        np.testing.assert_array_equal(after.cell.array[2], atoms.cell.array[2])
        np.testing.assert_allclose(after.cell.array[:2, 2], 0, atol=1e-12)

        # Strain the plane by hand: the energy has its minimum where the relaxation ended.
        energies = [energy_of(strained_in_plane(after, strain)) for strain in (-0.01, 0.0, 0.01)]
        lowest = 0.005 * (energies[0] - energies[2]) / (energies[0] + energies[2] - 2 * energies[1])
        assert abs(lowest) < 5e-4
        assert energies[1] < energy_of(atoms) - 0.01
        assert after.cell.angles()[2] == pytest.approx(60, abs=0.1)
        assert abs(after.cell.lengths()[0] / atoms.cell.lengths()[0] - 1) > 0.02

    def test_periodic_says_what_pbc_does_not(self, job, make_job) -> None:
        (expected,) = relaxed(job, [slab()], fmax=1e-3, cell='full')
        claimed = slab(pbc=True)
        (after,) = relaxed(make_job('claimed'), [claimed], fmax=1e-3, cell='full', periodic=[[True, True, False]])
        np.testing.assert_array_equal(after.cell.array[2], claimed.cell.array[2])
        np.testing.assert_allclose(after.cell.array, expected.cell.array, atol=1e-6)
        job.run_here('relax', {**EMT_PATH, 'cell': 'full', 'max_steps': 2}, [claimed])
        (unsaid,) = read_frames(job.folder / 'relaxed.extxyz')
        assert unsaid.cell[2, 2] != claimed.cell[2, 2]

    def test_turned_slab(self, job, make_job) -> None:
        (expected,) = relaxed(job, [slab()], fmax=1e-3, cell='full')
        atoms = slab()
        atoms.rotate(50, (1, 2, 3), rotate_cell=True)
        (after,) = relaxed(make_job('turned'), [atoms], fmax=1e-3, cell='full')
        np.testing.assert_array_equal(after.cell.array[2], atoms.cell.array[2])
        np.testing.assert_allclose(after.cell.cellpar(), expected.cell.cellpar(), atol=2e-3)
        np.testing.assert_allclose(after.cell.array[:2] @ after.cell.array[2], 0, atol=1e-9)

    def test_each_structure_has_its_own_directions(self, job) -> None:
        crystal, layer = relaxed(
            job, [copper(3.7), slab(pbc=True)], cell='full', periodic=[[True] * 3, [True, True, False]]
        )
        assert crystal.cell[2, 2] < 3.65
        np.testing.assert_array_equal(layer.cell.array[2], slab().cell.array[2])


def test_wire_finds_its_period(job) -> None:
    def chain(period: float) -> Atoms:
        return Atoms('Cu', [[5, 6, 0]], cell=[10, 12, period], pbc=[False, False, True])

    best = minimize_scalar(lambda period: energy_of(chain(period)), bounds=(2.0, 2.8), method='bounded').x
    (after,) = relaxed(job, [chain(2.6)], fmax=1e-3, cell='full')
    np.testing.assert_array_equal(after.cell.array[:2], chain(2.6).cell.array[:2])
    np.testing.assert_allclose(after.cell.array[2], [0, 0, best], atol=2e-3)


def waters(troubles: list[str | None]) -> list[Atoms]:
    frames = []
    for number, trouble in enumerate(troubles):
        frame = molecule('H2O')
        frame.positions[0, 0] += 1e-6 * number  # ASE's calculators compute equal structures once
        if trouble:
            frame.info['trouble'] = trouble
        frames.append(frame)
    return frames


def test_every_failure_is_recorded_and_the_others_go_on(job) -> None:
    expected = {
        None: None,
        'raises': 'error',
        'raises_unconverged': 'unconverged',
        'says_unconverged': 'unconverged',
        'prints_unconverged': 'unconverged',
        'not_a_number': 'non_finite',
        'huge': 'max_steps',
    }
    frames = waters([item for trouble in expected for item in (trouble, None)])
    settings = {**FAKE, 'max_steps': 4, 'arguments': {'log': 'made.log'}}
    status = job.run_here('relax', settings, frames)
    assert status['finished'], status['error']
    lines = report_of(job)
    wanted = [item for reason in expected.values() for item in (reason, None)]
    assert [line['reason'] for line in lines] == wanted
    assert [line['converged'] for line in lines] == [reason is None for reason in wanted]
    assert [line['index'] for line in lines] == list(range(14))
    assert lines[2]['message'] == 'RuntimeError: the disk is full'
    assert lines[12]['n_steps'] == 4
    assert lines[12]['message'] == 'after 4 steps the largest force is 500 eV/Å, above 0.02 eV/Å.'
    kept = read_frames(job.folder / 'relaxed.extxyz')
    assert [frame.info['index'] for frame in kept] == [0, 1, 3, 5, 7, 9, 11, 12, 13]
    assert [frame.info['index'] for frame in kept if not frame.info['converged']] == [12]
    assert (status['n_converged'], status['n_failed']) == (8, 6)
    assert status['reasons'] == {'error': 1, 'unconverged': 3, 'non_finite': 1, 'max_steps': 1}
    assert len((job.folder / 'made.log').read_text().split()) == 6, 'made anew after five exceptions'


def test_fused_atoms_are_no_result(job) -> None:
    close = molecule('H2O')
    close.positions[1] = close.positions[0] + [0.3, 0, 0]
    status = job.run_here('relax', FAKE, [close])
    assert status['reasons'] == {'too_close': 1}
    assert read_frames(job.folder / 'relaxed.extxyz') == []


def oblique() -> Atoms:
    atoms = slab()
    atoms.cell[2] += [1.0, 0, 0]
    return atoms


@pytest.mark.parametrize(
    ('atoms', 'config', 'message'),
    [
        (molecule('H2O'), {'cell': 'full'}, 'no periodic direction: relax it with the cell "none"'),
        (oblique(), {'cell': 'full'}, r'vacuum vector [1.0, 0.0, 14.136] is not perpendicular'),
        (slab(), {'cell': 'full', 'pressure_GPa': 1.0}, 'a pressure has no meaning'),
        (slab(), {'cell': [False, False, True, False, False, False]}, 'frees a strain across vacuum'),
        (slab(), {'cell': [True, False, False, False, True, False]}, 'frees a strain across vacuum'),
        (fcc111('Cu', (1, 1, 3)), {'cell': 'full'}, 'the cell has no volume'),
    ],
)
def test_cells_that_cannot_be_relaxed(job, atoms: Atoms, config: dict[str, Any], message: str) -> None:
    job.run_here('relax', {**EMT_PATH, **config}, [atoms])
    (line,) = report_of(job)
    assert line['reason'] == 'error'
    assert message in line['message']


def test_calculator_without_stress(job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EMT, 'implemented_properties', ['energy', 'forces'])
    job.run_here('relax', {**EMT_PATH, 'cell': 'full'}, [copper(3.6)])
    (line,) = report_of(job)
    assert line['message'] == 'the calculator has no stress for this structure: relax it with the cell "none".'


def test_stress_that_is_not_finite(job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EMT, 'get_stress', lambda self, atoms: np.full(6, np.nan))
    job.run_here('relax', {**EMT_PATH, 'cell': 'full'}, [copper(3.6)])
    assert [(line['reason'], line['message']) for line in report_of(job)] == [
        ('non_finite', 'the stress is not finite.')
    ]


@pytest.mark.parametrize('signum', [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_leaves_what_was_finished(job, signum: signal.Signals) -> None:
    job.prepare('relax', FAKE, waters([None, None, 'sleeps']))
    process = job.start('relax')
    report = job.folder / 'relax.jsonl'
    job.stop_when(process, lambda: report.exists() and len(report_of(job)) == 2, signum)
    assert [frame.info['index'] for frame in read_frames(job.folder / 'relaxed.extxyz')] == [0, 1]
    if signum == signal.SIGTERM:
        status = job.status('relax')
        assert (status['finished'], status['error'], status['n_converged']) == (False, 'terminated', 2)
    else:
        assert not (job.folder / 'relax.status.json').exists()


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'calculator': 'no_such_package:Thing'}, 'no_such_package:Thing cannot be imported'),
        ({**FAKE, 'fmaxx': 1}, 'unknown keys: fmaxx'),
        ({**FAKE, 'optimizer': 'CG'}, "optimizer must be one of FIRE, BFGS, LBFGS, not 'CG'."),
        ({**FAKE, 'cell': 'free'}, "cell must be one of none, full, isotropic or six booleans, not 'free'."),
        ({**FAKE, 'cell': [True] * 3}, 'six booleans'),
        ({**FAKE, 'fmax': 0}, 'fmax must be positive, not 0.'),
        ({**FAKE, 'periodic': [[True] * 3] * 2}, 'periodic has 2 entries for 1 structures.'),
    ],
)
def test_bad_input_ends_with_one_sentence(job, config: dict[str, Any], message: str) -> None:
    status = job.run_here('relax', config, [molecule('H2O')])
    assert (status['exit_code'], status['finished']) == (1, False)
    assert message in status['error']
