"""Seeder ``vacancies``: take atoms out, at sites that symmetry does not map onto each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import comb

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.spatial import cKDTree

from aiida_mlip_al.sampling.base import SeedResult, StepParameters, bare, make_record, stream

MAX_DEFAULT_COPIES = 100
MAX_COMBINATIONS = 1_000_000

Indices = NDArray[np.int64]


class VacanciesParameters(StepParameters):
    """How many atoms are taken out, and how often."""

    n_vacancies: int = Field(default=1, ge=1, description='atoms taken out of each structure')
    copies: int | None = Field(
        default=None,
        ge=1,
        description=f'structures made from each incoming structure; left out, one for each choice of sites that symmetry '
        f'tells apart, if these are at most {MAX_DEFAULT_COPIES}',
    )
    unique: bool = Field(default=True, description='never make two copies that are equivalent by symmetry')
    symprec: float = Field(
        default=0.01, gt=0, description='distance within which symmetry must map atoms onto each other, Å'
    )

    @model_validator(mode='after')
    def _check(self) -> VacanciesParameters:
        if not self.unique and self.copies is None:
            raise ValueError("with 'unique: false' say how many 'copies' to make")
        return self

    def expected_frames(self, incoming: int) -> int:
        """Return at least how many frames the step makes of so many structures."""
        return incoming * (self.copies or 1)


def vacancies(structures: Sequence[Atoms], parameters: VacanciesParameters, seed: int) -> SeedResult:
    """Take atoms out of each structure at random; cell and remaining atoms stay where they are.

    :param structures: incoming structures.
    :param parameters: see the model.
    :param seed: of every random number.
    :raises ValueError: no atom would be left, there are fewer inequivalent choices than copies asked for, too many to
        make all of them, or a structure without two periodic directions is to be searched for symmetry.
    """
    frames, records = [], []
    for source, atoms in enumerate(structures):
        for copy, sites in enumerate(_choices(atoms, parameters, seed, source)):
            frame = bare(atoms)
            del frame[sites.tolist()]
            frames.append(frame)
            records.append(make_record('vacancies', parameters, seed, source, copy=copy))
    return SeedResult(frames, records)


def _choices(atoms: Atoms, parameters: VacanciesParameters, seed: int, source: int) -> list[Indices]:
    """Sites to empty, one array for each copy."""
    where = f'vacancies: structure {source}'
    n, k, copies = len(atoms), parameters.n_vacancies, parameters.copies
    if k >= n:
        msg = f"{where}: 'n_vacancies' {k} leaves nothing of {n} atoms; take fewer out, or use a larger supercell"
        raise ValueError(msg)
    if not parameters.unique:
        return [
            np.random.default_rng(stream(seed, 'vacancies', source, copy)).choice(n, k, replace=False)
            for copy in range(copies or 0)
        ]
    if np.count_nonzero(atoms.pbc) < 2:
        msg = f"{where}: symmetry is searched in crystals and layers only; set 'unique: false' and the 'copies'"
        raise ValueError(msg)
    if comb(n, k) > MAX_COMBINATIONS:
        msg = (
            f'{where}: {comb(n, k)} ways to take {k} of {n} atoms are too many to compare; '
            "set 'unique: false', or use a smaller supercell"
        )
        raise ValueError(msg)
    rng = np.random.default_rng(stream(seed, 'vacancies', source))
    inequivalent = inequivalent_subsets(n, k, *site_permutations(atoms, parameters.symprec, where), rng)
    chosen = list(islice(inequivalent, MAX_DEFAULT_COPIES + 1 if copies is None else copies))
    if copies is None and len(chosen) > MAX_DEFAULT_COPIES:
        msg = f"{where}: more than {MAX_DEFAULT_COPIES} inequivalent choices of sites; say how many 'copies' to make"
        raise ValueError(msg)
    if copies is not None and len(chosen) < copies:
        msg = (
            f"{where}: symmetry leaves {len(chosen)} inequivalent choices of sites; set 'copies' to at most that, "
            "or 'unique: false'"
        )
        raise ValueError(msg)
    return chosen


def site_permutations(atoms: Atoms, symprec: float, where: str) -> tuple[Indices, Indices]:
    """Where every symmetry operation takes every atom; each operation is a rotation followed by a translation.

    :param atoms: n atoms with two or three periodic directions.
    :param symprec: tolerance of the search, Å.
    :param where: step and structure, for the message.
    :returns: (t, n) indices for pure translations and (r, n) indices, one for each rotation with some translation: all
        operations are their t x r products.
    :raises ValueError: the symmetry search finds nothing, as for atoms on top of each other.
    """
    cell = atoms.cell.array.copy()
    for axis in np.flatnonzero(~atoms.pbc):
        first, second = cell[np.arange(3) != axis]
        normal = np.cross(first, second) / np.linalg.norm(np.cross(first, second))
        # A height that no in-plane vector has, so that the stack of layers has the symmetry of the layer.
        cell[axis] = normal * (10.0 + np.ptp(atoms.positions @ normal) + np.linalg.norm([first, second], axis=1).sum())
    fractions = np.linalg.solve(cell.T, atoms.positions.T).T
    try:
        found = spglib.get_symmetry((cell.tolist(), fractions.tolist(), atoms.numbers.tolist()), symprec=symprec)
    except Exception:  # spglib returns None or raises, by a switch that any other package may have set
        found = None
    if found is None:
        msg = f"{where}: no symmetry was found; check that no atoms are on top of each other, or lower 'symprec' ({symprec})"
        raise ValueError(msg)
    tree = cKDTree(_wrapped(fractions), boxsize=1.0)

    def permutation(operation: np.integer) -> Indices:
        moved = fractions @ found['rotations'][operation].T + found['translations'][operation]
        return np.asarray(tree.query(_wrapped(moved))[1], dtype=np.int64)

    rotations = found['rotations'].reshape(-1, 9)
    _, first_of_each = np.unique(rotations, axis=0, return_index=True)
    translations = np.flatnonzero((rotations == np.eye(3, dtype=int).ravel()).all(axis=1))
    return np.array([permutation(i) for i in translations]), np.array([permutation(i) for i in first_of_each])


def _wrapped(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    wrapped = fractions % 1.0
    wrapped[wrapped >= 1.0] = 0.0
    return wrapped


def inequivalent_subsets(
    n: int, k: int, translations: Indices, rotations: Indices, rng: np.random.Generator
) -> Iterator[Indices]:
    """Subsets in random order, each one inequivalent to all before it, until there is no other.

    :param n: size of the set.
    :param k: size of the subsets.
    :param translations: (t, n) permutations.
    :param rotations: (r, n) permutations; all t x r products together are a group.
    :param rng: random generator.
    :returns: sorted (k,) indices.
    """
    # Combinatorial number system: the subset c_0 < c_1 < ... has the number sum_i binomial(c_i, i + 1).
    binomials = np.array([[comb(c, i + 1) for c in range(n)] for i in range(k)])
    seen = np.zeros(comb(n, k), dtype=bool)
    for number in rng.permutation(len(seen)):
        if seen[number]:
            continue
        subset, rest = np.empty(k, dtype=np.int64), number
        for i in reversed(range(k)):
            subset[i] = np.searchsorted(binomials[i], rest, side='right') - 1
            rest -= binomials[i, subset[i]]
        images = np.sort(translations[:, rotations[:, subset]].reshape(-1, k), axis=1)
        seen[binomials[np.arange(k), images].sum(axis=1)] = True
        yield subset
