"""What `aiida-mlip-al setup check` asks of a code through its scheduler, and what the answers mean."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiida import orm
from aiida_shell import ShellJob
from pydantic import ValidationError

from aiida_mlip_al.calculations.base import device_of
from aiida_mlip_al.calculations.check import CheckCalculation
from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.config.errors import sentence
from aiida_mlip_al.config.resources import StageResources, job_options

from .profile import ensure_program_code

LAMMPS_PLUGIN = 'mlip_al.lammps_explore'
CHECKED_PLUGINS = (None, 'vasp.vasp', LAMMPS_PLUGIN)
PAIR_STYLES = ('mliap', 'mliap/kk', 'mace', 'mace/kk', 'symmetrix/mace', 'symmetrix/mace/kk')
# Neither VASP nor an unknown program is started; LAMMPS is asked for its help, and lmp-mace loads torch, MACE and LAMMPS.
SCRIPT = """\
program=$1
kind=$2
if [ ! -x "$program" ] || [ -d "$program" ]; then
    echo "There is no executable $program on $(uname -n)" >&2
    exit 1
fi
missing=$(ldd "$program" 2>/dev/null | sed -n 's/^[[:space:]]*\\([^ ]*\\) => not found.*/\\1/p' | tr '\\n' ' ')
if [ -n "$missing" ]; then
    echo "$program does not find its libraries ${missing% }: load their modules in the prepend_text of the code" >&2
    exit 1
fi
echo "host: $(uname -n)"
echo "gpu: $(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)"
if [ "$kind" = lammps ]; then
    "$program" -h > help.txt 2>&1 < /dev/null
    cat help.txt
    if grep -q '^usage: lmp-mace' help.txt; then
        echo 'print "ready"' > check.in
        "$program" -in check.in -log none 2>&1 < /dev/null
        cat lmp-mace.status.json
    fi
fi
exit 0
"""


class NotFoundError(Exception):
    """A code did not answer as it should; the text is one sentence without its full stop."""


class Answer(NamedTuple):
    """What a job found: versions in words, the GPU if it saw one, the node that it ran on."""

    found: str
    gpu: str
    host: str


def codes_to_check() -> list[orm.AbstractCode]:
    """Return the codes that runs may use, less those whose name went to another one."""
    codes = orm.QueryBuilder().append(orm.InstalledCode).all(flat=True)
    return [
        code
        for code in codes
        if code.default_calc_job_plugin in CHECKED_PLUGINS and not code.label.endswith(f'-{code.pk}')
    ]


def is_python(code: orm.AbstractCode) -> bool:
    """Whether a code is a Python: by its file name, or because `setup codes` was told so."""
    named = code.filepath_executable.name.startswith('python')
    return code.default_calc_job_plugin is None and (named or 'device' in code.base.extras)


def unreachable(computer: orm.Computer) -> str | None:
    """Return why there is no connection to a computer, or None if there is one."""
    try:
        with computer.get_transport() as transport:
            transport.whoami()
    except Exception as error:
        reason = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
        return f'{computer.label} cannot be reached: {reason} (`verdi computer test {computer.label}` says more)'
    return None


def check_job(code: orm.AbstractCode, asked: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the process that checks a code, and its inputs.

    :param asked: scheduler options by the names of the input file; None is left out.
    :raises ConfigError: one sentence on a wrong option.
    """
    try:
        resources = StageResources(**{key: value for key, value in asked.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(sentence(StageResources, error)) from None
    options = job_options({'default': resources}, 'default', code.computer.scheduler_type)
    if is_python(code):
        return CheckCalculation, {'code': code, 'metadata': {'options': options}}
    kind = 'lammps' if code.default_calc_job_plugin == LAMMPS_PLUGIN else 'program'
    # Braces are placeholders for aiida-shell.
    path = str(code.filepath_executable).replace('{', '{{').replace('}', '}}')
    inputs = {
        'code': ensure_program_code(code.computer, '/bin/sh', 'core.shell', with_mpi=False),
        'nodes': {'script': orm.SinglefileData(io.BytesIO(SCRIPT.encode()), filename='check.sh')},
        'arguments': orm.List(['{script}', path, kind]),
        'metadata': {'options': {**options, 'prepend_text': code.prepend_text}, 'disable_cache': True},
    }
    return ShellJob, inputs


def read_answer(code: orm.AbstractCode, node: orm.CalcJobNode) -> Answer:
    """Return what a check found.

    :raises NotFoundError: if there is no answer, or the code is not what a run needs.
    """
    if not node.is_finished_ok:
        raise NotFoundError(_why_not(node))
    if is_python(code):
        return read_python(json.loads(node.outputs.retrieved.get_object_content('check.json')), device_of(code))
    return read_program(node.outputs.stdout.get_content(), code.default_calc_job_plugin == LAMMPS_PLUGIN)


def _why_not(node: orm.CalcJobNode) -> str:
    if node.is_terminated:
        stderr = node.outputs.stderr.get_content().strip() if 'stderr' in node.outputs else ''
        return stderr.rpartition('\n')[2] or (
            node.exit_message or f'the job ended as {node.process_state.value}'
        ).rstrip('.')
    state = node.get_scheduler_state()
    paused = f'; AiiDA paused it, `verdi process play {node.pk}` lets it go on' if node.paused else ''
    return f'no answer yet; the job is {state.value if state else "not submitted"}{paused}'


def read_python(found: Mapping[str, Any], device: str) -> Answer:
    """Return what a Python answered.

    :param found: versions by name, None for what is missing; `cuda`, `gpu`, `host`.
    :param device: where torch is to compute with it.
    :raises NotFoundError: if that is a GPU and the job saw none.
    """
    if device == 'cuda' and not found.get('gpu'):
        raise NotFoundError(
            'it computes on cuda, but its job saw no GPU: ask for one with `--gpus 1`, or set up the code with `--device cpu`'
        )
    words = [
        f'{name} {found[name]}' if found.get(name) else f'no {name}' for name in ('python', 'ase', 'torch', 'mace')
    ]
    if found.get('cuda'):
        words.append(f'CUDA {found["cuda"]}')
    return Answer(', '.join(words), found.get('gpu') or '', found['host'])


def read_program(text: str, is_lammps: bool) -> Answer:
    """Return what the script printed on a program.

    :param text: lines `host: …` and `gpu: …`, then what LAMMPS printed.
    :raises NotFoundError: if it should be a LAMMPS that knows MACE, and is not.
    """
    said = dict(re.findall(r'^(host|gpu): *(.*)$', text, re.MULTILINE)[:2])
    found = _read_lammps(text) if is_lammps else 'an executable that finds its libraries'
    return Answer(found, said.get('gpu', ''), said.get('host', ''))


def _read_lammps(text: str) -> str:
    if re.search(r'^usage: lmp-mace', text, re.MULTILINE):
        start = text.rfind('\n{')
        try:
            status = json.loads(text[start:]) if start >= 0 else {}
        except ValueError:
            status = {}
        if not status.get('finished'):
            raise NotFoundError(f'lmp-mace does not run: {status.get("error") or _last_line(text)}')
        versions = status['versions']
        return 'lmp-mace, ' + ', '.join(
            f'{name} {versions[name]}' for name in ('lammps', 'torch', 'mace') if name in versions
        )
    version = re.search(r'Massively Parallel Simulator - (.+)$', text, re.MULTILINE)
    if version is None:
        raise NotFoundError(f'it is no LAMMPS, for `-h` printed: {_last_line(text)}')
    section = re.search(r'^\* Pair styles:?\n(.*?)(?=^\* )', text, re.MULTILINE | re.DOTALL)
    known = set(section[1].split()) if section else set()
    styles = [style for style in PAIR_STYLES if style in known]
    if not styles:
        raise NotFoundError('this LAMMPS has none of the pair styles mliap, mace and symmetrix/mace: use lmp-mace')
    return f'LAMMPS {version[1].strip()}, pair styles {", ".join(styles)}'


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), 'nothing')[:300]
