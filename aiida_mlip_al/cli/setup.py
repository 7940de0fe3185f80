"""`aiida-mlip-al setup`: what a run needs, and whether it answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import click

from .common import PROFILE, chosen_profile, make_console, told, with_profile

CHECK_IT = 'check it with `aiida-mlip-al setup check`'


@click.group()
def setup() -> None:
    """Create and check profile, computers and codes."""


@setup.command('profile')
@click.pass_context
def setup_profile(ctx: click.Context) -> None:
    """Create a profile that needs no service (SQLite, ZeroMQ), with this machine and this Python, and start its daemon."""
    from aiida.manage.configuration import load_profile

    from .daemon import ensure_daemon
    from .profile import ensure_computer, ensure_profile, ensure_python_code

    name = chosen_profile(ctx) or PROFILE
    created = ensure_profile(name)
    load_profile(name, allow_switch=True)
    code = ensure_python_code(ensure_computer())
    told(ensure_daemon)()
    click.echo(f'profile {name} {"created" if created else "reused"}; code {code.full_label}; the daemon runs')


@setup.command('daemon')
@click.option('--workers', default=1, show_default=True, help='Processes that drive the runs.')
@with_profile
def setup_daemon(workers: int) -> None:
    """Start the daemon, also after a crash or a reboot: every run goes on where it was."""
    from .daemon import ensure_daemon

    click.echo('the daemon was started' if told(ensure_daemon)(workers) else 'the daemon is running')


@setup.command('computer')
@click.argument('config', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@with_profile
def setup_computer(config: Path) -> None:
    """Create the computer that the YAML file CONFIG describes, and its codes if they are there too.

    Keys: label, hostname, work_dir; transport (core.ssh_async), scheduler (core.slurm), prepend_text, mpiprocs_per_machine,
    mpirun_command, poll_interval_s, safe_interval_s, ssh (options of the transport), codes (python, lammps, vasp). Called
    again, it adds codes and sets anew how the computer is reached.
    """
    from aiida_mlip_al.config.computer import load_computer_config

    from .computers import ensure_described_computer, ensure_programs

    described = told(load_computer_config)(config)
    computer, created = told(ensure_described_computer)(described)
    click.echo(f'computer {computer.label} {"created" if created else "reused"}')
    lines = told(ensure_programs)(computer, described.codes)
    click.echo('\n'.join([*lines, CHECK_IT] if lines else ['now `aiida-mlip-al setup codes`']))


@setup.command('codes')
@click.argument('computer')
@click.option('--python', 'python', help='The Python there that has ase, and mace-torch or the calculator.')
@click.option('--label', default='python', show_default=True, help='Name of the code of that Python.')
@click.option(
    '--device', type=click.Choice(['cpu', 'cuda']), default='cpu', show_default=True, help='Where torch computes.'
)
@click.option('--vasp', multiple=True, help='A VASP there, such as /opt/vasp/bin/vasp_std; may be given several times.')
@click.option('--lammps', multiple=True, help='lmp-mace or a LAMMPS there, by its path; may be given several times.')
@click.option('--mpi/--no-mpi', default=True, show_default=True, help='Whether VASP is started with mpirun.')
@click.option(
    '--potcars',
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help='Folder on this machine with POTCARs, as SYMBOL/POTCAR, to make a family of.',
)
@click.option('--family', help='Name of that family.')
@with_profile
def setup_codes(
    computer: str,
    python: str | None,
    label: str,
    device: Literal['cpu', 'cuda'],
    vasp: tuple[str, ...],
    lammps: tuple[str, ...],
    mpi: bool,
    potcars: Path | None,
    family: str | None,
) -> None:
    """Create the codes on COMPUTER: a Python that runs labels, training and MD; VASP, and its potentials; LAMMPS."""
    from aiida import orm

    from aiida_mlip_al.config.computer import MpiProgram, Programs, PythonProgram

    from .computers import ensure_programs
    from .profile import upload_potcars

    if python is None and not vasp and not lammps and potcars is None:
        raise click.ClickException('Give at least one of --python, --vasp, --lammps and --potcars.')
    if (potcars is None) != (family is None):
        raise click.ClickException('Give --potcars and --family together.')
    for executable in filter(None, (python, *vasp, *lammps)):
        if not Path(executable).is_absolute():
            raise click.ClickException(f'`{executable}` must be an absolute path on the computer.')
    place = told(orm.load_computer)(computer)
    programs = Programs(
        python=[] if python is None else [PythonProgram(path=python, label=label, device=device)],
        vasp=[MpiProgram(path=executable, mpi=mpi) for executable in vasp],
        lammps=[MpiProgram(path=executable) for executable in lammps],
    )
    lines = told(ensure_programs)(place, programs)
    if lines:
        click.echo('\n'.join([*lines, CHECK_IT]))
    if potcars is not None and family is not None:
        symbols = told(upload_potcars)(potcars, family)
        click.echo(
            f'family {family}: {len(symbols)} POTCARs ({", ".join(symbols[:12])}{" …" if len(symbols) > 12 else ""})'
        )


@setup.command('check')
@click.argument('codes', nargs=-1, metavar='[CODE]...')
@click.option('--queue', help='Queue or partition of the jobs.')
@click.option('--account', help='Whom their time is charged to.')
@click.option('--gpus', help='GPUs of each job: 1, or with their type, a100:1.')
@click.option('--extra', multiple=True, help="Line for the scheduler, such as '#SBATCH --constraint=gpu'; repeatable.")
@click.option('--timeout', default=300, show_default=True, help='Seconds to wait for each job.')
@with_profile
def setup_check(
    codes: tuple[str, ...],
    queue: str | None,
    account: str | None,
    gpus: str | None,
    extra: tuple[str, ...],
    timeout: int,
) -> None:
    """Run a small job with each code (default: all) through its scheduler and print what it found.

    A Python answers with its versions and the GPU that torch sees, LAMMPS with its version and its pair styles for MACE. Of
    any other program, such as VASP, it is seen that it is there with its libraries; it is not started.
    """
    from aiida import orm
    from rich.table import Table

    from .check import NotFoundError, check_job, codes_to_check, read_answer, unreachable
    from .launch import submit

    asked = {
        'max_wallclock_seconds': 300,
        'queue_name': queue,
        'account': account,
        'gpus': gpus,
        'custom_scheduler_commands': '\n'.join(extra) or None,
    }
    console = make_console()
    chosen = [told(orm.load_code)(code) for code in codes] or codes_to_check()
    if not chosen:
        raise click.ClickException('There is no code: create one with `aiida-mlip-al setup codes`.')
    silent = {code.computer.pk: unreachable(code.computer) for code in chosen}
    failed = [sentence for sentence in silent.values() if sentence]
    jobs = [(code, told(check_job)(code, asked)) for code in chosen if not silent[code.computer.pk]]
    nodes = [(code, submit(*job)) for code, job in jobs]
    table = Table(box=None, padding=(0, 2), header_style='dim')
    for column in ('code', 'found', 'GPU', 'seen by'):
        table.add_column(column, overflow='fold')
    deadline = time.monotonic() + timeout * len(nodes)
    for code, node in nodes:
        while not node.is_terminated and not node.paused and time.monotonic() < deadline:
            time.sleep(0.5)
        try:
            answer = read_answer(code, node)
        except NotFoundError as error:
            failed.append(f'{code.full_label}: {error} (`verdi process report {node.pk}`)')
        else:
            table.add_row(code.full_label, answer.found, answer.gpu or '–', answer.host)
    if table.row_count:
        console.print(table)
    for sentence in failed:
        console.print(sentence, style='red', markup=False)
    if failed:
        raise click.exceptions.Exit(1)
