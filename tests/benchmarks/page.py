"""How long the page takes to show a run of many labels.

    OMP_NUM_THREADS=1 python tests/benchmarks/page.py [--labels 10000] [--iterations 10] [--frames 5000] [--test 1000]

A run is written into a profile of its own (SQLite), not computed: every label with its structure, job and links, every iteration
with its explored frames, and errors on test frames. Then everything that a browser asks for is asked for, first when nothing is in
memory, then again. The page is there when the outline and the report are; plots are asked for when one scrolls to them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from uuid import uuid4

os.environ.setdefault('OMP_NUM_THREADS', '1')
_FOLDER = tempfile.TemporaryDirectory(prefix='page-')
os.environ['AIIDA_PATH'] = _FOLDER.name
warnings.filterwarnings('ignore')
sys.path.insert(0, str(Path(__file__).parents[1]))

BATCH = 20


def many_labels(run: Any, chain: Any, n: int) -> None:
    """Add labels to a labelling: rows in the database, with everything but files.

    :param run: the stored run.
    :param chain: the LabelWorkChain.
    """
    from aiida.common.links import LinkType
    from aiida.orm.entities import EntityTypes

    frame, label = chain.inputs.structures['frame_000'], chain.outputs.labels['frame_000']
    job = chain.called[0]
    storage = chain.backend

    def copies(node: Any, amount: int) -> list[int]:
        row = {
            'node_type': node.node_type,
            'process_type': node.process_type,
            'label': '',
            'description': '',
            'ctime': node.ctime,
            'mtime': node.mtime,
            'attributes': dict(node.base.attributes.all),
            'extras': {},
            'repository_metadata': {},
            'user_id': node.user.pk,
            'dbcomputer_id': node.computer.pk if node.computer else None,
        }
        return storage.bulk_insert(EntityTypes.NODE, [{'uuid': str(uuid4()), **row} for _ in range(amount)])

    frames, labels, jobs = copies(frame, n), copies(label, n), copies(job, -(-n // BATCH))
    links = [(chain.pk, pk, LinkType.CALL_CALC, f'batch_{k:04d}') for k, pk in enumerate(jobs)]
    for k, (structure, made) in enumerate(zip(frames, labels, strict=True)):
        worker, name = jobs[k // BATCH], f'more_{k:04d}'
        links += [
            (structure, chain.pk, LinkType.INPUT_WORK, f'structures__{name}'),
            (structure, worker, LinkType.INPUT_CALC, f'structures__{name}'),
            (worker, made, LinkType.CREATE, f'labels__{name}'),
            (chain.pk, made, LinkType.RETURN, f'labels__{name}'),
        ]
    rows = [{'input_id': a, 'output_id': b, 'type': kind.value, 'label': name} for a, b, kind, name in links]
    storage.bulk_insert(EntityTypes.LINK, rows)


def main() -> None:
    """Write the run and measure."""
    parser = argparse.ArgumentParser()
    for name, value in (('labels', 10_000), ('iterations', 10), ('frames', 5000), ('test', 1000)):
        parser.add_argument(f'--{name}', type=int, default=value)
    options = parser.parse_args()

    from aiida import load_profile, orm
    from starlette.testclient import TestClient

    from aiida_mlip_al.cli.profile import ensure_computer, ensure_profile

    ensure_profile('page')
    load_profile('page')
    from helpers.stored_run import StoredRun

    from aiida_mlip_al.page.app import make_app, warm_up

    run = StoredRun(ensure_computer(), frames=options.frames, n_parity=options.test)
    run.seed()
    for _ in range(options.iterations):
        run.iterate()
    run.finish()
    for chain in [node for node in run.node.called if node.process_label == 'LabelWorkChain'][2:]:
        many_labels(run, chain, options.labels // options.iterations)
    total = orm.QueryBuilder().append(orm.Node).count()
    print(f'{options.labels} labels, {options.iterations} iterations of {options.frames} frames, {total} nodes')

    site = TestClient(make_app(), base_url='http://localhost')
    pk = run.node.pk
    last = [node for node in run.node.called if node.process_label == 'LabelWorkChain'][-1].pk
    evaluation = run.made['final_evaluate'].pk
    label = (
        orm.QueryBuilder()
        .append(orm.Node, filters={'node_type': {'like': '%LabelData.'}}, project='id')
        .first(flat=True)
    )
    paths = {
        'outline': f'/runs/{pk}/parts/now',
        'report': f'/runs/{pk}/parts/report',
        'plot of force parity': f'/runs/{pk}/figures/parity-forces',
        'plot of deviations': f'/runs/{pk}/figures/deviations',
        'labels': f'/runs/{pk}/parts/labels',
        'labels, last page': f'/runs/{pk}/parts/labels?page={options.labels // 50 - 1}',
        'explored frames': f'/runs/{pk}/parts/explored/0',
        'jobs of a labelling': f'/runs/{pk}/parts/called/{last}',
        'a labelling': f'/parts/node/{last}',
        'a label': f'/parts/node/{label}',
        'from a test frame to its label': f'/parts/test/{evaluation}/3',
        'list of runs': '/parts/runs',
        'has anything changed?': f'/runs/{pk}/changes',
    }
    warm_up()
    print(f'{"":32}{"first, s":>10}{"CPU, s":>10}{"again, s":>10}{"kB":>8}')
    for name, path in paths.items():
        row = []
        for _ in range(2):
            wall, cpu = time.perf_counter(), time.process_time()
            answer = site.get(path, headers={'accept-encoding': 'identity'})
            row += [time.perf_counter() - wall, time.process_time() - cpu]
            assert answer.status_code == 200, answer.text
        print(f'{name:32}{row[0]:10.2f}{row[1]:10.2f}{row[2]:10.2f}{len(answer.content) / 1000:8.0f}')


if __name__ == '__main__':
    main()
