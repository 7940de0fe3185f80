"""What a labelling program left: a label for each structure, or the reason why it has none."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.io import read

from aiida_mlip_al.config.shell import ShellSettings
from aiida_mlip_al.data.extxyz import find_label, load_complete_frames
from aiida_mlip_al.data.labelling import Rejection

# How far an output may be from its structure, Å: programs print coordinates with four decimals or more.
GEOMETRY_TOLERANCE = 1e-3
# Exit status of a shell that could not start a program.
NOT_STARTED = (126, 127)


class Numbers(NamedTuple):
    """A label: energy in eV, forces (n_atoms, 3) in eV/Å, stress (6,) in eV/Å³ or None."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


@dataclass(frozen=True)
class JobOutput:
    """What a job left; files may be cut or missing (None).

    :param output: the file that the labels are in.
    :param status: ``exit_status began ended`` (s), the line that the job writes last.
    """

    output: bytes | None = None
    stdout: bytes | None = None
    stderr: bytes | None = None
    status: bytes | None = None

    @property
    def exit_status(self) -> int | None:
        """Of the program; None if the job was stopped before it could note it."""
        words = (self.status or b'').split()
        return int(words[0]) if len(words) == 3 and words[0].isdigit() else None

    @property
    def wall_s(self) -> float:
        """How long the program ran; 0 if the job was stopped."""
        if self.exit_status is None:
            return 0.0
        # Where `date` knows no fractions of a second, it prints N for them.
        began, ended = ((word.replace(b'N', b'0')) for word in (self.status or b'').split()[1:])
        return round(float(ended) - float(began), 3)

    @property
    def started(self) -> bool:
        """Whether the program could be started at all."""
        return self.exit_status not in NOT_STARTED

    def failure(self) -> str:
        """Return a sentence on how the program ended, with the last line that it printed."""
        printed = ((content or b'').decode(errors='replace').split('\n') for content in (self.stderr, self.stdout))
        last = next(
            (line.strip() for lines in printed for line in reversed(lines) if line.strip()), 'it printed nothing.'
        )
        return f'the program ended with status {self.exit_status}: {last[:300]}'


def read_labels(
    job: JobOutput, structures: Mapping[str, Atoms], settings: ShellSettings, single: bool
) -> dict[str, Numbers | Rejection]:
    """Return the label of each structure, or why it has none; those that a stopped or crashed job did not reach are left out.

    :param structures: what the program was given, by name, in the order of the names.
    :param single: whether the output is of one structure, in any format, or of many as extended XYZ.
    """
    results = (_read_single if single else _read_batch)(job, structures, settings)
    complaint = _unconverged(job, settings)
    if complaint is None:
        return results
    if len(structures) > 1:
        complaint = f'{complaint} Of which structure is not known, so all are rejected: set `batch_size` to 1.'
    return dict.fromkeys(results, Rejection('unconverged', complaint))


def _read_single(
    job: JobOutput, structures: Mapping[str, Atoms], settings: ShellSettings
) -> dict[str, Numbers | Rejection]:
    if job.exit_status is None or not job.started:
        return {}
    ((name, atoms),) = structures.items()
    return {name: _single_result(job, atoms, settings)}


def _single_result(job: JobOutput, atoms: Atoms, settings: ShellSettings) -> Numbers | Rejection:
    output = settings.output
    if job.exit_status:
        return Rejection('error', job.failure())
    if not job.output:
        return Rejection('error', f'there is no {output.filename}; {job.failure()}')
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        path = Path(folder) / output.filename
        path.write_bytes(job.output)
        try:
            frame = read(path, index=-1, format=output.format)
        except Exception as error:
            message = f'{output.filename} cannot be read as {output.format}: {type(error).__name__}: {error}'
            return Rejection('error', message)
    difference = _difference(frame, atoms)
    if difference is not None:
        return Rejection('error', f'the output is of another structure: {difference}')
    return _numbers(frame, settings)


def _read_batch(
    job: JobOutput, structures: Mapping[str, Atoms], settings: ShellSettings
) -> dict[str, Numbers | Rejection]:
    filename = settings.output.filename
    try:
        frames = load_complete_frames((job.output or b'').decode())
    except Exception as error:
        message = f'{filename} cannot be read as extended XYZ: {type(error).__name__}: {error}'
        return dict.fromkeys(structures, Rejection('error', message)) if job.exit_status == 0 else {}
    results: dict[str, Numbers | Rejection] = {}
    missing = list(structures)
    strangers = []
    for frame in frames:
        # A frame is of the first structure that has its atoms: programs need not keep names, nor label every structure.
        name = next((name for name in missing if _difference(frame, structures[name]) is None), None)
        if name is None:
            strangers.append(frame)
        else:
            missing.remove(name)
            results[name] = _numbers(frame, settings)
    if job.exit_status == 0:
        message = f'the program ended without a label of it in {filename}.'
        if strangers and missing:
            differs = _difference(strangers[0], structures[missing[0]])
            message = f'{message} {len(strangers)} frames there are of none of the structures, the first: {differs}'
        results.update(dict.fromkeys(missing, Rejection('not_reached', message)))
    elif job.exit_status is not None and job.started and missing:
        # Labels are written one after the other: the first without one is the one at which the program failed.
        results[missing[0]] = Rejection('error', job.failure())
    return results


def _numbers(frame: Atoms, settings: ShellSettings) -> Numbers | Rejection:
    """Return the label in a frame if it is converged, finite and below the force cap."""
    if str(frame.info.get('converged', True)).lower() in ('false', 'f', '0'):
        return Rejection('unconverged', 'the program says that it did not converge.')
    found = dict(zip(('energy', 'forces', 'stress'), find_label(frame, settings.keys), strict=True))
    missing = [quantity for quantity in ('energy', 'forces') if found[quantity] is None]
    if missing:
        return Rejection('error', f'the output has no {missing[0]}: name its key under `keys`.')
    try:
        energy = float(np.asarray(found['energy'], dtype=float).item())
        forces = np.asarray(found['forces'], dtype=float).reshape(len(frame), 3)
        stress = None if found['stress'] is None else np.asarray(found['stress'], dtype=float).reshape(6)
    except (TypeError, ValueError) as error:
        return Rejection(
            'error', f'the output has something else than a number, a vector for each atom, a stress: {error}.'
        )
    if not np.isfinite(np.concatenate([[energy], forces.ravel(), np.zeros(6) if stress is None else stress])).all():
        return Rejection('non_finite', 'energy, forces or stress are not finite.')
    force = float(np.linalg.norm(forces, axis=1).max())
    if force > settings.max_force:
        message = f'the largest force is {force:.1f} eV/Å, above max_force = {settings.max_force:g} eV/Å.'
        return Rejection('force_cap', message)
    return Numbers(energy, forces, stress)


def _difference(frame: Atoms, atoms: Atoms) -> str | None:
    """Return how a frame differs from a structure, or None; a common shift and lattice translations change no label."""
    if not np.array_equal(frame.numbers, atoms.numbers):
        reordered = sorted(frame.numbers) == sorted(atoms.numbers)
        names = f'{frame.get_chemical_formula()} instead of {atoms.get_chemical_formula()}.'
        return 'its atoms are in another order.' if reordered else names
    change = np.abs(frame.cell.array - atoms.cell.array)[atoms.pbc] if frame.cell.rank == 3 else np.zeros(1)
    if not np.all(change < GEOMETRY_TOLERANCE):
        return f'its cell differs by up to {np.max(change):.3g} Å.'
    moved = (frame.positions - frame.positions[:1]) - (atoms.positions - atoms.positions[:1])
    distance = float(np.max(find_mic(moved, atoms.cell, atoms.pbc)[1])) if np.isfinite(moved).all() else np.inf
    return None if distance < GEOMETRY_TOLERANCE else f'its atoms are up to {distance:.3g} Å elsewhere.'


def _unconverged(job: JobOutput, settings: ShellSettings) -> str | None:
    for pattern in settings.patterns():
        for filename, content in {'stdout': job.stdout, settings.output.filename: job.output}.items():
            found = re.search(pattern, (content or b'').decode(errors='replace'), re.MULTILINE)
            if found:
                return f'{filename} says "{found.group(0)[:200]}".'
    return None
