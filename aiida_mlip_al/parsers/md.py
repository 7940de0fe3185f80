"""Parser of MdCalculation, and what it shares with that of ExploreCalculation."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from aiida import orm
from aiida.engine import ExitCode
from ase import Atoms, units

from aiida_mlip_al.data.extxyz import load_complete_frames

from .base import RunnerParser


class Walker(NamedTuple):
    """What one walker left: its frames, one record a frame, and how it ended (None if it was killed)."""

    frames: list[Atoms]
    records: list[dict[str, Any]]
    end: dict[str, Any] | None


def trajectory_of(walker: Walker) -> orm.TrajectoryData:
    """Return the frames as TrajectoryData with the further arrays ``energies`` (eV) and ``forces`` (eV/Å)."""
    frames = walker.frames
    trajectory = orm.TrajectoryData()
    trajectory.set_trajectory(
        symbols=frames[0].get_chemical_symbols(),
        positions=np.array([frame.positions for frame in frames]),
        stepids=np.array([record['step'] for record in walker.records]),
        cells=np.array([frame.cell.array for frame in frames]),
        times=np.array([record['time_fs'] for record in walker.records]) / 1000.0,
        velocities=np.array([frame.get_velocities() for frame in frames]) * units.fs * 1000.0,
        pbc=[bool(value) for value in frames[0].pbc],
    )
    trajectory.set_array('energies', np.array([record['energy'] for record in walker.records]))
    trajectory.set_array('forces', np.array([frame.get_forces(apply_constraint=False) for frame in frames]))
    return trajectory


class MdParser(RunnerParser):
    """Trajectories and the report; a killed job gives the frames it had written."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved files."""
        status = self.read_status()
        walkers = self.read_walkers()
        messages = {
            name: walker.end['message'] for name, walker in walkers.items() if walker.end and walker.end['message']
        }
        self.out(
            'report',
            orm.Dict(
                {
                    'n_frames': sum(len(walker.frames) for walker in walkers.values()),
                    'ends': dict(Counter(walker.end['end'] if walker.end else 'killed' for walker in walkers.values())),
                    'messages': messages,
                    'wall_s': status.get('wall_s', 0.0),
                    'core_s': status.get('cpu_s', 0.0),
                }
            ),
        )
        found = {name: walker for name, walker in walkers.items() if walker.frames}
        if not found:
            message = next(iter(messages.values()), None) or self.last_words()
            return self.failure(status) or self.exit_codes.ERROR_NO_RESULTS.format(message=message)
        self.emit(found)
        return self.failure(status)

    def emit(self, walkers: dict[str, Walker]) -> None:
        """Attach what the walkers left."""
        self.out('trajectories', {name: trajectory_of(walker) for name, walker in walkers.items()})

    def read_walkers(self) -> dict[str, Walker]:
        """Return every walker by name, its frames and records cut to their common length."""
        walkers = {}
        for index in range(len(self.node.inputs.walkers.get_list())):
            name = f'walker_{index:02d}'
            records = self.read_records(f'{name}.jsonl')
            end = records.pop() if records and 'end' in records[-1] else None
            frames = load_complete_frames(self.read_text(f'{name}.xyz'))
            n_frames = min(len(frames), len(records))
            walkers[name] = Walker(frames[:n_frames], records[:n_frames], end)
        return walkers
