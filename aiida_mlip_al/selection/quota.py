"""Shares of the labels: how many frames of one trajectory, system or composition may be taken."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Quotas:
    """Which frames may still be taken.

    :param groups: (N,) or (N, G) number of the group of each frame, for one kind of group or for G of them.
    :param most: most frames of one group, for all kinds or for each of them; None: no limit.
    """

    def __init__(self, groups: ArrayLike, most: int | list[int | None] | None) -> None:
        numbers = np.asarray(groups, dtype=int)
        self._groups = numbers[:, None] if numbers.ndim == 1 else numbers
        n_kinds = self._groups.shape[1]
        self._most = most if isinstance(most, list) else [most] * n_kinds
        self._taken: list[Counter[int]] = [Counter() for _ in range(n_kinds)]
        self.free: NDArray[np.bool_] = np.ones(len(self._groups), dtype=bool)

    def take(self, index: int) -> None:
        """Take a frame; none is free any more of a group that is used up by it.

        :param index: of the frame.
        """
        self.free[index] = False
        for kind, (taken, most) in enumerate(zip(self._taken, self._most, strict=True)):
            group = int(self._groups[index, kind])
            taken[group] += 1
            if most is not None and taken[group] >= most:
                self.free[self._groups[:, kind] == group] = False

    def take_in_order(self, order: NDArray[np.int_], count: int) -> NDArray[np.int_]:
        """Take the first frames of an order that are free.

        :param order: indices.
        :param count: frames to take at most.
        :returns: those taken, in order.
        """
        taken: list[int] = []
        for index in order.tolist():
            if len(taken) >= count:
                break
            if self.free[index]:
                self.take(index)
                taken.append(index)
        return np.array(taken, dtype=int)


def fair_share(groups: ArrayLike, count: int) -> int:
    """Return the most frames of one group with which a budget is used up and shared as evenly as can be.

    What a group leaves unused, because it has too few frames, goes to the others.

    :param groups: (N,) number of the group of each frame.
    :param count: the budget.
    """
    sizes = np.unique(np.asarray(groups, dtype=int), return_counts=True)[1]
    share = 1
    while np.minimum(sizes, share).sum() < min(count, sizes.sum()):
        share += 1
    return share
