"""vasprun.xml, whole, cut off and broken, against what ASE reads of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from fakes.potcars import potcar
from fakes.vasp_standin.__main__ import run

from aiida_mlip_al.data.vasprun import Frame, Vasprun, read_vasprun


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Molecular dynamics of four interleaved atoms under pressure, six frames."""
    folder = tmp_path_factory.mktemp('vasp')
    atoms = bulk('Cu', cubic=True)
    atoms.symbols[[2, 3]] = 'Ni'
    atoms.rattle(0.05, seed=0)
    write(folder / 'POSCAR', atoms, format='vasp', direct=True)
    (folder / 'POTCAR').write_text(potcar('Cu') + potcar('Ni'))
    (folder / 'INCAR').write_text('IBRION = 0\nNSW = 6\nPOTIM = 2\nTEBEG = 600\nSMASS = -3\nNELM = 40\nSIGMA = 0.1\n')
    assert run(folder, {}) == 0
    return folder


@pytest.fixture(scope='module')
def content(folder: Path) -> bytes:
    return (folder / 'vasprun.xml').read_bytes()


def same(first: Frame, second: Frame) -> bool:
    names = ('cell', 'positions', 'energy', 'forces', 'stress', 'scf_steps')
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


def test_numbers_are_those_of_ase(folder: Path, content: bytes) -> None:
    found = read_vasprun(content)
    expected = read(folder / 'vasprun.xml', index=':', format='vasp-xml')
    assert found.finished
    assert found.version == '6.4.3'
    assert found.elements == ['Cu', 'Cu', 'Ni', 'Ni']
    assert found.incar['nsw'] == '6'
    assert found.nelm == 40
    assert len(found.frames) == len(expected) == 6
    for frame, atoms in zip(found.frames, expected, strict=True):
        np.testing.assert_allclose(frame.cell, atoms.cell.array, atol=1e-10)
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(frame.forces, atoms.get_forces(apply_constraint=False), atol=1e-10)
        np.testing.assert_allclose(frame.stress, atoms.get_stress(), atol=1e-10)
        assert frame.energy == atoms.get_potential_energy(force_consistent=True)
        assert frame.energy != pytest.approx(atoms.get_potential_energy(), abs=1e-3), 'not the one for sigma -> 0'
        assert frame.energy_extrapolated == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    assert [frame.scf_steps for frame in found.frames] == [12, 6, 6, 6, 6, 6]
    assert all(frame.converged and frame.finite for frame in found.frames)


def test_cut_off_anywhere(content: bytes) -> None:
    """Never an error, and always the frames that were closed before, to the bit."""
    whole = read_vasprun(content).frames
    ends = [match.end() for match in re.finditer(b'</calculation>', content)]
    offsets = {*range(0, len(content), 397), *(end + shift for end in ends for shift in (-1, 0, 1))}
    for offset in sorted(offsets):
        found = read_vasprun(content[:offset])
        assert len(found.frames) == sum(end <= offset for end in ends), offset
        assert all(map(same, found.frames, whole)), offset
        assert not found.finished


def test_a_file_without_content() -> None:
    assert read_vasprun(b'') == Vasprun()
    assert read_vasprun(b'\x00\xff<calculation>&</calculation>').frames == []


@pytest.mark.parametrize('word', [b'NaN', b'**************', b'-1.0-100.0'])
def test_what_fortran_cannot_print(content: bytes, word: bytes) -> None:
    """The frame is not finite, the others are what they were."""
    at = content.index(b'name="forces"', content.index(b'</calculation>'))
    start = content.index(b'<v>', at) + 4
    broken = content[:start] + content[start:].replace(content[start:].split()[0], word, 1)
    frames, whole = read_vasprun(broken).frames, read_vasprun(content).frames
    assert [frame.finite for frame in frames] == [True, False, True, True, True, True]
    assert same(frames[0], whole[0])
    assert same(frames[2], whole[2])
    assert np.array_equal(frames[1].positions, whole[1].positions)


def test_no_stress(content: bytes) -> None:
    text = re.sub(rb'<varray name="stress" >.*?</varray>', b'', content, flags=re.DOTALL)
    frames = read_vasprun(text).frames
    assert len(frames) == 6
    assert all(frame.stress is None and frame.finite for frame in frames)


def test_as_many_electronic_steps_as_are_allowed(content: bytes) -> None:
    """The first frame takes twelve, the others six."""
    frames = read_vasprun(content.replace(b'name="NELM">      40<', b'name="NELM">      12<')).frames
    assert [frame.converged for frame in frames] == [False, True, True, True, True, True]


def test_extrapolated_energy_of_old_versions(content: bytes) -> None:
    """VASP 5 writes T S where the energy at zero smearing should stand, and that one where the energy without T S should."""
    swapped = re.sub(
        rb'(?s)(</varray>\s*<energy>.*?"e_wo_entrp"> )[^<]*(<.*?"e_0_energy"> )[^<]*<',
        rb'\g<1>-1.0 \g<2>-0.4 <',
        content,
    )
    assert swapped.count(b'-0.4 <') == 6
    found, expected = read_vasprun(swapped).frames, read_vasprun(content).frames
    assert [frame.energy_extrapolated for frame in found] == [frame.energy_extrapolated for frame in expected]
    without = read_vasprun(content.replace(b'"e_0_energy"', b'"e_1_energy"')).frames
    assert all(np.isnan(frame.energy_extrapolated) and frame.finite for frame in without)


def test_external_pressure_is_not_part_of_the_energy(folder: Path, content: bytes) -> None:
    incar = (folder / 'INCAR').read_text()
    (folder / 'INCAR').write_text(incar + 'PSTRESS = 50\n')
    assert run(folder, {}) == 0
    squeezed = (folder / 'vasprun.xml').read_bytes()
    (folder / 'INCAR').write_text(incar)
    expected = read_vasprun(content).frames[0].energy
    written = float(re.findall(rb'"e_fr_energy">\s*(\S+)', squeezed.split(b'</scstep>')[12])[0])
    assert written > expected + 1
    found = read_vasprun(squeezed).frames[0]
    assert found.energy == pytest.approx(expected, abs=1e-6)
    # T S of four ions with Methfessel and Paxton's first order.
    assert found.energy_extrapolated == pytest.approx(expected + 0.4 / 3, abs=1e-6)
