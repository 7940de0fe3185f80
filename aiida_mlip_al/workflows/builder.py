"""From a checked configuration to the inputs of a work chain."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common import NotExistent
from aiida.common.exceptions import MultipleObjectsError
from aiida.engine import ProcessBuilder
from ase.data import atomic_numbers
from ase.io import read

from aiida_mlip_al.calculations.shell_input import make_input
from aiida_mlip_al.config import ConfigError, RunConfig
from aiida_mlip_al.config.models import PoolExplore
from aiida_mlip_al.config.resources import job_options
from aiida_mlip_al.config.shell import ShellLabels
from aiida_mlip_al.config.vasp import VaspLabels, VaspLevel
from aiida_mlip_al.data import DatasetData, FrameData, ModelData
from aiida_mlip_al.data.dataset import check_same_theory
from aiida_mlip_al.data.frame import formula_of
from aiida_mlip_al.data.model import holds_mace_model
from aiida_mlip_al.data.pool import frames_left, trajectories_of
from aiida_mlip_al.lammps.box import Box
from aiida_mlip_al.lammps.script import BIAS_FILES, walker_script
from aiida_mlip_al.lammps.settings import LammpsExploreSettings
from aiida_mlip_al.sampling import job_positions, parse_steps
from aiida_mlip_al.sampling.spread import spread_walkers
from aiida_mlip_al.sampling.substitution import SubstitutionParameters

from .config_checks import (
    calculators_of,
    check_budget,
    check_elements,
    check_periodic,
    check_properties,
    elements_of,
)
from .explore_engines import conversion
from .installed_here import check_calculator, check_mace_arguments
from .seed_stages import vasp_level_of
from .vasp_theory import vasp_inputs, vasp_level


def load_structures(items: Sequence[str], folder: Path) -> dict[str, orm.StructureData]:
    """Return the structures to learn, by a name that is a valid link label.

    :param items: files that ASE reads (every frame counts), or nodes by PK or UUID.
    :param folder: where relative paths start.
    :raises ConfigError: if a file cannot be read or a node is not a structure.
    """
    structures: list[orm.StructureData] = []
    for item in items:
        path = folder / item
        if path.exists():
            structures += [orm.StructureData(ase=plain) for plain in _read_structures(path)]
        else:
            structures.append(load_typed(item, (orm.StructureData, FrameData), 'structure', f'file {path}'))
    return {f'structure_{index:02d}': node for index, node in enumerate(structures)}


def _read_structures(path: Path) -> list[Any]:
    try:
        frames = read(path, index=':')
    except Exception as error:
        raise ConfigError(f'{path} is not a structure file that ASE can read: {error}.') from None
    if not frames:
        raise ConfigError(f'{path} holds no structure.')
    return frames


def load_typed(identifier: str, types: type | tuple[type, ...], noun: str, alternative: str = '') -> Any:
    """Load a node and check what it is.

    :raises ConfigError: if there is no such node, or it is something else.
    """
    try:
        node = orm.load_node(identifier=int(identifier) if str(identifier).isdigit() else identifier)
    except (NotExistent, MultipleObjectsError, ValueError):
        also = f' and no {alternative}' if alternative else ''
        raise ConfigError(f'There is no {noun} node `{identifier}`{also}.') from None
    if not isinstance(node, types):
        raise ConfigError(f'Node {identifier} is a {type(node).__name__}, not a {noun}.')
    return node


def load_stage_code(label: str, stage: str) -> orm.AbstractCode:
    """Load the code of a stage.

    :raises ConfigError: if there is none of that name.
    """
    try:
        return orm.load_code(label)
    except NotExistent:
        raise ConfigError(
            f'The code `{label}` for the stage `{stage}` does not exist: create it with `aiida-mlip-al setup codes`, or name '
            'another one under `codes`.'
        ) from None
    except MultipleObjectsError:
        raise ConfigError(f'There are several codes `{label}`: name the one for `{stage}` by its PK.') from None


def load_program(command: str, folder: Path) -> orm.AbstractCode:
    """Return a code, or that of an executable of this machine, unstored if it is a new one.

    :param command: label, PK or UUID of a code; or the path or the name of an executable.
    :param folder: where relative paths start.
    :raises ConfigError: if there is neither.
    """
    try:
        return orm.load_code(command)
    except MultipleObjectsError:
        raise ConfigError(f'There are several codes `{command}`: name the one that labels by its PK.') from None
    except (NotExistent, ValueError):
        found = shutil.which(str(folder.absolute() / command)) or shutil.which(command)
    if found is None:
        raise ConfigError(
            f'There is neither a code nor an executable `{command}`: create the code with `verdi code create`, or give the '
            'path of the executable as `labels.shell.command`.'
        )
    try:
        computer = orm.load_computer('localhost')
    except NotExistent:
        raise ConfigError(f'To run {found} here, make this machine known with `aiida-mlip-al setup profile`.') from None
    known = orm.QueryBuilder().append(orm.Computer, filters={'id': computer.pk}, tag='computer')
    known.append(orm.InstalledCode, with_computer='computer', filters={'attributes.filepath_executable': found})
    code = known.first(flat=True)
    return code or orm.InstalledCode(label=Path(found).name, computer=computer, filepath_executable=found)


def read_model(path: Path, elements: Sequence[str] = ()) -> ModelData:
    """Return the model of a file, unstored.

    :param elements: chemical symbols that the model knows; empty if unknown.
    :raises ConfigError: if there is none in it.
    """
    if not holds_mace_model(path):
        raise ConfigError(f'{path} is no MACE model: give a file that MACE saved with `torch.save`.')
    return ModelData.from_path(path, is_foundation=True, elements=elements)


def load_model(reference: str, folder: Path) -> ModelData:
    """Return a model from a node or a file; a file that was imported before is the node that it became then."""
    path = folder / reference
    if not path.exists():
        return load_typed(reference, ModelData, 'model', f'file {path}')
    model = read_model(path)
    same = {f'attributes.{key}': model.base.attributes.get(key) for key in ('sha256', 'is_foundation')}
    query = orm.QueryBuilder().append(ModelData, filters=same).order_by({ModelData: {'ctime': 'desc'}})
    return query.first(flat=True) or model


def load_pool(items: Sequence[str], folder: Path) -> dict[str, orm.Data]:
    """Return frames to choose from as nodes.

    :param items: files that ASE reads, or nodes by PK or UUID.
    :raises ConfigError: if a file cannot be read, or a node has no frames or atoms of no element.
    """
    nodes: list[orm.Data] = []
    for item in items:
        path = folder / item
        if path.exists():
            frames = _read_structures(path)
            try:
                nodes += trajectories_of(enumerate(frames))
            except ValueError as error:
                raise ConfigError(f'{path}: {error}') from None
        else:
            node = load_typed(item, (DatasetData, orm.TrajectoryData), 'dataset or trajectory', f'file {path}')
            names = node.elements if isinstance(node, DatasetData) else node.symbols
            if strange := sorted(set(names) - set(atomic_numbers)):
                raise ConfigError(
                    f'Node {item} has atoms called {strange[0]}, which is no element: give a trajectory whose symbols are elements.'
                )
            nodes.append(node)
    return {f'pool_{index:02d}': node for index, node in enumerate(nodes)}


def load_files(items: Sequence[str], folder: Path) -> dict[str, orm.SinglefileData]:
    """Return files that a calculator reads, as nodes.

    :param items: paths, or nodes by PK or UUID.
    :raises ConfigError: if a file does not exist, or two have the same name: they go into one folder.
    """
    nodes = []
    for item in items:
        path = folder / item
        if path.is_file():
            nodes.append(orm.SinglefileData(file=path.resolve()))
        else:
            nodes.append(load_typed(item, orm.SinglefileData, 'file', f'file {path}'))
    names = [node.filename for node in nodes]
    if len(set(names)) < len(names):
        raise ConfigError(f'Two files of the calculators have the same name; rename one of {", ".join(items)}.')
    return {f'file_{index:02d}': node for index, node in enumerate(nodes)}


class Inputs:
    """The inputs of every stage, as a configuration says them.

    :param config: the checked configuration.
    :param folder: where relative paths start.
    :raises ConfigError: on whatever can only be seen with files and profile at hand.
    """

    def __init__(self, config: RunConfig, folder: str | Path = '.') -> None:
        self.config = config
        self.folder = Path(folder)
        self.structures = load_structures(config.structures, self.folder)
        check_elements(config, self.structures)
        check_periodic(config, self.structures)
        self.seed = orm.Int(config.random_seed)

    def job(self, stage: str, code: orm.AbstractCode | None = None) -> dict[str, Any]:
        """Return code and scheduler options of a stage.

        :raises ConfigError: if the code's computer cannot be asked for what the options say.
        """
        code = code or load_stage_code(self.config.code(stage), stage)
        scheduler = code.computer.scheduler_type if code.computer is not None else None
        options = job_options(self.config.resources, stage, scheduler)
        return {'code': code, 'metadata': {'options': options}}

    def calculator(self) -> dict[str, Any]:
        """Return the calculator of the label engine `ase`, if that is the one."""
        ase = self.config.labels.ase
        if ase is None:
            return {}
        check_calculator(ase.calculator)
        return {'calculator': orm.Dict(ase.model_dump(exclude={'files', 'batch_size'}, exclude_none=True))}

    def program(self, shell: ShellLabels) -> dict[str, Any]:
        """Return the inputs of the label engine `shell`.

        :raises ConfigError: also if its input of the first structure cannot be written.
        """
        inputs = {
            **self.job('label', load_program(shell.command, self.folder)),
            # Braces are placeholders for aiida-shell.
            'arguments': orm.List([text.replace('{', '{{').replace('}', '}}') for text in shell.arguments]),
            'settings': orm.Dict(shell.settings()),
        }
        if shell.files:
            inputs['nodes'] = load_files(shell.files, self.folder)
        if shell.template is not None:
            (inputs['template'],) = load_files([shell.template], self.folder).values()
        name, structure = next(iter(self.structures.items()))
        template = inputs['template'].get_content() if 'template' in inputs else None
        _, rejected = make_input({name: structure.get_ase()}, shell, template)
        if name in rejected and rejected[name].reason == 'error':
            raise ConfigError(f'`labels.shell`: {rejected[name].message}')
        return inputs

    def vasp(self, vasp: VaspLabels) -> dict[str, Any]:
        """Return the inputs of the label engine `vasp`.

        :raises ConfigError: also if a POTCAR or a tag is unknown.
        """
        code, options = self.vasp_job(vasp, 'label')
        return {'code': code, 'options': options, **vasp_inputs(vasp_level(vasp, self.elements), vasp)}

    def vasp_job(self, vasp: VaspLevel, stage: str) -> tuple[orm.AbstractCode, dict[str, Any]]:
        """Return VASP's code, and the scheduler options of a stage; VASP runs with MPI unless the code says otherwise."""
        job = self.job(stage, load_stage_code(vasp.code, stage))
        options = job['metadata']['options']
        if job['code'].with_mpi is None:
            options.setdefault('withmpi', True)
        return job['code'], options

    def vasp_levels(self, chains: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
        """Return the levels of theory of VASP that the steps of chains name.

        :raises ConfigError: if there is none of a name.
        """
        names = {vasp_level_of(step) for chain in chains.values() for step in chain} - {None}
        known = self.config.vasp_levels
        levels = {}
        for name in sorted(map(str, names)):
            if name not in known:
                raise ConfigError(f'There is no level of theory `{name}` of VASP: define it under `calculators`.')
            code, options = self.vasp_job(known[name], 'seed')
            levels[name] = {
                'code': code,
                'theory': orm.Dict(vasp_level(known[name], self.elements)),
                'options': orm.Dict(options),
            }
        return levels

    @property
    def elements(self) -> set[str]:
        """The elements of the structures, and those that substitutions bring in."""
        elements = {symbol for node in self.structures.values() for symbol in node.get_symbols_set()}
        for chain in [*(self.config.seed or {}).values(), *(self.config.test or {}).values()]:
            for _, parameters in parse_steps(chain):
                if isinstance(parameters, SubstitutionParameters):
                    elements |= parameters.new_elements
        return elements

    @property
    def label_files(self) -> list[str]:
        """The files of the label engine's calculator."""
        return self.config.labels.ase.files if self.config.labels.ase is not None else []

    def files(self, items: Sequence[str]) -> dict[str, Any]:
        """Return the namespace of a calculator's files, or nothing."""
        files = load_files(list(dict.fromkeys(items)), self.folder)
        return {'files': files} if files else {}

    def label(self) -> dict[str, Any]:
        """Return the inputs of LabelWorkChain, less the structures."""
        labels = self.config.labels
        if labels.shell is not None:
            engine = {'shell': self.program(labels.shell)}
        elif labels.vasp is not None:
            engine = {'vasp': self.vasp(labels.vasp)}
        elif labels.pool is not None:
            engine = {'pool': {'frames': self.labelled_pool()}}
        else:
            engine = {'ase': {**self.job('label'), **self.calculator(), **self.files(self.label_files)}}
        return {
            **engine,
            'batch_size': labels.batch_size,
            'max_concurrent': labels.max_concurrent,
            'max_failed_fraction': orm.Float(labels.max_failed_fraction),
            **({'min_label_fraction': orm.Float(labels.min_label_fraction)} if labels.min_label_fraction < 1 else {}),
        }

    @cached_property
    def datasets(self) -> dict[str, DatasetData]:
        """The labelled frames to begin with."""
        nodes = [load_typed(item, DatasetData, 'dataset') for item in self.config.datasets]
        return {f'given_{index:02d}': node for index, node in enumerate(nodes)}

    @cached_property
    def pool(self) -> dict[str, orm.Data]:
        """The frames that an exploration chooses from."""
        return {} if self.config.explore.pool is None else load_pool(self.config.explore.pool.frames, self.folder)

    def check_pool(self) -> None:
        """Refuse frames to choose from with elements that no model will know, and a pool of which nothing is left.

        :raises ConfigError: naming the element, if it is one.
        """
        for node in self.pool.values():
            elements = node.elements if isinstance(node, DatasetData) else node.symbols
            if strange := sorted(set(elements) - self.elements):
                raise ConfigError(
                    f'The pool has frames with {strange[0]}, which none of the `structures` has: give a structure with it, or '
                    'leave these frames out.'
                )
        left, n_frames = frames_left(self.pool, self.datasets.values())
        if not left:
            raise ConfigError(
                f'There is nothing to choose from: of the {n_frames} frames of the pool each is in `datasets` already, is a test '
                'frame, or cannot be evaluated; give others in `explore.pool.frames`.'
            )
        mace = self.config.train.mace
        if self.config.seed or self.config.reference_energies is not None or mace.foundation_model is not None:
            return
        begin = [frame for node in self.datasets.values() for frame in node.iterate('train', 'validation')]
        if unknown := sorted(elements_of(left.values()) - elements_of(begin)):
            raise ConfigError(
                f'The pool has frames with {unknown[0]}, and no frame to learn from in `datasets` has it, so that the first models '
                'could not look at them: add a labelled frame with it, such as `aiida-mlip-al dataset draw` draws.'
            )

    def labelled_pool(self) -> dict[str, orm.Data]:
        """Return the frames that an exploration chooses from, whose labels are used.

        :raises ConfigError: if they have none, or if these and `datasets` are of several levels of theory.
        """
        if not all(isinstance(node, DatasetData) for node in self.pool.values()):
            raise ConfigError(
                '`labels.pool` needs labelled frames: import the files of `explore.pool.frames` with `aiida-mlip-al dataset '
                'import`, and give the PKs that it prints.'
            )
        try:
            check_same_theory({f'Dataset {node.pk}': node for node in (*self.datasets.values(), *self.pool.values())})
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return self.pool

    def sample(self, chains: Mapping[str, list[dict[str, Any]]], split: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of PerturbAndSampleWorkChain, less structures and seed."""
        inputs: dict[str, Any] = {
            'chains': {name: orm.List(list(chain)) for name, chain in chains.items()},
            'split': orm.Dict(split),
            'max_concurrent': self.config.seed_max_concurrent,
        }
        for calculator in calculators_of(chains):
            check_calculator(calculator)
        levels = self.vasp_levels(chains)
        if levels:
            inputs['vasp'] = levels
        if any(
            vasp_level_of(chain[position]) is None for chain in chains.values() for position in job_positions(chain)
        ):
            named = [item for calculator in self.config.calculators.values() for item in calculator.files]
            inputs['ase'] = {
                **self.job('seed'),
                **self.calculator(),
                **self.files([*self.label_files, *named]),
            }
        return inputs

    def train(self, **changes: Any) -> dict[str, Any]:
        """Return the inputs of CommitteeTrainWorkChain, less datasets, seed and earlier models."""
        mace = self.config.train.mace
        for settings in (mace.model_dump(), mace.warm_start or {}, mace.final):
            check_mace_arguments(settings.get('extra', {}))
        inputs: dict[str, Any] = {
            'members': orm.Int(mace.members),
            'min_members': orm.Int(mace.min_members),
            'members_per_job': self.config.train.members_per_job,
            'max_concurrent': self.config.train.max_concurrent,
            'mace': {'train': {**self.job('train'), 'parameters': orm.Dict(mace.parameters(**changes))}},
        }
        if mace.foundation_model is not None:
            inputs['foundation_model'] = load_model(mace.foundation_model, self.folder)
        if mace.replay is not None:
            inputs['mace']['train']['replay'] = load_typed(mace.replay, DatasetData, 'dataset')
        if self.config.train.uncertainty is not None:
            settings = self.config.train.uncertainty.llpr.model_dump()
            inputs['uncertainty'] = {**self.job('train'), 'settings': orm.Dict(settings)}
        return inputs

    def explore(self) -> dict[str, Any]:
        """Return the inputs of ExploreWorkChain, less structures, committee and seed.

        :raises ConfigError: also if LAMMPS' script of a structure cannot be written.
        """
        explore, lammps, given = self.config.explore, self.config.explore.lammps, self.config.explore.settings
        described = orm.Dict({'descriptors': self.config.select.descriptors})
        if isinstance(given, PoolExplore):
            self.check_pool()
            return {
                'settings': orm.Dict(given.values.model_dump()),
                'max_concurrent': explore.max_concurrent,
                'pool': {**self.job('explore'), 'settings': described, 'frames': self.pool},
            }
        chosen = given if lammps is None else lammps.values
        settings = chosen.model_dump(exclude_none=True)
        if self.config.select.upper is not None and self.config.select.measure == 'max':
            settings.setdefault('upper', self.config.select.upper)
        if self.config.select.measure == 'stress' and lammps is None:
            settings['stress_deviation'] = True
        if self.config.select.descriptors != 'features':
            settings['descriptors'] = self.config.select.descriptors
        inputs: dict[str, Any] = {'settings': orm.Dict(settings), 'max_concurrent': explore.max_concurrent}
        if chosen.bias is not None:
            path = self.folder / chosen.bias.file
            if not path.is_file():
                raise ConfigError(f'There is no file {path} for the bias.')
            inputs['bias'] = orm.SinglefileData(path.resolve(), filename=BIAS_FILES[chosen.bias.program])
        if lammps is None:
            return {**inputs, 'ase': self.job('explore')}
        inputs['lammps'] = {
            **self.job('explore', load_stage_code(lammps.code, 'explore')),
            'max_restarts': lammps.max_restarts,
        }
        if lammps.template is not None:
            (inputs['lammps']['template'],) = load_files([lammps.template], self.folder).values()
        if not lammps.in_run:
            inputs['convert'] = {**self.job('evaluate'), **conversion(lammps.values)}
            inputs['deviate'] = {**self.job('evaluate'), 'settings': described}
        self.check_scripts(inputs)
        return inputs

    def check_scripts(self, inputs: Mapping[str, Any]) -> None:
        """Write LAMMPS' script of every structure once.

        :raises ConfigError: if one cannot be written.
        """
        settings = LammpsExploreSettings(**inputs['settings'].get_dict())
        template = inputs['lammps']['template'].get_content() if 'template' in inputs['lammps'] else None
        for structure in self.structures.values():
            if len(structure.sites) < 2:
                continue  # starts no walker itself, but may be seeds' unit cell
            own = settings.of_system(formula_of(structure))
            try:
                walker_script(
                    own, spread_walkers(own, ['any'], 0)[0], Box(structure.get_ase()), 2, 'bias' in inputs, template
                )
            except ValueError as error:
                raise ConfigError(f'`explore.lammps`: {error}') from None

    def run(self) -> dict[str, Any]:
        """Return the inputs of ActiveLearningWorkChain."""
        config = self.config
        check_budget(config, len(self.structures))
        select = config.select.model_dump()
        if select['label_budget'] is None:
            select['label_budget'] = config.stop.max_labels
        settings = orm.Dict({'descriptors': config.select.descriptors, 'dtype': 'float64'})
        inputs: dict[str, Any] = {
            'structures': self.structures,
            'seed': self.seed,
            'label': self.label(),
            'train': self.train(),
            'explore': self.explore(),
            'evaluate': {'evaluate': {**self.job('evaluate'), 'settings': settings}},
            'select': orm.Dict(select),
            'stop': orm.Dict(config.stop.model_dump()),
            'warm_start': orm.Bool(config.train.mace.warm_start is not None),
            'metadata': {'label': config.label},
        }
        if config.train.mace.final:
            inputs['final'] = orm.Dict(config.train.mace.parameters(**config.train.mace.final))
        if self.datasets:
            inputs['datasets'] = self.datasets
        if config.reference_energies is not None:
            inputs['reference_energies'] = orm.Dict(config.reference_energies)
        if config.seed:
            inputs['seeding'] = self.sample(config.seed, {'validation_fraction': config.seed_validation_fraction})
            if config.seed_rounds is not None:
                inputs['seed_rounds'] = orm.Dict(config.seed_rounds.model_dump())
        if config.test:
            # Another seed, so that the test frames owe nothing to the random numbers of the training frames.
            inputs['test'] = {
                **self.sample(config.test, {'name': 'test'}),
                'seed': orm.Int(config.random_seed + 1_000_003),
            }
        if config.stop.properties is not None:
            check_properties(config, self.structures)
            settings = orm.Dict(config.stop.properties.job_settings())
            inputs['properties'] = {**self.job('evaluate'), 'settings': settings}
        return inputs


def make_builder(process: Any, inputs: Mapping[str, Any]) -> ProcessBuilder:
    """Return a builder filled with nested inputs."""
    builder = process.get_builder()
    builder._update(inputs)
    return builder
