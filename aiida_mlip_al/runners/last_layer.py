"""The features of a MACE model that its last layer combines to the energy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


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
        self._finals: list[Any] = []
        model.register_forward_pre_hook(lambda *_: self._caught.clear())
        for readout in model.readouts:
            final = getattr(readout, 'linear_2', getattr(readout, 'linear', None))
            if final is None or not hasattr(final, 'irreps_in'):
                raise ValueError(f'The readout {type(readout).__name__} has no last layer that is known here.')
            columns = _scalar_columns(final.irreps_in)
            self.n_features += len(columns)
            self._finals.append(final)
            final.register_forward_pre_hook(self._catching(columns))

    def take(self) -> torch.Tensor:
        """Return the features (n, P) of the pass that has just ended, and forget them."""
        features = self._scale * torch.cat(self._caught, dim=1)
        self._caught.clear()
        return features

    def factors(self) -> np.ndarray:
        """Return those (P,) by which e3nn multiplies the weights, as they are stored and trained, before it uses them."""
        return np.array([factor for final in self._finals for factor in _factors(final)])

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


def _factors(linear: Any) -> list[float]:
    """Return the factor of the weight of each scalar column; 0 for a column that is not used."""
    of_block = {path.i_in: float(path.path_weight) for path in linear.instructions}
    return [
        of_block.get(number, 0.0)
        for number, (multiplicity, irrep) in enumerate(linear.irreps_in)
        if irrep.is_scalar()
        for _ in range(multiplicity)
    ]
