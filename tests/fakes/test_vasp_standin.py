"""The stand-in for VASP and the POTCARs: what ASE, parsevasp and aiida-vasp read back is what the calculator says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import read, write

sys.path.insert(0, str(Path(__file__).parent))

from potcars import potcar, upload_family
from vasp_standin.__main__ import KILLED, run
from vasp_standin.inputs import Incar, Potential, VaspError, fingerprint, read_iconst, read_kpoints, read_poscar

EXECUTABLE = Path(__file__).parent / 'vasp_standin' / 'vasp_std'
STATIC = {'ENCUT': 300, 'ISMEAR': 1, 'SIGMA': 0.1, 'EDIFF': 1e-6}
NVE = {'IBRION': 0, 'NSW': 10, 'POTIM': 2.0, 'TEBEG': 600, 'SMASS': -3, 'SIGMA': 0.1}
NPT = {**NVE, 'MDALGO': 3, 'ISIF': 3, 'LANGEVIN_GAMMA': 10.0, 'LANGEVIN_GAMMA_L': 10.0, 'PMASS': 100}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OMP_NUM_THREADS', '1')


class Case:
    """A folder with VASP's input, and the environment of the calls made in it."""

    def __init__(self, folder: Path, atoms: Atoms, incar: Mapping[str, Any]) -> None:
        self.folder = folder
        self.environ = {'VASP_STANDIN_LOG': str(folder / 'calls.jsonl')}
        self.structure = atoms.copy()
        folder.mkdir(exist_ok=True)
        write(folder / 'POSCAR', atoms, format='vasp', direct=True, sort=False)
        blocks = (folder / 'POSCAR').read_text().splitlines()[5].split()
        (folder / 'POTCAR').write_text(''.join(potcar(element) for element in blocks))
        (folder / 'KPOINTS').write_text('mesh\n0\nGamma\n2 2 2\n0 0 0\n')
        self.set(**incar)

    def set(self, **tags: Any) -> None:
        """Write the INCAR."""
        self.tags = {**getattr(self, 'tags', {}), **tags}
        (self.folder / 'INCAR').write_text(''.join(f'{tag} = {value}\n' for tag, value in self.tags.items()))

    def faults(self, *rules: Mapping[str, Any]) -> None:
        path = self.folder / 'faults.json'
        path.write_text(json.dumps(rules))
        self.environ['VASP_STANDIN_FAULTS'] = str(path)

    def run(self) -> int:
        return run(self.folder, self.environ)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def frames(self) -> list[Atoms]:
        """Return the whole frames of vasprun.xml, also if it was cut off in the middle of one."""
        text = self.read('vasprun.xml')
        whole = text[: text.rfind('</calculation>')] + '</calculation>\n</modeling>\n'
        (self.folder / 'whole.xml').write_text(whole)
        return list(read(self.folder / 'whole.xml', index=':', format='vasp-xml'))

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read('calls.jsonl').splitlines()]

    def electronic_steps(self) -> list[int]:
        """Return the number of electronic steps of each frame."""
        return [block.count('<scstep>') for block in self.read('vasprun.xml').split('<calculation>')[1:]]


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., Case]:
    """Return a factory of cases: ``case(atoms=None, incar=STATIC, name='run')``, by default interleaved copper and nickel."""

    def make(atoms: Atoms | None = None, incar: Mapping[str, Any] = STATIC, name: str = 'run') -> Case:
        return Case(tmp_path / name, interleaved() if atoms is None else atoms, incar)

    return make


def interleaved() -> Atoms:
    atoms = bulk('Cu', 'fcc', 3.6, cubic=True)
    atoms.symbols[:] = ['Cu', 'Ni', 'Cu', 'Ni']
    atoms.rattle(0.1, seed=3)
    return atoms


def copper(repeat: int = 1) -> Atoms:
    atoms = bulk('Cu', 'fcc', 3.6, cubic=True).repeat((repeat, 1, 1))
    atoms.rattle(0.03, seed=1)
    return atoms


def reference(atoms: Atoms, calculator: Any = None) -> Atoms:
    atoms = atoms.copy()
    atoms.calc = calculator or EMT()
    return atoms


def assert_same_results(found: Atoms, expected: Atoms, atol: float = 1e-6) -> None:
    energy = expected.get_potential_energy()
    np.testing.assert_allclose(found.get_potential_energy(force_consistent=True), energy, atol=atol)
    np.testing.assert_allclose(found.get_forces(apply_constraint=False), expected.get_forces(), atol=atol)
    np.testing.assert_allclose(found.get_stress(), expected.get_stress(), atol=atol)


# single points


@pytest.mark.parametrize('name', ['vasprun.xml', 'OUTCAR'])
def test_ase_reads_the_calculators_results_in_the_order_of_the_poscar(case, name):
    job = case()
    assert job.run() == 0
    found = read(job.folder / name)
    expected = reference(job.structure)
    assert found.get_chemical_symbols() == ['Cu', 'Ni', 'Cu', 'Ni']
    assert_same_results(found, expected, atol=1e-6 if name == 'vasprun.xml' else 1e-5)
    assert np.abs(expected.get_forces()).max() > 1, 'a wrong order would show'
    # sigma -> 0 is a third of T S above the free energy with Methfessel and Paxton's first order
    assert found.get_potential_energy() - expected.get_potential_energy() == pytest.approx(0.1 * 4 / 3, abs=1e-6)


def test_parsevasp_reads_three_energies_and_a_stress_that_is_positive_under_compression(case):
    xml = pytest.importorskip('parsevasp.vasprun')
    squeezed = bulk('Cu', 'fcc', 3.4, cubic=True)
    job = case(squeezed)
    assert job.run() == 0
    parsed = xml.Xml(file_path=str(job.folder / 'vasprun.xml'))
    kinds = ['energy_free', 'energy_no_entropy', 'energy_extrapolated']
    energies = parsed.get_energies('last', etype=kinds, nosc=False)
    free, entropy = reference(squeezed).get_potential_energy(), 0.1 * 4
    found = [energies[f'{kind}_final'][0] for kind in kinds]
    np.testing.assert_allclose(found, [free, free + entropy, free + entropy / 3], atol=1e-7)
    assert energies['electronic_steps'] == [12]
    stress = parsed.get_stress('last')
    assert stress[0, 0] > 10
    np.testing.assert_allclose(stress, -reference(squeezed).get_stress(voigt=False) / (0.1 * units.GPa), atol=1e-4)
    assert parsed.get_version().strip().startswith('6')


def test_parsevasp_finds_a_regular_end_in_outcar(case):
    outcar = pytest.importorskip('parsevasp.outcar')
    job = case()
    job.run()
    parsed = outcar.Outcar(file_path=str(job.folder / 'OUTCAR'))
    status = parsed.get_run_status()
    assert (status['finished'], status['electronic_converged'], status['contains_nelm_breach']) == (True, True, False)
    assert (status['nelm'], status['nsw'], status['last_iteration_index']) == (60, 0, [1, 12])
    assert parsed.get_run_stats()['elapsed_time'] is not None


def test_tetrahedra_have_no_entropy(case):
    job = case(incar={**STATIC, 'ISMEAR': -5})
    job.run()
    found = read(job.folder / 'vasprun.xml')
    assert found.get_potential_energy() == found.get_potential_energy(force_consistent=True)


def test_calculator_comes_from_the_environment(case):
    argon = bulk('Ar', 'fcc', 5.0, cubic=True)
    argon.rattle(0.1, seed=0)
    arguments = {'sigma': 3.4, 'epsilon': 0.01, 'rc': 8.0}
    job = case(argon)
    job.environ['VASP_STANDIN_CALCULATOR'] = 'ase.calculators.lj:LennardJones'
    job.environ['VASP_STANDIN_ARGUMENTS'] = json.dumps(arguments)
    assert job.run() == 0
    assert_same_results(read(job.folder / 'vasprun.xml'), reference(argon, LennardJones(**arguments)))


def test_spin_channels_and_scratch_files_as_incar_says(case):
    xml = pytest.importorskip('parsevasp.vasprun')
    job = case(incar={**STATIC, 'ISPIN': 2, 'LWAVE': '.FALSE.'})
    job.run()
    parsed = xml.Xml(file_path=str(job.folder / 'vasprun.xml'), k_before_band=True)
    assert set(parsed.get_eigenvalues()) == {'up', 'down'}
    assert parsed.get_eigenvalues()['up'].shape == parsed.get_occupancies()['down'].shape
    assert parsed.get_eigenvalues()['up'].shape == (len(parsed.get_kpoints()), 11)
    assert (job.folder / 'CHGCAR').stat().st_size > 0
    assert not (job.folder / 'WAVECAR').exists()


def test_wavecar_saves_electronic_steps_unless_istart_is_zero(case):
    job = case()
    for tags, steps, warm in (({}, 12, False), ({}, 6, True), ({'ISTART': 0}, 12, False)):
        job.set(**tags)
        job.run()
        assert job.electronic_steps() == [steps]
        assert job.calls()[-1]['wavecar'] is warm


@pytest.mark.parametrize(
    ('tags', 'missing', 'message'),
    [
        ({'NSW': 5, 'IBRION': 2}, None, 'single points'),
        ({'NSW': 5, 'IBRION': 0}, None, 'no entry for POTIM'),
        ({**NVE, 'ISIF': 3}, None, 'MDALGO = 3'),
        ({}, 'POTCAR', 'there must be a file POTCAR'),
    ],
)
def test_what_cannot_be_done_is_said_on_standard_output(case, capsys, tags, missing, message):
    job = case(incar={**STATIC, **tags})
    if missing:
        (job.folder / missing).unlink()
    assert job.run() == 1
    assert message in capsys.readouterr().out


def test_too_few_potentials_are_refused(case, capsys):
    job = case()
    (job.folder / 'POTCAR').write_text(potcar('Cu') + potcar('Ni'))
    assert job.run() == 1
    assert 'number of potentials on File POTCAR incompatible with number of species' in capsys.readouterr().out


# input files


POTENTIALS = [Potential('PAW_PBE Cu', 'Cu', 63.5, 11), Potential('PAW_PBE Na_pv', 'Na', 23.0, 7)]
POSCAR = """any words
{scale}
  3.0 0.0 0.0
  0.0 4.0 0.0
  0.5 0.0 5.0
{names}  2 1
{selective}{mode}
{rows}
{tail}"""


@pytest.mark.parametrize('names', ['', '  Cu1 Na_pv/6a2f546d\n'])
@pytest.mark.parametrize('cartesian', [True, False])
@pytest.mark.parametrize('scale', [2.0, -480.0])
def test_poscar_in_all_its_forms(names, cartesian, scale):
    cell = 2.0 * np.array([[3.0, 0, 0], [0, 4.0, 0], [0.5, 0, 5.0]])
    fractions = np.array([[0.1, 0.2, 0.3], [-0.4, 0.5, 0.6], [0.7, 0.8, 1.9]])
    rows = fractions @ cell / 2.0 if cartesian else fractions
    flags = ['T T F', '.FALSE. .FALSE. .FALSE.', 'T T T']
    lines = '\n'.join(f'{" ".join(map(str, row))} {flag}' for row, flag in zip(rows, flags, strict=True))
    mode = 'Cartesian' if cartesian else 'Direct'
    text = POSCAR.format(scale=scale, names=names, selective='Selective dynamics\n', mode=mode, rows=lines, tail='')
    structure = read_poscar(text, POTENTIALS, 1.0)
    assert structure.elements == ['Cu', 'Cu', 'Na']
    np.testing.assert_allclose(structure.masses, [63.5, 63.5, 23.0])
    np.testing.assert_allclose(structure.cell, cell)
    np.testing.assert_allclose(structure.fractions, fractions)
    np.testing.assert_array_equal(structure.movable, [[True, True, False], [False] * 3, [True] * 3])
    assert structure.velocities is None


@pytest.mark.parametrize(
    ('tail', 'expected'),
    [
        ('\n1 0 0\n0 2 0\n0 0 3', [[1, 0, 0], [0, 2, 0], [0, 0, 3]]),
        ('Cartesian\n1 0 0\n0 2 0\n0 0 3\n\n predictor', [[1, 0, 0], [0, 2, 0], [0, 0, 3]]),
        ('Direct\n1 0 0\n0 2 0\n0 0 4', [[1.5, 0, 0], [0, 4, 0], [1, 0, 10]]),
        (
            'Lattice velocities and vectors\n 1\n' + '0 0 0\n' * 6 + '\n1 0 0\n0 2 0\n0 0 3',
            [[1, 0, 0], [0, 2, 0], [0, 0, 3]],
        ),
        ('\n0 0 0\n0 0 0\n0 0 0', None),
        ('', None),
    ],
)
def test_velocities_of_a_poscar(tail, expected):
    rows = '0 0 0\n0.5 0.5 0\n0 0.5 0.5'
    text = POSCAR.format(scale=1.0, names='', selective='', mode='Direct', rows=rows, tail=tail)
    velocities = read_poscar(text, POTENTIALS, 2.0).velocities
    if expected is None:
        assert velocities is None
    else:
        np.testing.assert_allclose(velocities, expected)


def test_incar():
    incar = Incar.parse(
        'nsw = 5 ; POTIM=1.5D-1 # fs\n! NELM = 3\nLANGEVIN_GAMMA = 2*10 5.0\nLWAVE=.F.\nLATTICE_CONSTRAINTS = True F .TRUE.'
    )
    assert incar.integer('NSW', 0) == 5
    assert incar.integer('NELM', 60) == 60
    assert incar.real('POTIM', 0) == 0.15
    assert incar.reals('LANGEVIN_GAMMA', []) == [10, 10, 5]
    assert incar.logical('LWAVE', True) is False
    assert incar.logicals('LATTICE_CONSTRAINTS', []) == [True, False, True]


@pytest.mark.parametrize(
    ('text', 'count', 'first', 'weight'),
    [
        ('x\n0\nGamma\n2 2 2\n0 0 0\n', 8, [0, 0, 0], 1 / 8),
        ('x\n0\nGamma\n3 3 3\n', 14, [0, 0, 0], 1 / 27),
        ('x\n0\nMonkhorst-Pack\n2 2 1\n0 0 0\n', 2, [0.25, 0.25, 0], 1 / 2),
        ('x\n2\nReciprocal\n0 0 0 1\n0.5 0 0 3\n', 2, [0, 0, 0], 1 / 4),
        ('x\n1\nCartesian\n0.05 0 0 1\n', 1, [0.5, 0, 0], 1),
        (None, 14, [0, 0, 0], 1 / 27),
    ],
)
def test_kpoints(text, count, first, weight):
    points, weights = read_kpoints(text, Incar(KSPACING='0.25'), np.eye(3) * 10.0)
    assert points.shape == (count, 3)
    np.testing.assert_allclose(points[0], first)
    assert weights[0] == pytest.approx(weight)
    assert weights.sum() == pytest.approx(1)


def test_fingerprint_knows_a_structure_and_nothing_of_the_order_of_its_ions():
    atoms = interleaved()
    order = [2, 0, 3, 1]
    shuffled = atoms[order]
    shuffled.positions += 1e-9

    def of(atoms: Atoms) -> str:
        return fingerprint(atoms.get_chemical_symbols(), atoms.cell.array, atoms.positions)

    assert of(shuffled) == of(atoms)
    swapped = atoms.copy()
    swapped.symbols[:] = ['Ni', 'Cu', 'Cu', 'Ni']
    moved = atoms.copy()
    moved.positions[0, 0] += 1e-3
    assert len({of(atoms), of(swapped), of(moved)}) == 3


# molecular dynamics


def total_energies(text: str) -> np.ndarray:
    """Return potential plus kinetic energy of the frames from OSZICAR."""
    return np.array([float(line.split('E=')[1].split()[0]) for line in text.splitlines() if 'T=' in line])


def test_frames_are_the_calculators_and_the_energy_is_conserved(case):
    job = case(incar={**NVE, 'NSW': 20})
    assert job.run() == 0
    frames = job.frames()
    assert len(frames) == 20
    np.testing.assert_allclose(frames[0].positions, reference(job.structure).get_positions(wrap=True), atol=1e-6)
    for frame in frames[::5]:
        assert_same_results(frame, reference(frame), atol=2e-6)
        fractions = frame.get_scaled_positions(wrap=False)
        assert fractions.min() >= 0
        assert fractions.max() <= 1
    energies = total_energies(job.read('OSZICAR'))
    kinetic = energies - [frame.get_potential_energy(force_consistent=True) for frame in frames]
    assert np.ptp(kinetic) > 0.1
    assert np.ptp(energies) < 0.02


def test_ase_reads_all_frames_of_outcar(case):
    job = case(incar=NVE)
    job.run()
    frames = read(job.folder / 'OUTCAR', index=':')
    assert len(frames) == 10
    assert_same_results(frames[-1], reference(job.frames()[-1]), atol=5e-5)


def test_run_continued_from_contcar_is_the_unbroken_run(case):
    whole = case(incar={**NVE, 'NSW': 12}, name='whole')
    whole.run()
    part = case(incar={**NVE, 'NSW': 5}, name='part')
    part.run()
    velocities = read(part.folder / 'CONTCAR', format='vasp').get_velocities()
    assert np.abs(velocities).max() > 0
    (part.folder / 'POSCAR').write_text(part.read('CONTCAR'))
    first = part.frames()
    part.set(NSW=7)
    part.run()
    for found, expected in zip(first + part.frames(), whole.frames(), strict=True):
        np.testing.assert_allclose(found.positions, expected.positions, atol=1e-6)
    assert [call['velocities'] for call in part.calls()] == [False, True]


def test_first_velocities_are_of_the_temperature_and_come_from_the_seed(case):
    def first_step(seed: int) -> np.ndarray:
        job = case(copper(2), incar={**NVE, 'NSW': 1, 'RANDOM_SEED': f'{seed} 0 0'}, name=f'seed_{seed}')
        job.run()
        atoms = read(job.folder / 'CONTCAR', format='vasp')
        velocities = atoms.get_velocities() - job.frames()[0].get_forces() / atoms.get_masses()[:, None] * 2 * units.fs
        kinetic = 0.5 * (atoms.get_masses()[:, None] * velocities**2).sum()
        assert kinetic == pytest.approx(0.5 * (3 * 8 - 3) * units.kB * 600, rel=1e-3)
        np.testing.assert_allclose(atoms.get_masses() @ velocities, 0, atol=1e-2)
        return velocities

    np.testing.assert_array_equal(first_step(1), first_step(1))
    assert np.abs(first_step(1) - first_step(2)).max() > 1e-3


THERMOSTATS = {
    'langevin': {'MDALGO': 3, 'LANGEVIN_GAMMA': 50.0},
    'andersen': {'MDALGO': 1, 'ANDERSEN_PROB': 0.1},
    'nose': {'MDALGO': 2, 'SMASS': 0},
    'rescale': {'MDALGO': 0, 'SMASS': -1, 'NBLOCK': 4},
}


def temperatures(text: str) -> np.ndarray:
    return np.array([float(line.split('T=')[1].split()[0]) for line in text.splitlines() if 'T=' in line])


@pytest.mark.parametrize('thermostat', THERMOSTATS)
def test_thermostats_hold_the_temperature_of_a_cold_start(case, thermostat):
    tags = {**NVE, 'NSW': 240, 'POTIM': 4.0, 'TEBEG': 50, 'TEEND': 50, **THERMOSTATS[thermostat]}
    job = case(copper(), incar=tags)
    # Velocities of 600 K: the thermostat has to take them away.
    job.structure.set_velocities(np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]) * 0.04)
    write(job.folder / 'POSCAR', job.structure, format='vasp', direct=True)
    job.run()
    found = temperatures(job.read('OSZICAR'))
    assert found[0] > 200
    assert found[120:].mean() == pytest.approx(50, rel=0.35)


def test_temperature_follows_the_ramp(case):
    job = case(copper(), incar={**NVE, 'SMASS': -1, 'NSW': 60, 'TEBEG': 100, 'TEEND': 700})
    job.run()
    found = temperatures(job.read('OSZICAR'))
    np.testing.assert_allclose(found[[5, 30, 58]], [100 + 600 / 59 * step for step in (5, 30, 58)], rtol=0.3)


def test_ions_held_by_selective_dynamics_stay(case):
    job = case(copper(), incar=NVE)
    lines = job.read('POSCAR').splitlines()
    flags = ['F F F', 'T T F', 'T T T', 'T T T']
    lines[8:] = [f'{line} {flag}' for line, flag in zip(lines[8:12], flags, strict=True)]
    lines.insert(7, 'Selective dynamics')
    (job.folder / 'POSCAR').write_text('\n'.join(lines) + '\n')
    job.run()
    first, last = (frame.get_scaled_positions() for frame in (job.frames()[0], job.frames()[-1]))
    moved = np.abs(last - first) > 1e-5
    np.testing.assert_array_equal(moved, [[False] * 3, [True, True, False], [True] * 3, [True] * 3])
    assert len(read(job.folder / 'CONTCAR', format='vasp').constraints) == 2


@pytest.mark.parametrize(
    ('tags', 'iconst', 'held'),
    [
        ({}, '', []),
        ({'LATTICE_CONSTRAINTS': '.FALSE. .FALSE. .TRUE.'}, '', [0, 1, 3, 4, 5]),
        ({'LATTICE_CONSTRAINTS': 'True True False'}, '', [2, 3, 4]),
        ({}, 'LR 3 0\nLA 1 3 0\nLA 2 3 0\n', [2, 3, 4]),
        ({}, 'LA 1 2 0\nLA 1 3 0\nLA 2 3 0\n', [3, 4, 5]),
        ({}, 'LR 1 0\nLR 2 0\nLR 3 0\n', [0, 1, 2]),
    ],
)
def test_cell_moves_where_it_is_free_to(case, tags, iconst, held):
    squeezed = bulk('Cu', 'fcc', 3.5, cubic=True)
    squeezed.rattle(0.1, seed=4)
    job = case(squeezed, incar={**NPT, **tags})
    if iconst:
        (job.folder / 'ICONST').write_text(iconst)
    assert job.run() == 0
    frames = job.frames()
    change = np.abs(frames[-1].cell.cellpar() - frames[0].cell.cellpar()) / [1, 1, 1, 60, 60, 60]
    free = [index for index in range(6) if index not in held]
    assert change[held].max(initial=0) < 1e-6
    assert change[free].min() > 1e-4
    if set(free) & {0, 1, 2}:
        assert frames[-1].get_volume() > frames[0].get_volume(), 'a compressed cell expands'
    # What goes on from here has the cell of the next frame, and the block of the lattice's velocities.
    continued = read(job.folder / 'CONTCAR', format='vasp')
    assert 'Lattice velocities and vectors' in job.read('CONTCAR')
    assert np.abs(continued.cell.cellpar() - frames[-1].cell.cellpar()).max() > 1e-6
    assert np.abs(continued.get_velocities()).max() > 0


def test_pressure_makes_an_enthalpy_of_the_energy_outside_the_electronic_steps(case):
    job = case(copper(), incar={**NPT, 'NSW': 2, 'PSTRESS': 50})
    job.run()
    frame = job.frames()[0]
    energy = reference(frame).get_potential_energy()
    assert frame.get_potential_energy(force_consistent=True) == pytest.approx(energy, abs=1e-5), 'ASE takes p V away'
    written = job.read('vasprun.xml').split('</varray>\n  <energy>\n   <i name="e_fr_energy">')[1].split()[0]
    assert float(written) - energy == pytest.approx(5 * units.GPa * frame.get_volume(), abs=1e-5)


@pytest.mark.parametrize('line', ['R 1 2 0', 'LR 1 7', 'LA 1 2'])
def test_other_constraints_are_refused(tmp_path, line):
    (tmp_path / 'ICONST').write_text(f'{line}\n')
    with pytest.raises(VaspError, match=line):
        read_iconst(tmp_path / 'ICONST')


# faults


def test_crash_leaves_no_files(case, capsys):
    job = case()
    job.faults({'match': {}, 'fault': 'crash'})
    assert job.run() == 1
    assert 'SIGSEGV' in capsys.readouterr().out
    assert not {path.name for path in job.folder.iterdir()} & {'OUTCAR', 'vasprun.xml', 'CONTCAR', 'OSZICAR'}


def test_rules_choose_calls_and_every_call_is_logged(case):
    jobs = [
        case(atoms, name=f'job_{number}')
        for number, atoms in enumerate((interleaved(), copper(), interleaved(), copper()))
    ]
    of_copper = fingerprint(['Cu'] * 4, jobs[1].structure.cell.array, jobs[1].structure.positions)
    for job in jobs:
        job.environ['VASP_STANDIN_LOG'] = jobs[0].environ['VASP_STANDIN_LOG']
        job.faults(
            {'match': {'hash': of_copper[:6], 'nth_of_structure': 1}, 'fault': 'crash'},
            {'match': {'nth_call': [3, 7], 'incar': {'SIGMA': '0.1'}}, 'fault': 'crash'},
            {'match': {'natoms': 5}, 'fault': 'crash'},
        )
    assert [job.run() for job in jobs] == [0, 1, 1, 0]
    calls = jobs[0].calls()
    assert [call['nth_of_structure'] for call in calls] == [1, 1, 2, 2]
    assert [call['nth_call'] for call in calls] == [1, 2, 3, 4]
    assert [call['fault'] for call in calls] == [None, 'crash', 'crash', None]
    assert calls[3]['hash'] == of_copper
    assert (calls[0]['natoms'], calls[0]['elements']) == (4, ['Cu', 'Ni'])
    assert calls[0]['incar']['SIGMA'] == '0.1'
    assert calls[1]['folder'] == str(jobs[1].folder)


def test_rules_that_count_need_a_log_and_known_faults(case):
    job = case()
    job.faults({'match': {}, 'fault': 'hiccup'})
    with pytest.raises(ValueError, match="no fault 'hiccup'"):
        job.run()
    job.faults({'match': {'nth_call': 1}, 'fault': 'crash'})
    del job.environ['VASP_STANDIN_LOG']
    with pytest.raises(ValueError, match='VASP_STANDIN_LOG'):
        job.run()


@pytest.mark.parametrize(
    ('fault', 'steps', 'tags', 'converged'),
    [
        ('unconverged', 100, {}, False),
        ('unconverged', 100, {'NELM': 150}, True),
        ('unconverged', 200, {'NELM': 150}, False),
        ('unconverged', 200, {'NELM': 150, 'AMIX': 0.2}, True),
        ('unconverged', 1000, {'AMIX': 0.2}, False),
        ('unconverged', 1000, {'ALGO': 'All'}, True),
        ('never_converges', 100, {'NELM': 300, 'AMIX': 0.01, 'ALGO': 'All'}, False),
    ],
)
def test_unconverged_results_are_far_off_until_the_input_is_changed_enough(case, capsys, fault, steps, tags, converged):
    job = case(incar={**STATIC, **tags})
    job.faults({'match': {}, 'fault': fault, 'steps': steps})
    assert job.run() == 0
    found, expected = read(job.folder / 'vasprun.xml'), reference(job.structure)
    assert ('was not achieved' in capsys.readouterr().out) is not converged
    assert ('EDIFF was not reached' in job.read('OUTCAR')) is not converged
    if converged:
        assert_same_results(found, expected)
    else:
        assert job.electronic_steps() == [int(tags.get('NELM', 60))]
        assert found.get_potential_energy(force_consistent=True) > expected.get_potential_energy() + 1
        assert np.abs(found.get_forces() - expected.get_forces()).max() > 0.5
        assert np.abs(found.get_stress() - expected.get_stress()).max() > 0.01


def test_single_frames_of_a_trajectory_can_be_unconverged_or_not_a_number(case):
    job = case(copper(), incar=NVE)
    job.faults({'match': {}, 'fault': 'unconverged', 'frames': [3, 7]})
    job.run()
    assert job.electronic_steps() == [12, 6, 60, 6, 6, 6, 60, 6, 6, 6]
    job.faults({'match': {}, 'fault': 'nan', 'frames': [4]})
    job.run()
    assert [bool(np.isnan(frame.get_forces()).any()) for frame in job.frames()] == [
        number == 4 for number in range(1, 11)
    ]


@pytest.mark.parametrize('fraction', [0.0, 0.3, 0.6, 0.75, 0.9])
@pytest.mark.parametrize('contcar', [True, False])
def test_truncated_run_keeps_its_whole_frames(case, fraction, contcar):
    whole = case(copper(), incar=NVE, name='whole')
    whole.run()
    job = case(copper(), incar=NVE)
    job.faults({'match': {}, 'fault': 'truncate', 'frames': 4, 'fraction': fraction, 'contcar': contcar})
    assert job.run() == KILLED
    assert '</modeling>' not in job.read('vasprun.xml')
    assert 'General timing' not in job.read('OUTCAR')
    assert (job.read('vasprun.xml').count('<calculation>') == 5) is (fraction > 0)
    for found, expected in zip(job.frames(), whole.frames()[:4], strict=True):
        np.testing.assert_array_equal(found.positions, expected.positions)
    assert (job.folder / 'CONTCAR').exists() is contcar
    if contcar:
        found = read(job.folder / 'CONTCAR', format='vasp')
        np.testing.assert_allclose(found.positions, whole.frames()[4].positions, atol=1e-6)


def test_zbrent_stops_without_a_regular_end(case, capsys):
    job = case()
    job.faults({'match': {}, 'fault': 'zbrent'})
    assert job.run() == 1
    assert 'ZBRENT: fatal error in bracketing' in capsys.readouterr().out
    assert 'General timing' not in job.read('OUTCAR')


def test_slow_run_takes_its_time(case):
    job = case(incar={**NVE, 'NSW': 3})
    job.faults({'match': {}, 'fault': 'slow', 'seconds': 0.1})
    started = time.monotonic()
    assert job.run() == 0
    assert time.monotonic() - started > 0.3


# the executable


def execute(job: Case, timeout: float | None = None) -> subprocess.Popen[str]:
    environ = {**os.environ, **job.environ, 'VASP_STANDIN_PYTHON': sys.executable}
    return subprocess.Popen([EXECUTABLE], cwd=job.folder, env=environ, stdout=subprocess.PIPE, text=True)


def test_executable_works_where_it_is_started(case):
    job = case()
    started = execute(job)
    printed, _ = started.communicate(timeout=60)
    assert started.returncode == 0
    assert 'vasp.6' in printed
    assert ' F= ' in printed
    assert_same_results(read(job.folder / 'vasprun.xml'), reference(job.structure))


def test_executable_is_killed_by_a_signal_when_truncated(case):
    job = case(incar=NVE)
    job.faults({'match': {}, 'fault': 'truncate'})
    started = execute(job)
    started.communicate(timeout=60)
    assert started.returncode == -signal.SIGKILL
    assert len(job.frames()) == 5


def test_executable_that_hangs_ends_when_it_is_told_to(case):
    job = case()
    job.faults({'match': {}, 'fault': 'hang'})
    started = execute(job)
    deadline = time.monotonic() + 60
    while not (job.folder / 'calls.jsonl').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert started.poll() is None
    started.terminate()
    assert started.wait(timeout=60) == -signal.SIGTERM
    assert not (job.folder / 'OUTCAR').exists()


# aiida-vasp


def vasp_inputs(code: Any, structure: Any, family: str, elements: Sequence[str]) -> dict[str, Any]:
    from aiida import orm

    energies = ['energy_free', 'energy_extrapolated', 'energy_no_entropy']
    parser = {'energy_type': energies, 'check_completeness': False}
    options = {
        'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1},
        'max_wallclock_seconds': 600,
        'environment_variables': {'OMP_NUM_THREADS': '1', 'VASP_STANDIN_PYTHON': sys.executable},
    }
    incar = {
        'encut': 300,
        'nsw': 0,
        'ibrion': -1,
        'ismear': 1,
        'sigma': 0.1,
        'ediff': 1e-6,
        'lwave': False,
        'lcharg': False,
    }
    return {
        'code': code,
        'structure': structure,
        'parameters': orm.Dict({'incar': incar}),
        'kpoints_spacing': orm.Float(0.08),
        'potential_family': orm.Str(family),
        'potential_mapping': orm.Dict({element: element for element in elements}),
        'calc': {'metadata': {'options': options}},
        'settings': orm.Dict({'parser_settings': parser}),
    }


@pytest.mark.slow
def test_vasp_work_chain_returns_the_calculators_results(aiida_profile_clean, aiida_code_installed, tmp_path):
    pytest.importorskip('aiida_vasp')
    from aiida import orm
    from aiida.engine import run_get_node
    from aiida.plugins import WorkflowFactory

    atoms = interleaved()
    family = upload_family(tmp_path / 'potcars', ['Cu', 'Ni'])
    code = aiida_code_installed(label='vasp', default_calc_job_plugin='vasp.vasp', filepath_executable=str(EXECUTABLE))
    inputs = vasp_inputs(code, orm.StructureData(ase=atoms), family, ['Cu', 'Ni'])
    outputs, node = run_get_node(WorkflowFactory('vasp.v2.vasp'), **inputs)
    assert node.exit_status == 0
    misc, expected = outputs['misc'].get_dict(), reference(atoms)
    free = expected.get_potential_energy()
    energies = misc['total_energies']
    assert energies['energy_free'] == pytest.approx(free, abs=1e-6)
    assert energies['energy_extrapolated'] == pytest.approx(free + 0.4 / 3, abs=1e-6)
    assert energies['energy_no_entropy'] == pytest.approx(free + 0.4, abs=1e-6)
    np.testing.assert_allclose(misc['forces'], expected.get_forces(), atol=1e-6)
    kilobar = -np.array(misc['stress']) * 0.1 * units.GPa
    np.testing.assert_allclose(kilobar, expected.get_stress(voigt=False), atol=1e-6)
    status = misc['run_status']
    assert (status['finished'], status['electronic_converged'], status['contains_nelm_breach']) == (True, True, False)
    assert misc['notifications'] == []
    job = next(child for child in node.called if isinstance(child, orm.CalcJobNode))
    assert [log.message for log in orm.Log.collection.get_logs_for(job)] == [], (
        'the parser has nothing to complain about'
    )
