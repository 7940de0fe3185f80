"""What LAMMPS calls for energy, forces and virial at every step: `fix external`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from aiida_mlip_al.lmp_mace.deviation import DeviationFile, ModelDeviation, model_deviation
from aiida_mlip_al.lmp_mace.neighbours import Floats, Integers
from aiida_mlip_al.lmp_mace.potential import Evaluation, Potential

FIX = 'mace'


@dataclass(frozen=True)
class Check:
    """When and how the committee is asked: every `interval` steps; above `upper` (eV/Å) the run ends."""

    interval: int
    file: DeviationFile
    upper: float | None


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
    :param check: None for a single model.
    """

    def __init__(self, lammps: Any, potential: Potential, elements: Sequence[str], check: Check | None) -> None:
        self._lammps, self._potential, self._elements, self._check = lammps, potential, list(elements), check
        self._numbers_of_types = np.array([0, *(atomic_numbers[symbol] for symbol in elements)])
        self._stop_wanted: tuple[str, str] | None = None
        self._all_members = range(len(potential))
        self.error: BaseException | None = None
        self.stop: Stop | None = None
        self.n_evaluations = 0
        lammps.fix_external_set_vector_length(FIX, 3)
        lammps.set_fix_external_callback(FIX, self)

    def want_stop(self, reason: str, message: str) -> None:
        """End the run after the step that it is at; for signal handlers.

        :param reason: one word.
        :param message: a sentence.
        """
        self._stop_wanted = reason, message

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
        due = self._check is not None and step % self._check.interval == 0
        result = self._potential.evaluate(
            tags[order],
            self._numbers_of_types[types],
            positions[order] - np.where(pbc, lower, 0.0),
            cell,
            pbc,
            self._all_members if due else (0,),
        )
        self.n_evaluations += 1
        if not (np.isfinite(result.energies[0]) and np.isfinite(result.forces[0]).all()):
            raise FloatingPointError(
                f'energy or forces are not finite at step {step}: the models do not know this frame.'
            )
        forces[order] = result.forces[0]
        self._hand_over(result, order)
        if due and n_atoms:
            self._judge(step, model_deviation(result.energies, result.forces, result.virials))
        if self._stop_wanted is not None:
            self._end(*self._stop_wanted, step)

    def _hand_over(self, result: Evaluation, order: Integers) -> None:
        virial = result.virials[0]
        self._lammps.fix_external_set_energy_global(FIX, float(result.energies[0]))
        self._lammps.fix_external_set_virial_global(FIX, virial[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]].tolist())
        atom_energies = np.empty(len(order))
        atom_energies[order] = result.atom_energies
        self._lammps.numpy.fix_external_set_energy_peratom(FIX, atom_energies)

    def _judge(self, step: int, found: ModelDeviation) -> None:
        assert self._check is not None
        self._check.file.add(step, found)
        for index, value in enumerate((found.max_devi_f, found.min_devi_f, found.avg_devi_f), 1):
            self._lammps.fix_external_set_vector(FIX, index, value)
        upper = self._check.upper
        # Not `>`: a deviation that is not finite stops too.
        if upper is not None and not found.max_devi_f <= upper:
            message = f'max_devi_f of {found.max_devi_f:.4g} eV/A is above the upper level of {upper:g} eV/A.'
            self._end('upper_level', message, step)

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
