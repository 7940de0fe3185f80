"""What can become of an explored frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int8]


class Verdict(str, Enum):
    """The fate of one explored frame.

    ``accurate``: deviation up to the lower level. ``candidate``: between the levels and not yet decided.
    ``failed``: beyond the upper level. ``unphysical``: refused by a sanity filter, or not finite.
    ``duplicate``: a candidate too similar to the training set or to another candidate.
    ``over_budget``: a candidate for which no label was left.
    ``audit``: an accurate frame, labelled to check that it is.
    ``selected``: a candidate to be labelled.

    The definition order fixes the integer codes in stored arrays: append, never reorder.
    """

    ACCURATE = 'accurate'
    CANDIDATE = 'candidate'
    FAILED = 'failed'
    UNPHYSICAL = 'unphysical'
    DUPLICATE = 'duplicate'
    OVER_BUDGET = 'over_budget'
    AUDIT = 'audit'
    SELECTED = 'selected'

    def __str__(self) -> str:
        return self.value

    @property
    def code(self) -> int:
        """Integer for array storage."""
        return _CODES[self]

    @classmethod
    def from_code(cls, code: int) -> Verdict:
        """Verdict of a stored integer.

        :raises ValueError: there is no verdict with this code.
        """
        if not 0 <= code < len(_VERDICTS):
            msg = f'{code} is not the code of a verdict; codes are 0 to {len(_VERDICTS) - 1}'
            raise ValueError(msg)
        return _VERDICTS[code]


_VERDICTS = tuple(Verdict)
_CODES = {verdict: code for code, verdict in enumerate(_VERDICTS)}


def encode(verdicts: Iterable[Verdict]) -> Codes:
    """Integer codes of verdicts, (N,)."""
    return np.array([verdict.code for verdict in verdicts], dtype=np.int8)


def decode(codes: Sequence[int] | NDArray[np.integer]) -> list[Verdict]:
    """Verdicts of integer codes."""
    return [Verdict.from_code(int(code)) for code in codes]


def count_verdicts(codes: Sequence[int] | NDArray[np.integer]) -> dict[str, int]:
    """How many frames met each fate; every verdict is a key."""
    counts = Counter(decode(codes))
    return {verdict.value: counts[verdict] for verdict in Verdict}
