"""`aiida-mlip-al setup`: what a run needs, and whether it answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from .common import PROFILE, chosen_profile, told, with_profile


@click.group()
def setup() -> None:
    """Create and check profile, computers and codes."""


@setup.command('profile')
@click.pass_context
def setup_profile(ctx: click.Context) -> None:
    """Create a profile that needs no service (SQLite, ZeroMQ), with this machine and this Python, and start its daemon."""
    from aiida.manage.configuration import load_profile

    from .profile import ensure_computer, ensure_daemon, ensure_profile, ensure_python_code

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
    from .profile import ensure_daemon

    click.echo('the daemon was started' if told(ensure_daemon)(workers) else 'the daemon is running')


@setup.command('computer')
@click.argument('config', type=click.Path(exists=True, dir_okay=False, path_type=Path))
@with_profile
def setup_computer(config: Path) -> None:
    """Create the computer that the YAML file CONFIG describes.

    Keys: label, hostname, transport (core.ssh_async), scheduler (core.slurm), work_dir, prepend_text, mpiprocs_per_machine,
    poll_interval_s, and ssh (options of the transport).
    """
    from aiida import orm

    from aiida_mlip_al.config import ConfigError
    from aiida_mlip_al.config.load import read_yaml

    values = told(read_yaml)(config)
    known = {
        'label', 'hostname', 'transport', 'scheduler', 'work_dir', 'prepend_text', 'mpiprocs_per_machine',
        'poll_interval_s', 'ssh', 'description',
    }  # fmt: skip
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f'`{unknown[0]}` is not a known key; known here: {", ".join(sorted(known))}.')
    missing = [key for key in ('label', 'hostname', 'work_dir') if not values.get(key)]
    if missing:
        raise ConfigError(f'`{missing[0]}` is missing.')
    if orm.QueryBuilder().append(orm.Computer, filters={'label': values['label']}).count():
        raise ConfigError(f'There is a computer `{values["label"]}` already: delete it or choose another label.')
    computer = orm.Computer(
        label=values['label'],
        hostname=values['hostname'],
        description=values.get('description', ''),
        transport_type=values.get('transport', 'core.ssh_async'),
        scheduler_type=values.get('scheduler', 'core.slurm'),
        workdir=values['work_dir'],
    )
    if values.get('prepend_text'):
        computer.set_prepend_text(values['prepend_text'])
    computer.store()
    computer.set_default_mpiprocs_per_machine(int(values.get('mpiprocs_per_machine', 1)))
    local = computer.transport_type == 'core.local'
    computer.set_minimum_job_poll_interval(float(values.get('poll_interval_s', 1 if local else 30)))
    computer.configure(**values.get('ssh', {'safe_interval': 0} if local else {}))
    click.echo(f'computer {computer.label} created; now `aiida-mlip-al setup codes`')


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
    device: str,
    vasp: tuple[str, ...],
    lammps: tuple[str, ...],
    mpi: bool,
    potcars: Path | None,
    family: str | None,
) -> None:
    """Create the codes on COMPUTER: a Python that runs labels, training and MD; VASP, and its potentials; LAMMPS."""
    from aiida import orm

    from .profile import ensure_program_code, ensure_python_code, ensure_vasp_code, upload_potcars

    if python is None and not vasp and not lammps and potcars is None:
        raise click.ClickException('Give at least one of --python, --vasp, --lammps and --potcars.')
    if (potcars is None) != (family is None):
        raise click.ClickException('Give --potcars and --family together.')
    for executable in filter(None, (python, *vasp, *lammps)):
        if not Path(executable).is_absolute():
            raise click.ClickException(f'`{executable}` must be an absolute path on the computer.')
    place = told(orm.load_computer)(computer)
    if python is not None:
        code = ensure_python_code(place, python, label)
        code.base.extras.set('device', device)
        click.echo(f'code {code.full_label} is {python}, on {device}; check it with `aiida-mlip-al setup check`')
    for executable in vasp:
        code = told(ensure_vasp_code)(place, executable, mpi)
        click.echo(f'code {code.full_label} is {executable}{", with mpirun" if mpi else ""}')
    for executable in lammps:
        code = ensure_program_code(place, executable, 'mlip_al.lammps_explore')
        click.echo(f'code {code.full_label} is {executable}')
    if potcars is not None and family is not None:
        symbols = told(upload_potcars)(potcars, family)
        click.echo(
            f'family {family}: {len(symbols)} POTCARs ({", ".join(symbols[:12])}{" …" if len(symbols) > 12 else ""})'
        )


@setup.command('check')
@click.argument('codes', nargs=-1, metavar='[CODE]...')
@click.option('--timeout', default=300, show_default=True, help='Seconds to wait for each job.')
@with_profile
def setup_check(codes: tuple[str, ...], timeout: int) -> None:
    """Run a small job with each Python (default: all) through its scheduler and print what it found."""
    from aiida import orm
    from rich.console import Console
    from rich.table import Table

    from aiida_mlip_al.calculations.check import CheckCalculation

    from .launch import submit

    console = Console(highlight=False)
    chosen = [told(orm.load_code)(code) for code in codes] or [
        code
        for code in orm.QueryBuilder().append(orm.InstalledCode).all(flat=True)
        if code.default_calc_job_plugin is None
    ]
    if not chosen:
        raise click.ClickException('There is no code: create one with `aiida-mlip-al setup codes`.')
    options = {'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, 'max_wallclock_seconds': 300}
    nodes = [(code, submit(CheckCalculation, {'code': code, 'metadata': {'options': options}})) for code in chosen]
    table = Table(box=None, padding=(0, 2), header_style='dim')
    for column in ('code', 'python', 'ase', 'torch', 'mace', 'GPU', 'seen by'):
        table.add_column(column, overflow='fold')
    failed = []
    deadline = time.monotonic() + timeout * len(nodes)
    for code, node in nodes:
        while not node.is_terminated and time.monotonic() < deadline:
            time.sleep(0.5)
        if not node.is_finished_ok:
            failed.append(f'{code.full_label}: {node.exit_message or "no answer"} (`verdi process report {node.pk}`)')
            continue
        found: dict[str, Any] = json.loads(node.outputs.retrieved.get_object_content('check.json'))
        table.add_row(
            code.full_label, *(str(found.get(key) or '–') for key in ('python', 'ase', 'torch', 'mace', 'gpu', 'host'))
        )
    console.print(table)
    for sentence in failed:
        console.print(sentence, style='red')
    if failed:
        raise click.exceptions.Exit(1)
