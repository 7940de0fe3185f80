"""Whole seeding chains through the real engine, from structures to labels, with their provenance."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from ase.io import read

from aiida_mlip_al.config import make_config
from aiida_mlip_al.workflows.builder import Inputs

EXAMPLES = Path(__file__).parents[2] / 'examples'
TIGHT_BINDING = {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN1-xTB', 'verbosity': 0}}


def orphans(nodes: Iterable[orm.Data], given: Iterable[orm.Data]) -> list[str]:
    """Return what stands behind nodes, was not given by the user, and was created by nothing."""
    known = {node.pk for node in given}
    lost, seen, waiting = [], set(), list(nodes)
    while waiting:
        node = waiting.pop()
        if node.pk in seen or node.pk in known or isinstance(node, orm.Code):
            continue
        seen.add(node.pk)
        if node.creator is None:
            lost.append(f'{node}')
            continue
        waiting += node.creator.base.links.get_incoming(link_type=LinkType.INPUT_CALC).all_nodes()
    return lost


def user_gave(run: orm.ProcessNode) -> list[orm.Data]:
    """Return the inputs of a work chain."""
    return run.base.links.get_incoming(link_type=LinkType.INPUT_WORK).all_nodes()


def run_chain(structures, chain, engine, **inputs):
    return run_get_node(
        WorkflowFactory('mlip_al.perturb_and_sample'),
        structures=structures,
        chains={'chain': orm.List(chain)},
        seed=5,
        ase=engine,
        **inputs,
    )


@pytest.mark.slow
def test_relaxation_force_constants_and_thermal_displacements(python_code, emt, copper):
    engine = {'code': python_code, 'calculator': emt}
    chain = [
        {'relax': {'fmax': 0.01, 'cell': 'isotropic'}},
        {'phonon_displacements': {'supercell': [1, 1, 1], 'temperature': 300, 'copies': 3}},
    ]
    results, node = run_chain(copper(1), chain, engine, label={'ase': engine})
    assert node.exit_status == 0, node.exit_message
    frames = results['frames']
    assert len(frames) == 3
    assert sorted(results['labels']) == sorted(frames)
    given = user_gave(node)
    assert orphans([*frames.values(), *results['labels'].values(), results['dataset']], given) == []
    called = [child.process_label for child in node.called_descendants]
    assert called.count('RelaxCalculation') == 1
    assert called.count('ForceConstantsWorkChain') == 1
    relaxed = next(child for child in node.called if child.process_label == 'relaxed_frames').outputs.frames.frame_000
    lattice = relaxed.get_ase()
    assert lattice.cell.lengths() == pytest.approx([3.59] * 3, abs=0.01), "EMT's copper"
    for frame in frames.values():
        assert relaxed.pk in {ancestor.pk for ancestor in ancestors(frame)}
        moved = np.linalg.norm(frame.get_ase().positions - lattice.positions, axis=1)
        assert 0.02 < moved.mean() < 0.3, 'Å, at 300 K'
    forces = [np.abs(label.forces).max() for label in results['labels'].values()]
    assert min(forces) > 0.1


def ancestors(node: orm.Data) -> list[orm.Data]:
    """Return the data behind a node."""
    query = orm.QueryBuilder().append(orm.Node, filters={'pk': node.pk}, tag='node')
    return query.append(orm.Data, with_descendants='node').all(flat=True)


@pytest.mark.slow
def test_dynamics_and_molecular_clusters(python_code):
    crystal = read(EXAMPLES / 'molecular_crystal' / 'carbon_dioxide.xyz')
    structures = {'crystal': orm.StructureData(ase=crystal).store()}
    engine = {'code': python_code, 'calculator': orm.Dict(TIGHT_BINDING)}
    chain = [
        {'md': {'temperature': 150, 'timestep_fs': 1.0, 'steps': 8, 'every': 4}},
        {'keep': {}},
        {'molecular_clusters': {'n_molecules': [1, 2]}},
    ]
    results, node = run_chain(structures, chain, engine, label={'ase': engine})
    assert node.exit_status == 0, node.exit_message
    frames = results['frames']
    crystals = [name for name in frames if 'kept' in name]
    assert len(crystals) == 2
    clusters = {name: frame.get_ase() for name, frame in frames.items() if name not in crystals}
    assert sorted(len(atoms) for atoms in clusters.values()) == [3, 3, 6, 6]
    for atoms in clusters.values():
        assert atoms.get_chemical_formula(mode='hill') in ('CO2', 'C2O4')
        assert not atoms.pbc.any()
        assert atoms.get_all_distances()[0, 1:].min() == pytest.approx(1.16, abs=0.06), 'whole molecules'
    assert orphans([*frames.values(), *results['labels'].values()], user_gave(node)) == []
    assert all(
        structures['crystal'].pk in {node.pk for node in ancestors(label)} for label in results['labels'].values()
    )


@pytest.mark.slow
@pytest.mark.parametrize('name', ['mace', 'chgnet'])
def test_dynamics_with_a_pretrained_model(python_code, copper, name, tmp_path):
    """The model makes the frames, another method labels them; the model's file is a node of the provenance."""
    settings = mace_model(tmp_path) if name == 'mace' else {'calculator': 'chgnet.model.dynamics:CHGNetCalculator'}
    (structure,) = copper(1).values()
    config = make_config(
        {
            'structures': [str(structure.pk)],
            'calculators': {'pretrained': settings},
            'seed': [{'md': {'calculator': 'pretrained', 'temperature': [300, 600], 'steps': 4, 'every': 2}}],
            'labels': {'ase': {'calculator': 'ase.calculators.emt:EMT', 'theory': 'EMT'}},
            'codes': {'default': python_code.full_label},
        }
    )
    inputs = Inputs(config, tmp_path)
    results, node = run_get_node(
        WorkflowFactory('mlip_al.perturb_and_sample'),
        structures=inputs.structures,
        seed=inputs.seed,
        label=inputs.label(),
        **inputs.sample(config.seed, {'name': 'train'}),
    )
    assert node.exit_status == 0, node.exit_message
    assert {frame.origin['temperature_K'] for frame in results['frames'].values()} == {300.0, 600.0}
    assert results['dataset'].base.attributes.get('theory') == 'EMT'
    job = next(child for child in node.called if child.process_label == 'MdCalculation')
    assert job.inputs.calculator['calculator'] == settings['calculator']
    if name == 'mace':
        (file,) = job.inputs.files.values()
        assert file.filename == settings['files'][0]


def mace_model(folder: Path) -> dict[str, Any]:
    """Return a calculator of a tiny random MACE potential of copper, its file in a folder."""
    from helpers.tiny_mace import write_committee

    (model,) = write_committee(folder, ['Cu'], 1)
    return {
        'calculator': 'mace.calculators:MACECalculator',
        'arguments': {'model_paths': model.name, 'device': 'cpu'},
        'files': [model.name],
    }
