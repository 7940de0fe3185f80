"""Calls that go wrong on purpose, and the log of all calls.

A rule is ``{"match": {...}, "fault": NAME, ...}``; the first that matches a call holds for it. ``match`` names entries of the
call's line in the log (:func:`describe`) and their values, or lists of admitted values; ``hash`` may be a beginning, ``incar`` is
itself such a selection. ``{"match": {"nth_of_structure": 1}, "fault": "crash"}`` thus lets every structure crash once.

============== ==================================================================================================
fault          what happens
============== ==================================================================================================
crash          segmentation fault before any file is written
hang           nothing, until it is killed
slow           ``seconds`` (1.0) more for each ionic step
truncate       killed after ``frames`` (default: half) ionic steps and a ``fraction`` (0.5) of what the next one writes;
               CONTCAR is missing unless ``contcar`` is true, in which case it is that of the last whole step
zbrent         stops with ZBRENT's message after the first ionic step
unconverged    ``steps`` (100) electronic steps needed, in the ionic steps ``frames`` (default: all, from 1 on)
never_converges the same, and neither NELM, AMIX nor ALGO helps
nan            all forces are written as NaN, in the ionic steps ``frames``
============== ==================================================================================================
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .electrons import STEPS
from .inputs import Incar, Structure

NAMES = ('crash', 'hang', 'slow', 'truncate', 'zbrent', 'unconverged', 'never_converges', 'nan')


@dataclass(frozen=True)
class Fault:
    """A fault by name, with its settings; no name: all goes well."""

    name: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def concerns(self, frame: int) -> bool:
        """Return whether an ionic step, counted from 1 on, is affected."""
        return frame in self.settings.get('frames', [frame])

    def difficulty(self, frame: int, warm: bool) -> float:
        """Return the electronic steps that an ionic step needs with VASP's default algorithm.

        :param warm: begin with the orbitals of a WAVECAR or of the step before.
        """
        if self.name == 'never_converges' and self.concerns(frame):
            return math.inf
        if self.name == 'unconverged' and self.concerns(frame):
            return float(self.settings.get('steps', 100))
        return STEPS / 2 if warm else STEPS


def describe(folder: Path, incar: Incar, structure: Structure, warm: bool) -> dict[str, Any]:
    """Return what is logged of a call, except for ``nth_call``, ``nth_of_structure`` and ``fault``.

    ``hash`` is :func:`inputs.fingerprint`; ``velocities`` and ``wavecar`` say whether the call began with such.
    """
    return {
        'folder': str(folder),
        'natoms': len(structure.elements),
        'elements': sorted(set(structure.elements)),
        'hash': structure.hash,
        'velocities': structure.velocities is not None,
        'wavecar': warm,
        'incar': dict(incar),
    }


def choose(call: dict[str, Any], environ: Mapping[str, str]) -> Fault:
    """Count the call, choose its fault by the rules, and log it. Calls at the same time are counted one after the other.

    :param call: what :func:`describe` returned; the numbers are added.
    """
    rules = json.loads(Path(environ['VASP_STANDIN_FAULTS']).read_text()) if 'VASP_STANDIN_FAULTS' in environ else []
    if 'VASP_STANDIN_LOG' not in environ and any(key.startswith('nth') for rule in rules for key in rule['match']):
        raise ValueError('Rules that count calls need a log: set VASP_STANDIN_LOG.')
    with open(environ.get('VASP_STANDIN_LOG', os.devnull), 'a+') as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.seek(0)
        hashes = [json.loads(line)['hash'] for line in log]
        call.update(nth_call=len(hashes) + 1, nth_of_structure=hashes.count(call['hash']) + 1)
        rule = next((rule for rule in rules if _matches(rule['match'], call)), {'fault': None})
        call['fault'] = rule['fault']
        log.write(json.dumps(call) + '\n')
    if rule['fault'] not in (None, *NAMES):
        raise ValueError(f"There is no fault '{rule['fault']}': {', '.join(NAMES)}.")
    return Fault(rule['fault'], rule)


def _matches(selection: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
    for key, wanted in selection.items():
        found = call.get(key)
        if isinstance(found, Mapping):
            accepted = _matches(wanted, found)
        elif key == 'hash':
            accepted = str(found).startswith(wanted)
        else:
            accepted = found == wanted or (isinstance(wanted, list) and found in wanted)
        if not accepted:
            return False
    return True
