"""VASP's input files, written by aiida-vasp."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm


def make_kpoints(structure: orm.StructureData, spacing: float | None) -> orm.KpointsData:
    """Return the Γ-centred mesh of a structure, unstored; one point along directions without periodicity.

    :param spacing: of the points, 1/Å, with 2π, as VASP's KSPACING; None for one k-point.
    """
    kpoints = orm.KpointsData()
    kpoints.set_cell_from_structure(structure)
    if spacing is None:
        kpoints.set_kpoints_mesh([1, 1, 1])
    else:
        kpoints.set_kpoints_mesh_from_density(spacing)
    return kpoints


def write_inputs(
    path: Path,
    structure: orm.StructureData,
    level: Mapping[str, Any],
    incar: Mapping[str, Any],
    kpoints: orm.KpointsData,
    potentials: Mapping[str, orm.Data],
) -> None:
    """Write INCAR, POSCAR, POTCAR and KPOINTS.

    :param structure: atoms grouped by element.
    :param level: of theory: moments and Hubbard's U go into the INCAR as the elements come.
    :param incar: the other tags.
    :param potentials: by element.
    """
    from aiida_vasp.parsers.content_parsers.incar import IncarParser
    from aiida_vasp.parsers.content_parsers.kpoints import KpointsParser
    from aiida_vasp.parsers.content_parsers.poscar import PoscarParser
    from aiida_vasp.parsers.content_parsers.potcar import MultiPotcarIo
    from aiida_vasp.utils.ldau import get_ldau_keys

    tags = dict(incar)
    if level.get('hubbard'):
        tags.update(get_ldau_keys(structure, **level['hubbard']))
    if level.get('magnetic_moments'):
        moments = [level['magnetic_moments'].get(site.kind_name, 0.6) for site in structure.sites]
        tags = {'ispin': 2, **tags, 'magmom': moments}
    IncarParser(data=orm.Dict(tags), validate_tags=False).write(str(path / 'INCAR'))
    PoscarParser(data=structure, precision=12).write(str(path / 'POSCAR'))
    KpointsParser(data=kpoints).write(str(path / 'KPOINTS'))
    needed = {kind: potentials[kind] for kind in structure.get_kind_names()}
    MultiPotcarIo.from_structure(structure, needed).write(str(path / 'POTCAR'))
