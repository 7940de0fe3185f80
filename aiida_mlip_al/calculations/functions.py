"""The calcfunctions: a few lines each over the pure core, so that everything a work chain passes on has a creator."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from aiida import orm
from aiida.common import timezone
from aiida.engine import Process
from ase import Atoms

from aiida_mlip_al.calculations.caching import calcfunction
from aiida_mlip_al.data import DatasetData, DeviationData, FrameData, SelectionData
from aiida_mlip_al.data.dataset import check_same_theory
from aiida_mlip_al.data.extxyz import ENERGY_KEY, FORCES_KEY
from aiida_mlip_al.data.frame import atoms_of, formula_of
from aiida_mlip_al.data.pool import frames_of
from aiida_mlip_al.sampling.base import parse_parameters, stream, stream_seed
from aiida_mlip_al.sampling.spread import misfit, spread_systems
from aiida_mlip_al.sampling.walkers import AseExploreSettings, check_of, dynamics_of, reduced_formula
from aiida_mlip_al.selection.convergence import stop_decision
from aiida_mlip_al.selection.history import IterationRow
from aiida_mlip_al.selection.levels import Evidence, Pairs, find_levels
from aiida_mlip_al.selection.measure import MEASURED, MEASURES, measured
from aiida_mlip_al.selection.reference import fit_atomic_energies
from aiida_mlip_al.selection.sanity import PhysicalLimits, unphysical_reason, value_reasons
from aiida_mlip_al.selection.select import SelectionSettings
from aiida_mlip_al.selection.select import select_frames as select
from aiida_mlip_al.selection.settings import SelectParameters, StopParameters
from aiida_mlip_al.selection.splits import assign_splits
from aiida_mlip_al.selection.verdict import Verdict

from .evaluate import DEFAULT_BATCH_SIZE

# ------------------------------------------------------------------------------------------------------------ exploration


@calcfunction
def plan_dynamics(settings: orm.Dict, seed: orm.Int, **inputs: Any) -> dict[str, Any]:
    """Give every walker its start, condition and seed, and divide the walkers over jobs.

    Structures that do not fit the settings, such as the isolated atoms among the labelled ones, start no walker; ``refused``
    says why.

    :param settings: conditions, length, checks and limits.
    :param seed: the walkers' own seeds are drawn from it.
    :param inputs: ``structures`` by name, and the loop's ``history``, so that each iteration draws other seeds.
    """
    parsed = parse_parameters('explore', AseExploreSettings, settings.get_dict())
    rows = inputs['history']['rows'] if 'history' in inputs else []
    formulas = {name: formula_of(node) for name, node in inputs['structures'].items()}
    refused = {
        name: found
        for name, node in inputs['structures'].items()
        if (found := misfit(parsed.of_system(formulas[name]), atoms_of(node))) is not None
    }
    fitting = {name: formula for name, formula in formulas.items() if name not in refused}
    jobs = spread_systems(parsed, fitting, seed.value, len(rows))
    stride = parsed.stride or parsed.check_interval
    return {
        'dynamics': {name: orm.Dict(dynamics_of(own, stride)) for name, (own, _) in jobs.items()},
        'check': orm.Dict(check_of(parsed, len(rows) + 1)),
        'walkers': {name: orm.List(walkers) for name, (_, walkers) in jobs.items()},
        **({'refused': orm.Dict(refused)} if refused else {}),
    }


def frame_of(trajectory: orm.TrajectoryData, row: int) -> Atoms:
    """Return one row of a trajectory as ``ase.Atoms``."""
    return Atoms(
        symbols=list(trajectory.symbols),
        positions=trajectory.get_positions()[row],
        cell=trajectory.get_cells()[row],
        pbc=trajectory.pbc,
    )


# --------------------------------------------------------------------------------------------------------------- labelling


@calcfunction
def collect_labels(**inputs: Any) -> dict[str, orm.Data]:
    """Make one shard and one report of several batches.

    :param inputs: ``datasets`` and ``reports``, each by batch.
    """
    reports = [inputs['reports'][name].get_dict() for name in sorted(inputs['reports'])]
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons.update(report['reasons'])
    total = {key: sum(report[key] for report in reports) for key in ('n_labelled', 'n_rejected', 'wall_s', 'core_s')}
    # A batch without a label may not know the version of its program.
    told = next((report for report in reports if report['n_labelled']), reports[0])
    summary = {
        **total,
        'n_structures': total['n_labelled'] + total['n_rejected'],
        'reasons': dict(reasons),
        'rejected': [item for report in reports for item in report['rejected']],
        'theory': told['theory'],
        'theory_hash': told['theory_hash'],
    }
    changed = {name: tags for report in reports for name, tags in report.get('changed', {}).items()}
    if changed:
        summary['changed'] = changed
    collected: dict[str, orm.Data] = {'report': orm.Dict(summary)}
    datasets = inputs.get('datasets', {})
    if datasets:
        check_same_theory(datasets)
        frames = [frame for name in sorted(datasets) for frame in datasets[name].iterate()]
        first = datasets[min(datasets)]
        frames.sort(key=lambda frame: str(frame.info.get('name', '')))
        collected['dataset'] = DatasetData.from_ase(frames, first.theory, first.theory_hash)
    return collected


@calcfunction
def merge_datasets(**datasets: DatasetData) -> DatasetData:
    """Make one dataset of several of the same level of theory.

    :param datasets: in the order of their names.
    """
    return DatasetData.merge(datasets[name] for name in sorted(datasets))


# ---------------------------------------------------------------------------------------------------------------- training


@calcfunction
def fit_reference_energies(**datasets: DatasetData) -> orm.Dict:
    """Return each element's reference energy: its isolated atom's where labelled, else a least-squares fit.

    :param datasets: labelled frames.
    """
    frames = [frame for name in sorted(datasets) for frame in datasets[name].iterate('train', 'validation')]
    return orm.Dict(fit_atomic_energies(frames, [frame.info[ENERGY_KEY] for frame in frames]))


@calcfunction
def member_seeds(seed: orm.Int, members: orm.Int) -> dict[str, orm.Int]:
    """Draw a seed for each member of a committee; asking for more members keeps the first ones.

    :param seed: of the committee.
    :param members: how many.
    """
    return {
        f'member_{index:02d}': orm.Int(stream_seed(seed.value, 'member', index) % 2**31)
        for index in range(members.value)
    }


@calcfunction
def soften_training(parameters: orm.Dict, seed: orm.Int) -> dict[str, orm.Data]:
    """Return parameters with half the learning rate, and another seed, for a training whose loss became NaN.

    :param parameters: of the failed training.
    :param seed: of the failed training.
    """
    gentler = parameters.get_dict()
    gentler['lr'] = gentler.get('lr', 0.01) / 2
    if isinstance(gentler.get('warm_start'), dict) and 'lr' in gentler['warm_start']:
        gentler['warm_start']['lr'] /= 2
    return {'parameters': orm.Dict(gentler), 'seed': orm.Int(stream_seed(seed.value, 'again') % 2**31)}


@calcfunction
def halve_batches(parameters: orm.Dict) -> orm.Dict:
    """Return parameters with batches of half the size, one frame at least, for a training that ran out of memory.

    :param parameters: of the failed training.
    """
    values = parameters.get_dict()
    for batches in (values, values.get('warm_start') or {}):
        for key, default in (('batch_size', 5), ('valid_batch_size', 10)):
            if batches is values or key in batches:
                batches[key] = max(1, batches.get(key, default) // 2)
    return orm.Dict(values)


@calcfunction
def halve_batch_size(settings: orm.Dict) -> orm.Dict:
    """Return settings with batches of half the size, one frame at least, for an evaluation that ran out of memory.

    :param settings: of the failed evaluation.
    """
    values = settings.get_dict()
    return orm.Dict({**values, 'batch_size': max(1, values.get('batch_size', DEFAULT_BATCH_SIZE) // 2)})


# --------------------------------------------------------------------------------------------------------------- selection


@calcfunction
def select_frames(settings: orm.Dict, seed: orm.Int, **inputs: Any) -> dict[str, Any]:
    """Decide the fate of every explored frame and make a node of each chosen one.

    :param settings: trust levels or ``tolerance``, budget, choice, ``validation_fraction``.
    :param seed: fixes every random choice.
    :param inputs: ``trajectories`` and ``deviations`` by walker; ``train`` and ``validation``, the committee's deviations and
        errors on the labelled frames; ``new_labels``, those of the previous round; ``late``, labels that came after the
        committee was evaluated; the loop's ``history``.
    """
    options = parse_parameters('select', SelectParameters, settings.get_dict())
    trajectories, deviations = inputs['trajectories'], inputs['deviations']
    names = sorted(deviations)
    rows = inputs['history']['rows'] if 'history' in inputs else []
    known = [inputs[name] for name in ('train', 'validation') if name in inputs]
    budget = options.max_labels
    if options.label_budget is not None:
        late = inputs['late'].splits if 'late' in inputs else {}
        in_hand = sum(node.n_frames for node in known) + late.get('train', 0) + late.get('validation', 0)
        budget = max(0, min(budget, options.label_budget - in_hand))
    lengths = [deviations[name].n_frames for name in names]
    walker = np.repeat(np.arange(len(names)), lengths)
    frame = np.concatenate([np.arange(length) for length in lengths])
    measure = np.concatenate([measured(options.measure, deviations[name].get) for name in names])
    max_force = _joined(deviations, names, 'max_force')
    unphysical = [
        reason for name in names for reason in _unphysical(trajectories[name], deviations[name], options.limits)
    ]
    numbers = value_reasons(measure, max_force, options.limits)
    refused = np.array([bool(reason or number) for reason, number in zip(unphysical, numbers, strict=True)])
    physical = measure if refused.all() else np.where(refused, np.nan, measure)
    evidence = Evidence(
        explored=physical[np.lexsort((walker, _joined(deviations, names, 'time_fs')))],
        held_out=_pairs(options, [inputs[name] for name in ('validation', 'new_labels') if name in inputs]),
        trained=_pairs(options, [inputs[name] for name in ('train',) if name in inputs]),
        tolerance=options.tolerance,
        upper=options.upper,
        history=rows,
    )
    levels, thresholds = find_levels(options.level_rule, evidence)
    selection = select(
        measure,
        levels,
        SelectionSettings(
            max_labels=budget,
            audit_fraction=options.audit_fraction,
            diversity=options.diversity,
            descriptors=options.descriptors,
            duplicate_tolerance=options.duplicate_tolerance,
            strata=options.strata,
            min_rmsd=options.min_rmsd,
            exclude_hydrogen=options.exclude_hydrogen,
            max_per_trajectory=options.max_per_trajectory,
            max_per_system=options.max_per_system,
            max_per_composition=options.max_per_composition,
            max_force=options.max_force,
            seed=stream_seed(seed.value, 'select', len(rows)),
        ),
        max_force=max_force,
        descriptors=_joined(deviations, names, 'descriptors'),
        training_descriptors=_stacked(known, 'descriptors'),
        trajectory=walker,
        system=_numbered([_system(trajectories[name]) for name in names])[walker],
        composition=_numbered([reduced_formula(trajectories[name].symbols) for name in names])[walker],
        temperature=np.concatenate([_target_temperature(deviations[name]) for name in names]),
        structure=lambda index: frame_of(trajectories[names[walker[index]]], int(frame[index])),
        unphysical=unphysical,
    )
    node = SelectionData.from_arrays(
        {
            'trajectory': walker,
            'frame': frame,
            'verdict': selection.verdicts,
            'rank': selection.ranks,
            'max_force_deviation': _joined(deviations, names, 'max_force_deviation'),
            MEASURES[options.measure].column: measure,
        },
        names,
        {**thresholds, 'measure': options.measure},
    )
    rng = np.random.default_rng(stream(seed.value, 'split', len(rows)))
    splits = assign_splits(len(selection.chosen), {'validation_fraction': options.validation_fraction}, rng)
    frames = {}
    for rank, index in enumerate(selection.chosen):
        name, row = names[walker[index]], int(frame[index])
        deviation = deviations[name]
        frames[f'frame_{rank:03d}'] = FrameData.from_ase(
            frame_of(trajectories[name], row),
            splits[rank],
            kind='explore',
            parent_uuid=trajectories[name].uuid,
            index=row,
            time_fs=_finite(deviation.get('time_fs'), row),
            temperature_K=_finite(deviation.get('target_temperature_K'), row),
            max_force_deviation=float(deviation.max_force_deviation[row]),
            verdict=Verdict.from_code(int(selection.verdicts[index])).value,
            trajectory=name,
        )
    return {'selection': node, 'frames': frames}


def _finite(values: np.ndarray | None, row: int) -> float | None:
    return float(values[row]) if values is not None and np.isfinite(values[row]) else None


def _joined(deviations: dict[str, DeviationData], names: list[str], array: str) -> np.ndarray:
    return np.concatenate([deviations[name].get_array(array) for name in names])


def _stacked(nodes: list[DeviationData], array: str) -> np.ndarray | None:
    arrays = [values for node in nodes if (values := node.get(array)) is not None]
    return np.concatenate(arrays) if arrays else None


def _pairs(options: SelectParameters, nodes: list[DeviationData]) -> Pairs:
    """Return measure and error of labelled frames, as far as they were recorded."""
    errors = [(node, error) for node in nodes if (error := node.get('max_force_error')) is not None]
    if not errors:
        return Pairs()
    return Pairs(
        np.concatenate([measured(options.measure, node.get) for node, _ in errors]),
        np.concatenate([error for _, error in errors]),
    )


def _numbered(keys: list[str]) -> np.ndarray:
    """Return a number for each key, the same for equal ones."""
    return np.unique(keys, return_inverse=True)[1]


def _system(trajectory: orm.TrajectoryData) -> str:
    """Return what the walkers share that started from one structure: the atoms in their order, the periodic directions."""
    return f'{" ".join(trajectory.symbols)} {list(trajectory.pbc)}'


def _target_temperature(deviation: DeviationData) -> np.ndarray:
    """Return the temperature that was aimed at, K; nan where there was none."""
    target = deviation.get('target_temperature_K')
    return np.full(deviation.n_frames, np.nan) if target is None else target


def _unphysical(trajectory: orm.TrajectoryData, deviation: DeviationData, limits: PhysicalLimits) -> list[str | None]:
    """Return why each frame of a trajectory is unphysical.

    A walker that was stopped for its geometry, a distance limit, its forces or its temperature ends in an unphysical frame.
    Frames of a pool are not held against the first of them, for they need not come from it.
    """
    together = not trajectory.base.attributes.get('independent', False)
    frames = list(frames_of(trajectory))
    start_cell = frames[0].cell.array if together and frames else None
    reasons = [unphysical_reason(frame, limits, start_cell=start_cell) for frame in frames]
    stop = deviation.base.attributes.get('stop_reason')
    if reasons and stop not in ('finished', 'killed', 'terminated', 'timeout', 'upper_level'):
        reasons[-1] = reasons[-1] or stop
    return reasons


@calcfunction
def assess_labels(selection: SelectionData, **inputs: Any) -> dict[str, Any]:
    """Compare the labels just received with what the committee that asked for them had predicted.

    :param selection: which explored frame each label belongs to.
    :param inputs: ``datasets`` with the new labels; ``trajectories`` (their forces and energies are the committee's mean) and
        ``deviations``, by walker.
    """
    trajectories, deviations = inputs['trajectories'], inputs['deviations']
    chosen = selection.chosen()
    audited = {
        int(rank)
        for rank, verdict in zip(selection.get_array('rank'), selection.verdicts, strict=True)
        if verdict is Verdict.AUDIT
    }
    columns: dict[str, list[float]] = {}
    for labelled in (frame for name in sorted(inputs['datasets']) for frame in inputs['datasets'][name].iterate()):
        rank = int(str(labelled.info['name']).rsplit('_', 1)[1])
        name, row = chosen[rank]
        trajectory, deviation = trajectories[name], deviations[name]
        error = trajectory.get_array('forces')[row] - labelled.arrays[FORCES_KEY]
        values = {
            'rank': rank,
            'audit': float(rank in audited),
            'max_force_error': np.linalg.norm(error, axis=1).max(),
            'force_mae': np.abs(error).mean(),
            'force_mse': (error**2).mean(),
            'n_atoms': len(labelled),
            'energy_error_per_atom': (trajectory.get_array('energies')[row] - labelled.info[ENERGY_KEY])
            / len(labelled),
            **{
                key: column[row]
                for key in sorted({*DeviationData.REQUIRED, *MEASURED})
                if (column := deviation.get(key)) is not None
            },
        }
        for key, value in values.items():
            columns.setdefault(key, []).append(float(value))
    return {'new_labels': DeviationData.from_arrays({key: np.array(values) for key, values in columns.items()})}


@calcfunction
def record_iteration(stop: orm.Dict, selection: SelectionData, errors: orm.Dict, **inputs: Any) -> dict[str, orm.Data]:
    """Add a row to the learning history and decide whether to stop.

    Audits whose labels came late are counted in the row of the round that asked for them: those that are hard to label are not
    the ones to leave out.

    :param stop: the criteria.
    :param selection: what became of every explored frame.
    :param errors: of this iteration's committee on the train, validation and test frames.
    :param inputs: ``history`` up to here; ``new_labels``, their errors and deviations; ``late``, those of the last round that
        came after this committee was evaluated, and ``late_labels``, the errors of all of that round; ``reports`` of this
        iteration's jobs by stage and job; ``deviations`` by walker; ``properties`` that the committee predicts.
    """
    history = list(inputs['history']['rows']) if 'history' in inputs else []
    if 'late_labels' in inputs:
        before = history[-1]
        n_audited, n_audit_wrong = _audit(inputs['late_labels'], before['thresholds'].get('tolerance'))
        history[-1] = {**before, 'n_audited': n_audited, 'n_audit_wrong': n_audit_wrong}
    counts = selection.counts
    n_frames = sum(counts.values())
    committee = errors.get_dict()
    seen = {split: committee.get(split, {}).get('n_frames', 0) for split in ('train', 'validation')}
    new = inputs.get('new_labels')
    n_late = sum(inputs['late'].splits.get(split, 0) for split in seen) if 'late' in inputs else 0
    options = parse_parameters('stop', StopParameters, stop.get_dict())
    tolerance = selection.thresholds.get('tolerance')
    deviation = selection.get_array('max_force_deviation')
    finite = deviation[np.isfinite(deviation)]
    accurate = counts['accurate'] + counts['audit']
    n_audited, n_audit_wrong = _audit(new, tolerance)
    core_s = {
        stage: sum(report['core_s'] for report in reports.values())
        for stage, reports in inputs.get('reports', {}).items()
    }
    pool = inputs.get('reports', {}).get('explore', {}).get('pool')
    core_s['evaluate'] = committee.get('core_s', 0.0)
    row = {
        **IterationRow(
            iteration=len(history) + 1,
            n_labels=sum(seen.values()) + n_late + (new.n_frames if new is not None else 0),
            n_new_labels=new.n_frames if new is not None else 0,
            n_frames=n_frames,
            n_candidates=counts['selected'] + counts['over_budget'],
            n_failed=counts['failed'],
            n_unphysical=counts['unphysical'],
            accurate_fraction=accurate / n_frames if n_frames else 0.0,
            new_label_force_mae=None if new is None else _weighted(new, 'force_mae'),
            lower_level=selection.thresholds['lower'],
            upper_level=selection.thresholds['upper'],
            level_unit=MEASURES[selection.thresholds.get('measure', 'max')].unit,
            n_audited=n_audited,
            n_audit_wrong=n_audit_wrong,
            n_learned=sum(seen.values()),
            test_force_mae=committee.get('test', {}).get('force_mae'),
            validation_force_mae=committee.get('validation', {}).get('force_mae'),
            core_hours=sum(core_s.values()) / 3600,
            n_left=None if pool is None else pool['n_left'] - counts['selected'] - counts['audit'],
            properties=inputs['properties'].get_dict() if 'properties' in inputs else None,
        ).as_dict(),
        'n_late': n_late,
        'n_train': seen['train'],
        'n_validation': seen['validation'],
        'new_label_force_rmse': None if new is None else _weighted(new, 'force_mse') ** 0.5,
        'new_label_energy_mae': None if new is None else float(np.abs(new.get_array('energy_error_per_atom')).mean()),
        'errors': {split: value for split, value in committee.items() if isinstance(value, dict)},
        'deviation_quantiles': {f'{q:.2f}': float(np.quantile(finite, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
        if len(finite)
        else {},
        'fates': counts,
        'thresholds': selection.thresholds,
        'stops': dict(
            Counter(node.base.attributes.get('stop_reason') for node in inputs.get('deviations', {}).values())
        ),
        'core_s': core_s,
    }
    history.append(row)
    decision = stop_decision([IterationRow.from_dict(item) for item in history], options, _hours_of_the_run())
    verdict: dict[str, str | None] = {'stop_reason': None}
    if decision is not None:
        verdict = {'stop_reason': str(decision.reason), 'stop_sentence': decision.sentence}
    return {'history': orm.Dict({'rows': history, **verdict})}


def _audit(new: DeviationData | None, tolerance: float | None) -> tuple[int, int]:
    """Return how many new labels are audits, and how many of these were wrong; none if no tolerance says what is wrong."""
    if new is None or tolerance is None:
        return 0, 0
    errors = new.get_array('max_force_error')[new.get_array('audit') > 0.5]
    return len(errors), int((errors > tolerance).sum())


def _hours_of_the_run() -> float:
    """Return the time since the calling work chain was made, or 0 without one.

    It is no input and stands in no row, for it would make every history new and spare no repeated run its calculations.
    """
    process = Process.current()
    caller = None if process is None else process.node.caller
    return 0.0 if caller is None else (timezone.now() - caller.ctime).total_seconds() / 3600


def _weighted(node: DeviationData, array: str) -> float:
    """Return the mean over force components of a per-frame mean."""
    return float(np.average(node.get_array(array), weights=node.get_array('n_atoms')))
