"""Trust levels: which frames a committee agrees on, which are worth a label, which are too far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from aiida_mlip_al.selection.verdict import Codes, Verdict


@dataclass(frozen=True)
class TrustLevels:
    """Levels of a frame's largest force deviation, eV/Å.

    :param lower: up to here (inclusive) a frame is accurate; infinite if nothing can be in need of a label.
    :param upper: beyond here a frame is failed; None for no such level.
    :raises ValueError: a level is not positive, or the upper one is below the lower one.
    """

    lower: float
    upper: float | None = None

    def __post_init__(self) -> None:
        if not self.lower > 0:
            msg = f'the lower level must be positive (eV/Å), got {self.lower}'
            raise ValueError(msg)
        if self.upper is not None and not self.upper >= self.lower:
            msg = f'the upper level must not be below the lower level {self.lower} (eV/Å), got {self.upper}'
            raise ValueError(msg)


def classify(max_deviation: ArrayLike, levels: TrustLevels) -> Codes:
    """Verdict of each frame by its deviation alone.

    :param max_deviation: (N,) largest force deviation over the atoms of each frame, eV/Å.
    :param levels: the trust levels.
    :returns: (N,) codes: unphysical where not finite, failed above the upper level, candidate above the lower one,
        otherwise accurate.
    """
    deviation = np.asarray(max_deviation, dtype=float)
    upper = np.inf if levels.upper is None else levels.upper
    codes = np.full(deviation.shape, Verdict.ACCURATE.code, dtype=np.int8)
    codes[deviation > levels.lower] = Verdict.CANDIDATE.code
    codes[deviation > upper] = Verdict.FAILED.code
    codes[~np.isfinite(deviation)] = Verdict.UNPHYSICAL.code
    return codes
