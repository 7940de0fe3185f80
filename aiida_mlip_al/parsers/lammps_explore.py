"""Parser of LammpsExploreCalculation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser

from aiida_mlip_al.calculations.lammps_explore import STATUS, STOPPED_RESTART
from aiida_mlip_al.data import DeviationData
from aiida_mlip_al.lammps.box import Box
from aiida_mlip_al.lammps.dump import read_dump
from aiida_mlip_al.lammps.frames import End, Frames, sound_frames, walker_frames
from aiida_mlip_al.lammps.log import Log, read_log
from aiida_mlip_al.lammps.script import FILES
from aiida_mlip_al.lammps.settings import LammpsExploreSettings
from aiida_mlip_al.sampling.base import parse_parameters

WALKER = 'walker_00'
INTERRUPTED = ('killed', 'terminated', 'timeout')
_END_OF_RESTART = b'LammpS RestartT'
_NOT_FINITE = re.compile(r'not finite|[Nn]on-numeric')


class LammpsExploreParser(Parser):
    """Trajectory, deviations and thermo of what was written, in the structure's frame of reference."""

    folder: Path | None
    settings: LammpsExploreSettings

    def parse(self, retrieved_temporary_folder: str | None = None, **_: Any) -> ExitCode | None:
        """Parse the retrieved files, whatever state they were left in."""
        self.folder = Path(retrieved_temporary_folder) if retrieved_temporary_folder else None
        self.settings = parse_parameters('explore', LammpsExploreSettings, self.node.inputs.dynamics.get_dict())
        log, status = read_log(self.text(FILES['log'])), self.status()
        box = Box(self.node.inputs.structure.get_ase())
        frames = walker_frames(
            read_dump(self.text(FILES['dump'])),
            log.thermo,
            self.records() if self.settings.in_run else None,
            self.settings,
            self.node.inputs.walker.get_dict(),
            box,
        )
        frames, end = sound_frames(frames, self.end(log, status), self.settings, box)
        self.emit(frames, end, log, status)
        if end.reason in INTERRUPTED:
            self.emit_restart(status)
            if self.node.exit_status:
                return ExitCode(self.node.exit_status, self.node.exit_message, invalidates_cache=True)
            return self.exit_codes.ERROR_INTERRUPTED
        if end.reason == 'error':
            return self.exit_codes.ERROR_RUNNER_FAILED.format(message=end.message)
        if len(frames):
            return None
        return self.exit_codes.ERROR_NO_RESULTS.format(message=end.message or 'no frame was written')

    def end(self, log: Log, status: dict[str, Any]) -> End:
        """Say why the walker ended; lmp-mace knows it best."""
        message = next(iter(log.errors), '').removeprefix('lmp-mace: ') or status.get('error')
        if status.get('end') == 'upper_level':
            return End('upper_level', status.get('message') or '')
        if 'terminated' in (status.get('end'), status.get('error')):
            return End('terminated')
        if message:
            return End('non_finite' if _NOT_FINITE.search(message) else 'error', message)
        if log.halted is not None:
            reason = re.sub(r'_\d+[ab]$', '', log.halted.fix)
            return End(reason, f'{log.halted.fix} at step {log.halted.step}: {log.halted.value:g}.')
        if log.last_step is not None and log.last_step >= self.settings.last_step:
            return End('finished')
        return End('timeout' if log.timed_out else 'killed')

    def emit(self, frames: Frames, end: End, log: Log, status: dict[str, Any]) -> None:
        """Attach what there is."""
        if len(frames):
            self.out('trajectories', {WALKER: self.trajectory(frames, end)})
        if len(frames) and frames.columns:
            self.out('deviations', {WALKER: self.deviation(frames, end)})
        if log.thermo:
            thermo = orm.ArrayData()
            for name, values in log.thermo.items():
                thermo.set_array(re.sub(r'\W+', '_', name), values)
            self.out('thermo', thermo)
        report = {
            'n_frames': len(frames),
            'ends': {end.reason: 1},
            'messages': {WALKER: end.message} if end.message else {},
            'last_step': log.last_step,
            'wall_s': status.get('wall_s') or log.wall_s or 0.0,
            'core_s': status.get('cpu_s') or log.wall_s or 0.0,
        }
        self.out('report', orm.Dict(report))

    def trajectory(self, frames: Frames, end: End) -> orm.TrajectoryData:
        """Return the frames as the other engines do, with the arrays `energies` (eV), `forces` (eV/Å) and `temperatures` (K)."""
        structure = self.node.inputs.structure
        trajectory = orm.TrajectoryData()
        trajectory.set_trajectory(
            symbols=structure.get_ase().get_chemical_symbols(),
            positions=frames.positions,
            stepids=frames.steps,
            cells=frames.cells,
            times=frames.steps * self.settings.timestep_fs / 1000.0,
            velocities=frames.velocities,
            pbc=[bool(value) for value in structure.pbc],
        )
        arrays = {
            'energies': frames.energies,
            'forces': frames.forces,
            'temperatures': frames.temperatures,
            'target_temperatures': frames.target_temperatures,
        }
        for name, values in arrays.items():
            if values is not None:
                trajectory.set_array(name, values)
        trajectory.base.attributes.set('stop_reason', end.reason)
        return trajectory

    def deviation(self, frames: Frames, end: End) -> DeviationData:
        """Return the deviations and conditions of the frames."""
        arrays = {
            'step': frames.steps,
            'time_fs': frames.steps * self.settings.timestep_fs,
            'temperature_K': frames.temperatures,
            'target_temperature_K': frames.target_temperatures,
            'energy': frames.energies,
            **frames.columns,
        }
        return DeviationData.from_arrays(arrays, stopped_early=end.reason != 'finished', stop_reason=end.reason)

    def emit_restart(self, status: dict[str, Any]) -> None:
        """Attach the last restart file that was written to its end, and its step."""
        if self.folder is None:
            return
        found = {int(path.name.split('.')[1]): path for path in self.folder.glob(FILES['restarts'])}
        stopped = self.folder / STOPPED_RESTART
        if stopped.is_file() and status.get('step') is not None:
            # LAMMPS went on with its script after that: at the same step its own file knows more.
            found.setdefault(int(status['step']), stopped)
        for step in sorted(found, reverse=True):
            content = found[step].read_bytes()
            if content.rstrip(b'\0').endswith(_END_OF_RESTART):
                node = orm.SinglefileData.from_bytes(content, filename=FILES['restart'])
                node.base.attributes.set('step', step)
                self.out('restart', node)
                return

    def text(self, name: str) -> str:
        """Return a file of the job, or an empty string if it is not there."""
        if self.folder is not None and (self.folder / name).is_file():
            return (self.folder / name).read_text(errors='replace')
        if name not in self.retrieved.base.repository.list_object_names():
            return ''
        return self.retrieved.base.repository.get_object_content(name, mode='rb').decode(errors='replace')

    def records(self) -> list[dict[str, Any]]:
        """Return the complete lines of lmp-mace's records."""
        records = []
        for line in self.text(FILES['records']).split('\n')[:-1]:
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def status(self) -> dict[str, Any]:
        """Return what lmp-mace wrote at its end; empty if it was killed, or another LAMMPS ran."""
        try:
            status = json.loads(self.text(STATUS))
        except ValueError:
            return {}
        return status if isinstance(status, dict) else {}
