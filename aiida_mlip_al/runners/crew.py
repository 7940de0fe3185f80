"""Walkers in threads that share every pass of a committee.

Every walker is an ordinary ASE dynamics object in a thread of its own. Its calculator posts a request and waits; when
all living walkers have posted, the main thread answers them with one batched pass of the lead model and, for the
walkers that are due for a check, one batched pass of every other model. The order in a batch is the walkers' order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
from ase import Atoms
from committee import Committee
from status import Terminated
from walker import NonFiniteError


@dataclass
class Answer:
    """The lead model on one structure: eV, eV/Å, eV/Å³; descriptor (D,) if the crew makes descriptors."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    descriptor: np.ndarray | None


@dataclass
class Opinion:
    """All K members on one structure: energies (K,), forces (K, n, 3); the lead's descriptor (D,); how far the structure is
    from the training data, of one model with an uncertainty; stresses (K, 6) if they are compared."""

    energies: np.ndarray
    forces: np.ndarray
    descriptor: np.ndarray | None
    mahalanobis: float | None = None
    stresses: np.ndarray | None = None


@dataclass
class _Request:
    number: int
    atoms: Atoms | None  # None: the walker has ended
    whole_committee: bool = False


class Member:
    """The calculator of one walker.

    :param number: the walker's number.
    :param requests: where requests go.
    """

    def __init__(self, number: int, requests: SimpleQueue[_Request]) -> None:
        self.number = number
        self.answers: SimpleQueue[Answer | Opinion | None] = SimpleQueue()
        self._requests = requests
        self._state: np.ndarray | None = None
        self._answer: Answer | None = None

    def get_potential_energy(self, atoms: Atoms, force_consistent: bool = False) -> float:
        """Return the lead model's energy in eV.

        :param atoms: the structure.
        :param force_consistent: makes no difference.
        """
        return self._lead(atoms).energy

    def get_forces(self, atoms: Atoms) -> np.ndarray:
        """Return the lead model's forces (n, 3) in eV/Å.

        :param atoms: the structure.
        :raises NonFiniteError: if positions or forces are not finite.
        """
        return self._lead(atoms).forces.copy()

    def get_stress(self, atoms: Atoms) -> np.ndarray:
        """Return the lead model's stress (6,) in eV/Å³.

        :param atoms: the structure.
        """
        stress = self._lead(atoms).stress
        assert stress is not None
        return stress.copy()

    def ask_committee(self, atoms: Atoms) -> Opinion:
        """Return what all members say.

        :param atoms: the structure.
        :raises NonFiniteError: if a member's forces are not finite.
        """
        lead = self._lead(atoms)
        others = self._ask(atoms, whole_committee=True)
        assert isinstance(others, Opinion)
        energies = np.concatenate([[lead.energy], others.energies])
        forces = np.concatenate([lead.forces[None], others.forces])
        if not (np.isfinite(forces).all() and np.isfinite(energies).all()):
            raise NonFiniteError('a force or energy of a committee member is not finite.')
        stresses = None
        if others.stresses is not None and lead.stress is not None:
            stresses = np.concatenate([lead.stress[None], others.stresses])
        return Opinion(energies, forces, lead.descriptor, others.mahalanobis, stresses)

    def resign(self) -> None:
        """Tell the crew that this walker asks no more."""
        self._requests.put(_Request(self.number, None))

    def _lead(self, atoms: Atoms) -> Answer:
        state = np.concatenate([atoms.positions, atoms.cell.array])
        if self._answer is not None and self._state is not None and np.array_equal(state, self._state):
            return self._answer
        if not np.isfinite(state).all():
            raise NonFiniteError('a position or cell vector is not finite.')
        answer = self._ask(atoms)
        assert isinstance(answer, Answer)
        if not (np.isfinite(answer.forces).all() and np.isfinite(answer.energy)):
            raise NonFiniteError('a force or the energy is not finite.')
        self._state, self._answer = state, answer
        return answer

    def _ask(self, atoms: Atoms, whole_committee: bool = False) -> Answer | Opinion:
        self._requests.put(_Request(self.number, atoms, whole_committee))
        answer = self.answers.get()
        if answer is None:
            raise Terminated
        return answer


class Crew:
    """Runs all walkers.

    :param committee: the models.
    :param n_walkers: number of walkers.
    :param stress: whether the dynamics needs stresses.
    :param compare_stress: whether those of all members are compared.
    :param descriptors: whether to compute descriptors.
    """

    def __init__(
        self, committee: Committee, n_walkers: int, stress: bool, descriptors: bool, compare_stress: bool = False
    ) -> None:
        self._committee, self._stress, self._descriptors = committee, stress or compare_stress, descriptors
        self._compare_stress = compare_stress
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._failures: list[Exception] = []
        self._members = [Member(number, self._requests) for number in range(n_walkers)]

    def run(self, work: Callable[[Member], None]) -> None:
        """Run `work` for every walker and answer their requests until all have ended.

        :param work: runs one walker with its member as calculator; its first error is raised when all have ended.
        """
        threads = [threading.Thread(target=self._employ, args=(work, member), daemon=True) for member in self._members]
        for thread in threads:
            thread.start()
        try:
            self._serve()
        finally:
            for member in self._members:  # those that still wait
                member.answers.put(None)
            for thread in threads:
                thread.join()

        if self._failures:
            raise self._failures[0]

    def _employ(self, work: Callable[[Member], None], member: Member) -> None:
        try:
            work(member)
        except Terminated:
            pass
        except Exception as error:
            self._failures.append(error)
        finally:
            member.resign()

    def _serve(self) -> None:
        living = len(self._members)
        while living:
            waiting: dict[int, _Request] = {}
            while len(waiting) < living:
                request = self._requests.get()
                if request.atoms is None:
                    living -= 1
                else:
                    waiting[request.number] = request
            ordered = [waiting[number] for number in sorted(waiting)]
            self._answer_lead([request for request in ordered if not request.whole_committee])
            self._answer_committee([request for request in ordered if request.whole_committee])

    def _answer_lead(self, requests: list[_Request]) -> None:
        if not requests:
            return
        structures = [request.atoms for request in requests if request.atoms is not None]
        prediction = self._committee.predict(structures, [0], self._stress, self._descriptors)
        for index, request in enumerate(requests):
            stress = None if prediction.stresses is None else prediction.stresses[0, index]
            descriptor = None if prediction.descriptors is None else prediction.descriptors[index]
            forces = prediction.forces_of(index)[0]
            answer = Answer(float(prediction.energies[0, index]), forces, stress, descriptor)
            self._members[request.number].answers.put(answer)

    def _answer_committee(self, requests: list[_Request]) -> None:
        if not requests:
            return
        structures = [request.atoms for request in requests if request.atoms is not None]
        prediction = self._committee.predict(structures, range(1, len(self._committee)), self._compare_stress)
        for index, request in enumerate(requests):
            distance = None if prediction.mahalanobis is None else float(prediction.mahalanobis[index])
            stresses = None if prediction.stresses is None else prediction.stresses[:, index]
            opinion = Opinion(prediction.energies[:, index], prediction.forces_of(index), None, distance, stresses)
            self._members[request.number].answers.put(opinion)
