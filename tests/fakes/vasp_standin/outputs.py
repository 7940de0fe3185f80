"""VASP's output files, with the digits of VASP 6."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .electrons import Electrons
from .inputs import Array, Incar, Potential, Structure

VERSION = '6.4.3'
KILOBAR_PER_EV = 1602.1766208
"""kB in 1 eV/Å³. A stress in kB has the opposite sign of ASE's: positive is compressed."""
RULE = '-' * 104


@dataclass
class Setting:
    """What stays the same in a run.

    :param kpoints: fractional, (k, 3); weights (k,).
    """

    incar: Incar
    potentials: Sequence[Potential]
    kpoints: Array
    weights: Array
    nsw: int
    ibrion: int

    @property
    def nelm(self) -> int:
        return self.incar.integer('NELM', 60)

    @property
    def spins(self) -> int:
        return self.incar.integer('ISPIN', 1)

    def electrons(self, structure: Structure) -> float:
        """Return the number of valence electrons."""
        counts = (count for _, count in structure.groups)
        return sum(count * potential.valence for count, potential in zip(counts, self.potentials, strict=True))

    def bands(self, structure: Structure) -> int:
        """Return the number of bands: NBANDS, or those that are filled and half a band an ion."""
        default = int(self.electrons(structure) / 2 + max(3, len(structure.elements) / 2))
        return self.incar.integer('NBANDS', default)


@dataclass
class Frame:
    """One ionic step: structure as it was evaluated, and what came out.

    :param kinetic: kinetic energy of the ions in eV.
    :param temperature: in K; both are zero but in molecular dynamics.
    :param pressure: PSTRESS in kB, which makes an enthalpy of the energies outside the electronic steps of vasprun.xml.
    """

    number: int
    structure: Structure
    electrons: Electrons
    kinetic: float = 0.0
    temperature: float = 0.0
    pressure: float = 0.0

    @property
    def kilobar(self) -> Array:
        """Stress (3, 3) in kB, VASP's sign."""
        return -self.electrons.stress * KILOBAR_PER_EV

    @property
    def volume(self) -> float:
        """Volume of the cell in Å³."""
        return abs(float(np.linalg.det(self.structure.cell)))


def row(values: Iterable[float], form: str = '16.8f') -> str:
    return ' '.join(f'{value:{form}}' for value in values)


# vasprun.xml


def varray(name: str, rows: Iterable[Iterable[float]], indent: str) -> str:
    body = ''.join(f'{indent} <v> {row(values)} </v>\n' for values in rows)
    return f'{indent}<varray name="{name}" >\n{body}{indent}</varray>\n'


def xml_structure(structure: Structure, indent: str, name: str = '') -> str:
    cell = structure.cell
    attribute = f' name="{name}"' if name else ''
    selective = ''
    if not structure.movable.all():
        flags = (' '.join('T' if free else 'F' for free in ion) for ion in structure.movable)
        body = ''.join(f'{indent}  <v type="logical" > {ion} </v>\n' for ion in flags)
        selective = f'{indent} <varray type="logical" name="selective" >\n{body}{indent} </varray>\n'
    return (
        f'{indent}<structure{attribute} >\n{indent} <crystal>\n'
        + varray('basis', cell, indent + '  ')
        + f'{indent}  <i name="volume"> {abs(np.linalg.det(cell)):16.8f} </i>\n'
        + varray('rec_basis', np.linalg.inv(cell).T, indent + '  ')
        + f'{indent} </crystal>\n'
        + varray('positions', structure.fractions % 1.0, indent + ' ')
        + selective
        + f'{indent}</structure>\n'
    )


def xml_energies(free_energy: float, electrons: Electrons, indent: str, more: dict[str, float] | None = None) -> str:
    energies = {
        'e_fr_energy': free_energy,
        'e_wo_entrp': free_energy + electrons.entropy,
        'e_0_energy': free_energy + electrons.extrapolation,
        **(more or {}),
    }
    body = ''.join(f'{indent} <i name="{name}"> {value:16.8f} </i>\n' for name, value in energies.items())
    return f'{indent}<energy>\n{body}{indent}</energy>\n'


def xml_header(setting: Setting, structure: Structure) -> str:
    incar = setting.incar
    integers = {
        'electronic': {
            'NELM': setting.nelm,
            'ISPIN': setting.spins,
            'ISMEAR': incar.integer('ISMEAR', 1),
            'NBANDS': setting.bands(structure),
        },
        'ionic': {'NSW': setting.nsw, 'IBRION': setting.ibrion, 'ISIF': incar.integer('ISIF', 2)},
    }
    reals = {
        'electronic': {
            'ENMAX': incar.real('ENCUT', 300.0),
            'EDIFF': incar.real('EDIFF', 1e-4),
            'SIGMA': incar.real('SIGMA', 0.2),
            'NELECT': setting.electrons(structure),
        },
        'ionic': {
            'POTIM': incar.real('POTIM', 0.5),
            'TEBEG': incar.real('TEBEG', 0.0),
            'PSTRESS': incar.real('PSTRESS', 0.0),
        },
    }
    separators = ''
    for group, tags in integers.items():
        body = ''.join(f'   <i type="int" name="{tag}">{value:8d}</i>\n' for tag, value in tags.items())
        body += ''.join(f'   <i name="{tag}">{value:16.8f}</i>\n' for tag, value in reals[group].items())
        separators += f'  <separator name="{group}" >\n{body}  </separator>\n'
    types = list(enumerate(zip(structure.groups, setting.potentials, strict=True), start=1))
    ions = ''.join(
        f'    <rc><c>{potential.element:2s}</c><c>{number:4d}</c></rc>\n' * count
        for number, ((_, count), potential) in types
    )
    kinds = ''.join(
        f'    <rc><c>{count:4d}</c><c>{potential.element:2s}</c><c>{potential.mass:16.8f}</c>'
        f'<c>{potential.valence:16.8f}</c><c>  {potential.title}</c></rc>\n'
        for _, ((_, count), potential) in types
    )
    assignments = ''.join(f'  <i type="string" name="{tag}"> {value}</i>\n' for tag, value in incar.items())
    return f"""\
<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator>
  <i name="program" type="string">vasp </i>
  <i name="version" type="string">{VERSION}  </i>
  <i name="subversion" type="string">stand-in for tests, no VASP code </i>
 </generator>
 <incar>
{assignments} </incar>
 <kpoints>
{varray('kpointlist', setting.kpoints, '  ')}{varray('weights', setting.weights[:, None], '  ')} </kpoints>
 <parameters>
{separators} </parameters>
 <atominfo>
  <atoms> {len(structure.elements):7d} </atoms>
  <types> {len(types):7d} </types>
  <array name="atoms" >
   <dimension dim="1">ion</dimension>
   <field type="string">element</field>
   <field type="int">atomtype</field>
   <set>
{ions}   </set>
  </array>
  <array name="atomtypes" >
   <dimension dim="1">type</dimension>
   <field type="int">atomspertype</field>
   <field type="string">element</field>
   <field>mass</field>
   <field>valence</field>
   <field type="string">pseudopotential</field>
   <set>
{kinds}   </set>
  </array>
 </atominfo>
{xml_structure(structure, ' ', 'initialpos')}"""


def xml_frame(frame: Frame) -> str:
    electrons = frame.electrons
    more = {'kinetic': frame.kinetic, 'lattice kinetic': 0.0, 'nosepot': 0.0, 'nosekinetic': 0.0}
    enthalpy = electrons.free_energies[-1] + frame.pressure / KILOBAR_PER_EV * frame.volume
    return (
        ' <calculation>\n'
        + ''.join(
            f'  <scstep>\n{xml_energies(energy, electrons, "   ")}  </scstep>\n' for energy in electrons.free_energies
        )
        + xml_structure(frame.structure, '  ')
        + varray('forces', electrons.forces, '  ')
        + varray('stress', frame.kilobar, '  ')
        + xml_energies(enthalpy, electrons, '  ', more | {'total': enthalpy + frame.kinetic})
    )


def xml_bands(setting: Setting, structure: Structure) -> str:
    """Return equally spaced bands, filled from below, and their density of states: something to parse, nothing physical."""
    bands, filled = setting.bands(structure), setting.electrons(structure) / 2
    levels = [(band - filled + 0.5, float(np.clip(filled - band, 0, 1))) for band in range(bands)]
    states = ''.join(f'        <r> {row(level)} </r>\n' for level in levels)
    points = (f'       <set comment="kpoint {k}">\n{states}       </set>\n' for k in range(1, len(setting.kpoints) + 1))
    density = ''.join(f'       <r> {row((level, 1.0, band + 1.0))} </r>\n' for band, (level, _) in enumerate(levels))
    return f"""\
  <eigenvalues>
   <array>
    <dimension dim="1">band</dimension>
    <dimension dim="2">kpoint</dimension>
    <dimension dim="3">spin</dimension>
    <field>eigene</field>
    <field>occ</field>
{xml_spins(setting, ''.join(points))}   </array>
  </eigenvalues>
  <dos>
   <i name="efermi"> {0:16.8f} </i>
   <total>
    <array>
     <dimension dim="1">gridpoints</dimension>
     <dimension dim="2">spin</dimension>
     <field>energy</field>
     <field>total</field>
     <field>integrated</field>
{xml_spins(setting, density)}    </array>
   </total>
  </dos>
"""


def xml_spins(setting: Setting, content: str) -> str:
    spins = (f'     <set comment="spin {spin}">\n{content}     </set>\n' for spin in range(1, setting.spins + 1))
    return f'    <set>\n{"".join(spins)}    </set>\n'


# OUTCAR


def outcar_header(setting: Setting, structure: Structure) -> str:
    counts = row((count for _, count in structure.groups), '4d')
    titles = [potential.title for potential in setting.potentials]
    points = ''.join(
        f' {row(point, "11.8f")} {weight:11.3f}\n'
        for point, weight in zip(setting.kpoints, setting.weights, strict=True)
    )
    return (
        f' vasp.{VERSION} stand-in for tests, no VASP code\n executed on             ASE\n\n'
        + ''.join(f' POTCAR:    {title}\n' for title in titles) * 2
        + ''.join(f'   TITEL  = {title}\n' for title in titles)
        + '\n Dimension of arrays:\n'
        f'   k-points           NKPTS = {len(setting.kpoints):6d}   k-points in BZ     NKDIM = {len(setting.kpoints):6d}'
        f'   number of bands    NBANDS= {setting.bands(structure):6d}\n'
        f'   number of dos      NEDOS =    301   number of ions     NIONS = {len(structure.elements):6d}\n'
        f'   ions per type =              {counts}\n\n'
        f'   ISPIN  = {setting.spins:6d}    spin polarized calculation?\n'
        f'   NELM   = {setting.nelm:6d};   NELMIN= {setting.incar.integer("NELMIN", 2):2d}; NELMDL= -5     # of ELM steps\n'
        f'   NSW    = {setting.nsw:6d}    number of steps for IOM\n'
        f'   IBRION = {setting.ibrion:6d}    ionic relax: 0-MD 1-quasi-New 2-CG\n'
        f'   NELECT = {setting.electrons(structure):13.4f}    total number of electrons\n\n'
        f' k-points in reciprocal lattice and weights: \n{points}\n'
    )


def outcar_frame(frame: Frame) -> str:
    electrons, structure = frame.electrons, frame.structure
    energy = electrons.free_energies[-1]
    reached = 'because EDIFF is reached' if electrons.converged else 'EDIFF was not reached (unconverged)'
    steps = ''.join(
        f'{"-" * 40} Iteration {frame.number:6d}({step:4d})  {"-" * 40}\n\n'
        '     LOOP:  cpu time      0.0100: real time      0.0100\n'
        f'  free energy    TOTEN  = {value:18.8f} eV\n\n'
        for step, value in enumerate(electrons.free_energies, start=1)
    )
    kilobar = frame.kilobar
    voigt = [kilobar[index] for index in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))]
    vectors = zip(structure.cell, np.linalg.inv(structure.cell).T, strict=True)
    ions = zip((structure.fractions % 1.0) @ structure.cell, electrons.forces, strict=True)
    motion = (
        f'  kinetic energy EKIN   = {frame.kinetic:16.6f}\n  kin. lattice  EKIN_LAT= {0.0:16.6f}'
        f'  (temperature {frame.temperature:8.2f} K)\n\n'
        if frame.kinetic
        else ''
    )
    return (
        steps
        + f'{RULE[:24]} aborting loop {reached} {RULE[:24]}\n\n\n'
        + ' E-fermi :   0.0000\n\n'
        + '  FORCE on cell =-STRESS in cart. coord.  units (eV):\n'
        + '  Direction    XX          YY          ZZ          XY          YZ          ZX\n'
        + f'  in kB   {row(voigt, "11.5f")}\n'
        + f'  external pressure = {np.trace(kilobar) / 3 - frame.pressure:11.2f} kB  Pullay stress = {frame.pressure:11.2f} kB\n\n'
        + f'  volume of cell : {frame.volume:12.4f}\n      direct lattice vectors                 reciprocal lattice vectors\n'
        + ''.join(f'    {row((*direct, *reciprocal), "12.9f")}\n' for direct, reciprocal in vectors)
        + f'\n POSITION                                       TOTAL-FORCE (eV/Angst)\n {RULE[:83]}\n'
        + ''.join(f' {row(position, "12.5f")}   {row(force, "13.6f")}\n' for position, force in ions)
        + f' {RULE[:83]}\n\n  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  {RULE[:51]}\n'
        + f'  free  energy   TOTEN  = {energy:18.8f} eV\n\n'
        + f'  energy  without entropy= {energy + electrons.entropy:18.8f}'
        + f'  energy(sigma->0) = {energy + electrons.extrapolation:18.8f}\n\n{motion}'
    )


def outcar_footer(seconds: float) -> str:
    times = ('Total CPU time used', 'User time', 'System time', 'Elapsed time')
    return (
        '\n\n General timing and accounting informations for this job:\n '
        + '=' * 56
        + '\n\n'
        + ''.join(f'{name + " (sec):":>44s} {seconds:12.3f}\n' for name in times)
        + f'\n{"Maximum memory used (kb):":>44s} {100000:12d}.\n{"Average memory used (kb):":>44s}          N/A\n\n'
        + ''.join(
            f'{name + ":":>44s} {0:12d}\n'
            for name in ('Minor page faults', 'Major page faults', 'Voluntary context switches')
        )
    )


# the others


def oszicar_frame(frame: Frame, dynamics: bool) -> str:
    """Return the lines of an ionic step that OSZICAR and what VASP prints have in common."""
    electrons = frame.electrons
    changes = np.diff(electrons.free_energies, prepend=0.0)
    steps = ''.join(
        f'DAV: {step:3d}    {energy:19.12E}   {change:12.5E}\n'
        for step, (energy, change) in enumerate(zip(electrons.free_energies, changes, strict=True), start=1)
    )
    free_energy = electrons.free_energies[-1]
    zero = free_energy + electrons.extrapolation
    energies = f'F= {free_energy:.8E} E0= {zero:.8E}'
    if dynamics:
        summary = (
            f'{frame.number:7d} T= {frame.temperature:6.0f}. E= {free_energy + frame.kinetic:.8E} {energies}  '
            f'EK= {frame.kinetic:.5E} SP= 0.00E+00 SK= 0.00E+00\n'
        )
    else:
        summary = f'{frame.number:4d} {energies}  d E ={free_energy - zero:.6E}\n'
    return f'       N       E                     dE\n{steps}{summary}'


def contcar(structure: Structure, variable_cell: bool) -> str:
    """Return a CONTCAR: with velocities, zero unless ions moved, and those of the lattice where the cell varies."""
    selective = not structure.movable.all()
    flags = ['   ' + '   '.join('T' if free else 'F' for free in ion) if selective else '' for ion in structure.movable]
    velocities = np.zeros_like(structure.fractions) if structure.velocities is None else structure.velocities
    vectors = [f' {row(vector, "15.8E")}\n' for vector in (*np.zeros((3, 3)), *structure.cell)]
    ions = zip(structure.fractions % 1.0, flags, strict=True)
    return (
        f'{structure.comment}\n   1.00000000000000     \n'
        + ''.join(f'  {row(vector, "21.16f")}\n' for vector in structure.cell)
        + ''.join(f'   {name:4s}' for name, _ in structure.groups)
        + '\n'
        + ''.join(f'{count:6d}' for _, count in structure.groups)
        + ('\nSelective dynamics\nDirect\n' if selective else '\nDirect\n')
        + ''.join(f'{row(position, "19.16f")}{flag}\n' for position, flag in ions)
        + ('Lattice velocities and vectors\n  1\n' + ''.join(vectors) if variable_cell else '')
        + '\n'
        + ''.join(f' {row(velocity, "15.8E")}\n' for velocity in velocities)
    )


class Files:
    """vasprun.xml, OUTCAR and OSZICAR of a run: whatever has been said is on the disk, whenever the run is killed."""

    def __init__(self, folder: Path, setting: Setting, structure: Structure) -> None:
        self.setting = setting
        self.xml, self.outcar, self.oszicar = (
            (folder / name).open('w') for name in ('vasprun.xml', 'OUTCAR', 'OSZICAR')
        )
        self._write(xml_header(setting, structure), outcar_header(setting, structure), '')

    def _write(self, xml: str, outcar: str, oszicar: str) -> None:
        for file, text in ((self.xml, xml), (self.outcar, outcar), (self.oszicar, oszicar)):
            file.write(text)
            file.flush()

    def add(self, frame: Frame, last: bool, fraction: float = 1.0) -> None:
        """Write an ionic step.

        :param fraction: how much of its text: less than one where the run is cut off.
        """
        xml = xml_frame(frame) + (xml_bands(self.setting, frame.structure) if last else '')
        xml += '  <time name="totalsc">    0.01    0.01</time>\n </calculation>\n'
        texts = (xml, outcar_frame(frame), oszicar_frame(frame, dynamics=self.setting.ibrion == 0))
        self._write(*(text[: round(fraction * len(text))] for text in texts))

    def finish(self, structure: Structure, seconds: float) -> None:
        """Write what VASP writes at its regular end."""
        self._write(xml_structure(structure, ' ', 'finalpos') + '</modeling>\n', outcar_footer(seconds), '')

    def close(self) -> None:
        for file in (self.xml, self.outcar, self.oszicar):
            file.close()
