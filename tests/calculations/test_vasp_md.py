"""VaspMdCalculation: VASP's input files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from ase import Atoms
from ase.build import bulk, fcc111
from ase.io import read
from fakes.potcars import upload_family
from fakes.vasp_standin.inputs import Incar, read_poscar, read_potcar

from aiida_mlip_al.calculations.vasp_md import collect_vasp_md, kpoints_of, make_trajectory
from aiida_mlip_al.data.vasp_result import theory_of
from aiida_mlip_al.workflows.vasp_theory import find_potcar

Make = Callable[..., Any]
LEVEL = {'incar': {'encut': 300}, 'potential_family': 'FAKE'}
DYNAMICS = {'temperature_K': 300.0, 'steps': 4, 'timestep_fs': 2.0, 'seed': 3}


@pytest.fixture
def alloy() -> Atoms:
    atoms = bulk('Cu', cubic=True)
    atoms.symbols[[2, 3]] = 'Ni'
    atoms.positions[3] += [0.123456789, 0, 0]
    return atoms


@pytest.fixture
def inputs(python_code: Any, tmp_path: Path, alloy: Atoms) -> dict[str, Any]:
    family = upload_family(tmp_path / 'potcars', ['Cu', 'Ni'])
    level = {
        'incar': {'encut': 300, 'ismear': 1, 'nsw': 9, 'isif': 7},
        'kpoint_spacing': 0.5,
        'magnetic_moments': {'Ni': 2.0},
        'hubbard': {'mapping': {'Ni': ['d', 4.0]}},
    }
    structure = orm.StructureData(ase=alloy)
    return {
        'code': python_code,
        'structure': structure,
        'theory': orm.Dict(level),
        'dynamics': orm.Dict(DYNAMICS),
        'kpoints': kpoints_of(structure, orm.Dict(level)),
        'potentials': {symbol: find_potcar(family, symbol, symbol) for symbol in ('Cu', 'Ni')},
    }


def test_job(generate_calc_job: Make, inputs: dict[str, Any], alloy: Atoms) -> None:
    """The tags of the dynamics stand over those of the theory; moments and U by atom and by element."""
    _, folder, calcinfo = generate_calc_job('mlip_al.vasp_md', inputs)
    incar = Incar.parse((folder / 'INCAR').read_text())
    assert [incar[tag] for tag in ('ENCUT', 'NSW', 'ISIF', 'IBRION', 'RANDOM_SEED')] == ['300', '5', '2', '0', '4 0 0']
    assert incar.reals('MAGMOM', []) == [0.6, 0.6, 2.0, 2.0]
    assert incar.integer('ISPIN', 1) == 2
    assert incar.reals('LDAUU', []) == [0.0, 4.0]
    potentials = read_potcar((folder / 'POTCAR').read_text())
    assert [potential.element for potential in potentials] == ['Cu', 'Ni']
    structure = read_poscar((folder / 'POSCAR').read_text(), potentials, 1.0)
    assert structure.velocities is None
    np.testing.assert_allclose(structure.positions, alloy.positions, atol=1e-11)
    assert (folder / 'KPOINTS').read_text().split()[-6:-3] == ['4', '4', '4']
    assert not (folder / 'ICONST').exists()
    assert calcinfo.provenance_exclude_list == ['POTCAR']
    assert {'vasprun.xml', 'OUTCAR', 'CONTCAR'} < set(calcinfo.retrieve_list)


def test_job_that_continues(generate_calc_job: Make, inputs: dict[str, Any]) -> None:
    velocities = orm.ArrayData()
    velocities.set_array('velocities', np.linspace(-0.02, 0.03, 12).reshape(4, 3))
    before = orm.Dict({'next_step': 3, 'job': 1})
    _, folder, _ = generate_calc_job('mlip_al.vasp_md', {**inputs, 'velocities': velocities, 'before': before})
    incar = Incar.parse((folder / 'INCAR').read_text())
    assert (incar['NSW'], incar['RANDOM_SEED']) == ('2', '5 0 0')
    potentials = read_potcar((folder / 'POTCAR').read_text())
    structure = read_poscar((folder / 'POSCAR').read_text(), potentials, 1.0)
    np.testing.assert_allclose(structure.velocities, velocities.get_array('velocities'), atol=1e-13)
    assert len(read(folder / 'POSCAR', format='vasp')) == 4, 'ASE reads it too'


def test_constraints_of_a_tilted_layer(generate_calc_job: Make, inputs: dict[str, Any]) -> None:
    layer = fcc111('Cu', (1, 1, 2), vacuum=7.0)
    layer.set_tags(0)
    layer.rotate(30, 'x', rotate_cell=True)
    layer.pbc = (True, True, False)
    dynamics = orm.Dict({**DYNAMICS, 'ensemble': 'npt', 'pressure_GPa': 0.0})
    del inputs['potentials']['Ni']
    changed = {**inputs, 'structure': orm.StructureData(ase=layer), 'dynamics': dynamics}
    folder = generate_calc_job('mlip_al.vasp_md', changed).folder
    assert (folder / 'ICONST').read_text() == 'LR 3 0\nLA 1 3 0\nLA 2 3 0\n'


def test_wrong_dynamics(generate_calc_job: Make, inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='`stesp` is not a known key; did you mean `steps`'):
        generate_calc_job('mlip_al.vasp_md', {**inputs, 'dynamics': orm.Dict({**DYNAMICS, 'stesp': 3})})


class TestCollect:
    """Several jobs, one trajectory."""

    def collect(
        self, jobs: list[tuple[int, list[float]]], versions: tuple[str, ...] = ('6.4.2', '6.4.2'), **changes: Any
    ) -> Any:
        """Return what is made of jobs: first step and a force for each frame, negative where it is unconverged."""
        structure = orm.StructureData(ase=Atoms('CuNiCuCu', positions=np.eye(4)[:, :3], cell=[9, 9, 9], pbc=True))
        grouped = orm.StructureData(ase=Atoms('CuCuCuNi', cell=[9, 9, 9], pbc=True))
        made: dict[str, Any] = {'reports': {}, 'trajectories': {}}
        for number, (first, forces) in enumerate(jobs, start=1):
            report = {'next_step': first + len(forces), 'n_nonfinite': 0, 'wall_s': 2.0, 'core_s': 3.0}
            report |= {'version': versions[number - 1], 'n_frames': len(forces)}
            made['reports'][f'segment_{number:02d}'] = orm.Dict(report)
            steps = np.arange(first, first + len(forces))
            positions = np.arange(4)[None, :, None] + 10.0 * number + np.zeros((len(forces), 4, 3))
            values = np.abs(forces)[:, None, None] * np.array([[1.0], [2.0], [3.0], [4.0]]) * [1.0, 0, 0]
            made['trajectories'][f'segment_{number:02d}'] = make_trajectory(
                grouped,
                steps,
                times=steps * 0.001,
                positions=positions,
                cells=np.array([np.eye(3) * 9.0] * len(steps)),
                forces=values,
                energies=np.array(forces),
                converged=np.array(forces) > 0,
            )
        dynamics = orm.Dict({**DYNAMICS, 'steps': 8, **changes})
        return collect_vasp_md(structure, dynamics, orm.Dict(LEVEL), **made)

    def test_later_jobs_replace_earlier_ones(self) -> None:
        results = self.collect([(0, [1.0] * 4), (2, [1.0] * 7)])
        trajectory, report = results['trajectory'], results['report']
        assert trajectory.get_stepids().tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
        assert trajectory.get_positions()[:, 0, 0].tolist() == [10, *[20] * 7]
        assert list(trajectory.symbols) == ['Cu', 'Ni', 'Cu', 'Cu']
        assert trajectory.get_positions()[0, :, 0].tolist() == [10, 13, 11, 12]
        assert trajectory.get_array('forces')[0, :, 0].tolist() == [1, 4, 2, 3]
        assert (report['n_steps'], report['n_jobs'], report['finished'], report['wall_s']) == (9, 2, True, 4.0)

    def test_theory_is_an_attribute(self) -> None:
        """Unless it is not one theory: its fingerprint has VASP's version in it."""
        jobs = [(0, [1.0] * 4), (4, [1.0] * 5)]
        attributes = self.collect(jobs)['trajectory'].base.attributes
        assert attributes.get('theory_hash') == theory_of(LEVEL, '6.4.2').fingerprint
        assert attributes.get('version') == '6.4.2'
        mixed = self.collect(jobs, versions=('6.4.2', '6.4.3'))['trajectory'].base.attributes
        assert 'theory_hash' not in mixed.all

    def test_what_is_recorded(self) -> None:
        results = self.collect([(0, [1.0] * 5), (5, [1.0, -1.0, 1.0])], equilibration=2, steps=6, stride=2)
        assert results['trajectory'].get_stepids().tolist() == [4]
        assert results['report']['n_unconverged'] == 1
        assert results['report']['finished'] is False

    def test_dynamics_that_went_astray(self) -> None:
        """Counts up to and with the frame of the large force; one of unconverged electrons says nothing."""
        results = self.collect([(0, [1.0, -99.0, 1.0, 15.0, 1.0])], max_force=50.0)
        assert results['trajectory'].get_stepids().tolist() == [2, 3]
        assert results['report']['stopped_at'] == 3

    def test_nothing_to_keep(self) -> None:
        results = self.collect([(0, [-1.0] * 9)])
        assert 'trajectory' not in results
        assert results['report']['n_unconverged'] == 8
