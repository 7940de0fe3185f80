"""The console script `lmp-mace`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from aiida_mlip_al.lmp_mace.arguments import USAGE, Arguments, parse_arguments
from aiida_mlip_al.lmp_mace.library import open_lammps, refuse_mpi

STATUS_FILE = Path('lmp-mace.status.json')
_EARLY_ENDS = {
    'timeout': 'The time limit of timer timeout ended a run before its last step.',
    'halted': 'A fix halt ended a run before its last step.',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run lmp-mace and return its exit status: 1 after an error or SIGTERM, 0 also when the upper level, a time limit or a
    fix halt ended a run; whether it came to its last step is for the reader of `step` in the status file.

    :param argv: the command line without the name of the program; None takes the process's.
    """
    try:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        if arguments.help:
            print(USAGE, end='')
            return 0
        refuse_mpi()
        text = sys.stdin.read() if arguments.script is None else _read(arguments.script)
    except ValueError as error:
        print(f'ERROR: lmp-mace: {error}', file=sys.stderr)
        return 1
    return _Run(arguments, text).run()


class _Terminated(BaseException):
    """SIGTERM arrived before there was a run that could end cleanly.

    It is raised between two steps of ours and not where the signal arrives: libraries abort if an exception comes out of the Python
    that they call.
    """


def _end_of(error: BaseException) -> str:
    return 'terminated' if isinstance(error, _Terminated) else 'error'


class _Run:
    """One script, from opening LAMMPS to the status file."""

    def __init__(self, arguments: Arguments, text: str) -> None:
        self._arguments, self._text = arguments, text
        self._driver: Any = None
        self._terminated = False

    def run(self) -> int:
        STATUS_FILE.unlink(missing_ok=True)
        began = time.monotonic()
        previous = signal.signal(signal.SIGTERM, self._terminate)
        status: dict[str, Any] = {}
        lammps, code = None, 1
        try:
            lammps = open_lammps(self._arguments.lammps)
            self._end_if_terminated()
            code, status = self._carry_out(lammps)
        except (Exception, _Terminated) as error:
            status = {'finished': False, 'error': str(error), 'end': _end_of(error), 'message': str(error)}
            print(f'ERROR: lmp-mace: {error}', file=sys.stderr)
        finally:
            signal.signal(signal.SIGTERM, previous)
            if lammps is not None:
                lammps.close()
            _write_status({**status, 'wall_s': round(time.monotonic() - began, 3)})
        return code

    def _carry_out(self, lammps: Any) -> tuple[int, dict[str, Any]]:
        # Here, so that -h and refusals of arguments do not wait for torch.
        from aiida_mlip_al.lmp_mace.driver import Driver, Quit
        from aiida_mlip_al.lmp_mace.runner_modules import cpu_seconds, explain, versions

        folder = Path() if self._arguments.script is None else self._arguments.script.parent
        driver = self._driver = Driver(lammps, folder, self._arguments.options, self._end_if_terminated)
        code, message = 0, None
        try:
            driver.run(self._text)
        except Quit as request:
            code = request.status
            message = f"The script's quit gave the exit status {code}." if code else None
        except _Terminated as error:
            code, message = 1, str(error)
        except BaseException as error:
            code, message = 1, explain(error)
            # LAMMPS has printed its own errors.
            if 'ERROR' not in message:
                driver.say(f'ERROR: lmp-mace: {message}')
                print(f'ERROR: lmp-mace: {message}', file=sys.stderr)
                if not isinstance(error, ValueError):
                    traceback.print_exc()
        callback, potential = driver.callback, driver.potential
        stop = None if callback is None else callback.stop
        if message is None and stop is not None and stop.reason == 'terminated':
            code, message = 1, 'terminated'
        end, said = 'finished' if code == 0 else 'terminated' if message == 'terminated' else 'error', message
        if stop and message in (None, 'terminated'):
            end, said = stop.reason, stop.message
        elif code == 0 and driver.early_end:
            end, said = driver.early_end, _EARLY_ENDS[driver.early_end]
        status = {
            'finished': code == 0,
            'error': message,
            'end': end,
            'message': said,
            'step': int(lammps.extract_global('ntimestep') or 0),
            'n_evaluations': 0 if callback is None else callback.n_evaluations,
            'n_neighbour_lists': 0 if potential is None else potential.neighbours.builds,
            'cpu_s': round(cpu_seconds(), 3),
            'versions': {**versions('numpy', 'ase', 'torch', 'mace'), 'lammps': str(lammps.version())},
        }
        return code, status

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: the run ends after its step, the frame is dumped, the rest of the script is carried out."""
        callback = None if self._driver is None else self._driver.callback
        if callback is None:
            self._terminated = True
        else:
            callback.want_stop('terminated', 'SIGTERM.')

    def _end_if_terminated(self) -> None:
        if self._terminated:
            raise _Terminated('terminated')


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ValueError(f'The script {path} cannot be read: {error.strerror}.') from error


def _write_status(status: dict[str, Any]) -> None:
    draft = STATUS_FILE.with_suffix('.tmp')
    draft.write_text(json.dumps(status, indent=1) + '\n')
    os.replace(draft, STATUS_FILE)
