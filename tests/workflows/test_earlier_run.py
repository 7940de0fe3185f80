"""What another run begins with, of a run that has failed."""

from __future__ import annotations

import pytest
from aiida import orm
from helpers.stored_run import StoredRun

from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.data import FrameData
from aiida_mlip_al.run import load_run
from aiida_mlip_al.workflows.earlier_run import continue_from, shards_of


@pytest.fixture
def failed(aiida_localhost: orm.Computer) -> StoredRun:
    """A run whose second training failed, after one iteration."""
    run = StoredRun(aiida_localhost)
    run.seed()
    run.iterate()
    run.set_state(run.node, 'finished', 403)
    return run


def new_frame(run: StoredRun) -> dict[str, FrameData]:
    """Return a frame that has no label."""
    return {'frame_000': FrameData.from_ase(run.moved()).store()}


def test_labels_that_came_when_the_run_had_failed_are_not_lost(failed: StoredRun) -> None:
    attached = dict(failed.node.outputs.datasets.items())
    assert shards_of(failed.node) == attached
    failed.label(new_frame(failed), 'iteration_01_late', None, 'train')
    shards = shards_of(failed.node)
    assert set(shards) == {*attached, 'iteration_01_late'}
    assert shards['iteration_01_late'].n_frames == 1
    continued = continue_from({'seeding': {}, 'seed': orm.Int(1)}, failed.node)
    assert set(continued['datasets']) == {f'earlier_{name}' for name in shards}
    assert 'seeding' not in continued
    assert len(load_run(failed.node.pk).dataset['train']) == sum(
        shard.splits.get('train', 0) for shard in shards.values()
    )


def test_a_run_that_was_killed_before_it_took_its_labels(aiida_localhost: orm.Computer) -> None:
    run = StoredRun(aiida_localhost)
    run.label(new_frame(run), 'label_seeding', None, 'train')
    run.label(new_frame(run), 'label_seeding_02', None, 'train')
    run.set_state(run.node, 'killed', None)
    assert set(continue_from({}, run.node)['datasets']) == {'earlier_seeds', 'earlier_seeds_02'}


def test_labels_on_their_way_are_waited_for(failed: StoredRun) -> None:
    labelling = failed.process(orm.WorkChainNode, 'LabelWorkChain', failed.node, 'iteration_01_late', {}, 'waiting')
    with pytest.raises(
        ConfigError, match=rf'in <{labelling.pk}>: continue when they have come, or give them up with `verdi'
    ):
        continue_from({}, failed.node)
    failed.set_state(failed.node, 'waiting', None)
    assert set(continue_from({}, failed.node)['datasets']) == {'earlier_seeds', 'earlier_test', 'earlier_iteration_01'}


def test_a_run_without_labels_is_nothing_to_begin_with(aiida_localhost: orm.Computer) -> None:
    run = StoredRun(aiida_localhost)
    with pytest.raises(ConfigError, match=f'Run {run.node.pk} left no labelled dataset to continue from.'):
        continue_from({}, run.node)
