"""What a structure is described by, for its distance to others: numbers from one pass of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from last_layer import LastLayer
from tensors import to_numpy


class MeanFeatures:
    """The scalars of the model's node features, averaged over the atoms of each element: zero where there is none.

    :param model: with products, as mace-torch makes them.
    """

    def __init__(self, model: Any) -> None:
        self._columns = _scalar_columns(model)
        self._n_elements = len(model.atomic_numbers)

    def __call__(self, output: dict[str, Any], species: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the descriptors (B, D) of B structures after the model has run on them.

        :param output: of the model.
        :param species: (N,) element index of every atom.
        :param offsets: (B + 1,): the atoms of structure b are offsets[b]:offsets[b + 1].
        """
        features = to_numpy(output['node_feats'][:, self._columns])
        n_structures = len(offsets) - 1
        slot = np.repeat(np.arange(n_structures) * self._n_elements, np.diff(offsets)) + species
        sums = np.zeros((n_structures * self._n_elements, features.shape[1]))
        np.add.at(sums, slot, features)
        counts = np.bincount(slot, minlength=len(sums))
        return (sums / np.maximum(counts, 1)[:, None]).reshape(n_structures, -1)


class EnergyGradient:
    """The gradient of the energy with respect to the weights of the model's last layers, as they are stored, eV.

    Zaverkin, Holzmüller, Steinwart and Kästner, Digital Discovery 1, 605 (2022), there g_ll.

    :param model: with readouts, as mace-torch makes them.
    :param head: index of the head in use.
    :raises ValueError: if a readout has no final linear layer.
    """

    def __init__(self, model: Any, head: int) -> None:
        self._last_layer = LastLayer(model, head)
        self._factors = self._last_layer.factors()

    def __call__(self, output: dict[str, Any], species: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the descriptors (B, D) of B structures after the model has run on them; see :class:`MeanFeatures`."""
        return np.add.reduceat(to_numpy(self._last_layer.take()) * self._factors, offsets[:-1], axis=0)


Descriptor = MeanFeatures | EnergyGradient


def make_descriptor(kind: str, model: Any, head: int) -> Descriptor:
    """Return what describes structures.

    :param kind: 'features' or 'gradient'.
    :param model: the lead model, where it will run.
    :param head: index of its head in use.
    :raises ValueError: the kind is unknown, or the model has no such descriptor.
    """
    if kind == 'features':
        return MeanFeatures(model)
    if kind == 'gradient':
        return EnergyGradient(model, head)
    raise ValueError(f'descriptors must be features or gradient, not {kind!r}.')


def _scalar_columns(model: Any) -> torch.Tensor:
    """Return the columns of `node_feats` that hold scalars: the first 0e block of every layer."""
    columns: list[int] = []
    begin = 0
    for product in model.products:
        irreps = product.linear.irreps_out
        columns += range(begin, begin + irreps.count('0e'))
        begin += irreps.dim
    return torch.tensor(columns)
