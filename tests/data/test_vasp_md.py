"""Molecular dynamics in VASP's words, and where a run that was killed goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, graphene
from pydantic import ValidationError

from aiida_mlip_al.data.vasp_md import (
    VaspDynamics,
    continue_from,
    free_directions,
    held_vectors,
    iconst,
    md_incar,
    read_contcar,
    unwrapped,
)
from aiida_mlip_al.data.vasprun import Frame


def dynamics(**changes: Any) -> VaspDynamics:
    return VaspDynamics(**{'temperature_K': 300.0, 'steps': 100, **changes})


def npt(**changes: Any) -> VaspDynamics:
    return dynamics(ensemble='npt', pressure_GPa=2.0, **changes)


def frame(positions: Any, cell: Any, forces: Any = None) -> Frame:
    """A frame as vasprun.xml has it: wrapped."""
    positions, cell = np.array(positions, dtype=float), np.array(cell, dtype=float)
    wrapped = (positions @ np.linalg.inv(cell) % 1.0) @ cell
    return Frame(cell, wrapped, 0.0, np.zeros_like(positions) if forces is None else forces, None, 5, True)


def test_constant_temperature() -> None:
    copper = bulk('Cu', cubic=True)
    tags = md_incar(dynamics(equilibration=20, timestep_fs=0.5, friction_per_fs=0.02, seed=7), copper, 31, 3)
    expected = {'ibrion': 0, 'nsw': 90, 'potim': 0.5, 'isif': 2, 'mdalgo': 3, 'tebeg': 300.0, 'teend': 300.0}
    assert {tag: tags[tag] for tag in expected} == expected
    assert tags['langevin_gamma'] == [20.0], '1/ps'
    assert tags['random_seed'] == [10, 0, 0]
    copper.symbols[[1, 3]] = 'Ni'
    assert md_incar(dynamics(), copper, 0, 1)['langevin_gamma'] == [10.0, 10.0]


def test_constant_energy() -> None:
    tags = md_incar(dynamics(ensemble='nve'), bulk('Cu'), 0, 1)
    assert (tags['mdalgo'], tags['smass'], tags['isif']) == (0, -3, 2)
    assert 'langevin_gamma' not in tags


def test_pressure_is_in_kilobar() -> None:
    tags = md_incar(npt(taup_fs=200.0), bulk('Cu', cubic=True), 0, 1)
    assert (tags['isif'], tags['mdalgo'], tags['pstress'], tags['langevin_gamma_l']) == (3, 3, 20.0, 5.0)
    assert 'lattice_constraints' not in tags
    assert iconst(npt(), bulk('Cu', cubic=True)) == ''


@pytest.mark.parametrize(
    ('first_step', 'stretch'), [(0, (300, 300, 11)), (5, (300, 300, 6)), (11, (306, 900, 100)), (61, (606, 900, 50))]
)
def test_ramp(first_step: int, stretch: tuple[int, int, int]) -> None:
    """300 K for ten steps, then 6 K a step."""
    tags = md_incar(dynamics(temperature_K=[300, 900], equilibration=10), bulk('Cu'), first_step, 1)
    assert (tags['tebeg'], tags['teend'], tags['nsw']) == pytest.approx(stretch)


def test_layers_keep_their_vacuum() -> None:
    layer = graphene(vacuum=8.0)
    layer.pbc = True
    assert held_vectors(npt(), layer).tolist() == [False, False, True], 'also if it says that it is periodic'
    assert md_incar(npt(), layer, 0, 1)['lattice_constraints'] == '.TRUE. .TRUE. .FALSE.'
    assert iconst(npt(), layer) == ''
    layer.pbc = (True, True, False)
    layer.center(vacuum=2.0, axis=2)
    assert held_vectors(npt(), layer).tolist() == [False, False, True]


def test_vectors_along_no_axis_are_held_by_iconst() -> None:
    """Also a layer that was turned, or one whose other vectors lean out of the plane."""
    layer = fcc111('Cu', (1, 1, 2), vacuum=7.0)
    layer.rotate(30, 'x', rotate_cell=True)
    held = held_vectors(npt(), layer)
    assert free_directions(layer, held) is None
    assert 'lattice_constraints' not in md_incar(npt(), layer, 0, 1)
    assert iconst(npt(), layer) == 'LR 3 0\nLA 1 3 0\nLA 2 3 0\n'
    assert iconst(dynamics(), layer) == ''
    assert iconst(npt(barostat_mask=[True, False, True]), layer) == 'LR 2 0\nLR 3 0\nLA 1 2 0\nLA 1 3 0\nLA 2 3 0\n'
    leaning = Atoms('Cu', cell=[[3, 0, 1], [0, 3, 0], [0, 0, 3]], pbc=True)
    assert free_directions(leaning, np.array([False, False, True])) is None
    assert free_directions(leaning, np.array([False, True, False])) == [True, False, True]


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'ensemble': 'npt'}, "'pressure_GPa' goes with ensemble 'npt'"),
        ({'pressure_GPa': 1.0}, "'pressure_GPa' goes with ensemble 'npt'"),
        ({'thermostat': 'bussi'}, 'langevin'),
        ({'stesp': 3}, 'stesp'),
    ],
)
def test_wrong_settings(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        dynamics(**changes)


def test_unwrapped_across_the_borders_of_a_breathing_skewed_cell() -> None:
    rng = np.random.default_rng(0)
    cell = np.array([[4.0, 0, 0], [1.5, 4.0, 0], [0.5, -1.0, 5.0]])
    cells = [cell * (1 + 0.01 * np.sin(step)) for step in range(60)]
    fractions = np.cumsum(rng.normal(0.05, 0.05, size=(60, 3, 3)), axis=0) + 2.0
    exact = [fraction @ box for fraction, box in zip(fractions, cells, strict=True)]
    frames = [frame(positions, box) for positions, box in zip(exact, cells, strict=True)]
    assert np.ptp(fractions, axis=0).min() > 1.5, 'every atom crosses'
    np.testing.assert_allclose(unwrapped(exact[0], frames), exact, atol=1e-9)


class TestContinuation:
    """A particle in a potential, moved by VASP's leapfrog."""

    timestep = 2.0
    cell = np.diag([5.0, 5.0, 5.0])
    masses = np.array([1.0, 16.0])

    def run(self, n_frames: int) -> tuple[list[Frame], list[Any], list[Any]]:
        """Return frames, positions and the velocities before each frame, in forces of -0.5 eV/Å² x."""
        positions, velocities = np.array([[0.3, 4.9, 1.0], [2.0, 0.1, 2.0]]), np.full((2, 3), 0.01)
        frames, followed, before = [], [], []
        for _ in range(n_frames):
            forces = -0.5 * (positions - 2.5)
            frames.append(frame(positions, self.cell, forces))
            followed.append(positions)
            before.append(velocities)
            velocities = velocities + forces / self.masses[:, None] * units.fs**2 * self.timestep
            positions = positions + velocities * self.timestep
        return frames, followed, before

    def test_without_a_contcar(self) -> None:
        frames, positions, velocities = self.run(8)
        count, state = continue_from(frames[:7], positions[:7], self.masses, self.timestep) or pytest.fail('no state')
        assert count == 7
        np.testing.assert_allclose(state.positions, positions[7], atol=1e-12)
        np.testing.assert_allclose(state.velocities, velocities[7], atol=1e-12)

    def test_with_one_frame(self) -> None:
        """The velocities that it began with are enough; without them it begins once more."""
        frames, positions, velocities = self.run(2)
        assert continue_from(frames[:1], positions[:1], self.masses, self.timestep) is None
        found = continue_from(frames[:1], positions[:1], self.masses, self.timestep, velocities=velocities[0])
        assert found is not None
        assert found[0] == 1
        np.testing.assert_allclose(found[1].positions, positions[1], atol=1e-12)

    def test_with_a_contcar(self) -> None:
        """Its velocities, its positions in the images that were followed; not if it is that of an earlier step."""
        frames, positions, _ = self.run(8)
        marked = np.full((2, 3), 0.123)
        ahead = continue_from(
            frames[:7], positions[:7], self.masses, self.timestep, self.contcar(positions[7] + [5.0, 0, -10.0], marked)
        )
        assert ahead is not None
        np.testing.assert_allclose(ahead[1].positions, positions[7], atol=1e-9)
        np.testing.assert_array_equal(ahead[1].velocities, marked)
        for old in (positions[6], positions[6] + 2.0):
            state = continue_from(frames[:7], positions[:7], self.masses, self.timestep, self.contcar(old, marked))
            assert state is not None
            np.testing.assert_allclose(state[1].positions, positions[7], atol=1e-9)

    def contcar(self, positions: Any, velocities: Any) -> Any:
        rows = [' '.join(f'{value:.16f}' for value in row) + '\n' for row in positions @ np.linalg.inv(self.cell) % 1.0]
        speeds = [' '.join(f'{value:.8E}' for value in row) + '\n' for row in velocities]
        head = 'c\n1.0\n5 0 0\n0 5 0\n0 0 5\nH O\n1 1\nDirect\n'
        text = head + ''.join(rows) + '\n' + ''.join(speeds)
        state = read_contcar(text, 2)
        lattice = 'Lattice velocities and vectors\n  1\n' + '0 0 0\n' * 6
        other = read_contcar(head + ''.join(rows) + lattice + '\n' + ''.join(speeds), 2)
        assert state is not None
        assert other is not None
        assert all(np.array_equal(one, two) for one, two in zip(state, other, strict=True))
        assert read_contcar(text, 3) is None
        assert all(read_contcar(text[:end], 2) is None for end in range(len(text)))
        return state

    def test_after_a_frame_that_is_not_finite(self) -> None:
        frames, positions, _ = self.run(8)
        broken = [*frames[:5], *(frame(at, self.cell, np.full((2, 3), np.nan)) for at in positions[5:])]
        found = continue_from(broken, positions, self.masses, self.timestep)
        assert found is not None
        assert found[0] == 5
        np.testing.assert_allclose(found[1].positions, positions[5], atol=1e-12)
        assert continue_from(broken[5:], positions[5:], self.masses, self.timestep) is None

    def test_nothing(self) -> None:
        assert continue_from([], [], self.masses, self.timestep) is None
        assert read_contcar('', 2) is None
