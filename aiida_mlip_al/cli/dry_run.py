"""What `aiida-mlip-al launch --dry-run` prints: the jobs to come, the settings in force and their origin, the cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiida_mlip_al.config import ConfigError, RunConfig, make_config
from aiida_mlip_al.config.load import origins, read_yaml
from aiida_mlip_al.config.models import PoolExplore
from aiida_mlip_al.data.frame import formula_of
from aiida_mlip_al.sampling.expected import chain_frames
from aiida_mlip_al.sampling.spread import by_system


class Stage(NamedTuple):
    """A stage of the plan."""

    name: str
    jobs: str
    work: str


def show_plan(path: Path, earlier: str | None, console: Any) -> None:
    """Print the plan of a run after checking all its inputs as `launch` does; nothing is submitted or stored.

    :raises ConfigError: one sentence on the first mistake.
    """
    from rich.table import Table

    from aiida_mlip_al.workflows.active_learning import ActiveLearningWorkChain
    from aiida_mlip_al.workflows.builder import make_builder

    from .launch import run_inputs

    values = read_yaml(path)
    config = make_config(values)
    inputs = run_inputs(path, earlier)
    builder = make_builder(ActiveLearningWorkChain, inputs)
    wrong = ActiveLearningWorkChain.spec().inputs.validate(builder._inputs(prune=True))
    if wrong is not None:
        raise ConfigError(wrong.message)

    table = Table(title='jobs to come', title_justify='left', box=None, padding=(0, 2), header_style='dim')
    for column in ('stage', 'jobs', 'work'):
        table.add_column(column, no_wrap=column == 'stage')
    formulas = [formula_of(structure) for structure in inputs['structures'].values()]
    for stage in plan(config, formulas, seeds='seeding' in inputs):
        table.add_row(*stage)
    console.print(table)
    for warning in unexplored(config, formulas):
        console.print(warning, style='yellow', markup=False)

    if 'vasp' in inputs['label']:
        console.print(vasp_table(inputs))

    table = Table(title='settings in force', title_justify='left', box=None, padding=(0, 2), header_style='dim')
    for column in ('key', 'value', 'origin'):
        table.add_column(column, overflow='fold', no_wrap=column == 'key')
    for key, value, origin in origins(values):
        table.add_row(key, str(value), f'protocol {config.protocol}' if origin == 'protocol' else origin)
    console.print(table)
    console.print('Nothing was submitted.')


def vasp_table(inputs: dict[str, Any]) -> Any:
    """Return the table of what VASP will be given: the POTCARs, and the mesh of k-points of each structure."""
    from rich.table import Table

    from aiida_mlip_al.calculations.vasp_files import make_kpoints

    level = inputs['label']['vasp']['theory'].get_dict()
    table = Table(title='VASP', title_justify='left', box=None, padding=(0, 2), show_header=False)
    table.add_row('code', inputs['label']['vasp']['code'].full_label)
    for element, node in inputs['label']['vasp']['potentials'].items():
        table.add_row(f'POTCAR of {element}', f'{level["potential_family"]}: {node.title}')
    for name, structure in inputs['structures'].items():
        kpoints = make_kpoints(structure, level.get('kpoint_spacing'))
        mesh = ' x '.join(str(number) for number in kpoints.get_kpoints_mesh()[0])
        table.add_row(f'k-points of {name}', f'{mesh} ({structure.get_formula()})')
    return table


def plan(config: RunConfig, formulas: Sequence[str], seeds: bool = True) -> list[Stage]:
    """Return the stages with the number of their jobs and what these will do at most.

    :param formulas: reduced formulas of the structures given.
    :param seeds: whether the run begins with seeding.
    """
    batch_size, mace, explore, iterations = (
        config.labels.batch_size,
        config.train.mace,
        config.explore.settings,
        config.stop.max_iterations,
    )
    n_structures, n_seeds, stages = len(formulas), 0, []
    for name, chains in (('seed', config.seed if seeds else None), ('test', config.test if seeds else None)):
        if chains:
            counts = [chain_frames(chain, n_structures) for chain in chains.values()]
            n_frames, steps, jobs = (sum(column) for column in zip(*counts, strict=True))
            n_seeds += n_frames if name == 'seed' else 0
            batches = math.ceil(n_frames / batch_size) if n_frames else 0
            work = f'{n_frames} frames' + (f', {steps} MD steps' if steps else '')
            stages.append(Stage(name, f'{jobs} seed, {batches} label', f'{work}, {n_frames} labels'))
    warm = (mace.warm_start or {}).get('gradient_steps', mace.gradient_steps)
    later = f', then {warm} each' if iterations > 1 else ''
    stages.append(
        Stage(
            'train',
            f'{mace.members} in each of up to {iterations} iterations',
            f'{mace.gradient_steps} optimiser steps for each member at first{later}',
        )
    )
    if isinstance(explore, PoolExplore):
        n_jobs, md_steps = math.ceil(explore.max_frames / explore.frames_per_job), 0
        work = f'up to {explore.max_frames} frames of the pool'
    else:
        systems = [own for own, _ in by_system(explore, dict(enumerate(formulas)))]
        n_jobs = sum(math.ceil(own.walkers / own.job_size) for own in systems)
        md_steps = sum(own.walkers * own.steps for own in systems)
        work = ' and '.join(f'{own.walkers} walkers of {own.steps} MD steps' for own in systems)
    if config.train.uncertainty is not None:
        stages.append(
            Stage('uncertainty', '1 in each iteration, 1 at the end', 'the committee that one model stands for')
        )
    stages.append(Stage('explore', f'{"up to " if not md_steps else ""}{n_jobs} in each iteration', work))
    stages.append(Stage('evaluate', '1 in each iteration, 1 at the end', 'the committee on all labelled frames'))
    if config.stop.properties is not None:
        names = ', '.join(config.stop.properties.tolerances)
        stages.append(Stage('properties', '1 in each iteration', f'{names} of the given structures'))
    per_round = math.ceil(config.select.max_labels / batch_size)
    stages.append(Stage('label', f'{per_round} in each iteration', f'up to {config.select.max_labels} labels'))
    final = mace.final.get('gradient_steps', mace.gradient_steps)
    stages.append(Stage('final', f'{mace.members}', f'{final} optimiser steps for each member'))
    labels = min(
        n_seeds * (config.seed_rounds.max_rounds if config.seed_rounds is not None else 1)
        + iterations * config.select.max_labels,
        *(limit for limit in (config.stop.max_labels, config.select.label_budget) if limit is not None),
        math.inf,
    )
    training = mace.members * (mace.gradient_steps + warm * (iterations - 1) + final)
    stages.append(
        Stage(
            'at most',
            '',
            f'{labels} labels (test frames not counted), {training} optimiser steps, '
            f'{iterations * md_steps} MD steps with the committee',
        )
    )
    return stages


def unexplored(config: RunConfig, formulas: Sequence[str]) -> list[str]:
    """Return a sentence on each system that has fewer walkers than structures.

    :param formulas: reduced formulas of the structures given.
    """
    explore = config.explore.settings
    if isinstance(explore, PoolExplore):
        return []
    return [
        f'`walkers: {own.walkers}` for {len(keys)} structures: an iteration explores from some of them alone, drawn anew each time.'
        for own, keys in by_system(explore, dict(enumerate(formulas)))
        if own.walkers < len(keys)
    ]
