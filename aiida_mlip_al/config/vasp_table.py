"""The levels of theory by VASP as a table: ``python -m aiida_mlip_al.config.vasp_table > docs/vasp_levels.md``."""

from __future__ import annotations

from typing import Any

from .protocols import vasp_description, vasp_protocol_names, vasp_values

MEANINGS = {
    'gga': 'functional (PE: PBE)',
    'encut': 'plane-wave cutoff, eV',
    'ediff': 'energy change that ends the electronic steps, eV',
    'prec': 'grids',
    'ismear': 'smearing (0: Gaussian)',
    'sigma': 'width of the smearing, eV',
    'ispin': 'spin (1: none, 2: collinear)',
    'lasph': 'non-spherical terms within the spheres',
    'lreal': 'projection in real space',
    'algo': 'electronic minimiser; not part of the theory',
    'nelm': 'most electronic steps; not part of the theory',
}


def vasp_table() -> str:
    """Return the table as Markdown."""
    names = vasp_protocol_names()
    levels = [vasp_values(name) for name in names]
    rows: list[tuple[str, ...]] = [
        ('`kpoint_spacing`', 'k-point spacing with 2π, 1/Å', *(f'{level["kpoint_spacing"]}' for level in levels)),
        ('`potential_family`', 'POTCARs', *(level['potential_family'] for level in levels)),
    ]
    tags = dict.fromkeys(tag for level in levels for tag in level['incar'])
    rows += [
        (f'`{tag.upper()}`', MEANINGS[tag], *(_value(level['incar'].get(tag)) for level in levels)) for tag in tags
    ]
    lines = [
        '# Levels of theory by VASP',
        '',
        'Dispersion is off: `incar: {ivdw: 12}` adds D3(BJ). Magnetic systems: `magnetic_moments`.',
        'Every tag can be changed or taken out (`null`) under `incar`.',
        '',
        f'| | meaning | {" | ".join(names)} |',
        '|' + ' --- |' * (len(names) + 2),
        *(f'| {" | ".join(row)} |' for row in rows),
        '',
        *(f'* `{name}`: {vasp_description(name)}' for name in names),
    ]
    return '\n'.join(lines) + '\n'


def _value(value: Any) -> str:
    return (
        {True: 'yes', False: 'no', None: ''}.get(value, str(value))
        if not isinstance(value, int | float) or isinstance(value, bool)
        else f'{value:g}'
    )


if __name__ == '__main__':
    print(vasp_table(), end='')
