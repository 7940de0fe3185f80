"""A stand-in for PLUMED's Python module: its calls, and the few actions that the tests need.

It converts units, keeps the addresses of arrays until `calc`, appends suffixes to file names, restarts, and knows
DISTANCE, RESTRAINT (KAPPA) and PRINT, one line each, in PLUMED's units: kJ/mol, nm, ps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class PlumedError(Exception):
    """What PLUMED raises."""


class Plumed:
    """One instance."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._suffix, self._live = '', False
        self._distances: dict[str, tuple[int, int]] = {}
        self._restraints: list[tuple[str, float, float]] = []
        self._prints: list[tuple[str, Path, int]] = []

    def cmd(self, word: str, value: Any = None) -> None:
        """Do what PLUMED does at this word."""
        if isinstance(value, np.ndarray):
            assert value.dtype == np.double
            assert value.flags.c_contiguous, 'PLUMED would write into a copy'
        if word == 'init':
            assert not self._live
            assert set(self._values) >= {'setNatoms', 'setTimestep', 'setKbT', 'setMDLengthUnits', 'setMDEnergyUnits'}
            self._live = True
            for line in Path(self._values['setPlumedDat']).read_text().splitlines():
                self._read(line)
        elif word == 'calc':
            self._calculate()
        elif word == 'getBias':
            value[0] = self._bias / self._values['setMDEnergyUnits']
        else:
            self._values[word] = value

    def finalize(self) -> None:
        """End."""
        self._live = False

    def _read(self, line: str) -> None:
        assert self._live
        words = line.split('#', maxsplit=1)[0].split()
        if not words:
            return
        label = words.pop(0).rstrip(':') if words[0].endswith(':') else ''
        options = dict(word.split('=') for word in words[1:] if '=' in word)
        if words[0] == '_SET_SUFFIX':
            self._suffix = words[1]
        elif words[0] == 'DISTANCE':
            first, second = (int(atom) - 1 for atom in options['ATOMS'].split(','))
            self._distances[label] = first, second
        elif words[0] == 'RESTRAINT':
            self._restraints.append((options['ARG'], float(options['AT']), float(options['KAPPA'])))
        elif words[0] == 'PRINT':
            path = Path(options['FILE'] + self._suffix)
            if not (self._values.get('setRestart') and path.exists()):
                path.write_text(f'#! FIELDS time {options["ARG"]}\n')
            self._prints.append((options['ARG'], path, int(options['STRIDE'])))
        elif words[0] != 'FLUSH':
            raise PlumedError(
                '\n+++ PLUMED error\n+++ at PlumedMain.cpp:1136, function void readInputWords()\n'
                f'+++ message follows +++\nERROR\nI cannot understand line: {" ".join(words)}\n'
                'Maybe a missing space or a typo?'
            )

    def _calculate(self) -> None:
        assert self._live
        energy, length = self._values['setMDEnergyUnits'], self._values['setMDLengthUnits']
        self._bias = 0.0
        for name, target, kappa in self._restraints:
            vector, (first, second) = self._vector(name), self._distances[name]
            distance = np.linalg.norm(vector)
            self._bias += 0.5 * kappa * (distance - target) ** 2
            gradient = kappa * (distance - target) * vector / distance * length / energy
            self._values['setForces'][first] += gradient
            self._values['setForces'][second] -= gradient
            self._values['setVirial'] += np.outer(gradient, vector / length)
        step = self._values['setStep']
        time = step * self._values['setTimestep'] * self._values['setMDTimeUnits']
        for name, path, stride in self._prints:
            if step % stride == 0:
                with path.open('a') as file:
                    file.write(f' {time:.6f} {np.linalg.norm(self._vector(name)):.6f}\n')

    def _vector(self, name: str) -> np.ndarray:
        first, second = self._distances[name]
        vector = self._values['setPositions'][second] - self._values['setPositions'][first]
        box = self._values.get('setBox')
        if box is not None:
            shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
            images = vector + shifts @ box
            vector = images[np.argmin(np.linalg.norm(images, axis=1))]
        return vector * self._values['setMDLengthUnits']
