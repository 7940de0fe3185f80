"""VaspMdWorkChain: one trajectory by VASP, however many jobs it takes."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, WorkChain, while_
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.vasp_functions import problem_of, sort_by_element
from aiida_mlip_al.calculations.vasp_md import VaspMdCalculation, collect_vasp_md, kpoints_of, validate_dynamics
from aiida_mlip_al.config.errors import ConfigError
from aiida_mlip_al.config.vasp import VaspSettings
from aiida_mlip_al.data.vasp_md import VaspDynamics, held_vectors

from .submit_once import SubmitOnce
from .vasp_theory import find_potcar

PATIENCE = 2


class VaspMdWorkChain(SubmitOnce, WorkChain):
    """Run VASP until all steps are there; a job that was killed is continued from its last frame with its velocities."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input('structure', valid_type=orm.StructureData, help='Where the walker starts, atoms in any order.')
        spec.input('code', valid_type=orm.AbstractCode, help='VASP.')
        spec.input('theory', valid_type=orm.Dict, help='The level of theory, with the identity of its POTCARs.')
        spec.input(
            'dynamics',
            valid_type=orm.Dict,
            validator=validate_dynamics,
            help='Ensemble, temperature, steps, see `VaspDynamics`.',
        )
        spec.input(
            'max_restarts',
            valid_type=orm.Int,
            default=lambda: orm.Int(5),
            help='How often a job that did not come to its end is continued.',
        )
        spec.input('options', valid_type=dict, non_db=True, default=dict, help='Scheduler options of the jobs.')
        spec.outline(
            cls.setup,
            while_(cls.should_run)(cls.run_vasp, cls.inspect_vasp),
            cls.collect,
        )
        spec.output(
            'trajectory',
            valid_type=orm.TrajectoryData,
            required=False,
            help="The recorded frames in the structure's own order of atoms; with `energies` (TOTEN, eV), `forces` (eV/Å), "
            '`stress` (eV/Å³, ASE) and `scf_steps`; attributes `theory_hash` and `version` of VASP.',
        )
        spec.output(
            'report', valid_type=orm.Dict, required=False, help='Frames kept and dropped, jobs, wall and core time.'
        )
        spec.exit_code(310, 'ERROR_NOT_STARTED', message='VASP cannot be run: {message}')
        spec.exit_code(320, 'ERROR_NO_FRAMES', message='There is no frame to keep: {message}')
        spec.exit_code(
            400, 'ERROR_INTERRUPTED', message='The dynamics did not come to its end; its frames are kept: {message}'
        )

    def setup(self) -> ExitCode | None:
        """Group the atoms, and find POTCARs and k-points."""
        inputs, level = self.inputs, self.inputs.theory.get_dict()
        problem = problem_of(inputs.structure, VaspSettings())
        if problem is not None:
            return self.exit_codes.ERROR_NOT_STARTED.format(message=problem.message)
        self.ctx.structure = sort_by_element(inputs.structure)
        try:
            if self.dynamics.ensemble == 'npt':
                held_vectors(self.dynamics, self.ctx.structure.get_ase())
            self.ctx.potentials = {kind: potcar_of(level, kind) for kind in self.ctx.structure.get_kind_names()}
        except (ConfigError, ValueError) as error:
            return self.exit_codes.ERROR_NOT_STARTED.format(message=str(error))
        self.ctx.kpoints = kpoints_of(self.ctx.structure, inputs.theory)
        self.ctx.start = {'structure': self.ctx.structure}
        self.ctx.next_step = 0
        self.ctx.labels = []
        self.ctx.n_failed = 0
        self.ctx.n_idle = 0
        self.ctx.message = ''
        return None

    @property
    def dynamics(self) -> VaspDynamics:
        """The dynamics, parsed."""
        return VaspDynamics(**self.inputs.dynamics.get_dict())

    def should_run(self) -> bool:
        """Go on until all steps are there, or jobs failed too often or twice in a row without a step."""
        left = self.ctx.next_step <= self.dynamics.last_step
        return left and self.ctx.n_failed <= self.inputs.max_restarts.value and self.ctx.n_idle < PATIENCE

    def run_vasp(self) -> None:
        """Submit the next job."""
        label = f'segment_{len(self.ctx.labels) + 1:02d}'
        node = self.submit(
            VaspMdCalculation,
            code=self.inputs.code,
            theory=self.inputs.theory,
            dynamics=self.inputs.dynamics,
            kpoints=self.ctx.kpoints,
            potentials=self.ctx.potentials,
            metadata={'options': dict(self.inputs.options), 'call_link_label': label},
            **self.ctx.start,
        )
        self.report(f'VASP <{node.pk}>, from step {self.ctx.next_step} on')
        self.ctx.labels = [*self.ctx.labels, label]
        self.to_context(**{label: node})

    def inspect_vasp(self) -> None:
        """Take the state that the job left; without one, the next job begins as this one did."""
        node = self.ctx[self.ctx.labels[-1]]
        step = node.outputs.report['next_step'] if 'report' in node.outputs else self.ctx.next_step
        if 'report' in node.outputs:
            self.ctx.start['before'] = node.outputs.report
        if 'structure' in node.outputs:
            self.ctx.start |= {'structure': node.outputs.structure, 'velocities': node.outputs.velocities}
        self.ctx.n_idle = 0 if step > self.ctx.next_step else self.ctx.n_idle + 1
        self.ctx.next_step = step
        if not node.is_finished_ok:
            self.ctx.n_failed += 1
            self.ctx.message = node.exit_message or str(node.process_state)
            self.report(f'VASP <{node.pk}> ended before its end, {step} steps are there: {self.ctx.message}')

    def collect(self) -> ExitCode | None:
        """Make one trajectory of all jobs."""
        jobs = {label: self.ctx[label].outputs for label in self.ctx.labels}
        found = {
            'reports': {label: outputs.report for label, outputs in jobs.items() if 'report' in outputs},
            'trajectories': {label: outputs.trajectory for label, outputs in jobs.items() if 'trajectory' in outputs},
        }
        results = collect_vasp_md(
            self.inputs.structure, self.inputs.dynamics, self.inputs.theory, **{k: v for k, v in found.items() if v}
        )
        self.out_many(results)
        if 'trajectory' not in results:
            dropped = results['report']['n_unconverged']
            message = self.ctx.message or f'the electrons of all {dropped} did not converge.'
            return self.exit_codes.ERROR_NO_FRAMES.format(message=message)
        if not results['report']['finished']:
            return self.exit_codes.ERROR_INTERRUPTED.format(message=self.ctx.message)
        return None


def potcar_of(level: dict[str, Any], element: str) -> orm.Data:
    """Return the POTCAR of an element at a level of theory.

    :raises ConfigError: if the profile has none, or another one than the level of theory says.
    """
    known = level.get('potcars', {}).get(element, {})
    symbol = known.get('symbol') or level.get('potential_mapping', {}).get(element, element)
    potcar = find_potcar(level['potential_family'], element, symbol)
    if known.get('sha512', potcar.sha512) != potcar.sha512:
        raise ConfigError(
            f'The POTCAR `{symbol}` of the family `{level["potential_family"]}` is no longer that of the theory.'
        )
    return potcar
