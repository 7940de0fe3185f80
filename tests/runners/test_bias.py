"""A bias by PLUMED: with PLUMED itself where it is installed, and with a stand-in of its Python module everywhere."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import read
from fakes import plumed_standin

from aiida_mlip_al.runners.frames import read_lines

NM2 = 100 * units.mol / units.kJ  # eV/Å² in kJ/mol/nm²
K = 20.0  # eV/Å²


def kernel() -> str | None:
    """Return why PLUMED is not there, None if it is."""
    try:
        import plumed

        plumed.Plumed().finalize()
    except Exception as error:
        return f'PLUMED cannot be used ({" ".join(str(error).split())[:80]}): conda-forge has plumed and py-plumed'
    return None


MISSING = kernel()
needs_plumed = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture(params=['stand-in', pytest.param('plumed', marks=needs_plumed)])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The module that `import plumed` finds."""
    if request.param == 'stand-in':
        monkeypatch.setitem(sys.modules, 'plumed', plumed_standin)
    return request.param


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def restraint(target: float, atoms: str = '1,2', kappa: float = K, stride: int = 1) -> str:
    """An input with a harmonic restraint of a distance: Å and eV/Å² here, nm and kJ/mol/nm² there."""
    return (
        '# a comment\n'
        f'd: DISTANCE ATOMS={atoms}\n'
        f'RESTRAINT ARG=d AT={target / 10:.8f} KAPPA={kappa * NM2:.8f}\n'
        f'PRINT ARG=d FILE=COLVAR STRIDE={stride}\n'
    )


def plumed(text: str, atoms: Atoms, **options: Any) -> Any:
    from bias import Plumed

    Path('plumed.dat').write_text(text)
    return Plumed('plumed.dat', 'walker_00', atoms.get_masses(), options.pop('timestep_fs', 0.5), 300.0, **options)


def drive(text: str, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    bias = plumed(text, atoms)
    forces, virial = np.arange(3.0 * len(atoms)).reshape(-1, 3), np.diag([1.0, 2.0, 3.0])
    energy, total, total_virial = bias.drive(0, atoms, -5.0, forces, virial)
    bias.close()
    return energy, total - forces, total_virial - virial


def test_restraint_of_a_dimer(engine: str, here: Path) -> None:
    direction = np.array([2.0, 1.0, 2.0]) / 3
    dimer = Atoms('CO', [[0, 0, 0], 1.3 * direction])
    energy, forces, virial = drive(restraint(1.1), dimer)
    assert energy == pytest.approx(0.5 * K * 0.2**2, rel=1e-6)
    assert forces == pytest.approx(np.array([1, -1])[:, None] * K * 0.2 * direction, rel=1e-6)
    assert virial == pytest.approx(K * 0.2 * 1.3 * np.outer(direction, direction), rel=1e-6)


@pytest.mark.parametrize(
    ('pbc', 'distance'),
    [((0, 0, 0), 9.0), ((1, 1, 0), 9.0), ((0, 0, 1), 1.0), ((1, 1, 1), 1.0)],
)
def test_nearest_image_only_where_periodic(engine: str, here: Path, pbc: tuple[int, int, int], distance: float) -> None:
    slab = Atoms('CO', [[0, 0, 0.5], [0, 0, 9.5]], cell=[[4, 0, 0], [2, 3.46, 0], [0, 0, 10]], pbc=pbc)
    assert drive(restraint(0.9), slab)[0] == pytest.approx(0.5 * K * (distance - 0.9) ** 2, rel=1e-6)
    assert slab.get_distance(0, 1, mic=True) == pytest.approx(distance)


def test_stress_and_forces_are_derivatives_of_the_energy(engine: str, here: Path) -> None:
    from bias import Biased

    atoms = bulk('Ar', 'fcc', a=5.2, cubic=True)
    atoms.rattle(0.1, seed=3)
    skew = np.array([[0, 0.3, 0], [0, 0, 0.2], [0.1, 0, 0]])
    atoms.set_cell(atoms.cell.array + skew, scale_atoms=True)
    bias = plumed(restraint(3.0, kappa=5.0), atoms)
    biased = Biased(LennardJones(sigma=3.4, epsilon=0.01, rc=7.0, smooth=True), bias, stress=True)

    def energy(strain: np.ndarray, shift: float = 0.0) -> float:
        moved = atoms.copy()
        moved.positions[1, 0] += shift
        moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        return biased.get_potential_energy(moved)

    h = 1e-4
    stress = biased.get_stress(atoms)
    for index, (row, column) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        strain = np.zeros((3, 3))
        strain[row, column] += h / 2
        strain[column, row] += h / 2
        assert stress[index] == pytest.approx(
            (energy(strain) - energy(-strain)) / (2 * h) / atoms.get_volume(), abs=1e-6
        )
    zero = np.zeros((3, 3))
    assert biased.get_forces(atoms)[1, 0] == pytest.approx(-(energy(zero, h) - energy(zero, -h)) / (2 * h), abs=1e-5)
    assert biased.bias_energy(atoms) > 0.01
    biased.close()


def explore(job: Any, files: list[Path], structure: Atoms, text: str | None, **changes: Any) -> None:
    dynamics = {'timestep_fs': 0.5, 'steps': 120, 'stride': 10, 'friction_per_fs': 0.05, 'min_distance_fraction': 0.3}
    walker = {'structure': 0, 'temperature_K': 200.0, **changes.pop('walker', {})}
    seeds = changes.pop('seeds', [1])
    config = {
        'models': [str(file) for file in files],
        'dtype': 'float64',
        'walkers': [{**walker, 'seed': seed} for seed in seeds],
        'dynamics': {**dynamics, **changes.pop('dynamics', {})},
        'check_interval': 10,
        'descriptors': None,
    }
    if text is not None:
        (job.folder / 'plumed.dat').write_text(text)
        config['bias'] = 'plumed.dat'
    status = job.run_here('explore', config, [structure])
    assert status['finished'], status['error']
    for number in range(len(seeds)):
        end = read_lines(job.folder / f'walker_{number:02d}.jsonl')[-1]
        assert end['end'] == 'finished', end


def test_walkers_are_moved_by_the_bias_and_recorded_without(
    engine: str, make_job: Any, committee_files: list[Path], ethanol: Atoms
) -> None:
    """C-C of ethanol held at 1.8 Å: twice, each walker with its own PLUMED and files."""
    from committee import Committee

    free, held = make_job('free'), make_job('held')
    files = committee_files[:2]
    explore(free, files, ethanol, None)
    explore(held, files, ethanol, restraint(1.8, stride=10), seeds=[1, 2])
    committee = Committee([str(file) for file in files], 'float64', 'cpu')
    loose = np.array([frame.get_distance(0, 1) for frame in read(free.folder / 'walker_00.xyz', ':')])
    assert loose.max() < 1.7
    for name in ('walker_00', 'walker_01'):
        frames = read(held.folder / f'{name}.xyz', ':')
        *lines, _ = read_lines(held.folder / f'{name}.jsonl')
        assert len(frames) == len(lines) == 12
        distances = np.array([frame.get_distance(0, 1) for frame in frames])
        assert distances[4:].mean() == pytest.approx(1.8, abs=0.06)
        bias = [line['bias_energy'] for line in lines]
        assert bias == pytest.approx(0.5 * K * (distances - 1.8) ** 2, abs=1e-6)
        prediction = committee.predict(frames, range(2))
        for index, (frame, line) in enumerate(zip(frames, lines, strict=True)):
            forces = prediction.forces_of(index)
            assert frame.get_forces(apply_constraint=False) == pytest.approx(forces.mean(axis=0), abs=1e-6)
            assert line['energy'] == pytest.approx(prediction.energies[:, index].mean(), abs=1e-6)
            assert line['max_force'] == pytest.approx(np.linalg.norm(forces[0], axis=1).max(), abs=1e-6)
        time, printed = np.loadtxt(held.folder / f'COLVAR.{name}', unpack=True)
        assert time == pytest.approx(np.arange(13) * 0.005), 'ps; every step once, from the start'
        assert printed[1:] * 10 == pytest.approx(distances, abs=2e-5)
    assert 'bias_energy' not in read_lines(free.folder / 'walker_00.jsonl')[0]


def test_constant_pressure(engine: str, make_job: Any, committee_files: list[Path]) -> None:
    """A spring that pushes two atoms apart along b and c makes the cell grow in these directions."""
    crystal = bulk('C', cubic=True)
    dynamics = {'ensemble': 'npt', 'steps': 10, 'taup_fs': 200.0, 'barostat_mask': [True, True, True]}
    dynamics |= {'max_temperature_factor': 500.0, 'max_force': 1000.0}
    growth = {}
    text = 'd: DISTANCE ATOMS=1,3\nRESTRAINT ARG=d AT=0.3 KAPPA=20000\nPRINT ARG=d FILE=COLVAR STRIDE=1\n'
    for name in ('free', 'held'):
        job = make_job(name)
        walker = {'pressure_GPa': 0.0, 'temperature_K': 10.0}
        explore(job, committee_files[:1], crystal, text if name == 'held' else None, dynamics=dynamics, walker=walker)
        growth[name] = read(job.folder / 'walker_00.xyz', 0).cell.lengths() - crystal.cell.lengths()
    time, _ = np.loadtxt(job.folder / 'COLVAR.walker_00', unpack=True)
    assert time == pytest.approx(np.arange(11) * 0.0005)
    change = growth['held'] - growth['free']
    assert change[1:].min() > 0.1
    assert abs(change[0]) < 0.02


def test_a_continued_walker_appends(engine: str, here: Path) -> None:
    dimer = Atoms('CO', [[0, 0, 0], [0, 0, 1.2]])
    for restart, steps in ((False, range(3)), (True, range(3, 5))):
        bias = plumed(restraint(1.1), dimer, restart=restart)
        for step in steps:
            bias.drive(step, dimer, 0.0, np.zeros((2, 3)), np.zeros((3, 3)))
        bias.close()
    time, _ = np.loadtxt('COLVAR.walker_00', unpack=True)
    assert time == pytest.approx(np.arange(5) * 0.0005)


@needs_plumed
def test_hills_are_tempered_by_the_walkers_temperature_and_taken_up_again(here: Path) -> None:
    text = 'd: DISTANCE ATOMS=1,2\nMETAD ARG=d SIGMA=0.02 HEIGHT=2.0 PACE=1 BIASFACTOR=5 FILE=HILLS\n'
    dimer = Atoms('CO', [[0, 0, 0], [0, 0, 1.2]])
    still = (dimer, 0.0, np.zeros((2, 3)), np.zeros((3, 3)))
    bias = plumed(text, dimer)
    last = [bias.drive(step, *still)[0] for step in range(6)][-1]
    bias.close()
    heights, expected, total = np.loadtxt('HILLS.walker_00')[:, 3], [], 0.0
    for _ in range(5):  # the height in HILLS is scaled by biasfactor / (biasfactor - 1)
        expected.append(2.0 * np.exp(-total / (4 * 300 * units.kB * units.mol / units.kJ)))
        total += expected[-1]
    assert heights == pytest.approx(np.array(expected) * 5 / 4, rel=1e-5)
    bias = plumed(text, dimer, restart=True)
    again = bias.drive(6, *still)[0]
    bias.close()
    assert again == pytest.approx(total * units.kJ / units.mol, rel=1e-5)
    assert again > last


@needs_plumed
def test_why_plumed_fails_later_is_said_too(here: Path) -> None:
    grid = 'METAD ARG=d SIGMA=0.02 HEIGHT=2.0 PACE=1 GRID_MIN=0 GRID_MAX=0.1 LABEL=hills'
    dimer = Atoms('CO', [[0, 0, 0], [0, 0, 1.2]])
    bias = plumed(f'd: DISTANCE ATOMS=1,2\n{grid}\n', dimer)
    with pytest.raises(RuntimeError, match=r'^PLUMED failed at step 3: [^+/]*hills: [^+/]*outside the grid'):
        bias.drive(3, dimer, 0.0, np.zeros((2, 3)), np.zeros((3, 3)))
    bias.close()


@needs_plumed
def test_a_bias_on_the_energy_scales_the_forces(here: Path) -> None:
    dimer = Atoms('CO', [[0, 0, 0], [0, 0, 1.2]])
    bias = plumed('e: ENERGY\nRESTRAINT ARG=e AT=0 SLOPE=0.5\n', dimer)
    energy, forces, _ = bias.drive(0, dimer, -4.0, np.array([[0, 0, 1.0], [0, 0, -1.0]]), np.zeros((3, 3)))
    bias.close()
    assert energy == pytest.approx(-2.0)
    assert forces == pytest.approx(np.array([[0, 0, 1.5], [0, 0, -1.5]]))


def test_what_plumed_refuses_is_said_in_one_sentence(engine: str, here: Path, job: Any) -> None:
    with pytest.raises(ValueError, match=r'^PLUMED refuses plumed\.dat: .*DISTANZ') as error:
        plumed('d: DISTANZ ATOMS=1,2\n', Atoms('H2', [[0, 0, 0], [0, 0, 1]]))
    assert '+++' not in str(error.value)
    assert '\n' not in str(error.value)


def test_what_is_missing_is_said_before_the_run(
    job: Any, ethanol: Atoms, committee_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        'models': [str(committee_files[0])],
        'walkers': [{'structure': 0, 'temperature_K': 300.0, 'seed': 1}],
        'bias': 'plumed.dat',
    }

    def refuse() -> None:
        raise RuntimeError('Error loading PLUMED kernel')

    assert job.run_here('explore', config, [ethanol])['error'] == (
        'the input of PLUMED, plumed.dat, cannot be read: No such file or directory.'
    )
    (job.folder / 'plumed.dat').write_text(restraint(1.5))
    for module, words in ((None, 'Python module `plumed`'), (types.SimpleNamespace(Plumed=refuse), 'PLUMED_KERNEL')):
        monkeypatch.setitem(sys.modules, 'plumed', module)
        status = job.run_here('explore', config, [ethanol])
        assert words in status['error']
        assert 'py-plumed' in status['error']
        assert not (job.folder / 'walker_00.xyz').exists()
