"""Labelled frames as extended XYZ: the one place that knows the keys and what a valid labelled frame is."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.io.extxyz import read_xyz
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from aiida_mlip_al.sampling.cells import span_projector

ENERGY_KEY = 'REF_energy'
FORCES_KEY = 'REF_forces'
STRESS_KEY = 'REF_stress'
# A stress without the components that involve a direction without periodicity has a name of its own: no program can mistake
# the missing components for zeros, nor take a volume that is mostly vacuum for the one that its own stress refers to.
MASKED_STRESS_KEY = 'REF_masked_stress'
STRESS_AXES_KEY = 'REF_stress_axes'
SPLITS = ('train', 'validation', 'test')


def labelled_atoms(
    atoms: Atoms,
    energy: float,
    forces: np.ndarray,
    stress: np.ndarray | None = None,
    stress_axes: np.ndarray | list[bool] | None = None,
    **info: object,
) -> Atoms:
    """Return a copy of ``atoms`` that carries a label under the ``REF_`` keys and nothing else.

    :param atoms: the structure; its calculator, info, constraints and further arrays are dropped.
    :param energy: eV.
    :param forces: (n_atoms, 3), eV/Å.
    :param stress: Voigt order xx yy zz yz xz xy, eV/Å³, ASE's sign (negative under compression), or None. With fewer than three
        periodic directions it becomes a ``REF_masked_stress``: P σ P with the projector P on the span of the periodic cell
        vectors, and ``REF_stress_axes`` says which these are. Without any it is dropped.
    :param stress_axes: (3,) which cell vectors are periodic; None for the structure's pbc, which it can only narrow.
    :param info: further items of the comment line, such as ``split``.
    """
    frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.info[ENERGY_KEY] = float(energy)
    frame.arrays[FORCES_KEY] = np.asarray(forces, dtype=float)
    if stress is not None:
        _add_stress(frame, np.asarray(stress, dtype=float), stress_axes)
    frame.info.update(info)
    return frame


def _add_stress(frame: Atoms, stress: np.ndarray, stress_axes: np.ndarray | list[bool] | None) -> None:
    axes = frame.pbc if stress_axes is None else frame.pbc & np.asarray(stress_axes, dtype=bool)
    if axes.all():
        frame.info[STRESS_KEY] = stress
    elif axes.any():
        projector = span_projector(frame.cell.array, axes)
        inside = projector @ voigt_6_to_full_3x3_stress(stress) @ projector
        frame.info[MASKED_STRESS_KEY] = full_3x3_to_voigt_6_stress(inside)
        frame.info[STRESS_AXES_KEY] = np.asarray(axes)


def stress_of(atoms: Atoms) -> np.ndarray | None:
    """Return the stress of a labelled frame, masked or not, (6,) in eV/Å³; None without one."""
    return atoms.info.get(STRESS_KEY, atoms.info.get(MASKED_STRESS_KEY))


def check_labelled(atoms: Atoms, name: str) -> None:
    """Raise ``ValueError`` with one sentence naming the frame if its label is missing, misshapen or not finite.

    :param name: how the sentence names the frame, for example ``frame 3``.
    """
    if len(atoms) == 0:
        raise ValueError(f'{name} has no atoms.')
    if ENERGY_KEY not in atoms.info:
        raise ValueError(f'{name} has no energy: give it in eV as `{ENERGY_KEY}` in the comment line.')
    if FORCES_KEY not in atoms.arrays:
        raise ValueError(f'{name} has no forces: give them in eV/Å as the per-atom array `{FORCES_KEY}`.')
    forces = np.asarray(atoms.arrays[FORCES_KEY], dtype=float)
    if forces.shape != (len(atoms), 3):
        raise ValueError(
            f'{name} has forces of shape {forces.shape}, but its {len(atoms)} atoms need ({len(atoms)}, 3).'
        )
    found = stress_of(atoms)
    stress = np.zeros(6) if found is None else np.asarray(found, dtype=float)
    if stress.shape != (6,):
        raise ValueError(
            f'{name} has a stress of shape {stress.shape}: give `{STRESS_KEY}` as six numbers (xx yy zz yz xz xy, eV/Å³).'
        )
    values = {
        'energy': atoms.info[ENERGY_KEY],
        'forces': forces,
        'stress': stress,
        'positions': atoms.positions,
        'cell': atoms.cell.array,
    }
    for quantity, value in values.items():
        if not np.isfinite(value).all():
            raise ValueError(f'{name} has a {quantity} that is not finite: remove the frame or label it again.')


def temperature_of(atoms: Atoms, name: str) -> float | None:
    """Return the temperature (K) that a frame has as info, None without one.

    :param name: how the sentence names the frame.
    :raises ValueError: it is not one finite number.
    """
    given = atoms.info.get('temperature_K')
    if given is None:
        return None
    try:
        temperature = float(given)
    except (TypeError, ValueError):
        temperature = np.nan
    if not np.isfinite(temperature):
        raise ValueError(
            f'{name} has the temperature `{given}`: give `temperature_K` as one number (K), or leave it out.'
        )
    return temperature


def find_label(atoms: Atoms, keys: Mapping[Any, str]) -> tuple[float | None, np.ndarray | None, np.ndarray | None]:
    """Return energy, forces and stress (6,) of a frame under whatever names they have, None for those that it lacks.

    :param keys: names of ``energy``, ``forces`` and ``stress``; without one the ``REF_`` key is looked for, then the result of
        an attached calculator: its free energy where it has one.
    """
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    if 'free_energy' in results and 'energy' not in keys:
        # With smearing the forces are derivatives of the free energy; `energy` is then extrapolated to zero smearing.
        results['energy'] = results['free_energy']
    defaults = {'energy': ENERGY_KEY, 'forces': FORCES_KEY, 'stress': STRESS_KEY}
    found = {}
    for quantity, default in defaults.items():
        key = keys.get(quantity, default)
        store = atoms.arrays if quantity == 'forces' else atoms.info
        fallback = results.get(key) if quantity in keys else results.get(quantity)
        found[quantity] = store.get(key, fallback)
    stress = atoms.info.get(MASKED_STRESS_KEY) if found['stress'] is None else found['stress']
    if stress is not None and np.size(stress) == 9:
        stress = full_3x3_to_voigt_6_stress(np.reshape(stress, (3, 3)))
    return found['energy'], found['forces'], stress


def dump_frames(frames: Iterable[Atoms]) -> bytes:
    """Return ``frames`` as extended XYZ; equal frames give equal bytes."""
    buffer = io.StringIO()
    for frame in frames:
        write(buffer, frame, format='extxyz')
    return buffer.getvalue().encode()


def iterate_frames(handle: IO[str]) -> Iterator[Atoms]:
    """Yield the frames of an extended XYZ file one by one, without holding more than one of them."""
    yield from read_xyz(handle, index=slice(None))


def read_frames(content: bytes | str) -> list[Atoms]:
    """Return all frames of an extended XYZ text."""
    text = content.decode() if isinstance(content, bytes) else content
    return read(io.StringIO(text), index=':', format='extxyz') if text.strip() else []


def load_complete_frames(text: str) -> list[Atoms]:
    """Return the frames of an extended XYZ text up to the last complete one, as a killed job leaves it."""
    lines = text.splitlines(keepends=True)
    end = start = 0
    while start < len(lines):
        try:
            n_atoms = int(lines[start])
        except ValueError:
            break
        stop = start + n_atoms + 2
        if stop > len(lines) or not lines[stop - 1].endswith('\n'):
            break
        end = start = stop
    return read_frames(''.join(lines[:end]))
