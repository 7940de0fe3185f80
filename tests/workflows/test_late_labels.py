"""A whole run of one model that stands for a committee, and whose training does not wait for the last labels.

Through the real engine, with real MACE.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from ase.build import molecule

from aiida_mlip_al.workflows.active_learning import ActiveLearningWorkChain

pytestmark = pytest.mark.slow

FAKES = Path(__file__).parents[1] / 'fakes'
N_SEEDS = 6


def builder_of(python_code: Any, calculator: dict[str, Any], train: dict[str, Any]) -> Any:
    """Return the builder of two iterations for a water molecule."""
    from aiida import orm

    mace = {
        'gradient_steps': 10,
        'num_channels': 4,
        'max_ell': 1,
        'correlation': 1,
        'num_interactions': 1,
        'r_max': 3.0,
    }
    mace |= {'warm_start': {'gradient_steps': 5}, 'final': {'gradient_steps': 10}}
    return ActiveLearningWorkChain.get_builder_from_protocol(
        [orm.StructureData(ase=molecule('H2O', vacuum=3.0))],
        'quickstart',
        {
            'seed': [{'rattle': {'copies': N_SEEDS, 'stdev': 0.05}}],
            'labels': {'ase': {**calculator, 'batch_size': 1}, 'min_label_fraction': 0.5, 'max_concurrent': 4},
            'train': {**train, 'mace': {**mace, **train.get('mace', {})}},
            'explore': {'ase': {'walkers': 2, 'steps': 40, 'check_interval': 10, 'stride': 10}},
            'select': {'lower': 1e-5, 'max_labels': 2, 'audit_fraction': 0.0, 'validation_fraction': 0.0},
            'stop': {'max_iterations': 2, 'properties': {'rdf': 0.5, 'drift': 1000, 'steps': 20}},
            'codes': {'default': python_code.full_label},
            'resources': {'label': {'environment_variables': {'PYTHONPATH': '.'}}},
        },
    )


def run_with_one_held(python_code: Any, folder: Path, number: int, pattern: str, count: int) -> Any:
    """Run with one model in the place of a committee, and hold the `number`-th structure to be labelled."""
    arguments = {'folder': str(folder), 'number': number, 'pattern': pattern, 'count': count}
    calculator = {'calculator': 'calculators:HoldsOne', 'arguments': arguments}
    calculator['files'] = [str(FAKES / 'calculators.py')]
    _, node = run_get_node(builder_of(python_code, calculator, {'uncertainty': {'llpr': {'samples': 4}}}))
    assert node.exit_status == 0, node.exit_message
    return node


@pytest.mark.whole_run
def test_late_label_joins_the_next_iteration(python_code, aiida_localhost, tmp_path):
    """One label of the first iteration comes only when the second one trains."""
    trainings = f'{aiida_localhost.get_workdir()}/*/*/*/train.json'
    node = run_with_one_held(python_code, tmp_path, number=N_SEEDS, pattern=trainings, count=2)
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
    recorded = node.outputs.iterations.iteration_02.history.creator.inputs
    assert recorded.late_labels.uuid == node.outputs.iterations.iteration_01.late_labels.uuid
    assert [set(row['properties']) for row in (first, second)] == [set(node.inputs.structures)] * 2
    assert first['core_s']['label_seeds'] > 0
    assert first['core_s']['properties'] > 0
    assert node.outputs.history['stop_reason'] == 'max_iterations'
    assert '2 of the 2 iterations allowed are done' in node.outputs.history['stop_sentence']
    trained = {
        link.link_label: set(link.node.inputs.datasets)
        for link in node.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all()
        if link.link_label.endswith('_train')
    }
    assert trained['iteration_02_train'] == {'seeds', 'iteration_01'}, 'training did not wait'
    assert trained['final_train'] == set(shards), 'and nothing is lost'
    assert len(list(tmp_path.glob('begun_*'))) == len(list(tmp_path.glob('done_*'))) == N_SEEDS + 4
    assert [child for child in node.called_descendants if not child.is_terminated] == []

    # One model, whose uncertainty makes deviations of it as a committee's.
    for outputs in (*node.outputs.iterations.values(), node.outputs.final):
        (model,) = outputs.committee.values()
        assert outputs.uncertainty.model_sha256 == model.base.attributes.get('sha256')
    for deviation in node.outputs.iterations.iteration_02.deviations.values():
        assert (deviation.max_force_deviation > 0).all()
        assert (deviation.get_array('mahalanobis') > 0).all()


def test_one_model_alone_is_refused(python_code):
    builder = builder_of(python_code, {'calculator': 'ase.calculators.emt:EMT'}, {'mace': {'members': 1}})
    error = ActiveLearningWorkChain.spec().inputs.validate(builder._inputs(prune=True))
    assert 'One model alone has no deviation: give `train.uncertainty`' in str(error)
