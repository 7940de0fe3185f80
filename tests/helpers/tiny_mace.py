"""Small MACE models with random weights: quick to make, real in every other respect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def write_committee(
    folder: str | Path,
    elements: Sequence[str],
    n: int,
    seed: int = 0,
    *,
    channels: int = 8,
    max_l: int = 0,
    r_max: float = 4.0,
    heads: Sequence[str] = ('Default',),
    scale: float = 0.05,
    atomic_energies: Mapping[str, float] | None = None,
) -> list[Path]:
    """Write an untrained committee as `model_00.model`, `model_01.model`, …, all in float64.

    :param folder: where to; made if missing.
    :param elements: chemical symbols.
    :param n: number of members; member k has the seed `seed + k`.
    :param seed: seed of the first member's weights.
    :param channels: scalar channels.
    :param max_l: highest order of the equivariant messages.
    :param r_max: cutoff in Å.
    :param heads: names of the output heads.
    :param scale: scale of the interaction energy in eV; small values make soft potentials.
    :param atomic_energies: energies of the isolated atoms in eV, 0 where left out.
    :returns: the files, in order.
    """
    import torch
    from ase.data import atomic_numbers
    from mace import modules  # before e3nn: it lets e3nn open its own constants
    from e3nn import o3  # isort: skip

    previous_dtype, state = torch.get_default_dtype(), torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = sorted(atomic_numbers[symbol] for symbol in elements)
    given = {atomic_numbers[symbol]: energy for symbol, energy in (atomic_energies or {}).items()}
    energies = np.array([[given.get(number, 0.0) for number in numbers]] * len(heads))
    interaction = modules.interaction_classes
    paths = []
    try:
        for member in range(n):
            torch.manual_seed(seed + member)
            model = modules.ScaleShiftMACE(
                r_max=r_max,
                num_bessel=4,
                num_polynomial_cutoff=5,
                max_ell=2,
                interaction_cls=interaction['RealAgnosticResidualInteractionBlock'],
                interaction_cls_first=interaction['RealAgnosticInteractionBlock'],
                num_interactions=2,
                num_elements=len(numbers),
                hidden_irreps=o3.Irreps([(channels, (order, (-1) ** order)) for order in range(max_l + 1)]),
                MLP_irreps=o3.Irreps('8x0e'),
                gate=torch.nn.functional.silu,
                atomic_energies=energies,
                avg_num_neighbors=8.0,
                atomic_numbers=numbers,
                correlation=2,
                radial_MLP=[16, 16],
                heads=list(heads),
                atomic_inter_scale=[scale] * len(heads),
                atomic_inter_shift=[0.0] * len(heads),
            )
            path = folder / f'model_{member:02d}.model'
            torch.save(model, path)
            paths.append(path)
    finally:
        torch.set_default_dtype(previous_dtype)
        torch.set_rng_state(state)
    return paths
