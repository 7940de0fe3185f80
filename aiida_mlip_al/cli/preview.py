"""What `aiida-mlip-al seed --preview` shows: the structures that the pure steps make, without submitting anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from ase import Atoms
from ase.io import write

from aiida_mlip_al.sampling import RejectionLimitError, SeedResult, job_positions, run_steps
from aiida_mlip_al.sampling.checks import min_distance

from .common import writing
from .dataset import print_table


def show_preview(chains: Mapping[str, Any], structures: Sequence[Atoms], seed: int, output: Path) -> None:
    """Write the structures of every chain to one file and print a table.

    A chain with a step that needs a job is shown up to that step.

    :param chains: steps by name.
    :param structures: what every chain starts from.
    :param seed: of the chains.
    :param output: extended XYZ file.
    :raises click.ClickException: a chain cannot be run, or the file not be written.
    """
    rows: list[list[str]] = []
    frames: list[Atoms] = []
    notes: list[str] = []
    for name, steps in chains.items():
        jobs = job_positions(steps)
        stop = jobs[0] if jobs else len(steps)
        if jobs:
            notes.append(
                f'chain {name}: shown up to its step {stop + 1}, `{next(iter(steps[stop]))}`, which needs a job.'
            )
        try:
            result = run_steps(structures, steps, seed, stop=stop)
        except (RejectionLimitError, ValueError) as error:
            raise click.ClickException(f'chain `{name}`: {error}') from None
        made = [*result.kept, *zip(result.frames, result.records, strict=True)]
        for index, (frame, record) in enumerate(made):
            frame.info.update(chain=name, index=index, seeder=record['seeder'])
        frames += [frame for frame, _ in made]
        rows.append(_row(name, [frame for frame, _ in made], result))
    with writing(output):
        write(output, frames, format='extxyz')
    print_table(['chain', 'structures', 'atoms', 'volume, Å³', 'min. distance, Å', 'rejected'], rows)
    for note in notes:
        click.echo(note)
    click.echo(f'{len(frames)} structures written to {output}; nothing was submitted.')


def _row(name: str, frames: Sequence[Atoms], result: SeedResult) -> list[str]:
    volumes = [frame.get_volume() for frame in frames if frame.pbc.all()]
    nearest = min((min_distance(frame) for frame in frames), default=float('inf'))
    rejected = ', '.join(f'{count} {reason}' for reason, count in result.rejected.items())
    return [
        name,
        str(len(frames)),
        _range([len(frame) for frame in frames], '.0f'),
        _range(volumes, '.2f'),
        f'{nearest:.2f}' if nearest < float('inf') else '',
        rejected,
    ]


def _range(values: Sequence[float], form: str) -> str:
    if not values:
        return ''
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f'{low} to {high}'
