"""What a labelling program reads."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read

from aiida_mlip_al.calculations.shell_input import make_input
from aiida_mlip_al.config.shell import ShellSettings
from aiida_mlip_al.data.labelling import Rejection


@pytest.fixture
def copper() -> Atoms:
    atoms = bulk('Cu', cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def filled(atoms: Atoms, template: str | None, **settings: Any) -> str:
    """Return the input of one structure."""
    content, rejected = make_input({'frame_000': atoms}, ShellSettings(input=settings), template)
    assert rejected == {}
    assert content is not None
    return content.decode()


def refused(atoms: Atoms, template: str | None, **settings: Any) -> Rejection:
    """Return why there is no input of one structure."""
    content, rejected = make_input({'frame_000': atoms}, ShellSettings(input=settings), template)
    assert content is None
    assert list(rejected) == ['frame_000']
    return rejected['frame_000']


def test_structures_stand_in_the_order_of_their_names_and_carry_nothing_else(copper: Atoms) -> None:
    slab = copper.copy()
    slab.pbc = [True, True, False]
    slab.info['REF_energy'] = -1.0
    content, rejected = make_input({'b': copper, 'a': slab}, ShellSettings())
    assert content is not None
    assert rejected == {}
    frames = read(io.StringIO(content.decode()), index=':', format='extxyz')
    assert [frame.info for frame in frames] == [{'name': 'a'}, {'name': 'b'}]
    assert frames[0].pbc.tolist() == [True, True, False]
    for frame in frames:
        assert set(frame.arrays) == {'numbers', 'positions'}
        np.testing.assert_allclose(frame.positions, copper.positions, rtol=0, atol=1e-8)


def test_writer_of_ase_by_its_name_with_arguments(copper: Atoms) -> None:
    arguments = {'input_data': {'ecutwfc': 30}, 'pseudopotentials': {'Cu': 'Cu.UPF'}, 'kspacing': 0.3}
    text = filled(copper, None, format='espresso-in', arguments=arguments)
    assert 'ecutwfc          = 30' in text
    again = read(io.StringIO(text), format='espresso-in')
    np.testing.assert_allclose(again.positions, copper.positions, rtol=0, atol=1e-8)


def test_template_with_the_text_of_a_writer(copper: Atoms, tmp_path: Path) -> None:
    text = filled(copper, '# {{ name }}: {{ formula }}\n{{ structure }}# {not mine}\n', format='aims')
    assert text.startswith('# frame_000: Cu4\n')
    assert text.endswith('# {not mine}\n')
    (tmp_path / 'geometry.in').write_text(text)
    again = read(tmp_path / 'geometry.in', format='aims')
    np.testing.assert_allclose(again.positions, copper.positions, rtol=0, atol=1e-12)


def test_every_placeholder(copper: Atoms) -> None:
    copper.numbers[1] = 28
    loop = (
        '{% for atom in atoms %}{{ atom.symbol }},{{ atom.number }},{{ atom.x }},{{ atom.y }},{{ atom.z }};{% endfor %}'
    )
    rows = [row.split(',') for row in filled(copper, loop).split(';')[:-1]]
    assert [row[:2] for row in rows] == [['Cu', '29'], ['Ni', '28'], ['Cu', '29'], ['Cu', '29']]
    np.testing.assert_array_equal(np.array([row[2:] for row in rows], dtype=float), copper.positions)
    fractional = eval(filled(copper, '{{ atoms[2].fractional }}'))
    np.testing.assert_allclose(fractional @ copper.cell.array, copper.positions[2], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(eval(filled(copper, '{{ cell }}')), copper.cell.array)
    assert filled(copper, '{{ atoms | length }} {{ species | join("+") }} {{ pbc[0] }}') == '4 Cu+Ni True'
    assert filled(molecule('H2O'), '{{ atoms[0].fractional }}') == 'None'


def test_kpoints() -> None:
    """Points are as near as asked for and no nearer than needed: 2π / (n a) against the spacing."""
    atoms = Atoms('H', cell=[2.0, 4.0, 20.0], pbc=[True, True, False])
    assert filled(atoms, '{{ kpoints(0.5) }}') == '[7, 4, 1]'
    assert filled(bulk('Cu', cubic=True), '{{ "%d %d %d" | format(*kpoints(0.3)) }}') == '6 6 6'
    assert filled(molecule('H2O'), '{{ kpoints(0.1) }}') == '[1, 1, 1]'


@pytest.mark.parametrize(
    ('template', 'sentence'),
    [
        ('{{ positons }}', "the template cannot be filled in: 'positons' is undefined (it knows atoms, cell,"),
        ('{{ structure }}', "'structure' is undefined"),
        ('{% for atom in atoms %}', 'Unexpected end of template'),
        ('{{ name.__class__.__mro__ }}', 'unsafe'),
        ('{{ kpoints(0) }}', 'division by zero'),
    ],
)
def test_template_that_cannot_be_filled_in(copper: Atoms, template: str, sentence: str) -> None:
    assert refused(copper, template).reason == 'error'
    assert sentence in refused(copper, template).message


def test_writer_that_fails(copper: Atoms) -> None:
    rejection = refused(copper, None, format='vasp', arguments={'no_such': 1})
    assert rejection.message.startswith('the writer vasp of ASE failed: TypeError')


def test_two_structures_for_an_input_of_one(copper: Atoms) -> None:
    content, rejected = make_input({'a': copper, 'b': copper}, ShellSettings(), '{{ cell }}')
    assert content is None
    assert {name: rejection.reason for name, rejection in rejected.items()} == {'a': 'error', 'b': 'error'}
    assert 'set `batch_size` to 1' in rejected['a'].message


def test_what_is_not_worth_computing_is_left_out(copper: Atoms) -> None:
    near, lost = copper.copy(), copper.copy()
    near.positions[1] = near.positions[0] + [0.0, 0.66, 0.0]
    lost.positions[2, 1] = np.nan
    content, rejected = make_input({'good': copper, 'near': near, 'lost': lost}, ShellSettings())
    assert content is not None
    assert content.count(b'Lattice') == 1
    assert b'name=good' in content
    assert rejected == {
        'near': Rejection(
            'too_close',
            'two atoms are at 0.25 of the sum of their covalent radii, nearer than min_distance_fraction = 0.5.',
        ),
        'lost': Rejection('non_finite', 'a position or cell vector of the structure is not finite.'),
    }
    assert make_input({'near': near}, ShellSettings())[0] is None
    assert make_input({'near': near}, ShellSettings(min_distance_fraction=0.2))[1] == {}
