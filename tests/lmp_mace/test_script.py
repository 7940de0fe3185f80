"""Input lines: those of native builds and our own, wherever they stand."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lmp_mace.lmp_files import Finished, alloy, calculator, write_data

from aiida_mlip_al.lmp_mace.arguments import ModelOptions, parse_arguments
from aiida_mlip_al.lmp_mace.script import PairStyle, jumps, parse_pair_coeff, parse_pair_style, statements

HEAD = 'units metal\nread_data data\n'
TAIL = 'thermo_style custom step pe press\nthermo_modify format float %.17g\nrun 0\n'
FORMS = {
    'mliap': 'pair_style mliap unified model_00.model 0\npair_coeff * * O Au Cu\n',
    'mliap, converted': 'pair_style mliap unified model_00.model-mliap_lammps.pt 0\npair_coeff * * O Au Cu\n',
    'mace': 'pair_style mace no_domain_decomposition\npair_coeff * * model_00.model O Au Cu\n',
    'mace, converted': 'pair_style mace\npair_coeff * * model_00.model-lammps.pt O Au Cu\n',
    'kokkos': 'pair_style mace/kk no_domain_decomposition\npair_coeff * * model_00.model O Au Cu\n',
    'single model': 'pair_style mace model_00.model dtype float64\npair_coeff * * O Au Cu\n',
    'committee': 'pair_style mace model_00.model model_01.model out_freq 1\npair_coeff * * O Au Cu\n',
    'continued': 'pair_style mace &\n  no_domain_decomposition\npair_coeff * * model_00.model &\n O Au Cu\n',
    'variables': 'variable m index model_00.model\nvariable e string "O Au Cu"\npair_style mace # no "\n'
    'pair_coeff * * $m ${e}\n',
    'included': 'include potential.in\n',
}


@pytest.mark.parametrize('form', FORMS)
def test_all_forms_give_the_same_energy(
    form: str, lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    atoms = alloy((1, 1, 1))
    write_data(tmp_path / 'data', atoms, ('O', 'Au', 'Cu'))
    for model in models[:2]:
        (tmp_path / model.name).symlink_to(model)
    (tmp_path / 'potential.in').write_text('# the potential\n' + FORMS['mace'])
    done = lmp_mace(HEAD + FORMS[form] + TAIL, '--dtype', 'float64')
    assert done.returncode == 0, done.output
    atoms.calc = calculator(models[0])
    assert done.thermo[0, 1] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert (tmp_path / 'model_devi.out').exists() == (form == 'committee')


def test_models_beside_the_script_and_lammps_arguments(
    lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from aiida_mlip_al.lmp_mace.cli import main

    inputs = tmp_path / 'inputs'
    inputs.mkdir()
    (inputs / 'lead.model').symlink_to(models[0])
    write_data(tmp_path / 'data', alloy((1, 1, 1)), ('O', 'Au', 'Cu'))
    lines = 'pair_style mace lead.model\npair_coeff * * O Au ${last}\n'
    (inputs / 'in.lammps').write_text(HEAD + lines + TAIL + 'run ${steps}\nquit 3\nrun 100\n')
    arguments = ['-var', 'last', 'Cu', '-v', 'steps', '2', '-log', 'other.log', '-screen', 'none', '-nocite']
    code = main(['--in', os.path.join('inputs', 'in.lammps'), *arguments])
    assert code == 3
    assert 'Total wall time' in (tmp_path / 'other.log').read_text()
    assert 'Loop time' not in capfd.readouterr().out
    done = Finished(tmp_path, code, '')
    assert done.status['step'] == 2
    assert not done.status['finished']
    assert done.status['error'] == "The script's quit gave the exit status 3."


def test_a_script_on_standard_input(
    lmp_mace: Callable[..., Finished],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from aiida_mlip_al.lmp_mace.cli import main

    monkeypatch.setattr('sys.stdin', io.StringIO('units metal\nprint """two\nlines"""\n'))
    assert main([]) == 0
    assert 'two\nlines' in capfd.readouterr().out


def test_statements() -> None:
    text = 'a 1 & \n 2 # x\n\nprint """b\n# c\n"""\nd "#" e # f\n# &\ng &'
    found = [statement.words for statement in statements(text)]
    assert found[:2] == [['a', '1', '2'], []]
    assert found[2][0] == 'print'
    assert found[3] == ['d', '"#"', 'e']
    assert found[4:] == [[]], 'a comment continues, too'
    assert jumps(list(statements('if "$a > 1" then "jump SELF end"')))
    assert not jumps(list(statements('run 1\nprint "a" # jumping\n')))


def test_committee_line() -> None:
    def read(line: str) -> PairStyle:
        return parse_pair_style(line.split())

    style = read('pair_style mace a b c out_file x out_freq 7 records y upper 0.5 head pbe device cpu')
    assert style == PairStyle(['a', 'b', 'c'], [], {'head': 'pbe', 'device': 'cpu'}, 7, 'x', 'y', 0.5)
    assert parse_pair_coeff(style, ['pair_coeff', '*', '*', 'Ga', 'As']).elements == ['Ga', 'As']
    assert read('pair_style mace a b') == PairStyle(['a', 'b'], [], {}, 100, 'model_devi.out', None, None)
    assert read('pair_style mace a out_freq 5 records y') == PairStyle(['a'], [], {}, 5, None, 'y', None)
    assert read('pair_style mace a records y descriptors gradient').options == {'descriptors': 'gradient'}


def test_command_line() -> None:
    line = '-in x -var a 1 2 --dtype float64 -log none --head pbe --device cpu'
    parsed = parse_arguments(line.split())
    assert parsed.lammps == ['-var', 'a', '1', '2', '-log', 'none']
    assert parsed.options == ModelOptions('float64', 'cpu', 'pbe')
    assert parsed.script == Path('x')
    assert parse_arguments(['-h']).help
    parsed = parse_arguments(['--in', 'x', '-var', 'i', '5', '-var', 'h', '1'])
    assert (parsed.script, parsed.lammps, parsed.help) == (Path('x'), ['-var', 'i', '5', '-var', 'h', '1'], False)
