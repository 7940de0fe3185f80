"""The script's way through LAMMPS: all lines as they are, but for the potential, which becomes a `fix external`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from ase.data import atomic_numbers

from aiida_mlip_al.lmp_mace.arguments import ModelOptions
from aiida_mlip_al.lmp_mace.callback import FIX, STOP, Callback, Check
from aiida_mlip_al.lmp_mace.deviation import deviation_file
from aiida_mlip_al.lmp_mace.potential import Potential, find_model
from aiida_mlip_al.lmp_mace.records import record_file
from aiida_mlip_al.lmp_mace.script import (
    POTENTIAL,
    RUNNING,
    Branch,
    PairStyle,
    Statement,
    branches,
    jumps,
    parse_pair_coeff,
    parse_pair_style,
    refuse,
    statements,
    without_quit,
)

RESTART = 'stopped.restart'
_BLOCK = 'lmp-mace.block.in'
_DEEPEST_INCLUDE = 10
_EQUIDISTANT = ('dcd', 'xtc')
# Names of our own in the script's LAMMPS.
_HALT = 'mace_upper'
_BRANCH = 'lmp_mace_branch'
_QUIT = 'lmp_mace_quit'


class Quit(Exception):  # noqa: N818
    """The script's `quit`, with its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f'quit {status}')
        self.status = status


class Driver:
    """Carries out a script.

    :param lammps: an instance of LAMMPS on one process.
    :param folder: where model files are looked for first.
    :param options: how the models are evaluated, where the script does not say.
    :param before_each: called before each statement; what it raises ends the script.
    """

    def __init__(
        self, lammps: Any, folder: Path, options: ModelOptions, before_each: Callable[[], None] = lambda: None
    ) -> None:
        self._lammps, self._folder, self._options, self._before_each = lammps, folder, options, before_each
        self._style: PairStyle | None = None
        self._stop_settled = False
        self._equidistant_dumps: set[str] = set()
        self.callback: Callback | None = None
        self.early_end: str | None = None  # of the last run: LAMMPS' time limit or a `fix halt`
        self.potential: Potential | None = None

    def run(self, text: str, depth: int = 0) -> None:
        """Carry out a script, or a file that it includes.

        :param text: its text.
        :param depth: how many files include this one.
        :raises ValueError: if lmp-mace cannot do what the script says.
        :raises Quit: at the script's `quit`.
        """
        if depth > _DEEPEST_INCLUDE:
            raise ValueError(f'Files include each other more than {_DEEPEST_INCLUDE} times: look for a circle.')
        for is_potential, group in groupby(statements(text), lambda statement: statement.command in POTENTIAL):
            block = list(group)
            if is_potential:
                for statement in block:
                    self._set_potential(statement)
            elif jumps(block):
                self._run_block(block)
            else:
                for statement in block:
                    self._run_statement(statement, depth)

    def say(self, message: str) -> None:
        """Print a line to the screen and the log.

        :param message: LAMMPS takes ASCII only.
        """
        plain = message.replace('"', "'").replace('$', '').replace('\n', ' ').encode('ascii', 'replace').decode()
        self._lammps.command(f'print "{plain}"')

    def _run_statement(self, statement: Statement, depth: int) -> None:
        self._prepare(statement)
        words = statement.words
        if statement.command == 'quit':
            raise Quit(int(self._substituted(statement)[1]) if len(words) > 1 else 0)
        if statement.command == 'include' and len(words) > 1:
            path = Path(self._substituted(statement)[1].strip('\'"'))
            if not path.is_file():
                raise ValueError(f'include: there is no file {path}.')
            self.run(path.read_text(), depth + 1)
            return
        if statement.command == 'if' and self._choose(branches(statement), depth):
            return
        with self._watch(self._wanted_step(statement)):
            self._lammps.command(statement.text)

    def _choose(self, choice: Sequence[Branch], depth: int) -> bool:
        """Carry out the branch of an `if` whose condition LAMMPS finds true; return False if there is nothing to choose."""
        if not choice:
            return False
        self._lammps.command(f'variable {_BRANCH} equal -1')
        words: list[str] = []
        for number, branch in enumerate(choice):
            words += ['else'] if branch.condition is None else ['elif' if number else 'if', branch.condition]
            words += [*([] if number else ['then']), f'"variable {_BRANCH} equal {number}"']
        self._lammps.command(' '.join(words))
        chosen = int(self._lammps.extract_variable(_BRANCH))
        if chosen >= 0:
            self.run('\n'.join(choice[chosen].commands), depth)
        return True

    def _run_block(self, block: Sequence[Statement]) -> None:
        """Let LAMMPS read statements that jump as a file of their own."""
        for statement in block:
            self._prepare(statement)
        path = Path(_BLOCK)
        path.write_text(without_quit(block, _QUIT, _QUIT))
        try:
            with self._watch(None):
                self._lammps.file(str(path))
        finally:
            path.unlink(missing_ok=True)
        if _QUIT in self._lammps.available_ids('variable'):
            raise Quit(int(self._lammps.extract_variable(_QUIT)))

    @contextmanager
    def _watch(self, wanted_step: int | None) -> Iterator[None]:
        """What surrounds a command: lines of files that wait are written, and its end is looked at.

        :param wanted_step: the last step of a `run`, or None for other commands.
        """
        callback = self.callback
        if callback is None:
            yield
            return
        callback.begin()
        asked, began = callback.n_evaluations, time.monotonic()
        first_step, time_left = self._step(), self._time_left()
        try:
            yield
        finally:
            callback.flush()
        if callback.n_evaluations > asked:
            early_end = self._early_end(wanted_step, time_left, time.monotonic() - began)
            if early_end or self._step() > first_step:  # a `run 0` at the end says nothing about the run before it
                self.early_end = early_end
        self._settle(callback)

    def _wanted_step(self, statement: Statement) -> int | None:
        """Return the step that a `run` ends at."""
        if statement.command != 'run':
            return None
        words = self._substituted(statement)
        if len(words) < 2 or not words[1].isdecimal():
            return None
        return int(words[1]) + (0 if 'upto' in words[2:] else self._step())

    def _early_end(self, wanted_step: int | None, time_left: float, duration: float) -> str | None:
        """Say whether LAMMPS itself ended a command before its last step, and why: `timeout` or `halted`.

        A limit of `timer timeout` that is over and a `fix halt` look the same from outside: no time is left.
        """
        complete = self._step() >= wanted_step if wanted_step is not None else self._time_left() > 0 or time_left == 0
        if complete:
            return None
        return 'timeout' if 0 < time_left <= duration else 'halted'

    def _step(self) -> int:
        return int(self._lammps.extract_global('ntimestep'))

    def _time_left(self) -> float:
        """Return the seconds to the limit of `timer timeout`; 0 when there is none or it is over."""
        return float(self._lammps.get_thermo('timeremain'))

    def _prepare(self, statement: Statement) -> None:
        self._before_each()
        refuse(statement)
        if statement.command in RUNNING and self.callback is None:
            raise ValueError(
                f'{statement.command} comes before the potential: give pair_style mace and pair_coeff first.'
            )
        if statement.command == 'dump' and statement.words[3:4] and statement.words[3] in _EQUIDISTANT:
            self._equidistant_dumps.add(statement.words[1])

    def _substituted(self, statement: Statement) -> list[str]:
        """Return the words with LAMMPS' variables replaced."""
        line = ' '.join(statement.words)
        return str(self._lammps.expand(line) if '$' in line else line).split()

    def _set_potential(self, statement: Statement) -> None:
        if self.callback is not None:
            raise ValueError(
                f'A second {statement.command} after the potential is set: write one script for each potential.'
            )
        words = self._substituted(statement)
        if statement.command == 'pair_style':
            self._style = parse_pair_style(words)
        elif self._style is None:
            raise ValueError('pair_coeff comes before pair_style.')
        else:
            self._attach(parse_pair_coeff(self._style, words))

    def _attach(self, style: PairStyle) -> None:
        lammps = self._lammps
        self._refuse_settings()
        self._refuse_elements(style.elements)
        options = ModelOptions(**{**vars(self._options), **style.options})
        potential = Potential([find_model(name, self._folder) for name in style.models], options)
        numbers = {symbol: atomic_numbers[symbol] for symbol in style.elements}
        unknown = [symbol for symbol, number in numbers.items() if number not in potential.elements]
        if unknown:
            raise ValueError(f'The models do not know {", ".join(unknown)}: train them on data with these elements.')
        # Where the pair style stood: before setforce, langevin and others that act on what forces there are.
        lammps.command(f'pair_style zero {potential.r_max:.10g}')
        lammps.command('pair_coeff * *')
        lammps.command(f'fix {FIX} all external pf/callback 1 1')
        if style.upper is not None:
            lammps.command(f'variable {_HALT} equal f_{FIX}[{STOP}]')
            lammps.command(f'fix {_HALT} all halt 1 v_{_HALT} > 0.5 error soft message no')
        self.potential = potential
        self.callback = Callback(lammps, potential, style.elements, _check(style))
        types = ', '.join(f'{number} {symbol}' for number, symbol in enumerate(style.elements, 1))
        self.say(f'lmp-mace: {len(potential)} model(s) for types {types}; r_max {potential.r_max:g} A')
        self.say(f'lmp-mace: {potential.dtype} on {potential.device}')

    def _refuse_settings(self) -> None:
        units = self._lammps.extract_global('units')
        if units != 'metal':
            raise ValueError(f'MACE is in eV and Angstrom: write units metal, not {units}.')
        if not self._lammps.extract_setting('box_exist'):
            raise ValueError('The potential comes before the box: give read_data or create_box first.')
        if not self._lammps.extract_setting('newton_pair'):
            raise ValueError('MACE in a native LAMMPS needs newton on, and so does lmp-mace: leave newton off out.')

    def _refuse_elements(self, elements: Sequence[str]) -> None:
        n_types = self._lammps.extract_setting('ntypes')
        if len(elements) != n_types:
            raise ValueError(
                f'pair_coeff names {len(elements)} elements, but there are {n_types} atom types: name one for each type.'
            )
        for number, symbol in enumerate(elements, 1):
            if symbol not in atomic_numbers or symbol == 'X':
                raise ValueError(f'Atom type {number} has no element: {symbol} is not a chemical symbol.')

    def _settle(self, callback: Callback) -> None:
        """After a command: pass an exception of the callback on, and complete the output of a run that was stopped."""
        if callback.error is not None:
            raise callback.error
        if callback.stop is not None and not self._stop_settled:
            self._stop_settled = True
            self.say(f'lmp-mace: stopped at step {callback.stop.step}: {callback.stop.message}')
            self._write_last_frame(callback)

    def _write_last_frame(self, callback: Callback) -> None:
        """Write the last frame to the dumps that do not have it, and a restart file."""
        lammps = self._lammps
        lammps.command('timer timeout off')
        for name in lammps.available_ids('dump'):
            if name in self._equidistant_dumps:
                self.say(f'lmp-mace: dump {name} holds frames at equal distances only and goes without the last one.')
            else:
                lammps.command(f'dump_modify {name} every 1')
        callback.begin()
        lammps.command('run 0 post no')
        lammps.command(f'write_restart {RESTART}')
        lammps.force_timeout()
        if callback.error is not None:
            raise callback.error


def _check(style: PairStyle) -> Check | None:
    if len(style.models) == 1 and style.out_file is None and style.records is None:
        return None
    return Check(
        interval=style.out_freq,
        deviations=None if style.out_file is None else deviation_file(Path(style.out_file)),
        records=None if style.records is None else record_file(Path(style.records)),
        upper=style.upper,
    )
