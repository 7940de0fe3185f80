"""ForceConstantsWorkChain through the real engine, and the calcfunctions of phonon sampling around it."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from aiida_mlip_al.calculations.phonon_functions import (
    crystal_of,
    displace_structure,
    make_force_constants,
    phonon_frames,
    plan_phonons,
)
from aiida_mlip_al.data import LabelData
from aiida_mlip_al.data.extxyz import labelled_atoms
from aiida_mlip_al.sampling.force_constants import ForceConstantsParameters, displaced_supercells, force_constants
from aiida_mlip_al.sampling.normal_modes import normal_modes
from aiida_mlip_al.workflows.force_constants import ForceConstantsWorkChain
from aiida_mlip_al.workflows.label import LabelWorkChain

SETTINGS = {'supercell': [2, 2, 2]}


@pytest.fixture
def crystal():
    return orm.StructureData(ase=bulk('Cu')).store()


def run(structure, settings=SETTINGS, **label):
    return run_get_node(ForceConstantsWorkChain, structure=structure, settings=orm.Dict(settings), label=label)


def emt_forces(atoms):
    atoms = atoms.copy()
    atoms.calc = EMT()
    return atoms.get_forces()


def label_of(frame):
    """Label of a node with EMT."""
    atoms = frame.get_ase()
    atoms.calc = EMT()
    labelled = labelled_atoms(atoms, atoms.get_potential_energy(), atoms.get_forces())
    return LabelData.from_ase(labelled, 'EMT', 'emt').store()


def supercells_of(structure, settings=SETTINGS):
    made = displace_structure(structure, orm.Dict(settings))
    return {'supercell': made['supercell'], **made['displaced']}


@pytest.mark.slow
def test_whole_run_from_a_step_to_its_frames(python_code, emt, crystal):
    chain = {'phonon_displacements': {**SETTINGS, 'copies': 3, 'temperature': [300, 600]}, 'seed': 5}
    segment = orm.Dict(chain).store()
    plan = plan_phonons(segment)
    assert set(plan) == {'settings'}
    ase = {'code': python_code, 'calculator': emt}
    results, node = run_get_node(
        ForceConstantsWorkChain, structure=crystal, settings=plan['settings'], label={'ase': ase, 'batch_size': 1}
    )
    assert node.exit_status == 0
    assert node.called[0].process_label == 'displace_structure'
    assert results['dataset'].n_frames == 2

    # The same numbers as without the engine.
    parameters = ForceConstantsParameters(supercell=(2, 2, 2))
    pure = displaced_supercells(crystal.get_ase(), parameters)
    expected = force_constants(
        crystal.get_ase(), parameters, [emt_forces(frame) for frame in pure.displaced], emt_forces(pure.equilibrium)
    )
    constants, supercell = results['force_constants'], results['supercell']
    assert constants.creator.process_label == 'make_force_constants'
    assert supercell.creator.process_label == 'displace_structure'
    np.testing.assert_allclose(constants.get_array('force_constants'), expected.force_constants, atol=1e-4)
    np.testing.assert_array_equal(constants.get_array('supercell_matrix'), 2 * np.eye(3))
    np.testing.assert_allclose(supercell.get_ase().positions, pure.equilibrium.positions, atol=1e-12)
    attributes = constants.base.attributes.all
    assert attributes['n_displacements'] == 1
    assert attributes['theory'] == 'EMT'
    assert attributes['max_residual_force'] < 1e-6
    frequencies = normal_modes(crystal_of(supercell, constants)).frequencies
    assert attributes['highest_frequency_THz'] == pytest.approx(frequencies.max())
    assert attributes['lowest_frequency_THz'] == pytest.approx(frequencies.min(), abs=1e-9)

    inputs = {'force_constants': {'copper': constants}, 'supercells': {'copper': supercell}}
    split = orm.Dict({'validation_fraction': 0.5}).store()
    made = phonon_frames(segment, split, **inputs)
    frames = made['frames']
    assert sorted(frames) == [f'frame_{index:03d}' for index in range(6)]
    assert [frames[name].origin['temperature_K'] for name in sorted(frames)] == [300] * 3 + [600] * 3
    assert sorted(frame.split for frame in frames.values()) == ['train'] * 3 + ['validation'] * 3
    assert made['rejected'].get_dict() == {}
    for frame in frames.values():
        assert frame.origin['kind'] == 'phonon_displacements'
        assert frame.origin['parent_uuid'] == supercell.uuid
        assert frame.origin['record']['seeder'] == 'phonon_displacements'
        assert 0.01 < np.abs(frame.get_ase().positions - supercell.get_ase().positions).max() < 1
    again = phonon_frames(segment, split, **inputs)['frames']
    assert {name: frame.base.caching.get_hash() for name, frame in frames.items()} == {
        name: frame.base.caching.get_hash() for name, frame in again.items()
    }


@pytest.mark.slow
def test_one_missing_label_is_an_exit_code(python_code, crystal):
    capped = orm.Dict({'calculator': 'ase.calculators.emt:EMT', 'max_force': 1e-3})
    _, node = run(crystal, ase={'code': python_code, 'calculator': capped})
    assert node.exit_status == 402
    assert 'Force constants need every label' in node.exit_message
    assert '1 of 2 structures got no label (1 force_cap)' in node.exit_message
    # Also where the user's settings tolerate it.
    _, node = run(crystal, ase={'code': python_code, 'calculator': capped}, max_failed_fraction=orm.Float(0.9))
    assert node.exit_status == 402
    assert 'displacement_000 got none' in node.exit_message
    assert LabelWorkChain.spec().inputs['max_failed_fraction'].default().value == 0.3, 'only here all are needed'


@pytest.mark.slow
def test_structures_that_have_no_force_constants_are_exit_codes(python_code, emt):
    ase = {'code': python_code, 'calculator': emt}
    _, node = run(orm.StructureData(ase=molecule('H2O')).store(), ase=ase)
    assert node.exit_status == 401
    assert 'There is nothing to label: force constants: the structure has no periodic direction' in node.exit_message
    atoms = bulk('Cu', cubic=True)
    atoms.positions[0, 0] += 0.1
    _, node = run(orm.StructureData(ase=atoms).store(), {'supercell': [1, 1, 1]}, ase=ase)
    assert node.exit_status == 403
    assert 'not relaxed' in node.exit_message


@pytest.mark.parametrize(
    ('settings', 'label', 'sentence'),
    [
        ({'supercel': [2, 2, 2]}, True, "unknown key 'supercel'"),
        ({'displacement': -1}, True, "'displacement' should be greater than 0"),
        (SETTINGS, False, 'Give one engine to label with'),
    ],
)
def test_bad_inputs_are_refused(python_code, emt, crystal, settings, label, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(crystal, settings, **({'ase': {'code': python_code, 'calculator': emt}} if label else {}))


def test_labels_of_other_structures_are_refused(crystal):
    supercells = supercells_of(crystal)
    labels = {name: label_of(frame) for name, frame in supercells.items()}
    settings = orm.Dict(SETTINGS)
    assert 'force_constants' in make_force_constants(crystal, settings, **labels)
    swapped = {'supercell': labels['displacement_000'], 'displacement_000': labels['supercell']}
    _, node = make_force_constants.run_get_node(crystal, settings, **swapped)
    assert node.exit_status == 401
    assert 'The label `supercell` is of another structure' in node.exit_message
    _, node = make_force_constants.run_get_node(crystal, settings, supercell=labels['supercell'])
    assert node.exit_status == 401
    assert 'The supercell `displacement_000` has no label' in node.exit_message


def test_displaced_supercells_say_where_they_come_from(crystal):
    supercells = supercells_of(crystal)
    assert sorted(supercells) == ['displacement_000', 'supercell']
    assert supercells['displacement_000'].origin == {
        'kind': 'finite_displacement',
        'parent_uuid': crystal.uuid,
        'index': 0,
    }
    moved = supercells['displacement_000'].get_ase().positions - supercells['supercell'].get_ase().positions
    assert np.linalg.norm(moved, axis=1).max() == pytest.approx(0.01)


class TestFramesOfSeveralCrystals:
    def inputs(self, *spacings):
        constants, supercells = {}, {}
        for index, spacing in enumerate(spacings):
            crystal = orm.StructureData(ase=bulk('Cu', a=spacing)).store()
            frames = supercells_of(crystal)
            labels = {name: label_of(frame) for name, frame in frames.items()}
            name = f'crystal_{index}'
            constants[name] = make_force_constants(crystal, orm.Dict(SETTINGS), **labels)['force_constants']
            supercells[name] = frames['supercell']
        return {'force_constants': constants, 'supercells': supercells}

    def segment(self, seed=1, **step):
        return orm.Dict({'phonon_displacements': step, 'seed': seed})

    def test_each_has_its_own_seed_and_further_ones_change_nothing(self):
        inputs = self.inputs(3.6, 3.6)
        split = orm.Dict({'name': 'test'})
        both = phonon_frames(self.segment(copies=2), split, **inputs)['frames']
        assert len(both) == 4
        assert {frame.split for frame in both.values()} == {'test'}
        positions = [both[name].get_ase().positions for name in sorted(both)]
        assert np.abs(positions[0] - positions[2]).max() > 0.01
        first = {kind: {'crystal_0': nodes['crystal_0']} for kind, nodes in inputs.items()}
        alone = phonon_frames(self.segment(copies=2), split, **first)['frames']
        for name in alone:
            np.testing.assert_array_equal(alone[name].get_ase().positions, both[name].get_ase().positions)

    def test_what_cannot_be_sampled_is_an_exit_code(self):
        stretched = self.inputs(4.6)
        assert stretched['force_constants']['crystal_0'].base.attributes.get('lowest_frequency_THz') < -0.5
        split = orm.Dict({'validation_fraction': 0.0})
        _, node = phonon_frames.run_get_node(self.segment(), split, **stretched)
        assert node.exit_status == 401
        assert 'imaginary modes' in node.exit_message
        crowded = self.segment(copies=1, max_attempts=3, max_distance=1e-4)
        _, node = phonon_frames.run_get_node(crowded, split, **self.inputs(3.6))
        assert node.exit_status == 401
        assert 'no attempt out of 3' in node.exit_message


def test_step_with_a_calculator_of_its_own():
    step = {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN2-xTB'}, 'min_image_distance': 8}
    plan = plan_phonons(orm.Dict({'phonon_displacements': step, 'seed': 1}))
    assert plan['calculator'].get_dict() == {'calculator': 'tblite.ase:TBLite', 'arguments': {'method': 'GFN2-xTB'}}
    assert plan['settings'].get_dict() == {
        'min_image_distance': 8,
        'displacement': 0.01,
        'max_atoms': 500,
        'max_residual_force': 0.1,
    }
