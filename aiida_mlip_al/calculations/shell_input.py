"""What a labelling program reads: all structures as extended XYZ, or one in the program's own format."""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import kptdensity2monkhorstpack
from ase.io import write
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aiida_mlip_al.config.shell import ShellInput, ShellSettings
from aiida_mlip_al.data.labelling import Rejection, geometry_problem


def make_input(
    structures: Mapping[str, Atoms], settings: ShellSettings, template: str | None = None
) -> tuple[bytes | None, dict[str, Rejection]]:
    """Return the program's input file, and the structures that are not in it with the reason.

    :param structures: by name; one, if the input is of one structure.
    :param template: text with Jinja placeholders, see :func:`fill_template`.
    :returns: (content, rejected); no content if no structure is left.
    """
    rejected = {
        name: rejection
        for name, atoms in structures.items()
        if (rejection := geometry_problem(atoms, settings.min_distance_fraction))
    }
    left = {name: structures[name] for name in sorted(structures) if name not in rejected}
    if not left:
        return None, rejected
    if template is None and settings.input.format is None:
        return _extended_xyz(left), rejected
    if len(left) > 1:
        message = f'the input is of one structure, but the job has {len(left)}: set `batch_size` to 1.'
        return None, {**rejected, **dict.fromkeys(left, Rejection('error', message))}
    ((name, atoms),) = left.items()
    try:
        written = None if settings.input.format is None else _ase_text(atoms, settings.input)
        return (written if template is None else fill_template(template, name, atoms, written)), rejected
    except ValueError as error:
        return None, {**rejected, name: Rejection('error', str(error))}


def fill_template(template: str, name: str, atoms: Atoms, written: bytes | None = None) -> bytes:
    """Return one structure as a program's own input file.

    A template sees ``structure`` (the text of ASE's writer, if ``input.format`` names one), ``atoms`` (each with ``symbol``,
    ``number``, ``x``, ``y``, ``z`` in Å and ``fractional``, None without a whole cell), ``cell`` (three rows, Å), ``pbc``,
    ``species`` (each symbol once), ``formula``, ``name``, and ``kpoints(spacing)``: the mesh whose points are at most
    ``spacing`` (1/Å, with the 2π) apart, 1 where there is no periodicity.

    :raises ValueError: if a placeholder is unknown or cannot be computed; one sentence.
    """
    fractional = atoms.get_scaled_positions(wrap=False).tolist() if atoms.cell.rank == 3 else [None] * len(atoms)
    values: dict[str, Any] = {
        'name': name,
        'atoms': [
            {'symbol': atom.symbol, 'number': int(atom.number), 'x': x, 'y': y, 'z': z, 'fractional': scaled}
            for atom, (x, y, z), scaled in zip(atoms, atoms.positions.tolist(), fractional, strict=True)
        ],
        'cell': atoms.cell.array.tolist(),
        'pbc': atoms.pbc.tolist(),
        'species': sorted(set(atoms.get_chemical_symbols())),
        'formula': atoms.get_chemical_formula(),
        'kpoints': lambda spacing: kptdensity2monkhorstpack(atoms, 1 / spacing, even=False).tolist(),
    }
    if written is not None:
        values['structure'] = written.decode()
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        return environment.from_string(template).render(values).encode()
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f'the template cannot be filled in: {error} (it knows {", ".join(sorted(values))}).') from None


def _extended_xyz(structures: Mapping[str, Atoms]) -> bytes:
    buffer = io.StringIO()
    for name, atoms in structures.items():
        frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.info['name'] = name
        write(buffer, frame, format='extxyz', columns=['symbols', 'positions'])
    return buffer.getvalue().encode()


def _ase_text(atoms: Atoms, settings: ShellInput) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        path = Path(folder) / settings.filename
        try:
            write(path, atoms, format=settings.format, **settings.arguments)
            return path.read_bytes()
        except Exception as error:
            message = f'{type(error).__name__}: {error}'.rstrip('.')
            raise ValueError(f'the writer {settings.format} of ASE failed: {message}.') from None
