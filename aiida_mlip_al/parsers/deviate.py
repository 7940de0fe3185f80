"""Parser of DeviateCalculation."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode

from aiida_mlip_al.calculations.deviate import finite_rows, is_independent, usable_rows
from aiida_mlip_al.data import DeviationData
from aiida_mlip_al.selection.deviation import energy_deviation_per_atom, frame_deviations, stress_deviation
from aiida_mlip_al.selection.errors import Prediction

from .base import RunnerParser

OWN_ARRAYS = ('steps', 'positions', 'cells', 'times', 'velocities')
CONDITIONS = {'temperature_K': 'temperatures', 'target_temperature_K': 'target_temperatures'}


def finite_predictions(prediction: Prediction) -> np.ndarray:
    """Return for each frame whether all energies and forces are finite."""
    forces = [bool(np.isfinite(forces).all()) for forces in prediction.forces]
    return np.asarray(np.isfinite(prediction.energies).all(axis=0) & forces)


def trajectory_with(
    trajectory: orm.TrajectoryData, rows: np.ndarray, prediction: Prediction, reason: str
) -> orm.TrajectoryData:
    """Return some frames of a trajectory with the committee's mean energies and forces.

    :param rows: of the frames.
    :param prediction: of these frames.
    :param reason: why the trajectory ends there.
    """
    arrays = {name: trajectory.get_array(name)[rows] for name in trajectory.get_arraynames()}
    own = {name: arrays.pop(name, None) for name in OWN_ARRAYS}
    arrays['energies'] = prediction.energies.mean(axis=0)
    arrays['forces'] = np.array([forces.mean(axis=0) for forces in prediction.forces])
    node = orm.TrajectoryData()
    node.set_trajectory(symbols=trajectory.symbols, stepids=own.pop('steps'), pbc=trajectory.pbc, **own)
    for name, values in arrays.items():
        node.set_array(name, values)
    node.base.attributes.set('stop_reason', reason)
    if is_independent(trajectory):
        node.base.attributes.set('independent', True)
    return node


def deviation_on(
    trajectory: orm.TrajectoryData, prediction: Prediction, distances: np.ndarray | None = None
) -> DeviationData:
    """Return the committee's deviations on the frames of a trajectory, with their conditions.

    :param trajectory: of :func:`trajectory_with`.
    :param prediction: of its frames.
    :param distances: Mahalanobis distance of each, where one model stands for the committee.
    """
    n_atoms = np.full(len(prediction), len(trajectory.symbols))
    forces = frame_deviations(np.concatenate(prediction.forces, axis=1), n_atoms)
    times = trajectory.get_times()
    arrays = {
        'step': trajectory.get_stepids(),
        'time_fs': np.full(len(prediction), np.nan) if times is None else times * 1000.0,
        'energy': trajectory.get_array('energies'),
        'max_force': np.linalg.norm(trajectory.get_array('forces'), axis=2).max(axis=1),
        'max_force_deviation': forces.max,
        'mean_force_deviation': forces.mean,
        'min_force_deviation': forces.min,
        'percentile_force_deviation': forces.percentile,
        'relative_force_deviation': forces.relative,
        'energy_deviation_per_atom': energy_deviation_per_atom(prediction.energies, n_atoms),
    }
    for name, source in CONDITIONS.items():
        if source in trajectory.get_arraynames():
            arrays[name] = trajectory.get_array(source)
    if all(trajectory.pbc):
        arrays['stress_deviation'] = stress_deviation(prediction.stresses)
    if distances is not None:
        arrays['mahalanobis'] = distances
    if prediction.descriptors is not None:
        arrays['descriptors'] = prediction.descriptors.astype(np.float32)
    reason = trajectory.base.attributes.get('stop_reason')
    return DeviationData.from_arrays(arrays, stopped_early=reason != 'finished', stop_reason=reason)


class DeviateParser(RunnerParser):
    """Deviations of every trajectory that was evaluated; a killed job gives those that it had finished."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved arrays."""
        status = self.read_status()
        failed = self.failure(status)
        deviations, trajectories = {}, {}
        for name, trajectory in sorted(self.node.inputs.trajectories.items()):
            rows = finite_rows(trajectory)
            prediction = self.read_prediction(name) if len(rows) else None
            if len(rows) and (prediction is None or len(prediction) != len(rows)):
                if failed is not None:
                    continue
                return self.exit_codes.ERROR_NO_RESULTS.format(
                    message=f'evaluation_{name}.npz is missing, cut, or not of the {len(rows)} frames of `{name}`.'
                )
            independent = is_independent(trajectory)
            kept = usable_rows(finite_predictions(prediction), independent) if prediction is not None else rows
            if prediction is None or not len(kept):
                continue
            to_the_end = independent or len(kept) == trajectory.numsteps
            reason = trajectory.base.attributes.get('stop_reason', 'finished') if to_the_end else 'non_finite'
            prediction = prediction.take(kept.tolist())
            trajectories[name] = trajectory_with(trajectory, rows[kept], prediction, reason)
            distances = self.read_array(name, 'mahalanobis')
            deviations[name] = deviation_on(
                trajectories[name], prediction, None if distances is None else distances[kept]
            )
        report = {
            'n_frames': sum(node.n_frames for node in deviations.values()),
            'wall_s': status.get('wall_s', 0.0),
            'core_s': status.get('cpu_s', 0.0),
        }
        self.out('report', orm.Dict(report))
        if deviations:
            self.out('deviations', deviations)
            self.out('trajectories', trajectories)
        elif failed is None:
            return self.exit_codes.ERROR_NO_RESULTS.format(message='no frame has finite energies and forces.')
        return failed
