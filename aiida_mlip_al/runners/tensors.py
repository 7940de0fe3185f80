"""Tensors as arrays."""

from __future__ import annotations

import numpy as np
import torch


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as a float64 array in the main memory.

    :param tensor: on any device.
    """
    return tensor.detach().to(device='cpu', dtype=torch.float64).numpy()
