"""Computers and codes as a file describes them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from aiida import orm
from aiida.common import NotExistent
from aiida.common.exceptions import ValidationError
from aiida.plugins.entry_point import get_entry_point_names
from aiida.transports.cli import transport_option_default

from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.config.computer import ComputerConfig, Programs

from .profile import ensure_program_code, ensure_python_code, ensure_vasp_code, need_aiida_vasp


def ensure_described_computer(config: ComputerConfig) -> tuple[Any, bool]:
    """Return the computer that a file describes, and whether it was created.

    One that exists keeps what its jobs were made with; how it is reached and how often its queue is read are set anew.

    :raises ConfigError: if there is another one of that name, or AiiDA does not know what the file names.
    """
    for kind in ('transport', 'scheduler'):
        _need_entry_point(kind, getattr(config, kind))
    described = orm.Computer(
        label=config.label,
        hostname=config.hostname,
        description=config.description,
        transport_type=config.transport,
        scheduler_type=config.scheduler,
        workdir=config.work_dir,
    )
    described.set_prepend_text(config.prepend_text)
    described.set_mpirun_command(config.mpirun_command)
    described.set_default_mpiprocs_per_machine(config.mpiprocs_per_machine)
    connection = _connection_options(described, config)
    try:
        described.validate()
    except ValidationError as error:
        raise ConfigError(f'{str(error)[:1].upper()}{str(error)[1:].rstrip(".")}.') from None
    try:
        computer = orm.load_computer(config.label)
    except NotExistent:
        computer, created = described.store(), True
    else:
        _need_equal_computer(computer, described)
        created = False
    computer.set_minimum_job_poll_interval(config.poll_interval_s or (1 if config.is_local else 30))
    computer.configure(**connection)
    return computer, created


def _need_entry_point(kind: str, name: str) -> None:
    known = get_entry_point_names(f'aiida.{kind}s')
    if name not in known:
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f'did you mean `{close[0]}`?' if close else f'there are {", ".join(known)}.'
        raise ConfigError(f'`{kind}`: AiiDA knows no `{name}`; {hint}')


def _need_equal_computer(existing: Any, described: Any) -> None:
    def properties(computer: Any) -> dict[str, Any]:
        return {
            'hostname': computer.hostname,
            'transport': computer.transport_type,
            'scheduler': computer.scheduler_type,
            'work_dir': computer.get_workdir(),
            'prepend_text': computer.get_prepend_text() or '',
            'mpirun_command': list(computer.get_mpirun_command()),
            'mpiprocs_per_machine': computer.get_default_mpiprocs_per_machine(),
        }

    old, new = properties(existing), properties(described)
    different = [name for name in new if new[name] != old[name]]
    if different:
        name = different[0]
        raise ConfigError(
            f'There is a computer `{existing.label}` already, whose `{name}` is {old[name]!r}: choose another label, or free '
            f'this one with `verdi computer relabel {existing.label} {existing.label}-old`.'
        )


def _connection_options(computer: Any, config: ComputerConfig) -> dict[str, Any]:
    """Return the options of a transport: the file's, and for what it leaves out those of `verdi computer configure`."""
    known = computer.get_transport_class().get_valid_auth_params()
    wrong = sorted(set(config.ssh) - set(known))
    if wrong:
        also = '; what else there is, goes into ~/.ssh/config' if config.transport == 'core.ssh_async' else ''
        raise ConfigError(f'`ssh.{wrong[0]}` is no option of {config.transport}, which has {", ".join(known)}{also}.')
    words = {'True': True, 'False': False}
    defaults = {name: transport_option_default(name, computer) for name in known}
    options = {name: words.get(str(value), value) for name, value in defaults.items() if value not in (None, '')}
    for name in {'port', 'timeout'} & set(options):
        options[name] = int(options[name])
    if config.safe_interval_s is not None:
        options['safe_interval'] = config.safe_interval_s
    return {**options, **config.ssh}


def ensure_programs(computer: Any, programs: Programs) -> list[str]:
    """Create the codes that a file describes, or find them, and return one line on each.

    :raises ConfigError: if there is a VASP and aiida-vasp is not installed.
    """
    if programs.vasp:
        need_aiida_vasp()
    lines = []
    for python in programs.python:
        code = ensure_python_code(computer, python.path, python.label, python.prepend_text)
        code.base.extras.set('device', python.device)
        lines.append(f'code {code.full_label} is {python.path}, on {python.device}')
    for vasp in programs.vasp:
        mpi = vasp.mpi is not False
        code = ensure_vasp_code(computer, vasp.path, mpi, vasp.prepend_text)
        lines.append(f'code {code.full_label} is {vasp.path}{", with mpirun" if mpi else ""}')
    for lammps in programs.lammps:
        code = ensure_program_code(computer, lammps.path, 'mlip_al.lammps_explore', lammps.mpi, lammps.prepend_text)
        lines.append(f'code {code.full_label} is {lammps.path}')
    return lines
