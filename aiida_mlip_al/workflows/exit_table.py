"""The exit codes of all processes: ``python -m aiida_mlip_al.workflows.exit_table > docs/exit_codes.md``."""

from __future__ import annotations

import inspect

from aiida.engine import CalcJob, Process, WorkChain
from aiida.plugins.entry_point import get_entry_points, load_entry_point

INTRODUCTION = """\
<!-- Made from the code; do not edit. Write it again with `python -m aiida_mlip_al.workflows.exit_table > docs/exit_codes.md`. -->

# Exit codes

`verdi process list -a` and `verdi process show PK` tell the exit code of a process, `verdi process report PK` what happened before.
0 is success; of a run, whatever its [reason to stop](stopping.md) was. What a run does about the failure of one of its parts
stands under [failures](failures.md). Names in braces are filled in.

"""
GROUPS = ('aiida.workflows', 'aiida.calculations')
Codes = dict[int, tuple[str, str]]


def exit_table() -> str:
    """Return the page as Markdown."""
    parts = [INTRODUCTION.rstrip('\n')]
    for name, process in processes().items():
        known = codes(CalcJob if issubclass(process, CalcJob) else WorkChain)
        own = {status: code for status, code in codes(process).items() if status not in known}
        if own:
            parts.append(f'## `{process.__name__}`\n\n`{name}`\n\n{_table(own)}')
    parts += [f'## Every `{kind.__name__}`\n\n{_table(codes(kind))}' for kind in (WorkChain, CalcJob)]
    return '\n\n'.join(parts) + '\n'


def processes() -> dict[str, type[Process]]:
    """Return this package's work chains and CalcJobs by the full name of their entry points."""
    found = {}
    for group in GROUPS:
        for name in sorted(point.name for point in get_entry_points(group) if point.name.startswith('mlip_al.')):
            process = load_entry_point(group, name)
            if inspect.isclass(process) and issubclass(process, Process):
                found[f'{group}:{name}'] = process
    return found


def codes(process: type[Process]) -> Codes:
    """Return name and message of a process' exit codes by their numbers, the smallest first."""
    named = process.spec().exit_codes.items()
    return {code.status: (name, code.message) for name, code in sorted(named, key=lambda item: item[1].status)}


def _table(given: Codes) -> str:
    rows = [f'| {status} | `{name}` | {" ".join(text.split())} |' for status, (name, text) in given.items()]
    return '\n'.join(['| code | name | message |', '| --- | --- | --- |', *rows])


if __name__ == '__main__':
    print(exit_table(), end='')
