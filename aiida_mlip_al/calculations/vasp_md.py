"""VaspMdCalculation: a stretch of molecular dynamics by VASP; and the calcfunctions that make one trajectory of several."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.common import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from pydantic import ValidationError

from aiida_mlip_al.calculations.caching import calcfunction
from aiida_mlip_al.config.errors import sentence
from aiida_mlip_al.data.vasp_md import VaspDynamics, iconst, md_incar
from aiida_mlip_al.data.vasp_result import species_order, theory_of

from .vasp_files import make_kpoints, write_inputs

STDOUT = 'vasp_output'


def validate_dynamics(node: orm.Dict, _: Any = None) -> str | None:
    """Refuse unknown or wrong settings."""
    try:
        VaspDynamics(**node.get_dict())
    except ValidationError as error:
        return sentence(VaspDynamics, error)
    return None


class VaspMdCalculation(CalcJob):
    """One run of VASP from a structure on, or from where the one before ended."""

    CACHE_VERSION = 1

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.input('structure', valid_type=orm.StructureData, help='Atoms of one element next to each other.')
        spec.input('theory', valid_type=orm.Dict, help='The level of theory, with the identity of its POTCARs.')
        spec.input(
            'dynamics',
            valid_type=orm.Dict,
            validator=validate_dynamics,
            help='Of the whole trajectory, see `VaspDynamics`.',
        )
        spec.input('kpoints', valid_type=orm.KpointsData, help='The mesh, the same in the whole trajectory.')
        spec.input_namespace('potentials', valid_type=orm.Data, dynamic=True, help='The POTCAR of each element.')
        spec.input(
            'velocities',
            valid_type=orm.ArrayData,
            required=False,
            help='`velocities` (n, 3) in Å/fs to begin with, atoms as in the structure; else VASP draws them.',
        )
        spec.input('before', valid_type=orm.Dict, required=False, help='The report of the job that this one continues.')
        options = spec.inputs['metadata']['options']
        options['parser_name'].default = 'mlip_al.vasp_md'
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        spec.output(
            'trajectory',
            valid_type=orm.TrajectoryData,
            required=False,
            help='All complete frames, unwrapped; with `energies` (TOTEN, eV), `forces` (eV/Å), `stress` (eV/Å³, ASE), '
            '`scf_steps` and `converged`.',
        )
        spec.output('structure', valid_type=orm.StructureData, required=False, help='Where the dynamics goes on.')
        spec.output('velocities', valid_type=orm.ArrayData, required=False, help='With which it goes on, Å/fs.')
        spec.output('report', valid_type=orm.Dict, help='Frames, the step to go on with, wall and core time.')
        spec.exit_code(310, 'ERROR_NO_FRAMES', message='VASP left no frame: {message}', invalidates_cache=True)
        spec.exit_code(
            400,
            'ERROR_INTERRUPTED',
            message='VASP was stopped before its end (time limit, node or user); the frames that it had finished are kept.',
            invalidates_cache=True,
        )

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write VASP's input files."""
        path = Path(folder.get_abs_path('.'))
        inputs = self.inputs
        level = inputs.theory.get_dict()
        write_inputs(path, inputs.structure, level, self.incar(), inputs.kpoints, inputs.potentials)
        constraints = iconst(self.dynamics, self.inputs.structure.get_ase())
        if constraints:
            (path / 'ICONST').write_text(constraints)
        if 'velocities' in self.inputs:
            append_velocities(path / 'POSCAR', self.inputs.velocities.get_array('velocities'))
        code = CodeInfo()
        code.code_uuid = self.inputs.code.uuid
        code.stdout_name, code.join_files = STDOUT, True
        calcinfo = CalcInfo()
        calcinfo.codes_info = [code]
        calcinfo.provenance_exclude_list = ['POTCAR']
        calcinfo.retrieve_list = ['vasprun.xml', 'OUTCAR', 'CONTCAR', STDOUT]
        return calcinfo

    @property
    def dynamics(self) -> VaspDynamics:
        """The dynamics, parsed."""
        return VaspDynamics(**self.inputs.dynamics.get_dict())

    def incar(self) -> dict[str, Any]:
        """Return the INCAR tags: those of the theory, and over them those of the dynamics."""
        before = self.inputs.before.get_dict() if 'before' in self.inputs else {'next_step': 0, 'job': 0}
        tags = md_incar(self.dynamics, self.inputs.structure.get_ase(), before['next_step'], before['job'] + 1)
        return {**self.inputs.theory['incar'], **tags}


def append_velocities(poscar: Path, velocities: Any) -> None:
    """Add velocities (n, 3) in Å/fs to a POSCAR."""
    rows = ''.join(' '.join(f'{value:20.12E}' for value in row) + '\n' for row in velocities)
    poscar.write_text(f'{poscar.read_text().rstrip()}\nCartesian\n{rows}')


@calcfunction
def kpoints_of(structure: orm.StructureData, theory: orm.Dict) -> orm.KpointsData:
    """Return the k-point mesh of a level of theory.

    :param structure: whose cell counts.
    :param theory: ``kpoint_spacing`` in 1/Å, with 2π; without it, one k-point.
    """
    return make_kpoints(structure, theory.get_dict().get('kpoint_spacing'))


@calcfunction
def collect_vasp_md(
    structure: orm.StructureData, dynamics: orm.Dict, theory: orm.Dict, **inputs: Any
) -> dict[str, orm.Data]:
    """Make one trajectory of those of several jobs: without the equilibration, every so many steps, converged frames only.

    :param structure: with the order of the atoms that the trajectory gets.
    :param dynamics: see :class:`VaspDynamics`.
    :param theory: level of theory; its fingerprint becomes an attribute of the trajectory, ``theory_hash``, unless the jobs were of
        several versions of VASP, and the ``version`` beside it.
    :param inputs: ``reports`` and ``trajectories``, each by the job's name in the order of the jobs.
    """
    settings = VaspDynamics(**dynamics.get_dict())
    reports = [inputs['reports'][name].get_dict() for name in sorted(inputs.get('reports', {}))]
    trajectories = [inputs['trajectories'][name] for name in sorted(inputs.get('trajectories', {}))]
    # A job that began once more at an earlier step replaces what there was.
    found = {
        int(step): (number, row)
        for number, data in enumerate(trajectories)
        for row, step in enumerate(data.get_stepids())
    }
    order = species_order(structure.get_ase().get_chemical_symbols())
    arrays = [{name: data.get_array(name) for name in data.get_arraynames()} for data in trajectories]

    def values(name: str, step: int) -> Any:
        number, row = found[step]
        return arrays[number][name][row]

    astray = (step for step in sorted(found) if too_strong(values('forces', step), values('converged', step), settings))
    stop = next(astray, math.inf)
    wanted = [step for step in settings.recorded if step in found and step <= stop]
    kept = [step for step in wanted if values('converged', step)]
    report = {
        'n_frames': len(kept),
        'n_unconverged': len(wanted) - len(kept),
        'n_nonfinite': sum(report['n_nonfinite'] for report in reports),
        'n_steps': len(found),
        'n_jobs': len(reports),
        'finished': bool(reports) and reports[-1]['next_step'] > settings.last_step,
        'stopped_at': None if math.isinf(stop) else stop,
        'wall_s': sum(report['wall_s'] for report in reports),
        'core_s': sum(report['core_s'] for report in reports),
    }
    outputs: dict[str, orm.Data] = {'report': orm.Dict(report)}
    if kept:
        data = {name: np.array([values(name, step) for step in kept]) for name in arrays[0] if name != 'steps'}
        for name in ('positions', 'forces'):
            own = np.empty_like(data[name])
            own[:, order] = data[name]
            data[name] = own
        outputs['trajectory'] = trajectory = make_trajectory(structure, kept, **data)
        versions = {report.get('version') for report in reports if report['n_frames']}
        if len(versions) == 1:
            (version,) = versions
            known = {'theory_hash': theory_of(theory.get_dict(), version).fingerprint, 'version': version}
            trajectory.base.attributes.set_many(known)
    return outputs


def too_strong(forces: Any, converged: Any, settings: VaspDynamics) -> bool:
    """Return whether a force is so large that the dynamics has gone astray."""
    return bool(converged) and float(np.linalg.norm(forces, axis=1).max()) > settings.max_force


def make_trajectory(structure: orm.StructureData, steps: Any, **arrays: Any) -> orm.TrajectoryData:
    """Return frames as TrajectoryData.

    :param structure: whose atoms these are.
    :param arrays: ``times`` (ps), ``cells`` and ``positions`` (Å), and further ones, all by frame.
    """
    trajectory = orm.TrajectoryData()
    trajectory.set_trajectory(
        symbols=structure.get_ase().get_chemical_symbols(),
        positions=arrays.pop('positions'),
        stepids=np.array(steps),
        cells=arrays.pop('cells'),
        times=arrays.pop('times'),
        pbc=list(structure.pbc),
    )
    for name, values in arrays.items():
        trajectory.set_array(name, values)
    return trajectory
