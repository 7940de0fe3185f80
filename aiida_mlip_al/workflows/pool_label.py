"""PoolLabelWorkChain: labels that exist."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, WorkChain
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_mlip_al.calculations.pool_functions import read_pool_labels
from aiida_mlip_al.data import DatasetData, LabelData
from aiida_mlip_al.data.dataset import check_same_theory

from .submit_once import SubmitOnce


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse a pool without labels, or with those of several levels of theory."""
    if not inputs.get('frames'):
        return 'There is no data set to take labels from: give at least one in `frames`.'
    try:
        check_same_theory(inputs['frames'])
    except ValueError as error:
        return str(error)
    return None


class PoolLabelWorkChain(SubmitOnce, WorkChain):
    """Look labels up in data sets, so that a choice among labelled frames can be tried without computing anything."""

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        super().define(spec)
        spec.input_namespace('structures', valid_type=orm.StructureData, dynamic=True, help='What to label, by name.')
        spec.input_namespace('frames', valid_type=DatasetData, dynamic=True, help='The labelled frames.')
        spec.inputs.validator = validate_inputs
        spec.outline(cls.look_up, cls.results)
        spec.output_namespace(
            'labels', valid_type=LabelData, dynamic=True, help='One for each structure that was found.'
        )
        spec.output(
            'dataset', valid_type=DatasetData, required=False, help='The shard: the structures found, labelled.'
        )
        spec.output('report', valid_type=orm.Dict, help='Labelled, and which were not found.')
        spec.exit_code(401, 'ERROR_NOTHING_FOUND', message='None of the structures is in the data sets.')

    def look_up(self) -> None:
        """Read the labels."""
        self.ctx.found = read_pool_labels(structures=dict(self.inputs.structures), frames=dict(self.inputs.frames))

    def results(self) -> ExitCode | None:
        """Attach them."""
        self.out_many(self.ctx.found)
        return None if 'labels' in self.ctx.found else self.exit_codes.ERROR_NOTHING_FOUND
