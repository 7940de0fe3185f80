"""The seeding steps that run as jobs: what PerturbAndSampleWorkChain needs to know of each, and nothing more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import Process

from aiida_mlip_al.calculations.md import MdCalculation
from aiida_mlip_al.calculations.phonon_functions import phonon_frames, plan_phonons
from aiida_mlip_al.calculations.relax import RelaxCalculation
from aiida_mlip_al.calculations.seed_functions import (
    plan_md,
    plan_relax,
    plan_vasp_md,
    relaxed_frames,
    trajectory_frames,
)
from aiida_mlip_al.data.vasp_result import theory_differences

from .force_constants import ForceConstantsWorkChain
from .vasp_md import VaspMdWorkChain

Structures = Mapping[str, orm.StructureData]


@dataclass
class StageOutcome:
    """What a step gave.

    :param frames: by name.
    :param references: for each frame, the equilibrium structure with the same atoms that it derives from, where there is one.
    :param computed: trajectories whose energies, forces and stress may be labels of these frames.
    :param notes: what went less well, for the report.
    :param problem: why the chain cannot go on.
    """

    frames: dict[str, orm.StructureData] = field(default_factory=dict)
    references: dict[str, orm.StructureData] = field(default_factory=dict)
    computed: list[orm.TrajectoryData] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str | None = None


class SeedStage(ABC):
    """One kind of step that needs jobs.

    :param name: of the step, as in the chain.
    :param process: what is submitted.
    """

    name: ClassVar[str]
    process: ClassVar[type[Process]]

    @classmethod
    @abstractmethod
    def submissions(cls, engine: AttributeDict, segment: orm.Dict, structures: Structures) -> dict[str, dict[str, Any]]:
        """Return the inputs of every process of the step, by a name of its own.

        :param engine: code, metadata, calculator and files; for a step by VASP, its level of theory.
        :param segment: the step with its parameters, and its seed.
        :param structures: what the step starts from.
        """

    @classmethod
    @abstractmethod
    def outcome(
        cls,
        nodes: Mapping[str, orm.ProcessNode],
        segment: orm.Dict,
        split: orm.Dict,
        structures: Structures,
        references: Structures,
    ) -> StageOutcome:
        """Read the finished processes."""


class MdStage(SeedStage):
    """Molecular dynamics with any ASE calculator; all walkers in one job."""

    name = 'md'
    process = MdCalculation

    @classmethod
    def submissions(cls, engine: AttributeDict, segment: orm.Dict, structures: Structures) -> dict[str, dict[str, Any]]:
        """One job of all walkers."""
        plan = plan_md(segment, **structures)
        return {
            'md': {
                **engine,
                'calculator': plan.get('calculator', engine.get('calculator')),
                'structures': dict(structures),
                'dynamics': plan['dynamics'],
                'walkers': plan['walkers'],
            }
        }

    @classmethod
    def outcome(
        cls,
        nodes: Mapping[str, orm.ProcessNode],
        segment: orm.Dict,
        split: orm.Dict,
        structures: Structures,
        references: Structures,
    ) -> StageOutcome:
        """Take frames out of the trajectories; a killed job gives what it had."""
        (node,) = nodes.values()
        if 'trajectories' not in node.outputs:
            return StageOutcome(problem=f'MD <{node.pk}> left no frames: {reason(node)}')
        trajectories = dict(node.outputs.trajectories.items())
        frames = dict(trajectory_frames(segment, split, node.inputs.walkers, **trajectories)['frames'])
        outcome = StageOutcome(frames, starts_of(frames, node.inputs.walkers, structures, references))
        if not node.is_finished_ok:
            outcome.notes.append(f'MD <{node.pk}> did not come to its end: {reason(node)}')
        return outcome


class VaspMdStage(SeedStage):
    """Molecular dynamics by VASP; each walker has jobs of its own."""

    name = 'vasp_md'
    process = VaspMdWorkChain

    @classmethod
    def submissions(cls, engine: AttributeDict, segment: orm.Dict, structures: Structures) -> dict[str, dict[str, Any]]:
        """One work chain for each walker."""
        plan = plan_vasp_md(segment, **structures)
        shared = {**engine, 'options': engine['options'].get_dict()} if 'options' in engine else dict(engine)
        return {
            name: {**shared, 'structure': structures[walker['structure']], 'dynamics': plan['dynamics'][name]}
            for name, walker in zip(sorted(plan['dynamics']), plan['walkers'].get_list(), strict=True)
        }

    @classmethod
    def outcome(
        cls,
        nodes: Mapping[str, orm.ProcessNode],
        segment: orm.Dict,
        split: orm.Dict,
        structures: Structures,
        references: Structures,
    ) -> StageOutcome:
        """Take frames out of the trajectories that there are."""
        trajectories = {name: node.outputs.trajectory for name, node in nodes.items() if 'trajectory' in node.outputs}
        notes = [
            f'VASP <{node.pk}> ({name}) did not come to its end: {reason(node)}'
            for name, node in nodes.items()
            if not node.is_finished_ok
        ]
        if not trajectories:
            return StageOutcome(problem=f'MD by VASP left no frames: {notes[0]}')
        walkers = next(iter(nodes.values())).inputs.dynamics.creator.outputs.walkers
        frames = dict(trajectory_frames(segment, split, walkers, **trajectories)['frames'])
        computed = list(trajectories.values()) if reuses_labels(segment.get_dict()) else []
        return StageOutcome(frames, starts_of(frames, walkers, structures, references), computed, notes)


class RelaxStage(SeedStage):
    """Relaxation of atoms and cell; all structures in one job."""

    name = 'relax'
    process = RelaxCalculation

    @classmethod
    def submissions(cls, engine: AttributeDict, segment: orm.Dict, structures: Structures) -> dict[str, dict[str, Any]]:
        """One job of all structures."""
        plan = plan_relax(segment)
        inputs = {**engine, 'structures': dict(structures), 'settings': plan['settings']}
        return {'relax': {**inputs, 'calculator': plan.get('calculator', engine.get('calculator'))}}

    @classmethod
    def outcome(
        cls,
        nodes: Mapping[str, orm.ProcessNode],
        segment: orm.Dict,
        split: orm.Dict,
        structures: Structures,
        references: Structures,
    ) -> StageOutcome:
        """Go on with the relaxed structures."""
        (node,) = nodes.values()
        if not node.is_finished_ok:
            return StageOutcome(problem=f'relaxation <{node.pk}>: {reason(node)}')
        return StageOutcome(dict(relaxed_frames(segment, split, **dict(node.outputs.structures.items()))['frames']))


class PhononStage(SeedStage):
    """Thermal displacements along phonons: force constants of every structure, then frames."""

    name = 'phonon_displacements'
    process = ForceConstantsWorkChain

    @classmethod
    def submissions(cls, engine: AttributeDict, segment: orm.Dict, structures: Structures) -> dict[str, dict[str, Any]]:
        """One work chain for each structure."""
        plan = plan_phonons(segment)
        ase = {**engine, 'calculator': plan.get('calculator', engine.get('calculator'))}
        return {
            name: {'structure': structure, 'settings': plan['settings'], 'label': {'ase': ase}}
            for name, structure in structures.items()
        }

    @classmethod
    def outcome(
        cls,
        nodes: Mapping[str, orm.ProcessNode],
        segment: orm.Dict,
        split: orm.Dict,
        structures: Structures,
        references: Structures,
    ) -> StageOutcome:
        """Displace the atoms of every structure whose force constants are there."""
        for node in nodes.values():
            if not node.is_finished_ok:
                return StageOutcome(problem=f'force constants <{node.pk}>: {reason(node)}')
        supercells = {name: node.outputs.supercell for name, node in nodes.items()}
        constants = {name: node.outputs.force_constants for name, node in nodes.items()}
        result, call = phonon_frames.run_get_node(segment, split, force_constants=constants, supercells=supercells)
        if not call.is_finished_ok:
            return StageOutcome(problem=call.exit_message)
        frames = dict(result['frames'])
        by_uuid = {node.uuid: node for node in supercells.values()}
        return StageOutcome(frames, {name: by_uuid[frame.origin['parent_uuid']] for name, frame in frames.items()})


SEED_STAGES: dict[str, type[SeedStage]] = {stage.name: stage for stage in (MdStage, RelaxStage, PhononStage)}


def starts_of(
    frames: Structures, walkers: orm.List, structures: Structures, references: Structures
) -> dict[str, orm.StructureData]:
    """Return for each frame of an MD where its walker started, or what that start derives from."""
    starts = [walker['structure'] for walker in walkers.get_list()]
    begun = {name: starts[frame.origin['walker']] for name, frame in frames.items()}
    return {name: references.get(start, structures[start]) for name, start in begun.items()}


def stage_of(segment: orm.Dict) -> type[SeedStage]:
    """Return what runs a segment that needs jobs."""
    values = segment.get_dict()
    if vasp_level_of(values) is not None:
        return VaspMdStage
    return SEED_STAGES[next(name for name in values if name != 'seed')]


def vasp_level_of(step: Mapping[str, Any]) -> str | None:
    """Return the name of the level of theory of VASP that a step names, if it does."""
    return (step.get('md') or {}).get('vasp')


def reuses_labels(step: Mapping[str, Any]) -> bool:
    """Return whether what an MD step computes is to be taken as labels."""
    return bool((step.get('md') or {}).get('reuse_labels'))


def reuse_problem(chains: Mapping[str, orm.List], levels: Mapping[str, Any], label: Mapping[str, Any]) -> str | None:
    """Return why a step cannot give labels: it must be the same VASP at the same level of theory that makes the labels.

    :param chains: of seeding steps.
    :param levels: ``code`` and ``theory`` by the name of the level of theory of VASP.
    :param label: inputs of LabelWorkChain.
    """
    for name, chain in chains.items():
        for step in filter(reuses_labels, chain.get_list()):
            begin, level = f'chain `{name}`, step `md`: `reuse_labels` needs', levels.get(step['md'].get('vasp'), {})
            end = 'leave it out, and the frames are labelled anew.'
            if not label.get('vasp'):
                return f'{begin} labels by VASP: {end}'
            if not {'code', 'theory'} <= set(level):
                continue
            differences = theory_differences(level['theory'].get_dict(), label['vasp']['theory'].get_dict())
            if differences:
                return (
                    f'{begin} the level of theory of the labels, which has another {" and ".join(differences)}: {end}'
                )
            if level['code'].uuid != label['vasp']['code'].uuid:
                return (
                    f'{begin} the code of the labels, `{label["vasp"]["code"].full_label}`, for the version of VASP belongs to the '
                    f'level of theory: {end}'
                )
    return None


def reason(node: orm.ProcessNode) -> str:
    """Return why a process did not end well."""
    return node.exit_message or str(node.process_state)
