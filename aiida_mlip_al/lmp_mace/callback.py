"""What LAMMPS calls for energy, forces and virial at every step: `fix external`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from aiida_mlip_al.lmp_mace.deviation import deviation_line, model_deviation
from aiida_mlip_al.lmp_mace.neighbours import Floats, Integers
from aiida_mlip_al.lmp_mace.potential import Evaluation, Potential
from aiida_mlip_al.lmp_mace.records import record_line
from aiida_mlip_al.lmp_mace.step_file import StepFile

FIX = 'mace'
STOP = 4  # the entry of the fix' vector that is 1 above the upper level, else 0
UPPER_LEVEL = 'upper_level'


@dataclass(frozen=True)
class Check:
    """When all models are asked, every `interval` steps, what is written then, and above which `upper` (eV/Å) the run ends."""

    interval: int
    deviations: StepFile | None
    records: StepFile | None
    upper: float | None

    @property
    def files(self) -> list[StepFile]:
        """Those that are written."""
        return [file for file in (self.deviations, self.records) if file is not None]


@dataclass(frozen=True)
class Stop:
    """Why a run ended before its last step."""

    reason: str
    message: str
    step: int


class Callback:
    """The committee as a `fix external pf/callback 1 1` of LAMMPS.

    An exception would not get through LAMMPS, which would go on with old forces: it is kept in `error`, the forces are
    zero from there on and the run ends at the next step.

    :param lammps: the instance; the fix exists.
    :param potential: the models.
    :param elements: chemical symbols in the order of the atom types.
    :param check: None if nothing is to be checked.
    """

    def __init__(self, lammps: Any, potential: Potential, elements: Sequence[str], check: Check | None) -> None:
        self._lammps, self._potential, self._elements, self._check = lammps, potential, list(elements), check
        self._numbers_of_types = np.array([0, *(atomic_numbers[symbol] for symbol in elements)])
        self._stop_wanted: tuple[str, str] | None = None
        self._all_members = range(len(potential))
        self._at_begin = True
        self.error: BaseException | None = None
        self.stop: Stop | None = None
        self.n_evaluations = 0
        lammps.fix_external_set_vector_length(FIX, STOP)
        lammps.set_fix_external_callback(FIX, self)

    def want_stop(self, reason: str, message: str) -> None:
        """End the run after the step that it is at; for signal handlers.

        :param reason: one word.
        :param message: a sentence.
        """
        self._stop_wanted = reason, message

    def begin(self) -> None:
        """Say that LAMMPS gets a command, so that the next evaluation is of the frame that a run begins with."""
        self._at_begin = True

    def flush(self) -> None:
        """Write the lines that wait for the end of their step."""
        for file in [] if self._check is None else self._check.files:
            file.flush()

    def __call__(
        self, caller: object, step: int, n_atoms: int, tags: Integers, positions: Floats, forces: Floats
    ) -> None:
        """Answer LAMMPS; see its `fix external`.

        :param forces: (n_atoms, 3), written to.
        """
        try:
            if self.error is None:
                self._compute(step, n_atoms, tags, positions, forces)
        except BaseException as error:
            self.error = error
        if self.error is not None:
            forces[:] = 0.0
            self._lammps.force_timeout()

    def _compute(self, step: int, n_atoms: int, tags: Integers, positions: Floats, forces: Floats) -> None:
        if self.n_evaluations == 0:
            self._refuse_swapped_elements()
        lower, upper, xy, yz, xz, periodic, _ = self._lammps.extract_box()
        pbc = np.array(periodic, dtype=bool)
        cell = np.diag(np.subtract(upper, lower))
        cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
        # By tag: LAMMPS sorts its atoms in space now and then, the neighbour list should not notice.
        order = np.argsort(tags)
        types = self._lammps.numpy.extract_atom('type', nelem=n_atoms)[order]
        check = self._check
        for file in [] if check is None else check.files:
            file.begin(step)
        due = check is not None and step % check.interval == 0
        result = self._potential.evaluate(
            tags[order],
            self._numbers_of_types[types],
            positions[order] - np.where(pbc, lower, 0.0),
            cell,
            pbc,
            self._all_members if due else (0,),
            descriptor=due and check is not None and check.records is not None,
        )
        self.n_evaluations += 1
        if not (np.isfinite(result.energies[0]) and np.isfinite(result.forces[0]).all()):
            raise FloatingPointError(
                f'energy or forces are not finite at step {step}: the models do not know this frame.'
            )
        forces[order] = result.forces[0]
        self._hand_over(result, order)
        if check is not None and due and n_atoms:
            self._judge(check, step, result)
        self._at_begin = False
        if self._stop_wanted is not None:
            self._end(*self._stop_wanted, step)

    def _hand_over(self, result: Evaluation, order: Integers) -> None:
        virial = result.virials[0]
        self._lammps.fix_external_set_energy_global(FIX, float(result.energies[0]))
        self._lammps.fix_external_set_virial_global(FIX, virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]].tolist())
        atom_energies = np.empty(len(order))
        atom_energies[order] = result.atom_energies
        self._lammps.numpy.fix_external_set_energy_peratom(FIX, atom_energies)

    def _judge(self, check: Check, step: int, result: Evaluation) -> None:
        found = model_deviation(result.energies, result.forces, result.virials)
        if check.deviations is not None:
            check.deviations.add(step, deviation_line(step, found))
        if check.records is not None:
            check.records.add(step, record_line(step, result))
        # Not `>`: a deviation that is not finite stops too.
        above = check.upper is not None and not found.max_devi_f <= check.upper
        for index, value in enumerate((found.max_devi_f, found.min_devi_f, found.avg_devi_f, float(above)), 1):
            self._lammps.fix_external_set_vector(FIX, index, value)
        # A trial of a Monte Carlo move comes before the frame that its step ends with: the last answer counts, and the
        # driver's `fix halt` ends the run by it. The frame that a run begins with passes no `fix halt`.
        if self.stop is not None and self.stop.reason == UPPER_LEVEL and not self._at_begin:
            self.stop = None
        if above and self.stop is None:
            message = f'max_devi_f of {found.max_devi_f:.4g} eV/A is above the upper level of {check.upper:g} eV/A.'
            self.stop = Stop(UPPER_LEVEL, message, step)
            if self._at_begin:
                self._lammps.force_timeout()

    def _end(self, reason: str, message: str, step: int) -> None:
        if self.stop is None:
            self.stop = Stop(reason, message, step)
            self._lammps.force_timeout()

    def _refuse_swapped_elements(self) -> None:
        """Compare the masses, which are all set by now, with the elements; isotopes and heavy hydrogen are fine."""
        masses = self._lammps.numpy.extract_atom('mass')
        if masses is None:
            return
        standard = {symbol: float(atomic_masses[atomic_numbers[symbol]]) for symbol in self._elements}
        for number, (symbol, mass) in enumerate(zip(self._elements, masses[1:], strict=False), 1):
            for other, usual in standard.items():
                if abs(mass - usual) < 0.01 * usual and abs(mass - standard[symbol]) > 0.1 * standard[symbol]:
                    raise ValueError(
                        f'pair_coeff says that atom type {number} is {symbol}, but its mass of {mass:g} is that of {other}:'
                        ' put the elements in the order of the atom types.'
                    )
