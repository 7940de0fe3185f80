"""Parser of RelaxCalculation."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode
from ase import Atoms

from aiida_mlip_al.data.extxyz import load_complete_frames

from .base import RunnerParser

MAX_STEPS = 'max_steps'
NAMED_IN_MESSAGE = 3


class RelaxParser(RunnerParser):
    """Relaxed structures and the report; a killed job gives what it had finished."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved files."""
        structures = self.node.inputs.structures
        names = sorted(structures)
        keep = bool(self.node.inputs.settings.get_dict().get('keep_unconverged'))
        status, records = self.read_status(), self.read_records('relax.jsonl')
        frames = {int(atoms.info['index']): atoms for atoms in load_complete_frames(self.read_text('relaxed.extxyz'))}

        relaxed: dict[str, orm.StructureData] = {}
        rows: dict[str, dict[str, Any]] = {}
        for record in records:
            name, frame = names[record['index']], frames.get(record['index'])
            if frame is None and record['reason'] in (None, MAX_STEPS):
                continue
            row = rows[name] = {key: record[key] for key in ('converged', 'reason', 'message', 'n_steps', 'wall_s')}
            if frame is None:
                continue
            if not is_finite(frame):
                row.update(converged=False, reason='non_finite', message='the result is not finite.')
                continue
            row.update(energy=float(frame.get_potential_energy()), fmax=float(frame.info['fmax']))
            if record['converged'] or keep:
                relaxed[name] = moved(structures[name], frame)

        unconverged = [name for name, row in rows.items() if row['reason'] == MAX_STEPS]
        n_converged = sum(row['converged'] for row in rows.values())
        report = {
            'n_structures': len(names),
            'n_converged': n_converged,
            'n_unconverged': len(unconverged),
            'n_failed': len(rows) - n_converged - len(unconverged),
            'n_unfinished': len(names) - len(rows),
            'structures': rows,
            'wall_s': status.get('wall_s', float(np.sum([record['wall_s'] for record in records]))),
            'core_s': status.get('cpu_s', 0.0),
        }
        self.out('report', orm.Dict(report))
        if relaxed:
            self.out('structures', relaxed)
        return self.verdict(status, rows, relaxed, len(names))

    def verdict(
        self, status: dict[str, Any], rows: dict[str, dict[str, Any]], relaxed: dict[str, Any], total: int
    ) -> ExitCode | None:
        """Return why not every structure came out, or None."""
        if not rows:
            failed = self.failure(status)
            if failed is not None and failed.status != self.exit_codes.ERROR_INTERRUPTED.status:
                return failed
            return self.exit_codes.ERROR_NO_RESULTS.format(message=self.last_words())
        if len(rows) < total:
            return self.failure(status) or self.exit_codes.ERROR_INTERRUPTED
        missing = [name for name in rows if name not in relaxed]
        if not missing:
            return None
        which = ' '.join(f'`{name}`: {rows[name]["message"]}' for name in missing[:NAMED_IN_MESSAGE])
        if len(missing) > NAMED_IN_MESSAGE:
            which += f' And {len(missing) - NAMED_IN_MESSAGE} more, see the report.'
        return self.exit_codes.ERROR_NOT_CONVERGED.format(count=len(missing), total=total, which=which)


def is_finite(frame: Atoms) -> bool:
    """Return whether positions, cell and energy are finite numbers."""
    return bool(
        np.isfinite(frame.positions).all()
        and np.isfinite(frame.cell.array).all()
        and np.isfinite(frame.get_potential_energy())
    )


def moved(structure: orm.StructureData, frame: Atoms) -> orm.StructureData:
    """Return a structure with the positions and the cell of a frame, and its own kinds, order and pbc."""
    atoms = structure.get_ase()
    atoms.set_cell(frame.cell)
    atoms.positions = frame.positions
    return orm.StructureData(ase=atoms)
