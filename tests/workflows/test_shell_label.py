"""Labels by any executable, through aiida-shell and the real engine."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory, WorkflowFactory
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_mlip_al.config import ConfigError, make_config
from aiida_mlip_al.workflows.builder import Inputs, load_program
from aiida_mlip_al.workflows.label_engines import ShellLabelEngine

FAKES = Path(__file__).parents[1] / 'fakes'
TEMPLATE = """max_cycles 20
{% for row in cell %}cell {{ row | join(' ') }}
{% endfor %}{% for atom in atoms %}atom {{ atom.symbol }} {{ atom.x }} {{ atom.y }} {{ atom.z }}
{% endfor %}"""
PROGRAM = {
    'stdin': True,
    'input': {'filename': 'run.in'},
    'output': {'filename': 'result.extxyz'},
    'unconverged': ['quantum_espresso'],
}


@pytest.fixture
def labeller(python_code: Any) -> Any:
    """Return a factory of inputs that label with a script: ``labeller('crash=2', unconverged=['cp2k'])``."""

    def make(*troubles: str, **settings: Any) -> dict[str, Any]:
        return {
            'code': python_code,
            'arguments': orm.List(['{script}', 'structures.extxyz', 'labels.extxyz', *troubles]),
            'nodes': {'script': orm.SinglefileData(FAKES / 'shell_labeller.py')},
            'settings': orm.Dict({'theory': 'EMT', **settings}),
        }

    return make


@pytest.fixture
def program(python_code: Any) -> Any:
    """Return a factory of inputs that label with a program that has an input of its own: ``program(TEMPLATE)``."""

    def make(template: str = TEMPLATE) -> dict[str, Any]:
        return {
            'code': python_code,
            'arguments': orm.List(['{script}']),
            'nodes': {'script': orm.SinglefileData(FAKES / 'shell_program.py')},
            'settings': orm.Dict(PROGRAM),
            'template': orm.SinglefileData(io.BytesIO(template.encode()), filename='run.j2'),
        }

    return make


def job(**inputs: Any) -> tuple[dict[str, Any], Any]:
    return run_get_node(CalculationFactory('mlip_al.shell_label'), **inputs)


def chain(**inputs: Any) -> tuple[dict[str, Any], Any]:
    return run_get_node(WorkflowFactory('mlip_al.label'), **inputs)


def jobs_of(node: Any) -> list[Any]:
    return sorted((child for child in node.called if 'Label' in child.process_label), key=lambda child: child.pk)


def same_numbers(one: Any, other: Any) -> None:
    """Two labels of the same structure have the same numbers: extended XYZ rounds positions and forces to 1e-8."""
    assert one.energy == pytest.approx(other.energy, abs=1e-7)
    np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=1e-7)
    np.testing.assert_allclose(one.stress, other.stress, rtol=0, atol=1e-7)
    for name in ('positions', 'cell', 'numbers', 'pbc'):
        np.testing.assert_array_equal(one.get_array(name), other.get_array(name))
    assert one.stress_axes == other.stress_axes
    assert one.split == other.split


def test_program_gives_what_the_ase_engine_gives(python_code, emt, copper, labeller, program):
    """Also of a slab, whose stress is masked, and of one structure through a template."""
    structures = copper(2, squeezed=(1,))
    slab = bulk('Cu', cubic=True)
    slab.rattle(0.05, seed=5)
    slab.pbc = [True, True, False]
    structures['slab'] = orm.StructureData(ase=slab).store()

    expected, usual = chain(
        structures=structures, ase={'code': python_code, 'calculator': emt}, max_failed_fraction=0.4
    )
    results, node = chain(structures=structures, shell=labeller(), max_failed_fraction=0.4)
    assert (usual.exit_status, node.exit_status) == (0, 0)
    assert set(results['labels']) == set(expected['labels']) == {'frame_000', 'slab'}
    for name, label in expected['labels'].items():
        same_numbers(results['labels'][name], label)
    assert [frame.info['name'] for frame in results['dataset'].iterate()] == ['frame_000', 'slab']
    report, usual_report = results['report'].get_dict(), expected['report'].get_dict()
    assert set(report) - set(usual_report) == {'exit_status'}
    assert report['rejected'] == [{**usual_report['rejected'][0], 'message': report['rejected'][0]['message']}]
    for key in ('reasons', 'n_structures', 'n_labelled', 'n_rejected', 'n_unfinished', 'theory'):
        assert report[key] == usual_report[key]
    assert report['theory_hash'] == results['dataset'].theory_hash != expected['dataset'].theory_hash
    assert 0.1 < report['wall_s'] == report['core_s']
    (child,) = jobs_of(node)
    assert results['labels']['slab'].creator.uuid == child.uuid
    assert child.process_type == 'aiida.calculations:mlip_al.shell_label'

    single, node = job(structures={'frame_000': structures['frame_000']}, **program())
    assert node.exit_status == 0
    same_numbers(single['labels']['frame_000'], expected['labels']['frame_000'])


def test_bad_structures_are_rejected_alone(copper, labeller):
    results, node = job(structures=copper(6), **labeller('missing=1', 'says=2', 'nan=3', 'pulled=5'))
    assert node.exit_status == 0
    assert set(results['labels']) == {'frame_000', 'frame_004'}
    assert results['dataset'].n_frames == results['report']['n_labelled'] == 2
    rejected = {item['structure']: item['reason'] for item in results['report']['rejected']}
    assert rejected == {
        'frame_001': 'not_reached',
        'frame_002': 'unconverged',
        'frame_003': 'non_finite',
        'frame_005': 'force_cap',
    }
    assert (results['report']['n_rejected'], results['report']['n_unfinished']) == (4, 0)


def test_unconverged_run_rejects_the_batch_that_it_is_in(copper, labeller):
    results, node = job(structures=copper(2), **labeller('unconverged=1', unconverged=['cp2k']))
    assert node.exit_status == 320
    assert results['report']['reasons'] == {'unconverged': 2}
    assert 'SCF run NOT converged' in results['report']['rejected'][0]['message']
    assert 'labels' not in results


def test_unconverged_run_of_one_structure_with_exit_status_0(copper, program):
    results, node = job(structures=copper(1), **program(TEMPLATE.replace('20', '5')))
    assert node.exit_status == 320
    assert results['report']['reasons'] == {'unconverged': 1}
    assert results['report']['exit_status'] == 0


@pytest.mark.slow
def test_structures_that_crash_the_program_are_rejected_and_the_others_labelled(copper, labeller):
    """One after the other, also more of them than there are attempts."""
    structures = copper(6)
    positions = [structures[f'frame_{index:03d}'].get_ase().positions[0, 0] for index in (0, 2, 3, 5)]
    results, node = chain(
        structures=structures,
        shell=labeller(*(f'crash_at_x={x}' for x in positions)),
        max_attempts=2,
        max_failed_fraction=0.7,
    )
    assert node.exit_status == 0
    assert set(results['labels']) == {'frame_001', 'frame_004'}
    assert [frame.info['name'] for frame in results['dataset'].iterate()] == ['frame_001', 'frame_004']
    assert results['report']['reasons'] == {'error': 4}
    assert {item['structure'] for item in results['report']['rejected']} == {
        f'frame_{index:03d}' for index in (0, 2, 3, 5)
    }
    assert 'status 1: cannot label' in results['report']['rejected'][0]['message']
    batches = [(child.exit_status, len(child.inputs.structures)) for child in jobs_of(node)]
    assert batches == [(401, 6), (401, 5), (401, 3), (0, 2)]


@pytest.mark.slow
def test_program_that_always_fails_is_given_up(copper, labeller):
    _, node = chain(structures=copper(8), shell=labeller('crash=0'), max_attempts=2)
    assert node.exit_status == 401
    assert len(jobs_of(node)) == 3, 'once more without the first structure'


def test_killed_job_keeps_what_it_labelled_and_the_rest_is_sent_again(copper, labeller, tmp_path):
    structures = copper(3)
    results, node = chain(structures=structures, shell=labeller('killed=1', f'once={tmp_path / "killed"}'))
    assert node.exit_status == 0
    assert set(results['labels']) == set(structures)
    first, second = jobs_of(node)
    assert (first.exit_status, second.exit_status) == (400, 0)
    assert set(first.outputs.labels) == {'frame_000'}
    assert set(second.outputs.labels) == {'frame_001', 'frame_002'}
    assert first.outputs.report['rejected'] == []
    assert (first.outputs.report['exit_status'], first.outputs.report['n_unfinished']) == (None, 2)
    assert not first.base.caching.is_valid_cache


def test_program_that_does_not_exist_is_not_tried_again(copper, labeller, aiida_code_installed):
    missing = aiida_code_installed(label='missing', filepath_executable='/no/such/program')
    structures = copper(2)
    _, node = chain(structures=structures, shell={**labeller(), 'code': missing})
    assert node.exit_status == 401
    (child,) = jobs_of(node)
    assert child.exit_status == 310
    assert '/no/such/program' in child.exit_message
    outcome = ShellLabelEngine.outcome(child, sorted(structures))
    assert (outcome.unfinished, outcome.curable) == (sorted(structures), False)


@pytest.mark.parametrize(
    ('template', 'count', 'sentence'),
    [
        ('{{ positons }}', 1, "the template cannot be filled in: 'positons' is undefined"),
        (TEMPLATE, 2, 'set `batch_size` to 1'),
    ],
)
def test_input_that_cannot_be_written_runs_nothing(copper, program, template, count, sentence):
    results, node = job(structures=copper(count), **program(template))
    assert node.exit_status == 320
    assert results['report']['reasons'] == {'error': count}
    assert sentence in results['report']['rejected'][0]['message']
    assert node.get_job_id() is None


def test_nothing_worth_computing_runs_nothing(copper, labeller):
    results, node = job(structures=copper(1, squeezed=(0,)), **labeller())
    assert node.exit_status == 320
    assert results['report']['reasons'] == {'too_close': 1}
    assert node.get_job_id() is None


def test_exactly_one_engine(python_code, emt, copper, labeller):
    with pytest.raises(ValueError, match=r'Give one engine to label with \(ase, shell.*\); 2 are given'):
        chain(structures=copper(1), shell=labeller(), ase={'code': python_code, 'calculator': emt})


def inputs_of(folder: Path, structures: dict[str, Any], **shell: Any) -> dict[str, Any]:
    """Return the inputs of LabelWorkChain as an input file in this folder gives them."""
    for name in ('shell_program.py', 'shell_labeller.py'):
        (folder / name).write_bytes((FAKES / name).read_bytes())
    (folder / 'run.j2').write_text(TEMPLATE)
    given = {'command': 'python@localhost', 'files': ['shell_program.py'], 'arguments': ['shell_program.py'], **shell}
    values = {'structures': [node.uuid for node in structures.values()], 'labels': {'shell': given}}
    return Inputs(make_config({**values, 'protocol': 'quickstart'}), folder).label()


def test_input_file_labels_with_a_program_of_its_own_format(python_code, copper, tmp_path):
    structures = copper(2)
    shell = {'command': python_code.full_label, 'template': 'run.j2', **PROGRAM}
    inputs = inputs_of(tmp_path, structures, **shell)
    assert inputs['batch_size'] == 1
    results, node = chain(structures=structures, **inputs)
    assert node.exit_status == 0
    assert set(results['labels']) == set(structures)
    assert len(jobs_of(node)) == 2
    for name, label in results['labels'].items():
        atoms = structures[name].get_ase()
        atoms.calc = EMT()
        np.testing.assert_allclose(label.forces, atoms.get_forces(), rtol=0, atol=1e-7)


def test_input_file_with_an_executable_of_this_machine(python_code, copper, tmp_path):
    """Its code is made when the run is submitted, and found again."""
    script = tmp_path / 'my_program'
    script.write_text(f'#!/bin/sh\nexec {python_code.filepath_executable} "$@"\n')
    script.chmod(0o755)
    structures = copper(1)
    # Braces in an argument are the program's own.
    arguments = ['shell_labeller.py', 'structures.extxyz', 'labels.extxyz', '{}=0', '{x}=9']
    shell = {'command': './my_program', 'files': ['shell_labeller.py'], 'arguments': arguments}
    inputs = inputs_of(tmp_path, structures, **shell)
    assert not inputs['shell']['code'].is_stored
    results, node = chain(structures=structures, **inputs)
    assert node.exit_status == 0
    assert results['report']['theory'].startswith('my_program shell_labeller.py')
    assert load_program('./my_program', tmp_path).uuid == jobs_of(node)[0].inputs.code.uuid
    assert load_program('my_program', Path('/')).full_label == 'my_program@localhost'


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'command': 'no-such-program'}, 'There is neither a code nor an executable `no-such-program`'),
        ({'files': ['no.py']}, 'There is no file node `no.py` and no file'),
        ({'template': 'no.j2'}, 'There is no file node `no.j2` and no file'),
        (
            {'template': 'shell_program.py', 'input': {'format': 'vasp', 'arguments': {'x': 1}}},
            'the writer vasp of ASE',
        ),
    ],
)
def test_mistakes_that_only_files_show(python_code, copper, tmp_path, change, sentence):
    shell = {'command': python_code.full_label, **change}
    with pytest.raises(ConfigError, match=sentence):
        inputs_of(tmp_path, copper(1), **shell)


def test_template_is_tried_before_anything_is_submitted(python_code, copper, tmp_path):
    (tmp_path / 'wrong.j2').write_text('{{ positons }}')
    with pytest.raises(
        ConfigError, match=r"`labels\.shell`: the template cannot be filled in: 'positons' is undefined"
    ):
        inputs_of(tmp_path, copper(1), command=python_code.full_label, template='wrong.j2')
