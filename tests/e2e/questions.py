"""Questions to a profile, answered as JSON: python questions.py PROFILE QUESTION [ARGUMENT]..."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import numpy as np
from aiida import load_profile, orm
from aiida.common.links import LinkType
from ase import units


def state(pk: str) -> dict[str, Any]:
    """How a process ended."""
    node = orm.load_node(int(pk))
    return {'terminated': node.is_terminated, 'exit_status': node.exit_status, 'message': node.exit_message}


def outputs(pk: str) -> dict[str, Any]:
    """What a run left, in numbers."""
    node = orm.load_node(int(pk))
    return {
        'names': sorted(node.outputs),
        'iterations': sorted(node.outputs.iterations),
        'kinds': sorted(node.outputs.iterations.iteration_01),
        'datasets': {name: shard.splits for name, shard in node.outputs.datasets.items()},
        'history': node.outputs.history.get_dict(),
        'final': sorted(node.outputs.final),
        'errors': node.outputs.final.errors.get_dict(),
        'members': sorted(node.outputs.final.committee),
    }


def without_creator(pk: str) -> list[str]:
    """Data that some process below the run took as input, although nothing created it and the user did not give it."""
    run = orm.load_node(int(pk))
    given = {link.node.pk for link in run.base.links.get_incoming(link_type=LinkType.INPUT_WORK).all()}
    lost = []
    for process in run.called_descendants:
        ours = 'mlip_al' in process.process_type
        for link in process.base.links.get_incoming(link_type=(LinkType.INPUT_CALC, LinkType.INPUT_WORK)).all():
            node = link.node
            if (not ours and link.link_label != 'structure') or link.link_label.startswith('parameters__'):
                continue  # what aiida-vasp makes of its own defaults, and the INCAR that it gave VASP
            plain_default = isinstance(node, (orm.Int, orm.Float, orm.Bool, orm.Dict)) and link.link_label in DEFAULTS
            if node.creator is None and node.pk not in given and not isinstance(node, orm.Code) and not plain_default:
                lost.append(f'{process.process_label} <{process.pk}> {link.link_label} {node}')
    return lost


# Inputs of restart work chains that AiiDA itself fills with default nodes; they do not change a result.
DEFAULTS = {'max_iterations', 'clean_workdir', 'max_restarts'}


def labelled_more_than_once(pk: str) -> list[str]:
    """Structures of a run with more than one label."""
    run = orm.load_node(int(pk))
    counts: Counter[str] = Counter()
    for job in run.called_descendants:
        if job.process_label == 'LabelCalculation' and 'labels' in job.outputs:
            names = set(job.outputs.labels)
            for name, structure in job.inputs.structures.items():
                counts[structure.uuid] += name in names
    return [uuid for uuid, count in counts.items() if count > 1]


def structures_without_label(pk: str) -> list[str]:
    """Structures that were sent to be labelled and have no label."""
    run = orm.load_node(int(pk))
    sent, labelled = set(), set()
    for job in run.called_descendants:
        if job.process_label == 'LabelCalculation':
            names = set(job.outputs.labels) if 'labels' in job.outputs else set()
            for name, structure in job.inputs.structures.items():
                sent.add(structure.uuid)
                if name in names:
                    labelled.add(structure.uuid)
    return sorted(sent - labelled)


def not_from_cache(pk: str) -> list[str]:
    """Calculations of a run that were computed and not taken from the cache."""
    run = orm.load_node(int(pk))
    return [
        f'{node.process_label} <{node.pk}>'
        for node in run.called_descendants
        if isinstance(node, orm.CalculationNode) and not node.base.caching.is_created_from_cache
    ]


def hashes(pk: str) -> dict[str, str]:
    """Hash of every dataset and model that a run made."""
    run = orm.load_node(int(pk))
    made = {f'dataset {name}': node for name, node in run.outputs.datasets.items()}
    made.update({f'final {name}': node for name, node in run.outputs.final.committee.items()})
    return {name: node.base.caching.get_hash() for name, node in made.items()}


def dynamics(pk: str) -> list[dict[str, Any]]:
    """Every trajectory by VASP of a seeding: its jobs, and how well the positions (Å) follow from the forces alone."""
    found = []
    for walker in orm.load_node(int(pk)).called:
        if walker.process_label != 'VaspMdWorkChain':
            continue
        trajectory = walker.outputs.trajectory
        jobs = sorted((job for job in walker.called if isinstance(job, orm.CalcJobNode)), key=lambda job: job.pk)
        masses = walker.inputs.structure.get_ase().get_masses()[:, None]
        timestep = walker.inputs.dynamics['timestep_fs'] * units.fs
        bends = np.diff(trajectory.get_positions(), n=2, axis=0)
        pushes = trajectory.get_array('forces')[1:-1] / masses * timestep**2
        found.append(
            {
                'steps': trajectory.get_stepids().tolist(),
                'exit_statuses': [job.exit_status for job in jobs],
                'frames_of_jobs': [job.outputs.report['n_frames'] for job in jobs],
                'largest_jump': float(np.abs(bends - pushes).max()),
                'largest_acceleration': float(np.abs(pushes).max()),
            }
        )
    return found


def walkers(pk: str) -> list[dict[str, Any]]:
    """Every walker in LAMMPS of an exploration: how its jobs ended, and the steps of the frames of all together."""
    return [
        {
            'exit_statuses': [job.exit_status for job in walker.called if isinstance(job, orm.CalcJobNode)],
            'steps': walker.outputs.deviations.walker_00.get_array('step').tolist(),
        }
        for walker in orm.load_node(int(pk)).called
        if walker.process_label == 'LammpsExploreWorkChain'
    ]


def newest_label_of(pk: str) -> dict[str, Any]:
    """PK of the newest label that a run has, whoever computed it."""
    from aiida_mlip_al.data import LabelData

    labellings = [child for child in orm.load_node(int(pk)).called if child.process_label == 'LabelWorkChain']
    links = [link for child in labellings for link in child.base.links.get_outgoing(node_class=LabelData).all()]
    return {'pk': max(link.node.pk for link in links)}


def newest_label(_: str = '') -> dict[str, Any]:
    """The newest label's PK and whether its structure was explored."""
    from aiida_mlip_al.data import FrameData, LabelData

    builder = orm.QueryBuilder()
    builder.append(FrameData, filters={'attributes.origin.kind': 'explore'}, tag='frame')
    builder.append(orm.CalcJobNode, with_incoming='frame', tag='job')
    builder.append(LabelData, with_incoming='job', project='id')
    return {'pk': max(builder.all(flat=True))}


def answers(_: str = '') -> dict[str, Any]:
    """What the documented queries answer, told by what does not change from profile to profile."""
    import runpy
    from pathlib import Path

    queries = runpy.run_path(str(Path(__file__).parents[2] / 'docs' / 'queries.py'))
    uncertain = list(queries['most_uncertain'](1000))
    return {
        'labels': sorted(node.uuid for node in queries['labels_above'](0.5)),
        'uncertain': [[frame.uuid, deviation, error] for frame, deviation, error in uncertain],
        'committee': sorted(model.uuid for model in queries['committee_that_chose'](uncertain[0][0])),
    }


def history(pk: str) -> dict[str, Any]:
    """The learning history as far as it goes."""
    node = orm.load_node(int(pk))
    return node.outputs.history.get_dict() if 'history' in node.outputs else {}


if __name__ == '__main__':
    load_profile(sys.argv[1])
    print(json.dumps(globals()[sys.argv[2]](*sys.argv[3:])))
