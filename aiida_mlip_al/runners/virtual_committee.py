"""One model with the uncertainty of its last layer, in the place of a committee."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from committee import Committee, Prediction
from last_layer_model import LastLayerModel
from rigidity import FeatureDistance
from tensors import to_numpy

_AT_ONCE = 8  # members in one backward pass


def open_committee(
    paths: Sequence[str | Path],
    uncertainty: str | Path | None,
    dtype: str = 'float32',
    device: str = 'cpu',
    head: str | None = None,
    descriptors: str = 'features',
) -> Committee:
    """Return the committee of some models, or that of one model and its uncertainty.

    :param paths: `.model` files.
    :param uncertainty: what `uncertainty.py` wrote about the only model; None: the models are the members.
    :param dtype: 'float32' or 'float64'.
    :param device: 'cpu', 'cuda' or 'cuda:<index>'.
    :param head: name of the head; None takes the only one, or the one called Default.
    :param descriptors: what structures are described by; see :class:`Committee`.
    :raises ValueError: if a file cannot be used.
    """
    if uncertainty is None:
        return Committee(paths, dtype, device, head, descriptors)
    if len(paths) != 1:
        raise ValueError(f'an uncertainty belongs to one model, but models names {len(paths)}.')
    return VirtualCommittee(paths[0], uncertainty, dtype, device, head, descriptors)


class VirtualCommittee(LastLayerModel):
    """K + 1 members: the model, and K times the model with other weights in its last layer, drawn from their posterior.

    The members' mean is the model; see :meth:`rigidity.Posterior.displacements`. All share one pass through the layers
    below, and their forces come from one backward pass. Predictions of more than the model have `mahalanobis`.

    :param path: the `.model` file.
    :param uncertainty: what `uncertainty.py` wrote about it.
    :param dtype: 'float32' or 'float64'.
    :param device: 'cpu', 'cuda' or 'cuda:<index>'.
    :param head: name of the head; None takes the only one, or the one called Default.
    :param descriptors: what structures are described by; see :class:`Committee`.
    :raises ValueError: if a file cannot be used, or they do not belong together.
    """

    def __init__(
        self,
        path: str | Path,
        uncertainty: str | Path,
        dtype: str = 'float32',
        device: str = 'cpu',
        head: str | None = None,
        descriptors: str = 'features',
    ) -> None:
        super().__init__(path, dtype, device, head, descriptors)
        if not Path(uncertainty).is_file():
            raise ValueError(f'The uncertainty file {uncertainty} does not exist.')
        with np.load(uncertainty) as arrays:
            displacements = arrays['displacements']
            self._distance = FeatureDistance(arrays['means'], arrays['whitenings'])
        if displacements.shape[1] != self.n_features:
            raise ValueError(
                f'{uncertainty} is about a last layer of {displacements.shape[1]} features, and {path} has '
                f'{self.n_features}: they do not belong together.'
            )
        self._displacements = self._tensor(np.vstack([np.zeros((1, self.n_features)), displacements]))

    def __len__(self) -> int:
        return len(self._displacements)

    def predict(
        self,
        structures: Sequence[Atoms],
        members: Sequence[int] | None = None,
        stress: bool = False,
        descriptors: bool = False,
    ) -> Prediction:
        """Evaluate members on structures in one batch.

        :param structures: B structures; positions in Å.
        :param members: K indices of members; None for all.
        :param stress: also return stresses.
        :param descriptors: also return the descriptors, which needs member 0 among the members.
        """
        chosen = list(range(len(self)) if members is None else members)
        if chosen == [0]:
            return super().predict(structures, chosen, stress, descriptors)
        graph, species, offsets = self._graph(structures)
        periodic = np.array([atoms.pbc.all() for atoms in structures])
        positions = graph['positions'].detach().clone().requires_grad_(True)
        output = self._pass(graph, positions, displacement=True)
        features = self._last_layer.take()
        changes = features @ self._displacements[chosen].T
        changes = torch.zeros_like(changes[: len(structures)]).index_add(0, graph['batch'], changes).T
        interaction = output.get('interaction_energy', output['energy'])
        slopes = _gradients((interaction + changes).sum(dim=1), [positions, output['displacement']])
        stresses = None
        if stress:
            full = to_numpy(slopes[1] / torch.linalg.det(graph['cell'].view(-1, 3, 3)).abs()[None, :, None, None])
            stresses = np.where(periodic[:, None], full[..., [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], np.nan)
        return Prediction(
            energies=self._total_energies(0, output, species, offsets) + to_numpy(changes),
            forces=-to_numpy(slopes[0]),
            stresses=stresses,
            descriptors=self._descriptors(output, species, offsets) if descriptors and 0 in chosen else None,
            offsets=offsets,
            mahalanobis=np.maximum.reduceat(self._distance(to_numpy(features), species), offsets[:-1]),
        )


def _gradients(values: torch.Tensor, sources: list[Any]) -> list[torch.Tensor]:
    """Return the gradients of K values with respect to each source: K times its shape."""
    rows = torch.eye(len(values), dtype=values.dtype, device=values.device).split(_AT_ONCE)
    parts = [
        torch.autograd.grad(values, sources, part, is_grads_batched=True, retain_graph=number < len(rows) - 1)
        for number, part in enumerate(rows)
    ]
    return [torch.cat([part[index] for part in parts]) for index in range(len(sources))]
