"""DeviateCalculation: a committee on the frames of trajectories: of a program that has one model, or of a pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from ase.io import write

from aiida_mlip_al.data import DeviationData, ModelData

from .base import RunnerCalculation, copy_models, device_of, model_files, validate_committee
from .functions import frame_of
from .uncertainty import add_uncertainty, uncertainty_files, uncertainty_problem, uncertainty_settings


def usable_rows(finite: np.ndarray, independent: bool) -> np.ndarray:
    """Return the rows of the frames of a trajectory to go on with.

    :param finite: (N,) whether each has finite numbers only.
    :param independent: the frames stand each for itself; else none is used after the first that is not finite.
    """
    return np.flatnonzero(finite if independent else np.logical_and.accumulate(finite))


def is_independent(trajectory: orm.TrajectoryData) -> bool:
    """Return whether the frames of a trajectory are those of a pool, where one may be bad and the next good."""
    return bool(trajectory.base.attributes.get('independent', False))


def finite_rows(trajectory: orm.TrajectoryData) -> np.ndarray:
    """Return the rows of the frames of a trajectory that can be evaluated: their positions and cell are finite."""
    positions, cells = trajectory.get_positions(), trajectory.get_cells()
    finite = np.isfinite(positions).all(axis=(1, 2)) & np.isfinite(cells).all(axis=(1, 2))
    return usable_rows(finite, is_independent(trajectory))


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse one model alone, elements that the models do not know, and trajectories without a frame."""
    if 'committee' not in inputs or 'trajectories' not in inputs:
        return None
    committee, trajectories = inputs['committee'], inputs['trajectories']
    wrong = uncertainty_problem(committee, inputs.get('uncertainty'))
    if wrong is not None:
        return wrong
    if len(committee) < 2 and 'uncertainty' not in inputs:
        return (
            f'A deviation needs at least two models, but `committee` has {len(committee)}; or one with `uncertainty`.'
        )
    known = set(next(iter(committee.values())).elements)
    for name, trajectory in sorted(trajectories.items()):
        unknown = sorted(set(trajectory.symbols) - known) if known else []
        if unknown:
            return f'The models do not know {", ".join(unknown)} of `{name}`: train them on data with these elements.'
    if not any(len(finite_rows(trajectory)) for trajectory in trajectories.values()):
        return 'There is no frame to evaluate: give at least one in `trajectories` with finite positions and cell.'
    return None


class DeviateCalculation(RunnerCalculation):
    """The committee's deviations, mean energies and mean forces on every frame, in batched passes.

    A trajectory ends before its first frame whose positions, cell or predictions are not finite; of independent frames (attribute
    `independent`), such as those of a pool, only the bad ones are left out.
    """

    RUNNER = 'evaluate'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        super().define(spec)
        spec.inputs['metadata']['options']['parser_name'].default = 'mlip_al.deviate'
        spec.input_namespace(
            'committee', valid_type=ModelData, dynamic=True, validator=validate_committee, help='The models, by name.'
        )
        spec.input_namespace(
            'trajectories',
            valid_type=orm.TrajectoryData,
            dynamic=True,
            help='One for each walker; further arrays `temperatures` and `target_temperatures` (K), attributes '
            '`stop_reason` and `independent`.',
        )
        spec.input(
            'settings',
            valid_type=orm.Dict,
            default=lambda: orm.Dict({}),
            help='`dtype` (float64), `batch_size` (16), `descriptors` of the frames: features, gradient or null (features).',
        )
        add_uncertainty(spec)
        spec.inputs.validator = validate_inputs
        spec.output_namespace('deviations', valid_type=DeviationData, dynamic=True, help='One for each walker.')
        spec.output_namespace(
            'trajectories',
            valid_type=orm.TrajectoryData,
            dynamic=True,
            help="The same frames with the committee's mean `energies` (eV) and `forces` (eV/Å).",
        )
        spec.output('report', valid_type=orm.Dict, help='Number of frames, wall and core time.')

    def job_files(self, folder: Folder) -> list[tuple[str, str, str]]:
        """Write the frames and copy the models."""
        for name in self.evaluated():
            trajectory = self.inputs.trajectories[name]
            frames = [frame_of(trajectory, row) for row in finite_rows(trajectory)]
            with folder.open(f'{name}.xyz', 'w') as handle:
                write(handle, frames, format='extxyz', columns=['symbols', 'positions'])
        return copy_models(self.inputs.committee) + uncertainty_files(self.inputs)

    def job_settings(self) -> dict[str, Any]:
        """Return the models, the trajectories and the passes."""
        settings = self.inputs.settings.get_dict()
        return {
            'models': model_files(self.inputs.committee),
            'dtype': settings.get('dtype', 'float64'),
            'device': device_of(self.inputs.code),
            'batch_size': settings.get('batch_size', 16),
            'datasets': {name: f'{name}.xyz' for name in self.evaluated()},
            'descriptors': settings.get('descriptors', 'features'),
            **uncertainty_settings(self.inputs),
        }

    def evaluated(self) -> list[str]:
        """Return the names of the trajectories that have a frame to evaluate."""
        trajectories = self.inputs.trajectories
        return [name for name in sorted(trajectories) if len(finite_rows(trajectories[name]))]

    def retrieved_files(self) -> list[Any]:
        """Return the arrays."""
        return [('evaluation_*.npz', '.', 0)]
