"""Seeder ``molecular_clusters``: finite clusters of whole molecules, cut out of molecular crystals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Annotated, Literal

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from pydantic import Field, model_validator

from aiida_mlip_al.sampling.base import (
    Axes,
    Matrix,
    Positive,
    SeedRecord,
    SeedResult,
    StepParameters,
    bare,
    make_record,
)
from aiida_mlip_al.sampling.cells import periodic_axes
from aiida_mlip_al.sampling.molecules import DEFAULT_CUTOFF_SCALE, Molecule, find_molecules
from aiida_mlip_al.sampling.surroundings import Metric, Ranking, Surroundings
from aiida_mlip_al.sampling.unwrap import unwrap

Rule = Literal[
    'closest_to_center_of_mass',
    'closest_to_central_molecule',
    'max_min_distance_to_central_molecule',
    'max_max_distance_to_central_molecule',
]
METRICS: dict[Rule, Metric] = {
    'closest_to_center_of_mass': 'center',
    'closest_to_central_molecule': 'min',
    'max_min_distance_to_central_molecule': 'min',
    'max_max_distance_to_central_molecule': 'max',
}
DEFAULT_SIZES = (1, 2, 3, 4, 5, 6, 7, 8)
TOO_LARGE = 'too_large'
TORN = 1e-3


class MolecularClustersParameters(StepParameters):
    """Which molecules are cut out; one cluster for each number of molecules, or for each distance."""

    rule: Rule = Field(
        default='closest_to_central_molecule',
        description=(
            "which molecules, nearest first: closest_ rules take 'n_molecules' by the distance between centres of mass, "
            'or between the closest atoms; max_ rules take all whose smallest (max_min_) or largest (max_max_) distance '
            "between atoms is below one of 'distances'"
        ),
    )
    n_molecules: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = Field(
        default=None, description='numbers of molecules, for the two closest_ rules; left out, 1 to 8'
    )
    distances: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = Field(
        default=None,
        description='limits in Å, for the two max_ rules; one that adds no molecule makes no further cluster',
    )
    cutoff_scale: Positive = Field(
        default=DEFAULT_CUTOFF_SCALE, description='atoms closer than this factor times their radii sum are bonded'
    )
    images: bool = Field(
        default=True, description='take periodic images too, so that even a unit cell has whole shells'
    )
    periodic: Axes | None = Field(
        default=None, description="directions with images, if the structure's pbc claims too many"
    )
    identical_composition: bool = Field(default=True, description='refuse structures with molecules of several kinds')
    skip_too_large: bool = Field(default=False, description='leave out clusters of more molecules than there are')
    vacuum: Positive = Field(
        default=10.0, description='from the cluster to each face of its box, Å; it is not periodic'
    )

    @model_validator(mode='after')
    def _check_sizes(self) -> MolecularClustersParameters:
        needed, other = ('distances', 'n_molecules') if self.rule.startswith('max_') else ('n_molecules', 'distances')
        if getattr(self, other) is not None:
            raise ValueError(f"'{other}' does not go with rule '{self.rule}', use '{needed}'")
        if needed == 'distances' and self.distances is None:
            raise ValueError(f"rule '{self.rule}' needs 'distances', one or more limits in Å")
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"'{needed}' must not have a value twice, got {list(self.sizes)}")
        return self

    @property
    def sizes(self) -> tuple[float, ...]:
        """What sets the size of each cluster: limits in Å, or numbers of molecules."""
        return self.distances or self.n_molecules or DEFAULT_SIZES

    def expected_frames(self, incoming: int) -> int:
        """Return how many frames the step makes of so many structures."""
        return incoming * len(self.sizes)


class ClusterRecord(SeedRecord):
    """Record of a cluster; ``copy`` is its number among those of its structure."""

    n_molecules: int


def molecular_clusters(
    structures: Sequence[Atoms],
    parameters: MolecularClustersParameters,
    seed: int,
    references: Sequence[Atoms | None] | None = None,
) -> SeedResult:
    """Cut clusters of whole molecules out of each structure.

    Molecules are found, and the members of each cluster chosen, once on the equilibrium structure; the same ones are
    then cut out of everything that derives from it. Consecutive structures with the same object as reference are one
    trajectory, wrapped or not. Larger clusters contain the smaller ones, and equally close molecules always come in the same order.

    The rules are those of mbe-automation, with periodic images as candidates: the centre is the centre of mass of the
    molecules, each in its image nearest to the first one, and the central molecule is the one closest to it (the first
    one of several), so neither the origin nor the wrapping of the structure changes a cluster.

    :param structures: incoming structures, periodic in any number of directions.
    :param parameters: see the model.
    :param seed: only recorded.
    :param references: for each structure the equilibrium structure with the same atoms that it derives from, or None:
        then the structure itself.
    :returns: clusters ordered by structure, then as asked for, in boxes of their own.
    :raises InfiniteNetworkError: a structure has no molecules.
    :raises ValueError: molecules of several kinds, too few molecules, or a trajectory that cannot be followed.
    """
    frames: list[Atoms] = []
    records: list[SeedRecord] = []
    rejected: Counter[str] = Counter()
    for start, trajectory, reference in _trajectories(structures, references):
        where = f'molecular_clusters: structure {start}'
        molecules = find_molecules(reference, parameters.cutoff_scale, where)
        ranking, sizes = select_clusters(reference, molecules, parameters, where)
        if parameters.distances is None:
            rejected[TOO_LARGE] += len(trajectory) * (len(parameters.sizes) - len(sizes))
        if len(trajectory) > 1:
            where = f'molecular_clusters: structures {start} to {start + len(trajectory) - 1}'
        for number, frame in enumerate(unwrap(reference, trajectory, where)):
            _check_whole(frame, molecules, f'{where}: frame {number}')
            clusters = _cut(reference, frame, molecules, ranking, sizes, parameters.vacuum)
            for copy, (size, cluster) in enumerate(zip(sizes, clusters, strict=True)):
                source = make_record('molecular_clusters', parameters, seed, start + number, copy=copy)
                record: ClusterRecord = {**source, 'n_molecules': size}
                frames.append(cluster)
                records.append(record)
    return SeedResult(frames, records, dict(+rejected))


def _trajectories(
    structures: Sequence[Atoms], references: Sequence[Atoms | None] | None
) -> Iterator[tuple[int, list[Atoms], Atoms]]:
    """Number of the first structure, structures, and reference of each run of structures with the same reference."""
    given = [None] * len(structures) if references is None else list(references)
    if len(given) != len(structures):
        msg = (
            f'molecular_clusters: there must be one reference (or None) for each of the {len(structures)} structures, '
            f'got {len(given)}'
        )
        raise ValueError(msg)
    start = 0
    while start < len(structures):
        reference, stop = given[start], start + 1
        while reference is not None and stop < len(structures) and given[stop] is reference:
            stop += 1
        trajectory = [bare(atoms) for atoms in structures[start:stop]]
        yield start, trajectory, trajectory[0] if reference is None else bare(reference)
        start = stop


def select_clusters(
    reference: Atoms,
    molecules: Sequence[Molecule],
    parameters: MolecularClustersParameters,
    where: str = 'the structure',
) -> tuple[Ranking, list[int]]:
    """Choose the members of every cluster.

    :param reference: the equilibrium structure.
    :param molecules: its molecules, one or more.
    :param parameters: see the model.
    :param where: begin of an error message.
    :returns: molecules in the order in which they join, and how many of them each cluster has.
    :raises ValueError: molecules of several kinds where one is asked for, or fewer than a cluster needs.
    """
    kinds = Counter(molecule.composition for molecule in molecules)
    if parameters.identical_composition and len(kinds) > 1:
        counts = ', '.join(f'{count} {kind}' for kind, count in kinds.items())
        msg = (
            f"{where}: the molecules differ in composition ({counts}); set 'identical_composition: false' if they are "
            "meant to, or change 'cutoff_scale' if they were not found rightly"
        )
        raise ValueError(msg)
    axes = periodic_axes(reference, parameters.periodic, where) if parameters.images else np.zeros(3, dtype=bool)
    surroundings = Surroundings(reference, molecules, METRICS[parameters.rule], axes)
    if parameters.distances is not None:
        ranking = surroundings.nearer_than(max(parameters.distances))
        sizes = np.searchsorted(ranking.distances, parameters.distances).tolist()
        return ranking, list(dict.fromkeys(sizes))
    numbers = parameters.n_molecules or DEFAULT_SIZES
    ranking = surroundings.closest(max(numbers))
    sizes = [number for number in numbers if number <= len(ranking.members)]
    if len(sizes) < len(numbers) and not (parameters.skip_too_large and sizes):
        msg = (
            f'{where}: clusters of up to {max(numbers)} molecules were asked for, but there are {len(ranking.members)}; '
            "ask for fewer, start from a supercell, or set 'skip_too_large: true' to leave out those that are too large"
        )
        raise ValueError(msg)
    return ranking, sizes


def _check_whole(frame: Atoms, molecules: Sequence[Molecule], where: str) -> None:
    """Refuse an unwrapped frame in which an atom is nearer to another image of its bonded neighbour.

    :raises ValueError: the molecules cannot be followed to this frame.
    """
    positions = np.empty_like(frame.positions)
    for molecule in molecules:
        positions[molecule.indices] = molecule.whole(frame)
    bonds = np.concatenate([molecule.bonds for molecule in molecules])
    vectors = positions[bonds[:, 1]] - positions[bonds[:, 0]]
    lengths = np.linalg.norm(vectors, axis=1)
    torn = np.flatnonzero(lengths > find_mic(vectors, frame.cell.array, frame.pbc)[1] + TORN)
    if len(torn):
        first, second = (f'{atom} ({frame.symbols[atom]})' for atom in bonds[torn[0]])
        msg = (
            f'{where}: atoms {first} and {second}, bonded in the reference, are {lengths[torn[0]]:.1f} Å apart, across '
            'a periodic boundary; record frames more often, or leave out those with broken molecules'
        )
        raise ValueError(msg)


def _cut(
    reference: Atoms,
    frame: Atoms,
    molecules: Sequence[Molecule],
    ranking: Ranking,
    sizes: Sequence[int],
    vacuum: float,
) -> list[Atoms]:
    """Clusters of one frame, each in a box of its own.

    A molecule that has diffused by more than half a cell, against the first member, is put back by whole cell vectors.

    :param reference: the equilibrium structure.
    :param frame: unwrapped from the reference.
    :param molecules: of the reference.
    :param ranking: in which order they join.
    :param sizes: how many of them each cluster has.
    :param vacuum: from the cluster to each face of its box, Å.
    """
    members, shifts, _ = ranking
    masses = reference.get_masses()
    moved = _scaled_centers(frame, molecules, masses) - _scaled_centers(reference, molecules, masses)
    back = np.where(frame.pbc, np.round(moved - moved[members[0]]), 0.0)
    images = (shifts - back[members]) @ frame.cell.array
    indices = np.concatenate([molecules[member].indices for member in members])
    positions = np.concatenate(
        [molecules[member].whole(frame) + image for member, image in zip(members, images, strict=True)]
    )
    ends = list(accumulate(len(molecules[member].indices) for member in members))
    clusters = []
    for size in sizes:
        cluster = frame[indices[: ends[size - 1]]]
        cluster.positions = positions[: ends[size - 1]]
        cluster.pbc = False
        cluster.set_cell([0, 0, 0])
        cluster.center(vacuum=vacuum)
        clusters.append(cluster)
    return clusters


def _scaled_centers(frame: Atoms, molecules: Sequence[Molecule], masses: Matrix) -> Matrix:
    """(m, 3) centres of mass in fractional coordinates."""
    centers = [np.average(molecule.whole(frame), axis=0, weights=masses[molecule.indices]) for molecule in molecules]
    return np.asarray(frame.cell.scaled_positions(np.array(centers)))
