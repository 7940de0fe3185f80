"""Calcfunctions of the exploration with LAMMPS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm

from aiida_mlip_al.calculations.caching import calcfunction
from aiida_mlip_al.data import DeviationData
from aiida_mlip_al.data.frame import formula_of
from aiida_mlip_al.lammps.box import Box
from aiida_mlip_al.lammps.script import FILES, misfit, walker_script
from aiida_mlip_al.lammps.settings import LammpsExploreSettings
from aiida_mlip_al.sampling.base import parse_parameters
from aiida_mlip_al.sampling.spread import spread_systems

SCRIPT = 'walker.in'
Spans = dict[str, tuple[float, float]]


@calcfunction
def plan_lammps(settings: orm.Dict, seed: orm.Int, **inputs: Any) -> dict[str, Any]:
    """Give every walker its start, condition, seed, input script and data file.

    Structures that do not fit the settings, such as the isolated atoms among the labelled ones, start no walker; ``refused``
    says why.

    :param settings: conditions, length, checks and limits.
    :param seed: the walkers' own seeds are drawn from it.
    :param inputs: ``structures`` and ``committee`` by name; the loop's ``history``, so that each iteration draws other seeds;
        ``template``, the user's own script; ``bias``, the input file of a bias that acts in this iteration.
    """
    parsed = parse_parameters('explore', LammpsExploreSettings, settings.get_dict())
    rows = inputs['history']['rows'] if 'history' in inputs else []
    template = inputs['template'].get_content() if 'template' in inputs else None
    boxes = {name: Box(node.get_ase()) for name, node in inputs['structures'].items()}
    formulas = {name: formula_of(node) for name, node in inputs['structures'].items()}
    settings_of = {name: parsed.of_system(formula) for name, formula in formulas.items()}
    refused = {name: found for name, box in boxes.items() if (found := misfit(settings_of[name], box)) is not None}
    fitting = {name: formulas[name] for name in sorted(set(boxes) - set(refused))}
    plan: dict[str, Any] = {
        'settings': {},
        'walkers': {},
        'scripts': {},
        'boxes': {},
        **({'refused': orm.Dict(refused)} if refused else {}),
    }
    for name, (own, (walker,)) in spread_systems(parsed, fitting, seed.value, len(rows)).items():
        box = boxes[walker['structure']]
        script = walker_script(own, walker, box, len(inputs['committee']), 'bias' in inputs, template)
        skewed = own.ensemble == 'npt' and own.barostat_mask is None
        skewed |= any(len(axis) == 2 for axis in own.strain_rate)
        plan['settings'][name] = orm.Dict(own.model_dump(mode='json', exclude={'systems'}))
        plan['walkers'][name] = orm.Dict(walker)
        plan['scripts'][name] = orm.SinglefileData.from_string(script, filename=SCRIPT)
        plan['boxes'][name] = orm.SinglefileData.from_string(box.data(skewed), filename=FILES['data'])
    return plan


@calcfunction
def join_walker(**inputs: Any) -> dict[str, Any]:
    """Make one walker of the parts between its interruptions.

    Of a part only the steps up to the restart file count from which a later one went on, if that left anything.

    :param inputs: ``trajectories``, ``deviations`` and ``thermo`` by part, each where there are; ``restarts``, the file that
        a part began with, if it did not begin at the start; ``reports``.
    """
    restarts = inputs.get('restarts', {})

    def spans(parts: Mapping[str, Any]) -> Spans:
        """Return after which step each part counts, and until which: where a later one began that left something."""
        begins = {part: restarts[part].base.attributes.get('step') if part in restarts else -1 for part in parts}
        later = {part: [begins[other] for other in parts if other > part] for part in parts}
        return {part: (begins[part], min(later[part], default=np.inf)) for part in parts}

    joined: dict[str, Any] = {}
    trajectories = inputs.get('trajectories', {})
    if trajectories:
        joined['trajectory'] = _join_trajectories(trajectories, spans(trajectories))
    deviations = inputs.get('deviations', {})
    if deviations:
        columns = _join_arrays(deviations, spans(deviations), 'step')
        last = deviations[max(deviations)].base.attributes
        joined['deviation'] = DeviationData.from_arrays(
            columns, **{key: last.get(key) for key in ('stopped_early', 'stop_reason')}
        )
    thermo = inputs.get('thermo', {})
    if thermo:
        node = orm.ArrayData()
        for name, values in _join_arrays(thermo, spans(thermo), 'Step').items():
            node.set_array(name, values)
        joined['thermo'] = node
    reports = [inputs['reports'][part].get_dict() for part in sorted(inputs['reports'])]
    summary = {
        **reports[-1],
        **{key: sum(report[key] for report in reports) for key in ('wall_s', 'core_s')},
        'last_step': max((report['last_step'] for report in reports if report['last_step'] is not None), default=None),
        'n_frames': joined['trajectory'].numsteps if 'trajectory' in joined else 0,
        'n_parts': len(reports),
    }
    return {**joined, 'report': orm.Dict(summary)}


def _join_trajectories(parts: dict[str, orm.TrajectoryData], spans: Spans) -> orm.TrajectoryData:
    arrays = _join_arrays(parts, spans, 'steps')
    first, last = parts[min(parts)], parts[max(parts)]
    trajectory = orm.TrajectoryData()
    own = {name: arrays.pop(name, None) for name in ('steps', 'cells', 'times', 'positions', 'velocities')}
    trajectory.set_trajectory(symbols=first.symbols, stepids=own.pop('steps'), pbc=first.pbc, **own)
    for name, values in arrays.items():
        trajectory.set_array(name, values)
    trajectory.base.attributes.set('stop_reason', last.base.attributes.get('stop_reason'))
    return trajectory


def _join_arrays(parts: dict[str, orm.ArrayData], spans: Spans, steps: str) -> dict[str, np.ndarray]:
    """Return the arrays that all parts have, one after another.

    A part repeats the step that it begins with.
    """
    names = sorted(set.intersection(*(set(part.get_arraynames()) for part in parts.values())))
    kept = {}
    for name, part in parts.items():
        after, until = spans[name]
        kept[name] = (part.get_array(steps) > after) & (part.get_array(steps) <= until)
    return {name: np.concatenate([parts[part].get_array(name)[kept[part]] for part in sorted(parts)]) for name in names}
