"""`aiida-mlip-al setup computer` and `setup check` on this machine, with jobs through the engine of this process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiida import orm
from aiida.engine import run_get_node
from click.testing import CliRunner, Result

from aiida_mlip_al.cli import main
from aiida_mlip_al.cli.check import SCRIPT, NotFoundError, codes_to_check, read_program, read_python
from aiida_mlip_al.workflows.builder import make_builder

NATIVE = """\
host: node01
gpu: NVIDIA A100
Large-scale Atomic/Molecular Massively Parallel Simulator - 22 Jul 2025 - Update 4

* Pair styles:

lj/cut          {}

* Bond styles:

mace
"""
FAKE_LAMMPS = """\
#!/bin/sh
[ "$1" = -h ] || exit 1
[ "$MODULE" = loaded ] || { echo 'cannot open libmpi.so'; exit 127; }
cat <<'END'
Large-scale Atomic/Molecular Massively Parallel Simulator - 22 Jul 2025
* Pair styles:
lj/cut mliap mliap/kk
* Bond styles:
END
"""
FAKE_VASP = '#!/bin/sh\ntouch {}\n'


@pytest.fixture(autouse=True)
def in_this_process(aiida_profile_clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run jobs at once."""

    def submit(process: Any, inputs: dict[str, Any]) -> Any:
        return run_get_node(make_builder(process, inputs))[1]

    monkeypatch.setattr('aiida_mlip_al.cli.launch.submit', submit)


@pytest.fixture
def setup(tmp_path: Path) -> Callable[..., Result]:
    """Return a function that sets up this machine from a YAML file: ``setup(key=value)``."""

    def call(**changes: Any) -> Result:
        values = {
            'label': 'here',
            'hostname': 'localhost',
            'transport': 'core.local',
            'scheduler': 'core.direct',
            'work_dir': str(tmp_path / 'work'),
            'poll_interval_s': 0.1,
            **changes,
        }
        file = tmp_path / 'here.yaml'
        file.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return CliRunner().invoke(main, ['setup', 'computer', str(file)])

    return call


def check(*arguments: str) -> Result:
    """Run `setup check`."""
    return CliRunner().invoke(main, ['setup', 'check', *arguments], env={'COLUMNS': '200'})


def program(path: Path, text: str) -> str:
    """Write an executable and return its path."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_computer_and_codes_from_one_file(setup: Callable[..., Result]) -> None:
    done = setup(
        prepend_text='export A=1\n',
        mpirun_command='srun -n {tot_num_mpiprocs}',
        mpiprocs_per_machine=4,
        codes={
            'python': {'path': '/opt/bin/python', 'device': 'cuda'},
            'lammps': '/opt/bin/lmp',
            'vasp': ['/opt/bin/vasp_std'],
        },
    )
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        'computer here created',
        'code python@here is /opt/bin/python, on cuda',
        'code vasp_std@here is /opt/bin/vasp_std, with mpirun',
        'code lmp@here is /opt/bin/lmp',
        'check it with `aiida-mlip-al setup check`',
    ]
    computer = orm.load_computer('here')
    assert computer.get_prepend_text() == 'export A=1\n'
    assert computer.get_mpirun_command() == ['srun', '-n', '{tot_num_mpiprocs}']
    assert computer.get_default_mpiprocs_per_machine() == 4
    assert computer.get_minimum_job_poll_interval() == 0.1
    assert computer.get_configuration()['safe_interval'] == 0
    assert orm.load_code('python@here').base.extras.get('device') == 'cuda'
    assert orm.load_code('vasp_std@here').with_mpi is True


def test_second_call(setup: Callable[..., Result], tmp_path: Path) -> None:
    assert setup().output.splitlines() == ['computer here created', 'now `aiida-mlip-al setup codes`']
    again = setup(poll_interval_s=7, safe_interval_s=3, codes={'python': '/opt/bin/python'})
    assert again.output.splitlines()[:2] == ['computer here reused', 'code python@here is /opt/bin/python, on cpu']
    computer = orm.load_computer('here')
    assert (computer.get_minimum_job_poll_interval(), computer.get_configuration()['safe_interval']) == (7, 3)
    assert orm.QueryBuilder().append(orm.Computer).count() == 1

    other = setup(work_dir='/elsewhere')
    assert other.exit_code == 1
    assert other.output == (
        f"Error: There is a computer `here` already, whose `work_dir` is '{tmp_path / 'work'}': choose another label, or free "
        'this one with `verdi computer relabel here here-old`.\n'
    )
    assert orm.load_computer('here').get_workdir() == str(tmp_path / 'work')


def test_prepend_text_makes_another_code(setup: Callable[..., Result]) -> None:
    codes = {'lammps': {'path': '/opt/bin/lmp', 'prepend_text': 'module load lammps/1'}}
    for text in ('lammps/1', 'lammps/1', 'lammps/2'):
        codes['lammps']['prepend_text'] = f'module load {text}'
        assert setup(codes=codes).exit_code == 0
    assert orm.load_code('lmp@here').prepend_text == 'module load lammps/2'
    assert orm.QueryBuilder().append(orm.InstalledCode).count() == 2
    assert [code.label for code in codes_to_check()] == ['lmp'], 'one that lost its name is not checked'


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'scheduler': 'core.slrum'}, '`scheduler`: AiiDA knows no `core.slrum`; did you mean `core.slurm`?'),
        ({'transport': 'ssh'}, '`transport`: AiiDA knows no `ssh`; '),
        (
            {'ssh': {'username': 'me'}},
            '`ssh.username` is no option of core.local, which has use_login_shell, safe_interval.',
        ),
        (
            {'transport': 'core.ssh_async', 'ssh': {'username': 'me'}},
            '`ssh.username` is no option of core.ssh_async, which has host, ',
        ),
        ({'mpirun_command': 'srun -n {cores}'}, '`{cores}` is not filled in'),
        ({'hostname': None}, '`hostname` is missing: '),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    setup: Callable[..., Result], changes: dict[str, Any], expected: str
) -> None:
    done = setup(**changes)
    assert done.exit_code == 1
    assert expected in done.output
    assert len(done.output.splitlines()) == 1, done.output
    assert orm.QueryBuilder().append(orm.Computer).count() == 0


def test_ssh_computers_are_configured_as_verdi_does_it(setup: Callable[..., Result]) -> None:
    shared = {'scheduler': None, 'hostname': 'login.example.org', 'poll_interval_s': None}
    assert setup(label='new', transport=None, ssh={'max_io_allowed': 2}, **shared).exit_code == 0
    new = orm.load_computer('new')
    assert (new.transport_type, new.scheduler_type) == ('core.ssh_async', 'core.slurm')
    expected = {'host': 'login.example.org', 'max_io_allowed': 2, 'safe_interval': 15.0, 'backend': 'asyncssh'}
    assert expected.items() <= new.get_configuration().items()
    assert new.get_minimum_job_poll_interval() == 30
    assert setup(label='old', transport='core.ssh', ssh={'username': 'me'}, **shared).exit_code == 0
    old = orm.load_computer('old').get_configuration()
    assert {
        'username': 'me',
        'port': 22,
        'load_system_host_keys': True,
        'key_policy': 'RejectPolicy',
    }.items() <= old.items()


def test_every_kind_of_code_answers(setup: Callable[..., Result], tmp_path: Path) -> None:
    started = tmp_path / 'started'
    lammps = program(tmp_path / 'lmp{1}', FAKE_LAMMPS)
    vasp = program(tmp_path / 'vasp_std', FAKE_VASP.format(started))
    done = setup(
        codes={
            'python': sys.executable,
            'lammps': {'path': lammps, 'prepend_text': 'export MODULE=loaded'},
            'vasp': vasp,
        }
    )
    assert done.exit_code == 0, done.output
    found = check('--extra', '# a line', '--gpus', '1')
    assert found.exit_code == 0, found.output
    rows = {line.split()[0]: line for line in found.output.splitlines()}
    version = '.'.join(map(str, sys.version_info[:3]))
    assert f'python {version}, ase ' in rows['python@here']
    assert 'LAMMPS 22 Jul 2025, pair styles mliap, mliap/kk' in rows['lmp{1}@here']
    assert 'an executable that finds its libraries' in rows['vasp_std@here']
    assert not started.exists(), 'VASP is not started'
    jobs = orm.QueryBuilder().append(orm.CalcJobNode).all(flat=True)
    assert len(jobs) == 3
    assert {job.get_option('custom_scheduler_commands') for job in jobs} == {'# a line'}


def test_what_does_not_answer_is_said(setup: Callable[..., Result], tmp_path: Path) -> None:
    broken = program(tmp_path / 'lmp', FAKE_LAMMPS)
    assert setup(codes={'lammps': broken, 'vasp': '/nowhere/vasp_std'}).exit_code == 0
    found = check()
    assert found.exit_code == 1
    assert 'lmp@here: it is no LAMMPS, for `-h` printed: cannot open libmpi.so (`verdi process report' in found.output
    assert 'vasp_std@here: There is no executable /nowhere/vasp_std on ' in found.output
    wrong = check('--gpus', 'many')
    assert wrong.exit_code == 1
    assert wrong.output.startswith('Error: `gpus`: string should match')


@pytest.mark.parametrize(
    ('path', 'status', 'said'),
    [
        ('/bin/sh', 0, ''),
        ('/nowhere/vasp_std', 1, 'There is no executable /nowhere/vasp_std on '),
        ('/tmp', 1, 'There is no executable /tmp on '),
        ('{fake}/ldd', 1, '/ldd does not find its libraries libmkl.so.2 libiomp5.so: load their modules in the '),
    ],
)
def test_programs_are_looked_at_and_not_started(tmp_path: Path, path: str, status: int, said: str) -> None:
    found = '\tlibmkl.so.2 => not found\n\tlibm.so.6 => /lib/libm.so.6 (0x1)\n\tlibiomp5.so => not found\n'
    program(tmp_path / 'ldd', f'#!/bin/sh\n[ "$1" = /bin/sh ] || printf \'{found}\'\n')
    done = subprocess.run(
        ['/bin/sh', '-c', SCRIPT, 'sh', path.format(fake=tmp_path), 'program'],
        env={'PATH': f'{tmp_path}:/usr/bin:/bin'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, bool(done.stdout)) == (status, status == 0)
    assert said in done.stderr


def test_a_computer_that_cannot_be_reached(setup: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    assert setup(codes={'python': sys.executable}).exit_code == 0

    def refused(self: Any) -> str:
        raise OSError('Connection refused.')

    monkeypatch.setattr('aiida.transports.plugins.local.LocalTransport.whoami', refused)
    found = check()
    assert found.exit_code == 1
    assert found.output == 'here cannot be reached: Connection refused (`verdi computer test here` says more)\n'
    assert orm.QueryBuilder().append(orm.CalcJobNode).count() == 0


def test_answers_of_pythons() -> None:
    found = {
        'python': '3.11.2',
        'ase': '3.25',
        'torch': '2.6',
        'mace': None,
        'cuda': '12.4',
        'gpu': 'NVIDIA H100',
        'host': 'n1',
    }
    assert read_python(found, 'cuda') == ('python 3.11.2, ase 3.25, torch 2.6, no mace, CUDA 12.4', 'NVIDIA H100', 'n1')
    with pytest.raises(NotFoundError, match='saw no GPU'):
        read_python({**found, 'gpu': None}, 'cuda')
    assert read_python({**found, 'gpu': None}, 'cpu').gpu == ''


def test_answers_of_lammps() -> None:
    answer = read_program(NATIVE.format('symmetrix/mace mace'), is_lammps=True)
    assert answer == ('LAMMPS 22 Jul 2025 - Update 4, pair styles mace, symmetrix/mace', 'NVIDIA A100', 'node01')
    with pytest.raises(NotFoundError, match='none of the pair styles'):
        read_program(NATIVE.format('eam'), is_lammps=True)
    status = {
        'finished': True,
        'error': None,
        'versions': {'lammps': '20250722', 'torch': '2.13', 'mace': '0.3.16', 'ase': '3'},
    }
    said = 'host: n1\ngpu: \nusage: lmp-mace -in SCRIPT\nready\n{}'
    assert read_program(said.format(json.dumps(status, indent=1)), is_lammps=True) == (
        'lmp-mace, lammps 20250722, torch 2.13, mace 0.3.16',
        '',
        'n1',
    )
    with pytest.raises(NotFoundError, match='lmp-mace does not run: No torch'):
        read_program(said.format(json.dumps({'finished': False, 'error': 'No torch'})), is_lammps=True)
    with pytest.raises(NotFoundError, match="does not run: ImportError: no module named 'torch'"):
        read_program(said.format("ImportError: no module named 'torch'\n"), is_lammps=True)
