"""The calcfunctions of labels by VASP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from ase import Atoms

from aiida_mlip_al.calculations.caching import calcfunction
from aiida_mlip_al.config.vasp import NEUTRAL_TAGS, VaspSettings
from aiida_mlip_al.data import LabelData
from aiida_mlip_al.data.labelling import Rejection, Theory, geometry_problem, label_outputs, label_structure
from aiida_mlip_al.data.vasp_result import VaspRun, changed_tags, judge, label_incar, species_order, theory_of
from aiida_mlip_al.sampling.pool import Lookup

from .functions import frame_of


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
    run: VaspRun | None,
    changed: Mapping[str, Any],
    theory: Theory,
    settings: VaspSettings,
) -> LabelData | Rejection:
    """Return the label of a structure, its numbers in the structure's own order of atoms.

    :param changed: the tags that differ from those asked for; with one that belongs to the theory there is no label.
    """
    problem = problem_of(structure, settings) or judge(run, settings)
    if problem is not None or run is None or run.energy is None or run.forces is None:
        return problem or Rejection('no_result', 'VASP left no result.')
    other = sorted(set(changed) - NEUTRAL_TAGS)
    if other:
        return Rejection('theory_changed', f'handlers changed {other[0].upper()} of the level of theory.')
    forces = np.empty_like(run.forces)
    forces[species_order(structure.get_ase().get_chemical_symbols())] = run.forces
    try:
        return label_structure(
            structure, run.energy, forces, run.stress, theory, settings.periodic, run.energy_extrapolated
        )
    except ValueError as error:
        return Rejection('error', str(error))


def read_runs(
    structures: Mapping[str, orm.StructureData],
    runs: Mapping[str, VaspRun],
    changed: Mapping[str, Mapping[str, Any]],
    level: Mapping[str, Any],
    settings: VaspSettings,
) -> tuple[dict[str, LabelData], dict[str, Rejection], Theory]:
    """Return labels, rejections and the level of theory.

    :param runs: by the structure's name, where VASP left something.
    :param changed: INCAR tags that differ from those asked for.
    """
    theory = theory_of(level, next((run.version for run in runs.values() if run.version), None))
    found = {
        name: label_of(structure, runs.get(name), changed.get(name, {}), theory, settings)
        for name, structure in sorted(structures.items())
    }
    labels = {name: label for name, label in found.items() if isinstance(label, LabelData)}
    return labels, {name: reason for name, reason in found.items() if isinstance(reason, Rejection)}, theory


@calcfunction
def read_vasp(theory: orm.Dict, settings: orm.Dict, **inputs: Any) -> dict[str, Any]:
    """Make labels, their shard and the report of what VaspWorkChains found.

    :param theory: level of theory, see :func:`theory_of`.
    :param settings: see :class:`VaspSettings`.
    :param inputs: ``structures`` by name, and by the same names, where there is one, the ``misc`` and the ``parameters`` (INCAR)
        of the last run of VASP.
    """
    level, structures = theory.get_dict(), inputs['structures']
    asked, results = label_incar(level), {name: node.get_dict() for name, node in inputs.get('misc', {}).items()}
    changed = {name: changed_tags(asked, node.get_dict()) for name, node in inputs.get('parameters', {}).items()}
    runs = {name: VaspRun.from_misc(misc) for name, misc in results.items()}
    labels, rejected, named = read_runs(structures, runs, changed, level, VaspSettings(**settings.get_dict()))
    times = [misc.get('run_stats') or {} for misc in results.values()]
    wall_s, core_s = (
        float(sum(time.get(key) or 0.0 for time in times)) for key in ('elapsed_time', 'total_cpu_time_used')
    )
    outputs = label_outputs(len(structures), labels, rejected, named, wall_s, core_s)
    outputs['report']['changed'] = {name: tags for name, tags in changed.items() if tags}
    return outputs


@calcfunction
def read_vasp_md(theory: orm.Dict, settings: orm.Dict, **inputs: Any) -> dict[str, Any]:
    """Make labels, their shard and the report of frames that molecular dynamics at the level of the labels has computed.

    :param theory: level of theory of the labels, see :func:`theory_of`.
    :param settings: see :class:`VaspSettings`.
    :param inputs: ``structures`` by name, each a frame of one of the ``trajectories``, which are of one ``version`` of VASP.
    """
    structures, trajectories = inputs['structures'], inputs['trajectories']
    runs = {
        name: run_of_frame(trajectories[source], row)
        for name, (source, row) in frames_in(structures, trajectories).items()
    }
    labels, rejected, named = read_runs(structures, runs, {}, theory.get_dict(), VaspSettings(**settings.get_dict()))
    # Their time is in the report of the dynamics.
    return label_outputs(len(structures), labels, rejected, named, wall_s=0.0, core_s=0.0)


def frames_in(
    structures: Mapping[str, orm.StructureData], trajectories: Mapping[str, orm.TrajectoryData]
) -> dict[str, tuple[str, int]]:
    """Return for each structure that is a frame of a trajectory, unchanged, which one it is: name of the trajectory, and row."""
    rows: Lookup[tuple[str, int]] = Lookup()
    for name, trajectory in trajectories.items():
        for row in range(trajectory.numsteps):
            rows.add(frame_of(trajectory, row), (name, row))
    found = {name: rows.get(structure.get_ase()) for name, structure in structures.items()}
    return {name: place for name, place in found.items() if place is not None}


def run_of_frame(trajectory: orm.TrajectoryData, row: int) -> VaspRun:
    """Return what VASP found for a frame of its dynamics.

    The stress in vasprun.xml is that of the electrons and ions at rest (OUTCAR's line ``in kB``, not ``Total+kin.``).
    """
    energy, zero, forces, stress, converged = (
        trajectory.get_array(name)[row]
        for name in ('energies', 'energies_extrapolated', 'forces', 'stress', 'converged')
    )
    return VaspRun(
        finished=True,
        converged=bool(converged),
        nelm=None,
        energy=float(energy),
        forces=forces[species_order(list(trajectory.symbols))],
        stress=None if np.isnan(stress).all() else stress,
        version=trajectory.base.attributes.get('version'),
        energy_extrapolated=float(zero),
    )
