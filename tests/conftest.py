"""An AiiDA profile of the session's own (SQLite, no broker, away from the user's configuration) and factories of nodes.

The fixtures of AiiDA make and load the profile: ``aiida_localhost``, ``aiida_code_installed`` and the others are there too.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

# AiiDA makes a configuration folder as soon as it is imported: this one goes with the session.
_CONFIGURATION = tempfile.TemporaryDirectory(prefix='aiida-')
os.environ['AIIDA_PATH'] = _CONFIGURATION.name

pytest_plugins = ['aiida.tools.pytest_fixtures', 'helpers.fault_table']


class PreparedJob(NamedTuple):
    """A CalcJob just before submission: its process, the folder it wrote, and what is to be copied and retrieved."""

    process: Any
    folder: Path
    calcinfo: Any


class ParsedJob(NamedTuple):
    """What a parser made of a job: outputs (nested by namespace, all of them stored), exit status and message."""

    outputs: dict[str, Any]
    status: int
    message: str | None


def flatten(inputs: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the nodes of nested namespaces with their link labels."""
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f'{prefix}{name}__')
        else:
            yield f'{prefix}{name}', value


@pytest.fixture
def python_code(aiida_code_installed: Callable[..., Any]) -> Any:
    """The Python that runs the tests, as a code on localhost."""
    return aiida_code_installed(label='python', filepath_executable=sys.executable)


@pytest.fixture
def generate_calc_job(tmp_path: Path) -> Callable[[str, dict[str, Any]], PreparedJob]:
    """Return a factory of jobs that stand just before their submission.

    ``generate_calc_job(entry_point, inputs)``: the inputs are validated, stored and written out as the engine does it.

    :raises ValueError: if the inputs are refused.
    """
    from aiida.common.folders import Folder
    from aiida.engine.utils import instantiate_process
    from aiida.manage import get_manager
    from aiida.plugins import CalculationFactory

    def generate(entry_point: str, inputs: dict[str, Any]) -> PreparedJob:
        process = instantiate_process(get_manager().get_runner(), CalculationFactory(entry_point), **inputs)
        folder = tmp_path / f'job_{process.node.pk}'
        folder.mkdir()
        return PreparedJob(process, folder, process.prepare_for_submission(Folder(folder)))

    return generate


@pytest.fixture
def generate_calc_job_node(aiida_localhost: Any) -> Callable[..., Any]:
    """Return a factory of stored jobs that have been run and retrieved.

    ``generate_calc_job_node(entry_point, inputs, files, attributes)``

    :param entry_point: of the CalcJob, for example ``mlip_al.label``.
    :param inputs: nodes by port name, nested by namespace; stored if they are not yet.
    :param files: content, text or bytes, of each retrieved file by its path.
    :param attributes: further attributes of the job, such as the ``exit_status`` that the scheduler's parser set.
    :returns: the ``CalcJobNode`` with its ``retrieved`` folder.
    """
    import io

    from aiida.common import LinkType
    from aiida.orm import CalcJobNode, FolderData
    from aiida.plugins.entry_point import format_entry_point_string

    def generate(
        entry_point: str,
        inputs: dict[str, Any],
        files: Mapping[str, str | bytes],
        attributes: dict[str, Any] | None = None,
    ) -> Any:
        process_type = format_entry_point_string('aiida.calculations', entry_point)
        node = CalcJobNode(computer=aiida_localhost, process_type=process_type)
        node.set_option('resources', {'num_machines': 1})
        node.base.attributes.set_many(attributes or {})
        for label, data in flatten(inputs):
            node.base.links.add_incoming(data.store(), link_type=LinkType.INPUT_CALC, link_label=label)
        node.store()
        retrieved = FolderData()
        for path, content in files.items():
            stream = io.BytesIO(content.encode() if isinstance(content, str) else content)
            retrieved.base.repository.put_object_from_filelike(stream, path)
        retrieved.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label='retrieved')
        retrieved.store()
        return node

    return generate


@pytest.fixture
def parse_retrieved(generate_calc_job_node: Callable[..., Any]) -> Callable[..., ParsedJob]:
    """Return a function that parses what a job left, with the parser of the same entry point.

    ``parse_retrieved(entry_point, inputs, files, scheduler=None)``: as ``generate_calc_job_node``, and the exit status that
    the scheduler's parser set, if any. Outputs are checked against the job's specification, and stored.
    """
    from aiida.plugins import ParserFactory

    def parse(
        entry_point: str, inputs: dict[str, Any], files: Mapping[str, str | bytes], scheduler: int | None = None
    ) -> ParsedJob:
        attributes = {} if scheduler is None else {'exit_status': scheduler, 'exit_message': 'said the scheduler'}
        node = generate_calc_job_node(entry_point, inputs, files, attributes)
        outputs, parsing = ParserFactory(entry_point).parse_from_node(node, store_provenance=False)
        for _, output in flatten(outputs):
            output.clone().store()
        return ParsedJob(outputs, parsing.exit_status, parsing.exit_message)

    return parse


@pytest.fixture
def make_labelled() -> Callable[..., Atoms]:
    """Return a factory of labelled frames: ``make_labelled(seed=0, species='H2O', stress=None, **info)``.

    Positions, energy (eV) and forces (eV/Å) are drawn with the seed; ``info`` goes to the comment line.
    """

    def make(seed: int = 0, species: str = 'H2O', stress: Any = None, **info: Any) -> Atoms:
        rng = np.random.default_rng(seed)
        atoms = molecule(species)
        if stress is not None:
            atoms.set_cell([6.0, 7.0, 8.0])
            atoms.pbc = True
            atoms.info['REF_stress'] = np.asarray(stress, dtype=float)
        # Extended XYZ keeps eight decimals.
        atoms.positions = np.round(atoms.positions + rng.normal(scale=0.05, size=atoms.positions.shape), 8)
        atoms.arrays['REF_forces'] = np.round(rng.normal(size=(len(atoms), 3)), 8)
        atoms.info.update(REF_energy=float(rng.normal(-100.0)), **info)
        return atoms

    return make


@pytest.fixture
def make_dataset(make_labelled: Callable[..., Atoms]) -> Callable[..., Any]:
    """Return a factory of unstored datasets of water: ``make_dataset(train=2, validation=1, test=0, theory='xtb', seed=0)``."""
    from aiida_mlip_al.data import DatasetData

    def make(train: int = 2, validation: int = 1, test: int = 0, theory: str = 'xtb', seed: int = 0) -> Any:
        splits = ['train'] * train + ['validation'] * validation + ['test'] * test
        frames = [make_labelled(seed + index, split=split) for index, split in enumerate(splits)]
        return DatasetData.from_ase(frames, theory, f'{theory}-hash')

    return make


@pytest.fixture
def make_model() -> Callable[..., Any]:
    """Return a factory of unstored models whose file is no model: ``make_model(content=b'weights', elements=('H', 'O'))``."""
    from aiida_mlip_al.data import ModelData

    def make(content: bytes = b'weights', elements: tuple[str, ...] = ('H', 'O'), **attributes: Any) -> Any:
        return ModelData.from_bytes(content, elements=elements, **attributes)

    return make
