"""Label a batch of structures with any ASE calculator.

In:  label.json, structures.extxyz. Out: labels.extxyz, label.jsonl, label.status.json.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import calculator as calculators
import numpy as np
import status as runner
from ase import Atoms
from checks import largest_force, too_close
from frames import FrameWriter, LineWriter, read_structures
from stress import periodic_stress

_DEFAULTS = {'arguments': {}, 'max_force': 50.0, 'min_distance_fraction': 0.5, 'timeout_s': None, 'periodic': None}
_GRACE_S = 10.0


@dataclass
class Outcome:
    """What became of one structure: a label, or a reason why there is none. Units eV, eV/Å, eV/Å³, s."""

    reason: str | None = None
    message: str = ''
    energy: float = np.nan
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0


class Labeller:
    """A child process that holds the calculator, so that a hanging or crashing calculation can be cut off.

    :param spec: import path and arguments of the calculator, see `calculator.build`.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._process: Any = None
        self._connection: Connection | None = None
        self._reported_cpu_s = 0.0
        self.version: dict[str, str] = {}

    def start(self) -> None:
        """Start the child and wait until it has made its calculator.

        :raises ValueError: if the calculator cannot be made.
        """
        context = multiprocessing.get_context('fork')
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._connection, self._spec))
        self._process.start()
        theirs.close()
        self._reported_cpu_s = 0.0
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            path = self._spec['calculator']
            raise ValueError(f'The calculator {path} ended its process ({_ending(code)}).') from None
        if isinstance(answer, Exception):
            raise answer
        self.version = answer

    def label(self, atoms: Atoms, axes: np.ndarray, timeout_s: float | None) -> Outcome:
        """Compute one structure; after a timeout or a crash the next call starts a new child.

        :param atoms: the structure.
        :param axes: (3,) periodic directions that the stress is of.
        :param timeout_s: longest time in s; None for no limit.
        :returns: the outcome, with reason `timeout` or `error` if the child had to be, or was, killed.
        """
        if self._process is None:
            self.start()
        assert self._connection is not None
        began, children = time.monotonic(), runner.cpu_seconds(resource.RUSAGE_CHILDREN)
        try:
            self._connection.send((atoms, axes))
            if self._connection.poll(timeout_s):
                outcome: Outcome = self._connection.recv()
                self._reported_cpu_s += outcome.cpu_s
                return outcome
            lost = Outcome('timeout', f'no result after {timeout_s:g} s.')
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            lost = Outcome('error', f'the process of the calculator died ({_ending(code)}).')
        reported = self._reported_cpu_s
        self.kill()
        lost.wall_s = time.monotonic() - began
        lost.cpu_s = max(0.0, runner.cpu_seconds(resource.RUSAGE_CHILDREN) - children - reported)
        return lost

    def close(self) -> None:
        """Let the child end by itself, so that its calculator can clean up; kill it if it does not."""
        if self._process is None or self._connection is None:
            return
        with suppress(OSError):
            self._connection.send(None)
            self._process.join(_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """Kill the child and every program that it has started."""
        if self._process is None or self._connection is None:
            return
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._connection.close()
        self._process = self._connection = None


def label(config: runner.Config, status: dict[str, Any]) -> None:
    """Label every structure of structures.extxyz; a bad one is recorded with its reason and the batch goes on.

    A label has the stress of the directions in which its structure is periodic: as REF_stress if these are all three, else
    as REF_masked_stress, the components that involve another direction zero, with REF_stress_axes.

    :param config: `calculator`, `arguments`, `max_force` (eV/Å), `min_distance_fraction`, `timeout_s`, `periodic` (three
        booleans; null: the pbc of each structure, which it can only narrow).
    :param status: receives `n_labelled`, `n_rejected`, `reasons` and the calculator's version.
    """
    unknown = set(config) - set(_DEFAULTS) - {'calculator'}
    if unknown:
        raise ValueError(f'label.json has unknown keys: {", ".join(sorted(unknown))}.')
    settings = {**_DEFAULTS, **config}
    structures = read_structures('structures.extxyz')
    status.update(n_labelled=0, n_rejected=0, reasons={})
    reasons: Counter[str] = Counter()
    labeller = Labeller({'calculator': config.get('calculator'), 'arguments': settings['arguments']})
    try:
        labeller.start()
        status['versions'].update(labeller.version)
        with FrameWriter('labels.extxyz') as labels, LineWriter('label.jsonl') as report:
            report.write({'versions': status['versions']})
            for index, atoms in enumerate(structures):
                outcome = _one(labeller, atoms, settings)
                if outcome.reason is None:
                    labels.write(_labelled(atoms, outcome, _axes(atoms, settings), index))
                    status['n_labelled'] += 1
                else:
                    reasons[outcome.reason] += 1
                    status.update(n_rejected=reasons.total(), reasons=dict(reasons))
                report.write(
                    {
                        'index': index,
                        'status': 'labelled' if outcome.reason is None else 'rejected',
                        'reason': outcome.reason,
                        'message': outcome.message,
                        'wall_s': round(outcome.wall_s, 4),
                        'cpu_s': round(outcome.cpu_s, 4),
                    }
                )
        labeller.close()
    finally:
        labeller.kill()


def _one(labeller: Labeller, atoms: Atoms, settings: dict[str, Any]) -> Outcome:
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return Outcome('non_finite', 'a position or cell vector of the structure is not finite.')
    complaint = too_close(atoms, settings['min_distance_fraction'])
    if complaint:
        return Outcome('too_close', complaint)
    outcome = labeller.label(atoms.copy(), _axes(atoms, settings), settings['timeout_s'])
    if outcome.reason is not None:
        return outcome
    assert outcome.forces is not None
    numbers = [np.atleast_1d(outcome.energy), outcome.forces.ravel()]
    if outcome.stress is not None:
        numbers.append(outcome.stress)
    force = largest_force(outcome.forces)
    if not np.isfinite(np.concatenate(numbers)).all():
        outcome.reason, outcome.message = 'non_finite', 'energy, forces or stress are not finite.'
    elif settings['max_force'] is not None and force > settings['max_force']:
        outcome.reason = 'force_cap'
        outcome.message = f'the largest force is {force:.1f} eV/Å, above max_force = {settings["max_force"]:g} eV/Å.'
    return outcome


def _axes(atoms: Atoms, settings: dict[str, Any]) -> np.ndarray:
    return np.asarray(atoms.pbc if settings['periodic'] is None else atoms.pbc & np.array(settings['periodic']))


def _labelled(atoms: Atoms, outcome: Outcome, axes: np.ndarray, index: int) -> Atoms:
    frame = atoms.copy()
    frame.set_constraint()
    for name in [name for name in frame.info if name.startswith('REF_')]:
        del frame.info[name]
    frame.info.update(index=index, REF_energy=outcome.energy)
    if outcome.stress is not None and axes.all():
        frame.info['REF_stress'] = outcome.stress
    elif outcome.stress is not None:
        frame.info.update(REF_masked_stress=outcome.stress, REF_stress_axes=axes)
    frame.arrays['REF_forces'] = outcome.forces
    return frame


def _serve(connection: Connection, parents_end: Connection, spec: dict[str, Any]) -> None:
    """Compute structure after structure until None or the end of the parent."""
    os.setpgid(0, 0)
    _die_with_parent()
    # A scheduler sends SIGTERM to all processes: the parent decides. Programs started here do not inherit a handler.
    signal.signal(signal.SIGTERM, lambda *_: None)
    parents_end.close()
    try:
        calculator = calculators.build(spec)
        connection.send(calculators.package_version(spec['calculator']))
    except ValueError as error:
        connection.send(error)
        return
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        if message is None:
            return
        atoms, axes = message
        wall, cpu = time.monotonic(), _cpu_with_programs()
        try:
            calculator = calculator or calculators.build(spec)
            outcome = _compute(calculator, atoms, axes)
        except Exception as error:
            unconverged = calculators.mentions_convergence(error)
            outcome = Outcome('unconverged' if unconverged else 'error', runner.explain(error))
            calculator = None
        outcome.wall_s, outcome.cpu_s = time.monotonic() - wall, _cpu_with_programs() - cpu
        connection.send(outcome)


def _compute(calculator: Any, atoms: Atoms, axes: np.ndarray) -> Outcome:
    watch = calculators.ConvergenceWatch(calculator)
    atoms.calc = calculator
    forces = np.array(atoms.get_forces(apply_constraint=False), dtype=float)
    energy = calculators.free_energy(calculator, atoms.get_potential_energy())
    stress = periodic_stress(calculator, atoms, axes)
    complaint = watch.complaint()
    if complaint:
        return Outcome('unconverged', complaint)
    return Outcome(energy=energy, forces=forces, stress=stress)


def _cpu_with_programs() -> float:
    return runner.cpu_seconds() + runner.cpu_seconds(resource.RUSAGE_CHILDREN)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere it ends with its current structure."""
    pr_set_pdeathsig = 1
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f'exit code {exit_code}'


if __name__ == '__main__':
    runner.run(label)
