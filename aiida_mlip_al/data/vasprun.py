"""vasprun.xml, whole or cut off anywhere: the frames that were completed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np
from ase import units
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

KILOBAR = 0.1 * units.GPa
DEFAULT_NELM = 60
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """One ionic step of n atoms in VASP's order; a number that VASP could not print is NaN.

    :param cell: vectors in rows (3, 3), Å.
    :param positions: Cartesian and wrapped into the cell, (n, 3), Å.
    :param energy: free energy TOTEN (``e_fr_energy``), eV, with dispersion and without the P V that PSTRESS adds.
    :param forces: (n, 3), eV/Å.
    :param stress: (6,) in eV/Å³ with ASE's sign and order, without the motion of the ions; None if VASP computed none.
    :param scf_steps: electronic steps.
    :param converged: whether these were fewer than NELM, so that the electrons were not stopped.
    :param energy_extrapolated: the energy at zero smearing (``e_0_energy``), eV; NaN if there is none.
    """

    cell: Array
    positions: Array
    energy: float
    forces: Array
    stress: Array | None
    scf_steps: int
    converged: bool
    energy_extrapolated: float = float('nan')

    @property
    def finite(self) -> bool:
        """Whether all numbers are there that a frame needs."""
        arrays = (self.cell, self.positions, self.energy, self.forces, 0.0 if self.stress is None else self.stress)
        return all(bool(np.isfinite(values).all()) for values in arrays)


@dataclass(frozen=True)
class Vasprun:
    """What a vasprun.xml holds, as far as it goes; a file without content has no elements and no frames.

    :param version: of VASP.
    :param elements: of the n atoms.
    :param incar: tags in lower case, and their values as text.
    :param nelm: most electronic steps of a frame.
    :param finished: whether VASP came to its end.
    :param frames: completed ionic steps.
    """

    version: str | None = None
    elements: list[str] = field(default_factory=list)
    incar: dict[str, str] = field(default_factory=dict)
    nelm: int = DEFAULT_NELM
    finished: bool = False
    frames: list[Frame] = field(default_factory=list)


def read_vasprun(content: bytes) -> Vasprun:
    """Read a vasprun.xml that may be cut off anywhere, also within a number.

    Each frame stands in a block of its own, which counts if it is closed. There is no error: what cannot be read is left out.

    :param content: of the file.
    """
    generator, incar, parameters, atominfo = (
        next(_blocks(content, tag), ElementTree.Element(tag))
        for tag in ('generator', 'incar', 'parameters', 'atominfo')
    )
    version = (generator.findtext("i[@name='version']") or '').strip() or None
    elements = [
        (ion.findtext('c') or '').split('_')[0].strip() for ion in atominfo.iterfind("array[@name='atoms']/set/rc")
    ]
    tags = {str(item.get('name')).lower(): (item.text or '').strip() for item in incar if item.get('name')}
    nelm = _number(parameters.findtext(".//i[@name='NELM']"), DEFAULT_NELM)
    pressure = _number(parameters.findtext(".//i[@name='PSTRESS']"), 0.0) * KILOBAR
    return Vasprun(
        version=version,
        elements=elements,
        incar=tags,
        nelm=int(nelm),
        finished=b'</modeling>' in content[-4096:],
        frames=[_frame(block, len(elements), int(nelm), pressure) for block in _blocks(content, 'calculation')],
    )


def _blocks(content: bytes, tag: str) -> Iterator[ElementTree.Element]:
    """Yield the elements of a name that are complete and well-formed; they do not contain each other."""
    for match in re.finditer(rf'<{tag}[\s>].*?</{tag}>'.encode(), content, re.DOTALL):
        try:
            yield ElementTree.fromstring(match.group().decode('latin-1'))
        except ElementTree.ParseError:
            continue


def _frame(block: ElementTree.Element, n_atoms: int, nelm: int, pressure: float) -> Frame:
    """Read a block ``calculation``.

    :param pressure: PSTRESS, eV/Å³.
    """
    cell = _rows(block.find("structure/crystal/varray[@name='basis']"), 3)
    fractions = _rows(block.find("structure/varray[@name='positions']"), n_atoms)
    stress = block.find("varray[@name='stress']")
    steps = block.findall('scstep')
    energy = _number(block.findtext("energy/i[@name='e_fr_energy']"), np.nan)
    if pressure:
        energy -= pressure * abs(float(np.linalg.det(cell)))
    return Frame(
        cell=cell,
        positions=fractions @ cell,
        energy=energy,
        forces=_rows(block.find("varray[@name='forces']"), n_atoms),
        stress=None if stress is None else full_3x3_to_voigt_6_stress(-_rows(stress, 3) * KILOBAR),
        scf_steps=len(steps),
        converged=len(steps) < nelm,
        energy_extrapolated=energy + _extrapolation(steps[-1] if steps else None),
    )


def _extrapolation(step: ElementTree.Element | None) -> float:
    """Return how far the energy at zero smearing lies above the free energy, eV; NaN if a number is missing.

    It is read from the last electronic step: VASP 5 writes something else under the name ``e_0_energy`` of the frame.
    """
    if step is None:
        return float('nan')
    free, zero = (_number(step.findtext(f"energy/i[@name='{name}']"), np.nan) for name in ('e_fr_energy', 'e_0_energy'))
    return zero - free


def _rows(varray: ElementTree.Element | None, count: int) -> Array:
    """Return the rows (count, 3) of an array; NaN if there are others, and where Fortran wrote asterisks."""
    rows = [[_number(word, np.nan) for word in (row.text or '').split()] for row in (() if varray is None else varray)]
    if len(rows) != count or any(len(row) != 3 for row in rows):
        return np.full((count, 3), np.nan)
    return np.array(rows, dtype=float).reshape(count, 3)


def _number(text: str | None, default: float) -> float:
    try:
        return float(text or '')
    except ValueError:
        return default
