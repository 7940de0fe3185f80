"""The features of a MACE model that its last layer combines to the energy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from committee import Committee, to_numpy

_STEP = 1e-5  # Å, of central differences in float64


class LastLayer:
    """Catches, while a model runs, what goes into the final linear layer of each of its readouts.

    The energy of an atom is linear in these features: those of all readouts side by side, (n, P), times the weights of the
    final layers. They are multiplied by the model's scale of the interaction energy, so that a change of the weights by d
    changes the atom's energy by features @ d, in eV.

    :param model: with readouts of scalars, as mace-torch makes them.
    :param head: index of the head in use.
    :raises ValueError: if a readout has no final linear layer.
    """

    def __init__(self, model: Any, head: int = 0) -> None:
        self._caught: list[torch.Tensor] = []
        scale = getattr(getattr(model, 'scale_shift', None), 'scale', None)
        self._scale = 1.0 if scale is None else float(torch.atleast_1d(scale)[head])
        self.n_features = 0
        for readout in model.readouts:
            final = getattr(readout, 'linear_2', getattr(readout, 'linear', None))
            if final is None or not hasattr(final, 'irreps_in'):
                raise ValueError(f'The readout {type(readout).__name__} has no last layer that is known here.')
            columns = _scalar_columns(final.irreps_in)
            self.n_features += len(columns)
            final.register_forward_pre_hook(self._catching(columns))

    def take(self) -> torch.Tensor:
        """Return the features (n, P) of the pass that has just ended, and forget them."""
        features = self._scale * torch.cat(self._caught, dim=1)
        self.forget()
        return features

    def forget(self) -> None:
        """Forget what was caught."""
        self._caught.clear()

    def _catching(self, columns: torch.Tensor) -> Any:
        def catch(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self._caught.append(inputs[0][:, columns.to(inputs[0].device)])

        return catch


def _scalar_columns(irreps: Any) -> torch.Tensor:
    columns: list[int] = []
    for (_, irrep), block in zip(irreps, irreps.slices(), strict=True):
        if irrep.is_scalar():
            columns += range(block.start, block.stop)
    return torch.tensor(columns)


class LastLayerModel(Committee):
    """One model that also says what its last layer sees.

    :param path: the `.model` file.
    :param dtype: 'float32' or 'float64'.
    :param device: 'cpu', 'cuda' or 'cuda:<index>'.
    :param head: name of the head; None takes the only one, or the one called Default.
    :raises ValueError: if the file cannot be used.
    """

    def __init__(self, path: str | Path, dtype: str = 'float64', device: str = 'cpu', head: str | None = None) -> None:
        super().__init__([path], dtype, device, head)
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
        self._last_layer.forget()
        inputs = {**graph, 'positions': positions, 'head': torch.full_like(graph['ptr'][1:], self._heads[0])}
        with torch.jit.optimized_execution(False):
            return self._models[0](inputs, training=False, compute_force=False, compute_displacement=displacement)
