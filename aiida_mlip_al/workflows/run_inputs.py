"""What the inputs of a run must be, each as a sentence that says what to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiida_mlip_al.data import DatasetData
from aiida_mlip_al.data.dataset import check_same_theory
from aiida_mlip_al.data.frame import atoms_of, formula_of
from aiida_mlip_al.data.pool import frames_of
from aiida_mlip_al.sampling.walkers import ExploreSettings
from aiida_mlip_al.selection.rmsd import PERIODIC

from .explore import LAMMPS_NEEDS_MEMBERS, exploration_settings, validate_exploration
from .explore_engines import given_engine
from .seed_stages import reuse_problem


def validate_inputs(inputs: Any, _: Any = None) -> str | None:
    """Refuse a run that has nothing to begin with, too little to train on, or mixed levels of theory."""
    datasets = inputs.get('datasets') or {}
    if 'seeding' not in inputs and not datasets:
        return 'There is nothing to begin with: give `seeding`, or labelled `datasets`.'
    if not inputs.get('structures'):
        return 'There is no structure: give at least one in `structures`.'
    try:
        check_same_theory({**datasets, **(inputs['label'].get('pool') or {}).get('frames', {})})
    except ValueError as error:
        return str(error)
    for seeding in (inputs.get('seeding') or {}, inputs.get('test') or {}):
        message = reuse_problem(seeding.get('chains', {}), seeding.get('vasp', {}), inputs['label'])
        if message:
            return message
    uncertain = 'uncertainty' in inputs['train']
    if inputs['train']['members'].value == 1 and not uncertain:
        return 'One model alone has no deviation: give `train.uncertainty`, or set `members` to 2 or more.'
    if uncertain and inputs['explore'].get('lammps'):
        return LAMMPS_NEEDS_MEMBERS
    if inputs['select'].get('diversity', None) == 'rmsd' and any(any(pbc) for pbc in periodicities(inputs)):
        return PERIODIC
    return (
        untrainable(inputs)
        or unlearned(inputs)
        or validate_exploration(inputs['explore'])
        or unknown_system(inputs)
        or immovable(inputs)
        or unmeasured(inputs)
        or undescribed(inputs)
    )


def untrainable(inputs: Any) -> str | None:
    """Return that the run begins without a frame to train on, or without one for validation, or None."""
    datasets = inputs.get('datasets') or {}
    if 'seeding' not in inputs and not any(node.splits.get('train') for node in datasets.values()):
        return 'There is no frame to train on to begin with: give `seed` steps, or `datasets` with train frames.'
    split = inputs['seeding'].get('split') if 'seeding' in inputs else None
    if (split is not None and split.get_dict().get('validation_fraction')) or validates(datasets):
        return None
    return (
        'There is no frame for validation to begin with, which training needs: set `seed_validation_fraction` above 0 and give '
        '`seed` steps, or give `datasets` with validation frames.'
    )


def periodicities(inputs: Any) -> Iterator[Sequence[bool]]:
    """Yield in which directions structures and the frames of a pool are periodic."""
    pool = (inputs['explore'].get('pool') or {}).get('frames', {})
    yield from (structure.pbc for structure in inputs['structures'].values())
    yield from (frame.pbc for node in pool.values() for frame in frames_of(node))


def unlearned(inputs: Any) -> str | None:
    """Return which element of the structures the first models would not know, or None."""
    if 'seeding' in inputs or 'reference_energies' in inputs or 'foundation_model' in inputs['train']:
        return None
    if inputs['explore'].get('pool'):
        return None
    known = {element for node in inputs['datasets'].values() if trains(node) for element in node.elements}
    elements = {element for node in inputs['structures'].values() for element in node.get_symbols_set()}
    if not elements - known:
        return None
    return (
        f'The structures have {min(elements - known)}, and no frame to learn from in `datasets` has it: add labelled frames with '
        'it, or `seed` steps.'
    )


def unmeasured(inputs: Any) -> str | None:
    """Return why the exploration does not record what the selection compares with its levels, or None."""
    measure = inputs['select'].get('measure', 'max')
    if measure == 'mahalanobis' and 'uncertainty' not in inputs['train']:
        return 'The measure `mahalanobis` is that of one model: give `train.uncertainty`.'
    if measure == 'stress':
        if not (inputs['explore'].get('pool') or inputs['explore']['settings'].get('stress_deviation', False)):
            return 'The measure `stress` needs the engine `ase` with `stress_deviation: true`, or `pool`.'
        if not all(all(pbc) for pbc in periodicities(inputs)):
            return 'The measure `stress` needs structures, and frames of a pool, that are periodic in three directions.'
    return None


def undescribed(inputs: Any) -> str | None:
    """Return which stage does not describe frames by what the selection compares, or None."""
    wanted = inputs['select'].get('descriptors', 'features')
    explore, settings = inputs['explore'], exploration_settings(inputs['explore'])
    said = {'evaluate.evaluate.settings': inputs['evaluate']['evaluate']['settings'].get('descriptors', None)}
    if isinstance(settings, ExploreSettings):
        said['explore.settings'] = settings.descriptors
    for name in ('pool', 'deviate'):
        if explore.get(name):
            said[f'explore.{name}.settings'] = explore[name]['settings'].get('descriptors', 'features')
    for place, kind in said.items():
        if kind != wanted:
            return f'`select` compares frames by `descriptors: {wanted}`: say so in `{place}`, too.'
    return None


def immovable(inputs: Any) -> str | None:
    """Return why MD can start from none of the structures, nor from what seeding makes of them, or None."""
    settings = exploration_settings(inputs['explore'])
    if not isinstance(settings, ExploreSettings) or inputs.get('datasets'):
        return None
    engine = given_engine(inputs['explore'])
    wrong = []
    for structure in inputs['structures'].values():
        atoms, own = atoms_of(structure), settings.of_system(formula_of(structure))
        wrong.append(engine.misfit(own, atoms) if len(atoms) > 1 else None)  # seeding may make a supercell of one atom
    return wrong[0] if all(wrong) else None


def unknown_system(inputs: Any) -> str | None:
    """Return which system the exploration has settings for that is none of the structures, or None."""
    known = {formula_of(structure) for structure in inputs['structures'].values()}
    unknown = sorted(set(exploration_settings(inputs['explore']).systems) - known)
    if not unknown:
        return None
    return f'`systems` of the exploration names {unknown[0]}, but the structures are {", ".join(sorted(known))}.'


def trains(dataset: DatasetData) -> bool:
    """Return whether a shard has frames to train on or to validate with."""
    return bool(dataset.splits.get('train', 0) + dataset.splits.get('validation', 0))


def validates(datasets: Mapping[str, DatasetData]) -> bool:
    """Return whether a shard has frames to validate with."""
    return any(dataset.splits.get('validation') for dataset in datasets.values())
