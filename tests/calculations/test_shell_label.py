"""ShellLabelCalculation: aiida-shell's job, with an input made of structures."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from aiida import orm
from ase.build import molecule
from ase.io import read

Make = Callable[..., Any]


def file(name: str) -> orm.SinglefileData:
    return orm.SinglefileData(io.BytesIO(b'text'), filename=name)


@pytest.fixture
def shell_inputs(python_code: Any, structures: dict[str, Any]) -> dict[str, Any]:
    """Inputs of a script."""
    return {
        'code': python_code,
        'structures': structures,
        'nodes': {'script': file('label.py')},
        'arguments': orm.List(['{script}', '--json={{"a": 1}}', 'structures.extxyz', 'labels.extxyz']),
    }


def test_job(generate_calc_job: Make, shell_inputs: dict[str, Any]) -> None:
    process, folder, calcinfo = generate_calc_job('mlip_al.shell_label', shell_inputs)
    assert sorted(path.name for path in folder.iterdir()) == ['label.py', 'structures.extxyz']
    frames = read(folder / 'structures.extxyz', index=':')
    assert [frame.get_chemical_formula() for frame in frames] == ['CH4', 'H2O']
    (code,) = calcinfo.codes_info
    assert code.cmdline_params == ['label.py', '--json={"a": 1}', 'structures.extxyz', 'labels.extxyz']
    assert (code.stdin_name, code.stdout_name, code.stderr_name) == (None, 'stdout', 'stderr')
    assert sorted(calcinfo.retrieve_list) == ['labels.extxyz', 'status', 'stderr', 'stdout']
    assert calcinfo.provenance_exclude_list == ['label.py'], 'the input is kept with the job'
    assert not calcinfo.skip_submit
    assert calcinfo.append_text.endswith('> status')
    assert process.node.process_label == 'ShellLabelCalculation'


def test_template_and_standard_input(generate_calc_job: Make, shell_inputs: dict[str, Any]) -> None:
    shell_inputs['structures'] = {'water': orm.StructureData(ase=molecule('H2O'))}
    shell_inputs['template'] = orm.SinglefileData(io.BytesIO(b'{{ species | join }}'), filename='x.j2')
    shell_inputs['settings'] = orm.Dict(
        {'stdin': True, 'input': {'filename': 'run.in'}, 'output': {'filename': 'stdout', 'format': 'espresso-out'}}
    )
    _, folder, calcinfo = generate_calc_job('mlip_al.shell_label', shell_inputs)
    assert (folder / 'run.in').read_text() == 'HO'
    assert calcinfo.codes_info[0].stdin_name == 'run.in'
    assert sorted(calcinfo.retrieve_list) == ['status', 'stderr', 'stdout']


def test_nothing_is_run_for_structures_that_are_not_worth_it(
    generate_calc_job: Make, shell_inputs: dict[str, Any]
) -> None:
    shell_inputs['settings'] = orm.Dict({'min_distance_fraction': 2.0})
    _, folder, calcinfo = generate_calc_job('mlip_al.shell_label', shell_inputs)
    assert calcinfo.skip_submit
    assert not (folder / 'structures.extxyz').exists()


@pytest.mark.parametrize(
    ('names', 'settings', 'options', 'sentence'),
    [
        (['labels.extxyz'], {}, {}, '`labels.extxyz` is taken in the job'),
        (['x', 'x'], {}, {}, '`x` is taken in the job'),
        (['status'], {}, {}, '`status` is taken in the job'),
        ([], {'argument': []}, {}, '`argument` is not a known key; known here: input'),
        ([], {'output': {'format': 'no'}}, {}, 'no format that ASE can read'),
        ([], {}, {'append_text': 'rm tmp'}, 'Put the `append_text` on the code'),
        ([], {}, {'resources': {'num_machines': 0}}, 'must be greater than or equal to one'),
    ],
)
def test_bad_inputs_are_refused(
    generate_calc_job: Make,
    shell_inputs: dict[str, Any],
    names: list[str],
    settings: dict[str, Any],
    options: dict[str, Any],
    sentence: str,
) -> None:
    shell_inputs['nodes'].update({f'file_{index}': file(name) for index, name in enumerate(names)})
    shell_inputs.update(settings=orm.Dict(settings), metadata={'options': options})
    with pytest.raises(ValueError, match=sentence):
        generate_calc_job('mlip_al.shell_label', shell_inputs)
