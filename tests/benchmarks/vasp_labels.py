"""What AiiDA costs for each label by VASP: one job for each structure, several in one job, and no AiiDA at all.

Run `bash examples/vasp/run.sh` once, which sets up the stand-in, and then

    verdi -p mlip-al run tests/benchmarks/vasp_labels.py [NUMBER OF LABELS]

The stand-in takes less than a second for a structure, so what is left is the price of provenance.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aiida import orm
from aiida.engine import submit
from aiida.plugins import WorkflowFactory
from ase.build import bulk
from rich.console import Console
from rich.table import Table

from aiida_mlip_al.config import make_config
from aiida_mlip_al.workflows.builder import Inputs


def structures(count: int, seed: int) -> dict[str, orm.StructureData]:
    """Return copper cells that no other call has made."""
    made = {}
    for index in range(count):
        atoms = bulk('Cu', cubic=True)
        atoms.rattle(0.05, seed=seed + index)
        made[f'frame_{index:03d}'] = orm.StructureData(ase=atoms).store()
    return made


def label(count: int, batch_size: int, max_concurrent: int) -> tuple[float, int]:
    """Label through the daemon; return wall time in s, and how many processes AiiDA made."""
    frames = structures(count, time.time_ns() % 2**31)
    vasp = {'code': 'vasp_std@localhost', 'potential_family': 'STAND-IN', 'batch_size': batch_size}
    config = make_config(
        {
            'structures': [str(next(iter(frames.values())).pk)],
            'protocol': 'quickstart',
            'labels': {'vasp': vasp, 'max_concurrent': max_concurrent},
        }
    )
    began = time.monotonic()
    node = submit(WorkflowFactory('mlip_al.label'), structures=frames, **Inputs(config).label())
    while not node.is_terminated:
        time.sleep(0.2)
    assert node.is_finished_ok, node.exit_message
    return time.monotonic() - began, len(node.called_descendants) + 1


def plain(count: int) -> float:
    """Run the stand-in in a folder of a retrieved job again and again, without AiiDA; return wall time in s."""
    query = orm.QueryBuilder().append(
        orm.CalcJobNode, filters={'attributes.process_label': 'VaspCalculation', 'attributes.exit_status': 0}
    )
    job = query.first(flat=True)
    code = job.inputs.code.filepath_executable.as_posix()
    began = time.monotonic()
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            for name in ('INCAR', 'POSCAR', 'KPOINTS'):
                (Path(folder) / name).write_text(job.base.repository.get_object_content(name))
            (Path(folder) / 'POTCAR').write_bytes(job.inputs.potential.Cu.get_content())
            subprocess.run([code], cwd=folder, check=True, capture_output=True)
    return time.monotonic() - began


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    table = Table(box=None, padding=(0, 2), header_style='dim')
    for column in ('way', 'labels', 'wall time', 'for each label', 'processes in the graph'):
        table.add_column(column, justify='right' if column != 'way' else 'left')
    rows = []
    for batch_size, concurrent in ((1, 1), (1, 4), (count, 1)):
        wall_s, processes = label(count, batch_size, concurrent)
        way = f'one job each, {concurrent} at a time' if batch_size == 1 else f'{batch_size} in one job'
        rows.append((way, wall_s, str(processes)))
    rows.append(('no AiiDA: a loop', plain(count), '–'))
    for way, wall_s, processes in rows:
        table.add_row(way, str(count), f'{wall_s:.1f} s', f'{wall_s / count:.2f} s', processes)
    Console().print(table)


if __name__ == '__main__':
    main()
