"""The learning history: one iteration of the loop in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class IterationRow:
    """One iteration of the loop in numbers: facts only, so that changing the stop rules changes no row.

    :param iteration: number of the iteration.
    :param n_labels: labels in hand at its end, seeds included.
    :param n_new_labels: labels that it added.
    :param n_frames: explored frames.
    :param n_candidates: frames worth a label, duplicates not counted.
    :param n_failed: frames beyond the upper level.
    :param n_unphysical: frames refused by a sanity filter.
    :param accurate_fraction: accurate frames among all explored ones.
    :param new_label_force_mae: mean absolute error over force components of the committee that chose the new labels,
        measured on them, eV/Å; None if there were none.
    :param lower_level: lower trust level, in ``level_unit``.
    :param upper_level: upper trust level, in ``level_unit``; None if there is none.
    :param level_unit: of the measure that is compared with the levels; empty for a ratio.
    :param n_audited: audited frames with a label; 0 where no tolerance says what is wrong.
    :param n_audit_wrong: audited frames whose largest force error exceeded the tolerance.
    :param n_learned: labels that its committee saw in training and validation.
    :param test_force_mae: mean absolute error over force components of the committee on the test frames, eV/Å; None
        without any.
    :param validation_force_mae: the same on the validation frames, eV/Å.
    :param core_hours: core-hours that the jobs of the iteration report.
    :param n_left: frames of a pool that were not chosen so far; None where there is no pool.
    :param properties: what the committee predicts, as the property job gives it; None without that job.
    """

    iteration: int
    n_labels: int
    accurate_fraction: float
    n_candidates: int
    new_label_force_mae: float | None = None
    n_new_labels: int = 0
    n_frames: int = 0
    n_failed: int = 0
    n_unphysical: int = 0
    lower_level: float | None = None
    upper_level: float | None = None
    level_unit: str = 'eV/Å'
    n_audited: int = 0
    n_audit_wrong: int = 0
    n_learned: int = 0
    test_force_mae: float | None = None
    validation_force_mae: float | None = None
    core_hours: float = 0.0
    n_left: int | None = None
    properties: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data; numbers that are not finite become None, as JSON has no word for them."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> IterationRow:
        """The reverse of :meth:`as_dict`; further keys are left out."""
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in row.items() if key in known}
        if values.get('accurate_fraction') is None:
            values['accurate_fraction'] = math.nan
        return cls(**values)
