"""The calcfunctions of labels by VASP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import calcfunction
from ase import Atoms

from aiida_mlip_al.config.vasp import NEUTRAL_TAGS, VaspSettings
from aiida_mlip_al.data import LabelData
from aiida_mlip_al.data.labelling import Rejection, Theory, geometry_problem, label_outputs, label_structure
from aiida_mlip_al.data.vasp_result import VaspNumbers, changed_tags, judge, label_incar, species_order, theory_of


def sorted_atoms(structure: orm.StructureData) -> Atoms:
    """Return the structure with the atoms of each element next to each other, one kind for each element."""
    atoms = structure.get_ase()
    order = species_order(atoms.get_chemical_symbols())
    return Atoms(atoms.numbers[order], positions=atoms.positions[order], cell=atoms.cell, pbc=atoms.pbc)


@calcfunction
def sort_by_element(structure: orm.StructureData) -> orm.StructureData:
    """Return the structure with the atoms of each element next to each other.

    :param structure: atoms in any order.
    """
    return orm.StructureData(ase=sorted_atoms(structure))


def problem_of(structure: orm.StructureData, settings: VaspSettings) -> Rejection | None:
    """Return why VASP should not or cannot compute a structure, or None."""
    atoms = structure.get_ase()
    if atoms.cell.rank < 3:
        return Rejection('no_cell', 'VASP needs three cell vectors: give the structure a box.')
    return geometry_problem(atoms, settings.min_distance_fraction)


def label_of(
    structure: orm.StructureData,
    numbers: VaspNumbers,
    changed: Mapping[str, Any],
    theory: Theory,
    settings: VaspSettings,
) -> LabelData | Rejection:
    """Return the label of a structure, its numbers in the structure's own order of atoms.

    :param changed: the tags that differ from those asked for; with one that belongs to the theory there is no label.
    """
    other = sorted(set(changed) - NEUTRAL_TAGS)
    if other:
        return Rejection('theory_changed', f'handlers changed {other[0].upper()} of the level of theory.')
    forces = numbers.forces.copy()
    forces[species_order(structure.get_ase().get_chemical_symbols())] = numbers.forces
    try:
        return label_structure(structure, numbers.energy, forces, numbers.stress, theory, settings.periodic)
    except ValueError as error:
        return Rejection('error', str(error))


@calcfunction
def read_vasp(theory: orm.Dict, settings: orm.Dict, **inputs: Any) -> dict[str, Any]:
    """Make labels, their shard and the report of what VASP found.

    :param theory: level of theory, see :func:`theory_of`.
    :param settings: see :class:`VaspSettings`.
    :param inputs: ``structures`` by name, and by the same names, where there is one, the ``misc`` and the ``parameters`` (INCAR)
        of the last run of VASP.
    """
    level, parsed = theory.get_dict(), VaspSettings(**settings.get_dict())
    results = {name: node.get_dict() for name, node in inputs.get('misc', {}).items()}
    asked = label_incar(level)
    changed = {name: changed_tags(asked, node.get_dict()) for name, node in inputs.get('parameters', {}).items()}
    named = theory_of(level, next((misc['version'] for misc in results.values() if misc.get('version')), None))
    labels: dict[str, LabelData] = {}
    rejected: dict[str, Rejection] = {}
    for name, structure in sorted(inputs['structures'].items()):
        found = problem_of(structure, parsed) or judge(results.get(name), parsed)
        if isinstance(found, VaspNumbers):
            found = label_of(structure, found, changed[name], named, parsed)
        if isinstance(found, Rejection):
            rejected[name] = found
        else:
            labels[name] = found
    times = [misc.get('run_stats', {}) for misc in results.values()]
    wall_s = float(sum(time.get('elapsed_time') or 0.0 for time in times))
    core_s = float(sum((time.get('total_cpu_time_used') or 0.0) for time in times))
    outputs = label_outputs(len(inputs['structures']), labels, rejected, named, wall_s, core_s)
    outputs['report']['changed'] = {name: tags for name, tags in changed.items() if tags}
    return outputs
