"""The records of the checked steps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmp_mace.lmp_files import Finished, alloy, last_frame, write_data

from aiida_mlip_al.lmp_mace.records import record_file

ORDER = ('O', 'Au', 'Cu')
SCRIPT = """
units metal
{source}
pair_style mace {models} out_freq 4 records records.jsonl descriptors {kind}
pair_coeff * * O Au Cu
fix integrate all nve
dump frames all custom 4 dump.frames id x y z
dump_modify frames format float %.17g
run {steps}
write_restart end.restart
"""


def records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run."""
    return [json.loads(line) for line in (folder / 'records.jsonl').read_text().splitlines()]


def run(lmp_mace: Callable[..., Finished], models: list[Path], source: str, steps: int, kind: str = 'features') -> None:
    """Run a script that must succeed."""
    script = SCRIPT.format(source=source, models=' '.join(map(str, models)), steps=steps, kind=kind)
    done = lmp_mace(script, '--dtype', 'float64')
    assert done.returncode == 0, done.output


@pytest.mark.parametrize(('n_models', 'kind'), [(3, 'features'), (1, 'gradient')])
def test_records_are_what_the_runner_says_about_a_frame(
    n_models: int, kind: str, lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path
) -> None:
    from aiida_mlip_al.lmp_mace.runner_modules import Committee, deviation

    atoms = alloy((2, 1, 1))
    ids = np.random.default_rng(5).permutation(len(atoms)) + 1
    write_data(tmp_path / 'data', atoms, ORDER, ids)
    run(lmp_mace, models[:n_models], 'read_data data\nvelocity all create 900 11', 9, kind)
    found = records(tmp_path)
    assert [record['step'] for record in found] == [0, 4, 8]
    assert (tmp_path / 'model_devi.out').exists() == (n_models > 1)
    step, rows = last_frame(tmp_path / 'dump.frames')
    assert step == 8
    by_tag = atoms[np.argsort(ids)]
    by_tag.positions = rows[:, 1:]
    wanted = Committee(models[:n_models], 'float64', descriptors=kind).predict([by_tag], descriptors=True)
    forces = wanted.forces.mean(axis=0)
    np.testing.assert_allclose(found[-1]['forces'], forces, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(found[-1]['descriptor'], wanted.descriptors[0], rtol=1e-6, atol=1e-12)
    assert found[-1]['energy'] == pytest.approx(wanted.energies.mean(), abs=1e-9)
    assert found[-1]['max_force'] == pytest.approx(np.linalg.norm(forces, axis=1).max(), rel=1e-9)
    disagreement = dataclasses.asdict(deviation(wanted.energies[:, 0], wanted.forces))
    assert disagreement.pop('stress') is None
    assert (disagreement['max_force'] > 0.01) == (n_models > 1)
    for name, value in disagreement.items():
        key = {'energy_per_atom': 'energy_deviation_per_atom'}.get(name, f'{name}_deviation')
        assert found[-1][key] == pytest.approx(value, rel=1e-6), key
    assert set(found[-1]) == {
        *('step', 'energy', 'max_force', 'max_force_deviation', 'mean_force_deviation', 'min_force_deviation'),
        *(
            'percentile_force_deviation',
            'relative_force_deviation',
            'energy_deviation_per_atom',
            'descriptor',
            'forces',
        ),
    }
    assert found[0]['forces'] != found[-1]['forces']

    # Its last step is in the file already.
    run(lmp_mace, models[:n_models], 'read_restart end.restart\nreset_timestep 8', 4)
    assert [record['step'] for record in records(tmp_path)] == [0, 4, 8, 12]
    run(lmp_mace, models[:n_models], 'read_data data', 0)
    assert [record['step'] for record in records(tmp_path)] == [0]


def test_a_step_is_written_once_with_its_last_answer(tmp_path: Path) -> None:
    path = tmp_path / 'records.jsonl'

    def line(step: int, energy: float) -> str:
        return json.dumps({'step': step, 'energy': energy})

    def written() -> list[tuple[int, float]]:
        return [(record['step'], record['energy']) for record in records(tmp_path)]

    path.write_text(line(7, 1.0))
    file = record_file(path)
    file.add(0, line(0, -1.0))
    file.add(0, line(0, -2.0))
    assert path.read_text() == line(7, 1.0), 'the step is not over'
    file.begin(1)
    assert written() == [(0, -2.0)]
    file.add(5, line(5, -3.0))
    file.flush()
    file.add(5, line(5, -4.0))  # a second run begins with the frame that the first one ended with
    file.add(10, line(10, -5.0))
    file.flush()
    assert written() == [(0, -2.0), (5, -3.0), (10, -5.0)]
    with path.open('a') as half:
        half.write(line(15, 0.0)[:8])  # killed
    again = record_file(path)  # from a restart file that is older than the last check
    again.add(5, line(5, 4.0))
    again.add(10, line(10, 5.0))
    again.flush()
    assert written() == [(0, -2.0), (5, -3.0), (10, 5.0)]
