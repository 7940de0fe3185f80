"""How far a committee is from the labels: per frame, on average, and as parity data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from .deviation import energy_deviation_per_atom, frame_deviations, stress_deviation

ENERGY, FORCES, STRESS = 'REF_energy', 'REF_forces', 'REF_stress'


@dataclass(frozen=True)
class Prediction:
    """A committee of K members on N frames: energies (K, N) eV, forces N × (K, n_i, 3) eV/Å, stresses (K, N, 6) eV/Å³."""

    energies: np.ndarray
    forces: list[np.ndarray]
    stresses: np.ndarray
    descriptors: np.ndarray | None = None

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Prediction:
        """Split the flat arrays that the runner writes (forces (K, sum n_i, 3) and ``n_atoms`` (N,)) by frame."""
        borders = np.cumsum(arrays['n_atoms'])[:-1]
        return cls(
            energies=arrays['energies'],
            forces=np.split(arrays['forces'], borders, axis=1),
            stresses=arrays['stresses'],
            descriptors=arrays.get('descriptors'),
        )

    def __len__(self) -> int:
        return self.energies.shape[1]

    def is_finite(self) -> bool:
        """Return whether all energies and forces are finite numbers."""
        return bool(np.isfinite(self.energies).all() and all(np.isfinite(forces).all() for forces in self.forces))

    def take(self, rows: Sequence[int]) -> Prediction:
        """Return the prediction of these frames alone."""
        index = np.asarray(rows, dtype=int)
        return Prediction(
            energies=self.energies[:, index],
            forces=[self.forces[row] for row in index],
            stresses=self.stresses[:, index],
            descriptors=None if self.descriptors is None else self.descriptors[index],
        )


@dataclass
class FrameErrors:
    """Per-frame arrays (length N) of deviations and errors, and the numbers that parity plots are made of."""

    arrays: dict[str, np.ndarray]
    energy: tuple[np.ndarray, np.ndarray]
    forces: tuple[np.ndarray, np.ndarray]
    stress: tuple[np.ndarray, np.ndarray]
    members: list[dict[str, float]] = field(default_factory=list)
    n_components: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @staticmethod
    def join(parts: Sequence[FrameErrors]) -> dict[str, np.ndarray]:
        """Return the per-frame arrays of several parts one after another."""
        names = set.intersection(*(set(part.arrays) for part in parts))
        return {name: np.concatenate([part.arrays[name] for part in parts]) for name in sorted(names)}


def compare(frames: Sequence[Atoms], prediction: Prediction) -> FrameErrors:
    """Compare the committee's mean, and every member, with the labels under the ``REF_`` keys.

    The error of a frame's forces is the mean absolute error over its components; ``max_force_error`` is the largest length of
    an atom's error vector, to be set beside ``max_force_deviation``, which is one too. A single model has no deviation: nan.
    """
    rows: dict[str, list[float]] = {}
    reference_forces, predicted_forces, member_forces = [], [], []
    for index, frame in enumerate(frames):
        reference = np.asarray(frame.arrays[FORCES], dtype=float)
        forces = prediction.forces[index]
        error = forces.mean(axis=0) - reference
        deviation = frame_deviations(forces, [len(frame)]) if len(forces) > 1 else None
        energy_error = float(prediction.energies[:, index].mean() - frame.info[ENERGY]) / len(frame)
        row = {
            **{
                f'{name}_force_deviation': np.nan if deviation is None else getattr(deviation, name)[0]
                for name in ('max', 'mean', 'min', 'percentile', 'relative')
            },
            'max_force_error': np.linalg.norm(error, axis=1).max(),
            'force_mae': np.abs(error).mean(),
            'force_mse': (error**2).mean(),
            'energy_error_per_atom': energy_error,
            'n_atoms': len(frame),
            'temperature_K': frame.info.get('temperature_K', np.nan),
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(float(value))
        reference_forces.append(reference.ravel())
        predicted_forces.append(forces.mean(axis=0).ravel())
        member_forces.append(np.abs(forces - reference).mean(axis=(1, 2)) * reference.size)

    arrays = {name: np.array(values) for name, values in rows.items()}
    n_atoms = np.array([len(frame) for frame in frames])
    arrays['energy_deviation_per_atom'] = (
        energy_deviation_per_atom(prediction.energies, n_atoms)
        if len(prediction.energies) > 1
        else np.full(len(frames), np.nan)
    )
    arrays['stress_deviation'] = (
        stress_deviation(prediction.stresses) if len(prediction.energies) > 1 else np.full(len(frames), np.nan)
    )
    if prediction.descriptors is not None:
        arrays['descriptors'] = prediction.descriptors
    reference_energy = np.array([frame.info[ENERGY] for frame in frames]) / n_atoms
    # A frame that is not periodic in three directions has no predicted stress.
    predicted = np.isfinite(prediction.stresses).all(axis=(0, 2))
    with_stress = [index for index, frame in enumerate(frames) if STRESS in frame.info and predicted[index]]
    stress = (
        np.array([frames[index].info[STRESS] for index in with_stress]).ravel(),
        prediction.stresses[:, with_stress].mean(axis=0).ravel(),
    )
    n_components = 3 * n_atoms.sum()
    members = [
        {
            'force_mae': float(np.sum([frame[member] for frame in member_forces]) / n_components),
            'energy_mae': float(np.abs(energies / n_atoms - reference_energy).mean()),
        }
        for member, energies in enumerate(prediction.energies)
    ]
    return FrameErrors(
        arrays=arrays,
        energy=(reference_energy, prediction.energies.mean(axis=0) / n_atoms),
        forces=(np.concatenate(reference_forces), np.concatenate(predicted_forces)),
        stress=stress,
        members=members,
        n_components=3 * n_atoms,
    )


def _summary(arrays: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, Any]:
    weights = arrays['n_atoms'][chosen]
    return {
        'n_frames': int(chosen.sum()),
        'energy_mae': float(np.abs(arrays['energy_error_per_atom'][chosen]).mean()),
        'force_mae': float(np.average(arrays['force_mae'][chosen], weights=weights)),
        'force_rmse': float(np.sqrt(np.average(arrays['force_mse'][chosen], weights=weights))),
    }


def mean_errors(parts: Sequence[FrameErrors]) -> dict[str, Any]:
    """Return the mean errors of the committee's mean: over all frames, by temperature, and of every member.

    ``energy_mae`` in eV/atom, ``force_mae`` and ``force_rmse`` in eV/Å over components, ``stress_mae`` in eV/Å³ or None.
    """
    arrays = FrameErrors.join(parts)
    summary = _summary(arrays, np.ones(len(arrays['n_atoms']), dtype=bool))
    reference = np.concatenate([part.stress[0] for part in parts])
    predicted = np.concatenate([part.stress[1] for part in parts])
    summary['stress_mae'] = float(np.abs(predicted - reference).mean()) if len(reference) else None
    temperatures = np.unique(arrays['temperature_K'][np.isfinite(arrays['temperature_K'])])
    summary['by_temperature'] = [
        {'temperature_K': float(value), **_summary(arrays, arrays['temperature_K'] == value)} for value in temperatures
    ]
    components = np.array([part.n_components.sum() for part in parts], dtype=float)
    frames = np.array([len(part.n_components) for part in parts], dtype=float)
    summary['members'] = [
        {
            'force_mae': float(np.average([part.members[k]['force_mae'] for part in parts], weights=components)),
            'energy_mae': float(np.average([part.members[k]['energy_mae'] for part in parts], weights=frames)),
        }
        for k in range(len(parts[0].members))
    ]
    return summary


def parity_arrays(parts: Sequence[FrameErrors]) -> dict[str, np.ndarray]:
    """Return reference and predicted energies per atom, force components and, where labelled, stress components."""
    arrays: dict[str, np.ndarray] = {}
    for name in ('energy', 'forces', 'stress'):
        reference = np.concatenate([getattr(part, name)[0] for part in parts])
        if len(reference):
            arrays[f'{name}_reference'] = reference
            arrays[f'{name}_predicted'] = np.concatenate([getattr(part, name)[1] for part in parts])
    return arrays
