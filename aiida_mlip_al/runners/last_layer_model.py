"""A MACE model that also says what its last layer sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from committee import Committee
from last_layer import LastLayer
from tensors import to_numpy

_STEP = 1e-5  # Å, of central differences in float64


class LastLayerModel(Committee):
    """One model that also says what its last layer sees.

    :param path: the `.model` file.
    :param dtype: 'float32' or 'float64'.
    :param device: 'cpu', 'cuda' or 'cuda:<index>'.
    :param head: name of the head; None takes the only one, or the one called Default.
    :param descriptors: what structures are described by; see :class:`Committee`.
    :raises ValueError: if the file cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        dtype: str = 'float64',
        device: str = 'cpu',
        head: str | None = None,
        descriptors: str = 'features',
    ) -> None:
        super().__init__([path], dtype, device, head, descriptors)
        self._last_layer = LastLayer(self._models[0], self._heads[0])

    @property
    def n_features(self) -> int:
        """Number P of features of an atom."""
        return self._last_layer.n_features

    def features(self, structures: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        """Return the features (N, P) of the N atoms of some structures, eV, and the atoms' element indices (N,).

        :param structures: positions in Å.
        """
        graph, species, _ = self._graph(structures)
        return to_numpy(self._features(graph, graph['positions'])), species

    def derivatives(self, structures: Sequence[Atoms], directions: Sequence[np.ndarray]) -> np.ndarray:
        """Return how the sums of the features over the atoms change along directions: (len(directions), B, P), eV/Å.

        Central differences, which need no gradient: two forward passes a direction give it for all features at once.

        :param structures: B structures.
        :param directions: each (N, 3): of all their atoms, one structure after the other; dimensionless.
        """
        graph, _, offsets = self._graph(structures)
        steps = [self._tensor(_STEP * direction) for direction in directions]
        rows = []
        for step in steps:
            ahead = self._features(graph, graph['positions'] + step)
            behind = self._features(graph, graph['positions'] - step)
            rows.append(np.add.reduceat(to_numpy(ahead - behind), offsets[:-1], axis=0) / (2 * _STEP))
        return np.array(rows).reshape(len(directions), len(structures), self.n_features)

    def _features(self, graph: dict[str, torch.Tensor], positions: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self._pass(graph, positions)
        return self._last_layer.take()

    def _pass(
        self, graph: dict[str, torch.Tensor], positions: torch.Tensor, displacement: bool = False
    ) -> dict[str, Any]:
        """Run the model without its own derivatives; the caller takes the features."""
        inputs = {**graph, 'positions': positions, 'head': torch.full_like(graph['ptr'][1:], self._heads[0])}
        with torch.jit.optimized_execution(False):
            return self._models[0](inputs, training=False, compute_force=False, compute_displacement=displacement)
