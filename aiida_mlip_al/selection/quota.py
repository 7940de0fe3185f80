"""Shares of the labels: how many frames of one trajectory, system or composition may be taken."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Most = int | Literal['fair'] | None


class Quotas:
    """Which frames may be taken next.

    Fair groups take turns: as long as it has frames left, none is taken a frame ahead of another. Of several kinds of fair
    groups the first one goes first: its groups take turns, and within each of them those of the next kind.

    :param groups: (N,) or (N, G) number of the group of each frame, for one kind of group or for G of them.
    :param most: most frames of one group, for all kinds or for each of them; 'fair': turns; None: no limit.
    """

    def __init__(self, groups: ArrayLike, most: Most | list[Most]) -> None:
        numbers = np.asarray(groups, dtype=int)
        self._groups = numbers[:, None] if numbers.ndim == 1 else numbers
        self._most = most if isinstance(most, list) else [most] * self._groups.shape[1]
        self._taken = np.zeros_like(self._groups)
        self._left = np.ones(len(self._groups), dtype=bool)
        self.free: NDArray[np.bool_] = self._left

    def take(self, index: int) -> None:
        """Take a frame; the groups that it is of are then used up, or wait for their turn.

        :param index: of the frame.
        """
        self._left[index] = False
        self._taken += self._groups == self._groups[index]
        for taken, most in zip(self._taken.T, self._most, strict=True):
            if isinstance(most, int):
                self._left &= taken < most
        self.free = self._left
        for taken, most in zip(self._taken.T, self._most, strict=True):
            if most == 'fair' and self.free.any():
                self.free = self.free & (taken == taken[self.free].min())

    def take_in_order(self, order: NDArray[np.int_], count: int) -> NDArray[np.int_]:
        """Take frames one by one, each time the first one of an order that is free.

        :param order: indices.
        :param count: frames to take at most.
        :returns: those taken, in the order in which they were.
        """
        taken: list[int] = []
        while len(taken) < count and self.free[order].any():
            taken.append(int(order[np.argmax(self.free[order])]))
            self.take(taken[-1])
        return np.array(taken, dtype=int)
