"""A run in a notebook: its history as a table, its data as ASE structures, its plots, and its committee as a calculator."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import plotly.graph_objects as go
from aiida import orm
from ase import Atoms

from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.data import DatasetData, ModelData
from aiida_mlip_al.data.extxyz import SPLITS
from aiida_mlip_al.report import figures
from aiida_mlip_al.report.collect import collect
from aiida_mlip_al.report.graph import RUN_TYPE
from aiida_mlip_al.report.reliability_figures import calibration
from aiida_mlip_al.report.summary import Errors, RunSummary
from aiida_mlip_al.report.words import ending, finding
from aiida_mlip_al.workflows.builder import load_typed
from aiida_mlip_al.workflows.earlier_run import last_committee, shards_of

if TYPE_CHECKING:
    from aiida_mlip_al.committee_calculator import CommitteeCalculator

Quantity = Literal['force', 'energy', 'stress']


def load_run(identifier: int | str, profile: str | None = None) -> Run:
    """Load a run of the active-learning loop, running or ended.

    :param identifier: its PK or UUID.
    :param profile: AiiDA profile; without it the one that is loaded, or `mlip-al` if it exists, or the default one.
    :raises ConfigError: if there is no such run.
    """
    from aiida_mlip_al.cli.common import load

    load(profile)
    node = load_typed(str(identifier), orm.ProcessNode, 'process')
    if node.process_type != RUN_TYPE:
        raise ConfigError(f'Process {node.pk} is a {node.process_label}, not an ActiveLearningWorkChain.')
    return Run(node)


class Run:
    """One run. Its numbers are those of the report, read when first asked for; :meth:`reload` reads them again.

    :param node: the ActiveLearningWorkChain.
    """

    def __init__(self, node: orm.WorkChainNode) -> None:
        self.node = node

    def __repr__(self) -> str:
        return f'Run {self.node.pk}: {finding(self.summary)} {ending(self.summary)}'

    def reload(self) -> Run:
        """Forget what was read, so that a run that goes on is read as it is now."""
        return Run(orm.load_node(self.node.pk))

    @cached_property
    def summary(self) -> RunSummary:
        """Everything that the report shows, as plain values."""
        return collect(self.node)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row for each committee, indexed by iteration; the last row is `final` if there is a final committee.

        Columns: ``n_train``, ``n_validation``, ``new_labels``, ``n_explored``, ``accurate_fraction`` (0 to 1), ``lower`` and
        ``upper`` (the levels, in the unit of the measure), ``wall_s`` and ``core_s`` (s), and for each of ``test``,
        ``validation`` and ``new_label`` ``_energy_mae`` (eV/atom), ``_force_mae``, ``_force_rmse`` (eV/Å)
        and ``_stress_mae`` (eV/Å³).
        """
        rows: dict[int | str, dict[str, Any]] = {
            turn.number: {
                'n_train': turn.n_train,
                'n_validation': turn.n_validation,
                'new_labels': turn.new_labels,
                'n_explored': turn.deviations.size,
                'accurate_fraction': turn.accurate_fraction,
                'lower': turn.lower,
                'upper': turn.upper,
                'wall_s': sum(seconds for stage, seconds in turn.wall_s.items() if stage != 'final'),
                'core_s': sum(seconds for stage, seconds in turn.core_s.items() if stage != 'final'),
                **_columns('test', turn.test_errors),
                **_columns('validation', turn.validation_errors),
                **_columns('new_label', turn.new_label_errors),
            }
            for turn in self.summary.iterations
        }
        final = self.summary.final
        if final is not None:
            rows['final'] = {
                'n_train': final.n_train,
                'n_validation': final.n_validation,
                'wall_s': self.summary.time_by_stage('wall_s').get('final'),
                'core_s': self.summary.time_by_stage('core_s').get('final'),
                **_columns('test', final.errors),
            }
        table = pd.DataFrame.from_dict(rows, orient='index').rename_axis('iteration')
        return table.apply(pd.to_numeric)

    @cached_property
    def shards(self) -> dict[str, DatasetData]:
        """The dataset nodes by name: `seeds`, `test`, `iteration_01`, …"""
        return shards_of(self.node)

    @cached_property
    def dataset(self) -> dict[str, list[Atoms]]:
        """The labelled frames of all shards by split: ``train``, ``validation``, ``test``.

        Energies (eV), forces (eV/Å) and stress (eV/Å³) are under ``REF_energy``, ``REF_forces`` and ``REF_stress``; ``shard``
        in ``info`` is the name of the shard.
        """
        frames: dict[str, list[Atoms]] = {split: [] for split in SPLITS}
        for name, shard in self.shards.items():
            for atoms in shard.iterate():
                atoms.info['shard'] = name
                frames[atoms.info['split']].append(atoms)
        return frames

    @cached_property
    def committee(self) -> dict[str, ModelData]:
        """The models of the final committee, or of the last one so far, by name."""
        return last_committee(self.node)

    def calculator(self, dtype: str = 'float64', device: str = 'cpu') -> CommitteeCalculator:
        """Return the committee as an ASE calculator: the mean of its members, and how much they disagree.

        The models are pickles and are opened here: opening one that came from a stranger runs its code.

        :param dtype: float64 or float32.
        :param device: cpu, cuda or cuda:<index>.
        :raises ConfigError: if no committee has been trained yet.
        """
        from tempfile import TemporaryDirectory

        from aiida_mlip_al.committee_calculator import CommitteeCalculator

        if not self.committee:
            raise ConfigError(f'Run {self.node.pk} has no committee yet.')
        with TemporaryDirectory() as folder:
            paths = []
            for name, model in self.committee.items():
                paths.append(Path(folder) / f'{name}.model')
                paths[-1].write_bytes(model.get_content(mode='rb'))
            return CommitteeCalculator(paths, dtype=dtype, device=device)

    # -------------------------------------------------------------------------------------------------------------- plots

    def plot_learning_curve(self, quantity: Literal['force', 'energy'] = 'force') -> go.Figure:
        """Plot errors against the number of labels."""
        return _drawn(figures.learning_curve(self.summary, 'force_mae' if quantity == 'force' else 'energy_mae'))

    def plot_parity(self, quantity: Quantity = 'force') -> go.Figure:
        """Plot the last committee's predictions on the test set against the reference."""
        draw = {'force': figures.parity_forces, 'energy': figures.parity_energy, 'stress': figures.parity_stress}[
            quantity
        ]
        return _drawn(draw(self.summary.parity))

    def plot_deviations(self) -> go.Figure:
        """Plot the distribution of the explored frames' deviations, with the levels."""
        return _drawn(figures.deviation_histograms(self.summary))

    def plot_calibration(self) -> go.Figure:
        """Plot errors that labels showed against the deviation before."""
        return _drawn(calibration(self.summary))

    def plot_fates(self) -> go.Figure:
        """Plot what became of the explored frames."""
        return _drawn(figures.fates(self.summary))

    def plot_errors_by_temperature(self) -> go.Figure:
        """Plot the final committee's force errors on the test frames of each temperature."""
        return _drawn(figures.errors_by_temperature(self.summary))

    def plot_cost(self, kind: Literal['wall', 'core'] = 'wall') -> go.Figure:
        """Plot the time of each stage."""
        return _drawn(figures.time_by_stage(self.summary, 'wall_s' if kind == 'wall' else 'core_s'))


def _columns(name: str, errors: Errors | None) -> dict[str, float | None]:
    kinds = ('energy_mae', 'force_mae', 'force_rmse', 'stress_mae')
    return {f'{name}_{kind}': None if errors is None else getattr(errors, kind) for kind in kinds}


def _drawn(figure: go.Figure | None) -> go.Figure:
    """Return a figure.

    :raises ValueError: if there was nothing to draw.
    """
    if figure is None:
        raise ValueError('There is nothing to plot (yet): the run has no such numbers.')
    return figure
