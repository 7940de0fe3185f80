"""Parser of VaspMdCalculation: every frame that was completed, however the run ended, and where it can go on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser
from ase import Atoms

from aiida_mlip_al.calculations.vasp_md import STDOUT, make_trajectory
from aiida_mlip_al.data.vasp_md import State, VaspDynamics, continue_from, read_contcar, unwrapped
from aiida_mlip_al.data.vasprun import Frame, read_vasprun

Followed = list[tuple[int, Frame, np.ndarray]]


class VaspMdParser(Parser):
    """Trajectory, report, and the state that the next job begins with."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved files."""
        inputs = self.node.inputs
        structure, dynamics = inputs.structure, VaspDynamics(**inputs.dynamics.get_dict())
        before = inputs.before.get_dict() if 'before' in inputs else {'next_step': 0, 'job': 0}
        first_step = before['next_step']
        vasprun = read_vasprun(self.read('vasprun.xml'))
        atoms = structure.get_ase()
        frames = vasprun.frames if len(vasprun.elements) == len(atoms) else []
        positions = unwrapped(atoms.positions, frames)
        found = continue_from(
            frames,
            positions,
            atoms.get_masses(),
            dynamics.timestep_fs,
            read_contcar(self.read('CONTCAR').decode(errors='replace'), len(atoms)),
            inputs.velocities.get_array('velocities') if 'velocities' in inputs else None,
        )
        steps = enumerate(zip(frames, positions, strict=True), start=first_step)
        finite = [(step, frame, at) for step, (frame, at) in steps if frame.finite]
        if finite:
            self.out('trajectory', trajectory_of(structure, finite, dynamics.timestep_fs))
        if found is not None:
            self.emit_state(atoms, found[1])
        wall_s, core_s = times_of(self.read('OUTCAR').decode(errors='replace'))
        self.out(
            'report',
            orm.Dict(
                {
                    'job': before['job'] + 1,
                    'first_step': first_step,
                    'next_step': first_step + (0 if found is None else found[0]),
                    'n_frames': len(finite),
                    'n_unconverged': sum(not frame.converged for _, frame, _ in finite),
                    'n_nonfinite': len(frames) - len(finite),
                    'finished': vasprun.finished,
                    'version': vasprun.version,
                    'wall_s': wall_s,
                    'core_s': core_s,
                }
            ),
        )
        return self.verdict(vasprun.finished, bool(finite))

    def verdict(self, finished: bool, has_frames: bool) -> ExitCode | None:
        """Return why the job failed; the scheduler's own reason stands where there is one."""
        if finished and has_frames:
            return None
        if self.node.exit_status:
            return ExitCode(self.node.exit_status, self.node.exit_message, invalidates_cache=True)
        if has_frames:
            return self.exit_codes.ERROR_INTERRUPTED
        lines = self.read(STDOUT).decode(errors='replace').splitlines()
        message = next((line.strip() for line in reversed(lines) if line.strip()), 'it printed nothing.')
        return self.exit_codes.ERROR_NO_FRAMES.format(message=message[:300])

    def emit_state(self, atoms: Atoms, state: State) -> None:
        """Attach structure and velocities to go on with."""
        there = Atoms(atoms.numbers, positions=state.positions, cell=state.cell, pbc=atoms.pbc)
        self.out('structure', orm.StructureData(ase=there))
        velocities = orm.ArrayData()
        velocities.set_array('velocities', state.velocities)
        self.out('velocities', velocities)

    def read(self, name: str) -> bytes:
        """Return a retrieved file, or nothing if it is not there."""
        repository = self.retrieved.base.repository
        return repository.get_object_content(name, mode='rb') if name in repository.list_object_names() else b''


def trajectory_of(structure: orm.StructureData, frames: Followed, timestep: float) -> orm.TrajectoryData:
    """Return frames by step with their unwrapped positions as TrajectoryData.

    :param timestep: fs.
    """
    steps = [step for step, _, _ in frames]
    none = np.full(6, np.nan)
    return make_trajectory(
        structure,
        steps,
        times=np.array(steps) * timestep / 1000,
        positions=np.array([positions for _, _, positions in frames]),
        cells=np.array([frame.cell for _, frame, _ in frames]),
        energies=np.array([frame.energy for _, frame, _ in frames]),
        energies_extrapolated=np.array([frame.energy_extrapolated for _, frame, _ in frames]),
        forces=np.array([frame.forces for _, frame, _ in frames]),
        stress=np.array([none if frame.stress is None else frame.stress for _, frame, _ in frames]),
        scf_steps=np.array([frame.scf_steps for _, frame, _ in frames]),
        converged=np.array([frame.converged for _, frame, _ in frames]),
    )


def times_of(outcar: str) -> tuple[float, float]:
    """Return wall and processor time in s; of a killed run, the sum over its ionic steps."""
    found = [re.findall(rf'{name} \(sec\):\s*([\d.]+)', outcar) for name in ('Elapsed time', 'Total CPU time used')]
    if all(found):
        return float(found[0][-1]), float(found[1][-1])
    steps = re.findall(r'LOOP\+:\s*cpu time\s*([\d.]+): real time\s*([\d.]+)', outcar)
    return sum(float(wall) for _, wall in steps), sum(float(core) for core, _ in steps)
