"""A whole run whose training does not wait for the last labels, through the real engine with real MACE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiida.engine import run_get_node
from ase.build import molecule

from aiida_mlip_al.workflows.active_learning import ActiveLearningWorkChain

pytestmark = pytest.mark.slow

FAKES = Path(__file__).parents[1] / 'fakes'
N_SEEDS = 6


def run_with_one_held(python_code: Any, folder: Path, number: int, pattern: str, count: int) -> Any:
    """Run two iterations in which the `number`-th structure to be labelled is held."""
    from aiida import orm

    arguments = {'folder': str(folder), 'number': number, 'pattern': pattern, 'count': count}
    calculator = {'calculator': 'calculators:HoldsOne', 'arguments': arguments}
    builder = ActiveLearningWorkChain.get_builder_from_protocol(
        [orm.StructureData(ase=molecule('H2O', vacuum=3.0))],
        'quickstart',
        {
            'seed': [{'rattle': {'copies': N_SEEDS, 'stdev': 0.05}}],
            'labels': {
                'ase': {**calculator, 'files': [str(FAKES / 'calculators.py')], 'batch_size': 1},
                'min_label_fraction': 0.5,
                'max_concurrent': 4,
            },
            'train': {'mace': {'members': 2, 'gradient_steps': 10, 'num_channels': 4, 'max_ell': 1, 'correlation': 1,
                               'num_interactions': 1, 'r_max': 3.0, 'warm_start': {'gradient_steps': 5},
                               'final': {'gradient_steps': 10}}},
            'explore': {'ase': {'walkers': 2, 'steps': 40, 'check_interval': 10, 'stride': 10}},
            'select': {'lower': 1e-5, 'max_labels': 2, 'audit_fraction': 0.0, 'validation_fraction': 0.0},
            'stop': {'max_iterations': 2},
            'codes': {'default': python_code.full_label},
            'resources': {'label': {'environment_variables': {'PYTHONPATH': '.'}}},
        },
    )  # fmt: skip
    _, node = run_get_node(builder)
    assert node.exit_status == 0, node.exit_message
    return node


def test_late_label_joins_the_next_iteration(python_code, aiida_localhost, tmp_path):
    """One label of the first iteration comes only when the second one trains."""
    trainings = f'{aiida_localhost.get_workdir()}/*/*/*/train.json'
    node = run_with_one_held(python_code, tmp_path, number=N_SEEDS, pattern=trainings, count=4)
    shards = node.outputs.datasets
    frames = {name: shard.n_frames for name, shard in shards.items()}
    assert (frames['seeds'], frames['iteration_01'], frames['iteration_01_late']) == (N_SEEDS, 1, 1)
    assert sum(frames.values()) == N_SEEDS + 4
    first, second = node.outputs.history['rows']
    assert (first['n_labels'], first['n_late'], first['n_new_labels']) == (N_SEEDS + 1, 0, 1)
    assert (second['n_labels'], second['n_late']) == (N_SEEDS + 2 + second['n_new_labels'], 1)
    # The committee's errors are measured on both labels that it had asked for.
    assert node.outputs.iterations.iteration_01.new_labels.n_frames == 1
    assert sorted(node.outputs.iterations.iteration_01.late_labels.get_array('rank')) == [0, 1]
    trained = {
        link.link_label: set(link.node.inputs.datasets)
        for link in node.base.links.get_outgoing().all()
        if link.link_label.endswith('train')
    }
    assert trained['iteration_02_train'] == {'seeds', 'iteration_01'}, 'training did not wait'
    assert trained['final_train'] == set(shards), 'and nothing is lost'
    assert len(list(tmp_path.glob('begun_*'))) == len(list(tmp_path.glob('done_*'))) == N_SEEDS + 4
    assert [child for child in node.called_descendants if not child.is_terminated] == []
