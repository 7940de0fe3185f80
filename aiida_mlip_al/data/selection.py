"""SelectionData: what became of every explored frame, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from aiida.common.exceptions import ValidationError
from aiida.orm import ArrayData

from aiida_mlip_al.selection.measure import MEASURES
from aiida_mlip_al.selection.verdict import Verdict


class SelectionData(ArrayData):
    """One row for each explored frame of one iteration, over all trajectories.

    Arrays of length N: ``trajectory`` (index into the attribute ``trajectories``), ``frame`` (row in that trajectory),
    ``verdict`` (code of :class:`~aiida_mlip_al.selection.verdict.Verdict`), ``rank`` (order of choice, -1 if not chosen),
    ``max_force_deviation`` (eV/Å), and the measure that was compared with the levels, if it is another one.

    Attributes: ``n_frames``, ``trajectories`` (link labels), ``counts`` of every verdict, ``thresholds`` in force
    (``lower``, ``upper``, in the unit of the ``measure``, and the ``method`` by which they were found, with its numbers).
    """

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        trajectories: Sequence[str],
        thresholds: Mapping[str, Any],
    ) -> SelectionData:
        """Build an unstored selection.

        :param arrays: the arrays named in the class.
        :param trajectories: link label of each trajectory, in the order that the array ``trajectory`` counts.
        :param thresholds: the levels in force.
        """
        node = cls()
        for name, array in arrays.items():
            node.set_array(name, np.asarray(array))
        names = [Verdict.from_code(int(code)).value for code in arrays['verdict']]
        counts = Counter(names)
        node.base.attributes.set_many(
            {
                'n_frames': len(names),
                'trajectories': list(trajectories),
                'counts': {verdict.value: counts.get(verdict.value, 0) for verdict in Verdict},
                'thresholds': dict(thresholds),
            }
        )
        return node

    def _validate(self) -> bool:
        super()._validate()
        lengths = {name: len(self.get_array(name)) for name in sorted(self.get_arraynames())}
        if len(set(lengths.values())) > 1:
            raise ValidationError(
                f'The arrays of a selection must have one row a frame, but their lengths are {lengths}.'
            )
        return True

    @property
    def counts(self) -> dict[str, int]:
        """Number of frames of every verdict."""
        return dict(self.base.attributes.get('counts'))

    @property
    def thresholds(self) -> dict[str, Any]:
        """The levels in force, in the unit of the measure, and how they were found."""
        return dict(self.base.attributes.get('thresholds'))

    @property
    def measure(self) -> np.ndarray:
        """(N,) what was compared with the levels."""
        return self.get_array(MEASURES[self.thresholds.get('measure', 'max')].column)

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdict of every frame."""
        return [Verdict.from_code(int(code)) for code in self.get_array('verdict')]

    def chosen(self) -> list[tuple[str, int]]:
        """Return (trajectory link label, row in it) of the frames to label, in order of choice."""
        ranks = self.get_array('rank')
        rows = [row for row in np.argsort(ranks, kind='stable') if ranks[row] >= 0]
        labels = self.base.attributes.get('trajectories')
        return [(labels[int(self.get_array('trajectory')[row])], int(self.get_array('frame')[row])) for row in rows]
