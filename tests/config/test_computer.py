"""The description of a computer: what is taken for granted, and the one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.config.computer import load_computer_config, make_computer_config

CLUSTERS = Path(__file__).parents[2] / 'examples' / 'clusters'
GOOD = {'label': 'cluster', 'hostname': 'login.example.org', 'work_dir': '/scratch/{username}/aiida'}


@pytest.mark.parametrize('name', ['cpu', 'gpu'])
def test_examples_are_valid(name: str) -> None:
    config = load_computer_config(CLUSTERS / f'{name}.yaml')
    assert (config.label, config.transport, config.scheduler) == (name, 'core.ssh_async', 'core.slurm')
    assert 'module purge\n' in config.prepend_text
    assert [python.device for python in config.codes.python] == [{'cpu': 'cpu', 'gpu': 'cuda'}[name]]
    assert [Path(program.path).name for program in config.codes.lammps] == ['lmp-mace']


def test_what_is_left_out() -> None:
    config = make_computer_config(GOOD)
    assert (config.transport, config.scheduler, config.mpiprocs_per_machine) == ('core.ssh_async', 'core.slurm', 1)
    assert config.mpirun_command == ['mpirun', '-np', '{tot_num_mpiprocs}']
    assert config.codes.model_dump() == {'python': [], 'lammps': [], 'vasp': []}


def test_short_and_long_ways_to_write_programs() -> None:
    codes = {
        'python': '/opt/python',
        'lammps': ['/opt/lmp', {'path': '/opt/lmp_gpu', 'mpi': False}],
        'vasp': {'path': '/opt/vasp_std', 'prepend_text': 'module load vasp'},
    }
    config = make_computer_config(
        {**GOOD, 'mpirun_command': "srun --mpi='pmix v4' -n {tot_num_mpiprocs}", 'codes': codes}
    )
    assert config.mpirun_command == ['srun', '--mpi=pmix v4', '-n', '{tot_num_mpiprocs}']
    assert [(item.path, item.label, item.device) for item in config.codes.python] == [('/opt/python', 'python', 'cpu')]
    assert [(item.path, item.mpi) for item in config.codes.lammps] == [('/opt/lmp', None), ('/opt/lmp_gpu', False)]
    assert config.codes.vasp[0].prepend_text == 'module load vasp'


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'work_dri': 1}, '`work_dri` is not a known key; did you mean `work_dir`?'),
        ({'hostname': None}, '`hostname`: input should be a valid string, got None.'),
        ({'work_dir': 'scratch'}, "`work_dir`: it must be an absolute path on the computer, got 'scratch'."),
        (
            {'work_dir': '/scratch/{user}'},
            "`work_dir`: `{user}` is not filled in; known here: {username}, got '/scratch/{user}'.",
        ),
        ({'label': 'a@b'}, r"`label`: string should match pattern '^[\w.-]+$', got 'a@b'."),
        ({'label': 'a; rm -rf ~'}, r"`label`: string should match pattern '^[\w.-]+$', got 'a; rm -rf ~'."),
        ({'hostname': 'a\nb'}, r"`hostname`: string should match pattern '^\S+$', got 'a\nb'."),
        ({'poll_interval_s': 0}, '`poll_interval_s`: input should be greater than 0, got 0.'),
        ({'codes': {'pyton': '/opt/python'}}, '`codes.pyton` is not a known key; did you mean `python`?'),
        ({'codes': {'vasp': 'vasp'}}, "`codes.vasp.0.path`: it must be an absolute path on the computer, got 'vasp'."),
        (
            {'codes': {'python': {'path': '/a', 'device': 'gpu'}}},
            "`codes.python.0.device`: input should be 'cpu' or 'cuda', got 'gpu'.",
        ),
    ],
)
def test_mistakes_are_one_sentence(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_computer_config({**GOOD, **changes})
    assert str(caught.value) == expected


def test_unknown_placeholder_of_mpirun() -> None:
    with pytest.raises(
        ConfigError, match=r'^`mpirun_command`: `\{cores\}` is not filled in; known here: \{num_machines\}, '
    ):
        make_computer_config({**GOOD, 'mpirun_command': 'srun -n {cores}'})


def test_missing_key_and_other_files() -> None:
    with pytest.raises(ConfigError, match=r'^`work_dir` is missing: folder for jobs there'):
        make_computer_config({'label': 'a', 'hostname': 'b'})
    with pytest.raises(ConfigError, match='must be keys and values'):
        make_computer_config(['label'])
