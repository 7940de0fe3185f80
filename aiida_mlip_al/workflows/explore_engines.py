"""The programs that explore, each with the same few methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from aiida import orm
from aiida.common import AttributeDict
from aiida.engine import CalcJob, Process
from aiida.engine.processes.workchains.workchain import WorkChainSpec
from ase import Atoms

from aiida_mlip_al.calculations.deviate import DeviateCalculation
from aiida_mlip_al.calculations.explore import ExploreCalculation
from aiida_mlip_al.calculations.functions import plan_dynamics
from aiida_mlip_al.calculations.lammps_explore import LammpsExploreCalculation
from aiida_mlip_al.calculations.lammps_functions import plan_lammps
from aiida_mlip_al.calculations.pool_functions import plan_pool
from aiida_mlip_al.data import DatasetData
from aiida_mlip_al.lammps.box import Box
from aiida_mlip_al.lammps.script import NATIVE_MODELS
from aiida_mlip_al.lammps.script import misfit as lammps_misfit
from aiida_mlip_al.lammps.settings import LammpsExploreSettings
from aiida_mlip_al.sampling.base import parse_parameters
from aiida_mlip_al.sampling.pool import PoolSettings
from aiida_mlip_al.sampling.spread import misfit
from aiida_mlip_al.sampling.walkers import AseExploreSettings, ExploreSettings

from .evaluate import DeviateBaseWorkChain
from .lammps_explore import LammpsExploreWorkChain


class ExploreEngine(ABC):
    """One way to explore. The input namespace that is given names the engine.

    ``job`` gives code and scheduler options to the namespace, ``process`` is what runs one entry of the plan.
    """

    name: ClassVar[str]
    job: ClassVar[type[CalcJob]]
    process: ClassVar[type[Process]]
    settings: ClassVar[type[ExploreSettings | PoolSettings]]
    help: ClassVar[str]
    exposed: ClassVar[tuple[str, ...]] = ('code', 'metadata')

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Add the engine's input namespace to a work chain."""
        spec.expose_inputs(
            cls.job,
            namespace=cls.name,
            include=cls.exposed,
            namespace_options={'required': False, 'populate_defaults': False, 'help': cls.help},
        )

    @classmethod
    @abstractmethod
    def plan(cls, inputs: Any, optional: dict[str, orm.Data]) -> dict[str, Any]:
        """Divide the walkers over processes; ``walkers`` of the plan has one entry for each.

        :param inputs: of the work chain.
        :param optional: ``history``, ``bias`` and ``known``, where there are.
        """

    @classmethod
    @abstractmethod
    def inputs(cls, inputs: Any, exposed: AttributeDict, plan: Mapping[str, Any], label: str) -> AttributeDict:
        """Return the inputs of one process.

        :param inputs: of the work chain.
        :param exposed: the engine's namespace.
        :param plan: from :meth:`plan`, with what the work chain added to it.
        :param label: of the process in the plan.
        """

    @classmethod
    def misfit(cls, settings: Any, atoms: Atoms) -> str | None:
        """Return why MD of a structure cannot be run with the settings of its system, or None."""
        return None

    @classmethod
    def parse(cls, settings: orm.Dict) -> ExploreSettings | PoolSettings:
        """Return checked settings.

        :raises ValueError: one sentence on the first mistake.
        """
        return parse_parameters('explore', cls.settings, settings.get_dict())


class AseExploreEngine(ExploreEngine):
    """MD with ASE; the walkers of a job advance together."""

    name = 'ase'
    job = process = ExploreCalculation
    settings = AseExploreSettings
    help = 'Explore with ASE.'

    @classmethod
    def plan(cls, inputs: Any, optional: dict[str, orm.Data]) -> dict[str, Any]:
        """Divide the walkers over jobs."""
        history = {name: node for name, node in optional.items() if name == 'history'}
        plan = plan_dynamics(inputs.settings, inputs.seed, structures=dict(inputs.structures), **history)
        return {**plan, **{name: node for name, node in optional.items() if name == 'bias'}}

    @classmethod
    def misfit(cls, settings: ExploreSettings, atoms: Atoms) -> str | None:
        """Return why ASE cannot run it, or None."""
        return misfit(settings, atoms)

    @classmethod
    def inputs(cls, inputs: Any, exposed: AttributeDict, plan: Mapping[str, Any], label: str) -> AttributeDict:
        """Return the inputs of a job: its walkers and where they start."""
        walkers = plan['walkers'][label]
        starts = {walker['structure'] for walker in walkers.get_list()}
        exposed.committee = dict(inputs.committee)
        exposed.structures = {name: inputs.structures[name] for name in sorted(starts)}
        exposed.dynamics, exposed.check, exposed.walkers = plan['dynamics'][label], plan['check'], walkers
        if 'uncertainty' in inputs:
            exposed.uncertainty = inputs.uncertainty
        if 'bias' in plan:
            exposed.bias = plan['bias']
        return exposed


class LammpsExploreEngine(ExploreEngine):
    """MD with LAMMPS, a process for each walker."""

    name = 'lammps'
    job = LammpsExploreCalculation
    process = LammpsExploreWorkChain
    settings = LammpsExploreSettings
    help = 'Explore with LAMMPS.'

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Add the user's script and the restarts."""
        super().define(spec)
        spec.input(
            f'{cls.name}.template',
            valid_type=orm.SinglefileData,
            required=False,
            help="The user's own script, in Jinja with the names of `aiida_mlip_al/lammps/walker.in.j2`.",
        )
        spec.input(
            f'{cls.name}.max_restarts',
            valid_type=int,
            non_db=True,
            required=False,
            help='How often an interrupted walker is continued.',
        )

    @classmethod
    def plan(cls, inputs: Any, optional: dict[str, orm.Data]) -> dict[str, Any]:
        """Write the walkers' scripts."""
        optional = {name: node for name, node in optional.items() if name != 'known'}
        if 'template' in inputs.lammps:
            optional = {**optional, 'template': inputs.lammps.template}
        plan = plan_lammps(
            inputs.settings,
            inputs.seed,
            structures=dict(inputs.structures),
            committee=dict(inputs.committee),
            **optional,
        )
        return {**plan, **{name: node for name, node in optional.items() if name == 'bias'}}

    @classmethod
    def misfit(cls, settings: LammpsExploreSettings, atoms: Atoms) -> str | None:
        """Return why LAMMPS cannot run it, or None."""
        return lammps_misfit(settings, Box(atoms))

    @classmethod
    def inputs(cls, inputs: Any, exposed: AttributeDict, plan: Mapping[str, Any], label: str) -> AttributeDict:
        """Return the inputs of a walker; a native LAMMPS gets the first model alone, and what was made of it."""
        walker = plan['walkers'][label]
        first = min(inputs.committee)
        exposed.script = plan['scripts'][label]
        exposed.files = {'structure': plan['boxes'][label]}
        exposed.files.update({name: plan[name] for name in ('bias', 'converted') if name in plan})
        exposed.structure = inputs.structures[walker['structure']]
        exposed.committee = {first: inputs.committee[first]} if 'converted' in plan else dict(inputs.committee)
        exposed.dynamics, exposed.walker = plan['settings'][label], walker
        process = AttributeDict({'lammps': exposed, 'metadata': {}})
        if 'max_restarts' in inputs.lammps:
            process.max_restarts = inputs.lammps.max_restarts
        return process


class PoolExploreEngine(ExploreEngine):
    """No dynamics: the committee looks at frames that exist."""

    name = 'pool'
    job = DeviateCalculation
    process = DeviateBaseWorkChain
    settings = PoolSettings
    help = 'Choose among frames that exist.'
    exposed = ('code', 'settings', 'metadata')

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:
        """Add the frames."""
        super().define(spec)
        spec.input_namespace(
            f'{cls.name}.frames',
            valid_type=(DatasetData, orm.TrajectoryData),
            dynamic=True,
            required=False,
            help='The frames, with labels (which nobody looks at) or without.',
        )

    @classmethod
    def plan(cls, inputs: Any, optional: dict[str, orm.Data]) -> dict[str, Any]:
        """Divide the frames over jobs."""
        others = {name: node for name, node in optional.items() if name != 'bias'}
        return plan_pool(inputs.settings, inputs.seed, frames=dict(inputs.pool.frames), **others)

    @classmethod
    def inputs(cls, inputs: Any, exposed: AttributeDict, plan: Mapping[str, Any], label: str) -> AttributeDict:
        """Return the inputs of a job: its frames."""
        exposed.committee, exposed.trajectories = dict(inputs.committee), dict(plan['walkers'][label])
        if 'uncertainty' in inputs:
            exposed.uncertainty = inputs.uncertainty
        return AttributeDict({'deviate': exposed, 'metadata': {}})


EXPLORE_ENGINES: dict[str, type[ExploreEngine]] = {
    engine.name: engine for engine in (AseExploreEngine, LammpsExploreEngine, PoolExploreEngine)
}


def given_engine(inputs: Any) -> type[ExploreEngine]:
    """Return the engine whose namespace is given.

    :param inputs: of an exploration.
    """
    return next(engine for name, engine in EXPLORE_ENGINES.items() if inputs.get(name))


def conversion(settings: LammpsExploreSettings) -> dict[str, orm.Data]:
    """Return what the ShellJob needs, but for code and model, to make of a model what a native LAMMPS reads.

    :param settings: with the pair style and the precision.
    """
    create = ['-m', 'mace.cli.create_lammps_model', '{model}', f'--dtype={settings.dtype}']
    extract = ['-c', 'from symmetrix.cli.extract_mace import main; main()', '--model', '{model}', '--output']
    name = NATIVE_MODELS[settings.pair_style]
    arguments = {
        'mliap': [*create, '--format=mliap'],
        'mace': [*create, '--format=libtorch'],
        'symmetrix': [*extract, name],
    }
    return {
        'arguments': orm.List(arguments[settings.pair_style]),
        'filenames': orm.Dict({'model': 'model_00.model'}),
        'outputs': orm.List([name]),
    }
