"""What goes wrong, and how many electronic steps a calculation takes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from math import inf
from pathlib import Path

from .inputs import Incar, InputError

MODES = ('ok', 'unconverged', 'never', 'error', 'crash', 'killed', 'slow')
USUAL_STEPS = 12
WARM_STEPS = 7  # from wave functions that were read
STEPS = {'unconverged': 100.0, 'never': inf}
CONVERTERS = {'mode': str, 'need': float, 'frames': int, 'every': int, 'sleep': float, 'share': float, 'once': int}


@dataclass
class Trouble:
    """The settings, each of them also an environment variable; the package's docstring says what they mean."""

    mode: str = 'ok'
    need: float | None = None
    frames: int = 3
    every: int = 1
    sleep: float | None = None
    share: float = 1.0
    once: int = 0

    @classmethod
    def read(cls, environment: Mapping[str, str], *comments: str) -> Trouble:
        """Read the settings; those of later comments have precedence.

        :raises InputError: if there is no such mode or setting.
        """
        settings = {one.name: environment.get(f'VASP_STANDIN_{one.name.upper()}') for one in fields(cls)}
        for comment in comments:
            found = re.search(r'standin:(\w+)((?::\w+=[\w.]+)*)', comment)
            if found:
                options = dict(option.split('=') for option in found[2].split(':')[1:])
                settings |= {'mode': found[1], **options}
        if not set(settings) <= set(CONVERTERS) or (settings['mode'] or 'ok') not in MODES:
            raise InputError(f'the stand-in has the modes {", ".join(MODES)} and the options {", ".join(CONVERTERS)}')
        return cls(**{name: CONVERTERS[name](value) for name, value in settings.items() if value is not None})  # type: ignore[arg-type]

    def befalls(self, structure: str, log: Path | None) -> bool:
        """Return whether the trouble befalls a structure.

        :param structure: its fingerprint.
        :param log: what happened before.
        """
        if int(structure[:8], 16) / 16**8 >= self.share:
            return False
        if not self.once:
            return True
        if log is None:
            raise InputError('VASP_STANDIN_ONCE needs the file VASP_STANDIN_LOG to remember')
        lines = log.read_text().splitlines() if log.exists() else []
        return structure not in (json.loads(line)['structure'] for line in lines)

    def electronic_steps(self, number: int, incar: Incar, warm: bool) -> float:
        """Return the electronic steps that an ionic step needs, infinite if it cannot converge.

        :param number: of the ionic step, from 1.
        :param warm: whether wave functions were read.
        """
        usual = WARM_STEPS + (number % 3 if number > 1 else 0 if warm else USUAL_STEPS - WARM_STEPS)
        need = self.need or STEPS.get(self.mode)
        if need is None or number % self.every:
            return usual
        if incar.get('ALGO', 'Normal')[:1].upper() in 'AD':
            need /= 100
        need *= min(1.0, incar.number('AMIX', 0.4) / 0.4)
        return max(usual, need // 1)

    @property
    def seconds(self) -> float:
        """Seconds that an ionic step takes."""
        return (1.0 if self.mode == 'slow' else 0.0) if self.sleep is None else self.sleep


def fingerprint(poscar: str) -> str:
    """Return the hash of a POSCAR without its comment line."""
    return sha256(poscar.partition('\n')[2].encode()).hexdigest()


def remember(log: Path | None, **facts: object) -> None:
    """Add a line to the log, if there is one."""
    if log:
        with log.open('a') as file:
            file.write(json.dumps({'folder': os.getcwd(), **facts}) + '\n')
