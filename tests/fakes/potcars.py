"""POTCARs that hold a header and no potential: enough for aiida-vasp and for the stand-in, worthless to VASP.

``python potcars.py FOLDER Cu Na_pv`` writes some.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from ase.data import atomic_masses, atomic_numbers

VALENCE = 4.0
ENERGY_CUTOFF = 250.0

HEADER = """\
  {title}
  {valence:.14f}
 parameters from PSCTR are:
   VRHFIN ={element}: none
   LEXCH  = PE
   EATOM  =    50.0000 eV,    3.6749 Ry

   TITEL  = {title}
   LULTRA =        F    use ultrasoft PP ?
   IUNSCR =        0    unscreen: 0-lin 1-nonlin 2-no
   RPACOR =      .000    partial core radius
   POMASS = {mass:8.3f}; ZVAL   = {valence:8.3f}    mass and valenz
   RCORE  =     2.000    outmost cutoff radius
   RWIGS  =     2.500; RWIGS  =     1.323    wigner-seitz radius (au A)
   ENMAX  = {cutoff:8.3f}; ENMIN  = {least:8.3f} eV
   LCOR   =        F    correct aug charges
   LPAW   =        T    paw PP

 END of PSCTR-controll parameters
 There is no potential in this file.
 End of Dataset
"""


def potcar(symbol: str) -> str:
    """Return a POTCAR without a potential.

    :param symbol: as VASP names potentials: the element, and what may follow after an underscore: ``Cu`` or ``Na_pv``.
    """
    element = symbol.partition('_')[0]
    return HEADER.format(
        title=f'PAW_PBE {symbol} 01Jan2000',
        element=element,
        mass=atomic_masses[atomic_numbers[element]],
        valence=VALENCE,
        cutoff=ENERGY_CUTOFF,
        least=0.75 * ENERGY_CUTOFF,
    )


def write_potcars(folder: Path, symbols: Iterable[str]) -> Path:
    """Write POTCARs the way VASP's are unpacked: ``folder/SYMBOL/POTCAR``; aiida-vasp insists on the symbol of TITEL there."""
    for symbol in symbols:
        path = folder / symbol / 'POTCAR'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(potcar(symbol))
    return folder


def upload_family(folder: Path, symbols: Iterable[str], name: str = 'FAKE') -> str:
    """Make a potential family of the loaded profile and return its name.

    :param folder: an empty folder to write the files to.
    """
    from aiida_vasp.data.potcar import PotcarData

    PotcarData.upload_potcar_family(write_potcars(folder, symbols), name, 'no potentials', stop_if_existing=False)
    return name


if __name__ == '__main__':
    write_potcars(Path(sys.argv[1]), sys.argv[2:])
