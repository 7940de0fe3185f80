"""Files that were cut off at any byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read

from aiida_mlip_al.runners.frames import FrameWriter, LineWriter, read_frames, read_lines, read_structures


@pytest.fixture
def trajectory(tmp_path: Path, ethanol: Atoms) -> Path:
    path = tmp_path / 'trajectory.xyz'
    with FrameWriter(path) as writer:
        for step in range(3):
            frame = ethanol.copy()
            frame.positions += step
            frame.info['step'] = step
            frame.set_momenta(np.full((9, 3), 0.25))
            frame.calc = SinglePointCalculator(frame, energy=-1.5, forces=np.full((9, 3), 0.125))
            writer.write(frame)
    return path


def test_writes_what_ase_reads(trajectory: Path, ethanol: Atoms) -> None:
    last = read(trajectory, index=-1)
    assert last.positions == pytest.approx(ethanol.positions + 2, abs=1e-8)
    assert last.get_potential_energy() == -1.5
    assert last.get_forces() == pytest.approx(np.full((9, 3), 0.125))
    assert last.get_momenta() == pytest.approx(np.full((9, 3), 0.25))
    assert not last.pbc.any()


def test_a_file_cut_at_any_byte_gives_its_complete_frames(trajectory: Path, tmp_path: Path) -> None:
    whole = trajectory.read_bytes()
    size = len(whole) // 3
    cut = tmp_path / 'cut.xyz'
    for length in range(0, len(whole) + 1, 17):
        cut.write_bytes(whole[:length])
        assert [frame.info['step'] for frame in read_frames(cut)] == list(range(length // size))
    cut.write_bytes(whole[:-1])
    assert len(read_frames(cut)) == 2
    cut.write_bytes(whole)
    assert len(read_frames(cut)) == 3


def test_a_frame_broken_in_the_middle_is_an_error(trajectory: Path) -> None:
    lines = trajectory.read_text().splitlines(keepends=True)
    trajectory.write_text(''.join(lines[:5] + lines[6:]))
    with pytest.raises(ValueError, match='number of atoms'):
        read_frames(trajectory)


def test_positions_outside_the_cell_stay_there(tmp_path: Path) -> None:
    crystal = bulk('Cu', cubic=True)
    crystal.positions += 100
    with FrameWriter(tmp_path / 'crystal.xyz') as writer:
        writer.write(crystal)
    assert read_frames(tmp_path / 'crystal.xyz')[0].positions == pytest.approx(crystal.positions, abs=1e-8)


def test_lines_cut_off_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / 'table.jsonl'
    with LineWriter(path) as writer:
        writer.write({'step': 0})
        writer.write({'step': 1})
    path.write_bytes(path.read_bytes()[:-1])
    assert read_lines(path) == [{'step': 0}]


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    with LineWriter(tmp_path / 'table.jsonl') as writer, pytest.raises(ValueError):
        writer.write({'energy': float('nan')})


def test_input_structures_must_be_complete(trajectory: Path, tmp_path: Path) -> None:
    assert len(read_structures(trajectory)) == 3
    with pytest.raises(ValueError, match='does not exist'):
        read_structures(tmp_path / 'missing.xyz')
    trajectory.write_text('')
    with pytest.raises(ValueError, match='holds no structure'):
        read_structures(trajectory)
