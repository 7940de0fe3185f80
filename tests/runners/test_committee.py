"""Committees against mace-torch's own calculator and against formulas in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.stress import full_3x3_to_voigt_6_stress


@pytest.fixture(scope='module', autouse=True)
def without_compiling():
    import torch

    with torch.jit.optimized_execution(False):  # compiling costs mace's own calculator a second for each shape
        yield


@pytest.fixture(scope='module')
def committee(committee_files):
    from committee import Committee

    return Committee(committee_files, 'float64')


@pytest.fixture(scope='module')
def structures() -> list[Atoms]:
    ethanol = molecule('CH3CH2OH')
    ethanol.rattle(0.1, seed=1)
    diamond = bulk('C', cubic=True)
    diamond.rattle(0.1, seed=2)
    primitive = bulk('C')
    slab = bulk('C', cubic=True)
    slab.pbc = (True, True, False)
    slab.rattle(0.1, seed=3)
    far = molecule('H2O')
    far.positions += 300
    dissociated = Atoms('HO', [[0, 0, 0], [0, 0, 9]])
    return [ethanol, diamond, primitive, slab, far, dissociated]


@pytest.mark.slow
def test_batch_equals_mace_calculator(committee, committee_files, structures) -> None:
    from mace.calculators import MACECalculator

    reference = MACECalculator(model_paths=[str(path) for path in committee_files], default_dtype='float64')
    prediction = committee.predict(structures, stress=True)
    for index, atoms in enumerate(structures):
        reference.calculate(atoms)
        assert prediction.energies[:, index] == pytest.approx(reference.results['energy_comm'], abs=1e-9)
        assert prediction.forces_of(index) == pytest.approx(reference.results['forces_comm'], abs=1e-10)
        if atoms.pbc.all():
            stresses = [full_3x3_to_voigt_6_stress(stress) for stress in reference.results['stress_comm']]
            assert prediction.stresses[:, index] == pytest.approx(np.array(stresses), abs=1e-10)
            assert np.abs(prediction.stresses[:, index]).max() > 1e-4
        else:
            assert np.isnan(prediction.stresses[:, index]).all()
    assert np.abs(prediction.forces).max() > 0.01


@pytest.mark.slow
def test_descriptors_equal_mace_calculator(committee, committee_files, structures) -> None:
    from mace.calculators import MACECalculator

    reference = MACECalculator(model_paths=[str(committee_files[0])], default_dtype='float64')
    descriptors = committee.predict(structures, [0], descriptors=True).descriptors
    assert committee.elements == [1, 6, 8]
    for atoms, descriptor in zip(structures, descriptors, strict=True):
        features = reference.get_descriptors(atoms)
        blocks = [
            features[atoms.numbers == z].mean(axis=0) if z in atoms.numbers else 0 * features[0] for z in (1, 6, 8)
        ]
        assert descriptor == pytest.approx(np.concatenate(blocks), abs=1e-12)
    assert descriptors.shape == (6, 3 * 2 * 8)


def test_descriptors_of_equivariant_models_are_invariant(tmp_path) -> None:
    from committee import Committee
    from helpers.tiny_mace import write_committee

    files = write_committee(tmp_path, ['C', 'H', 'O'], 1, channels=4, max_l=1)
    committee = Committee(files, 'float64')
    atoms = molecule('CH3CH2OH')
    turned = atoms.copy()
    turned.rotate(50, (1, 2, 3))
    first, second = committee.predict([atoms, turned], descriptors=True).descriptors
    assert first.shape == (3 * 2 * 4,)
    assert first == pytest.approx(second, abs=1e-10)
    assert np.abs(first).max() > 1e-3


def test_members_may_be_chosen(committee, structures) -> None:
    whole = committee.predict(structures)
    part = committee.predict(structures, [2, 1])
    assert part.forces == pytest.approx(whole.forces[[2, 1]], abs=1e-12)
    assert part.energies == pytest.approx(whole.energies[[2, 1]], abs=1e-9)


def test_float32_keeps_the_digits_of_large_energies(committee, committee_files, structures) -> None:
    from committee import Committee

    energies = Committee(committee_files, 'float32').predict(structures).energies
    exact = committee.predict(structures).energies
    assert np.abs(exact[:, 1]).max() > 8000
    assert energies == pytest.approx(exact, abs=2e-5)  # float32 resolves 5e-4 at 8000 eV


def test_deviation_against_the_formula() -> None:
    from committee import deviation

    rng = np.random.default_rng(3)
    energies, forces = rng.normal(size=4), rng.normal(size=(4, 5, 3))
    per_atom = []
    for atom in range(5):
        mean = sum(forces[k, atom] for k in range(4)) / 4
        per_atom.append(np.sqrt(sum(np.linalg.norm(forces[k, atom] - mean) ** 2 for k in range(4)) / 4))
    found = deviation(energies, forces)
    assert found.max_force == pytest.approx(max(per_atom))
    assert found.mean_force == pytest.approx(sum(per_atom) / 5)
    assert found.min_force == pytest.approx(min(per_atom))
    assert found.energy_per_atom == pytest.approx(np.sqrt(((energies - energies.mean()) ** 2).mean()) / 5)


def test_heads(tmp_path) -> None:
    from committee import Committee
    from helpers.tiny_mace import write_committee
    from mace.calculators import MACECalculator

    files = write_committee(tmp_path, ['C', 'H', 'O'], 1, heads=('pt_head', 'Default'))
    atoms = molecule('CH3CH2OH')
    for head in ('pt_head', 'Default'):
        reference = MACECalculator(model_paths=[str(files[0])], default_dtype='float64', head=head)
        reference.calculate(atoms)
        found = Committee(files, 'float64', head=head).predict([atoms])
        assert found.forces[0] == pytest.approx(reference.results['forces'], abs=1e-10)
    assert Committee(files, 'float64').predict([atoms]).energies == found.energies
    with pytest.raises(ValueError, match='no head'):
        Committee(files, head='other')


def test_models_that_do_not_fit(tmp_path, committee_files) -> None:
    import torch
    from committee import Committee
    from helpers.tiny_mace import write_committee

    with pytest.raises(ValueError, match='does not exist'):
        Committee([tmp_path / 'absent.model'])
    other = write_committee(tmp_path / 'elements', ['H', 'N'], 1)
    with pytest.raises(ValueError, match='elements'):
        Committee([committee_files[0], *other])
    shorter = write_committee(tmp_path / 'cutoff', ['H', 'C', 'O'], 1, r_max=3.0)
    with pytest.raises(ValueError, match='r_max'):
        Committee([committee_files[0], *shorter])
    broken = torch.load(committee_files[0], weights_only=False)
    next(broken.parameters()).data[:] = torch.nan
    torch.save(broken, tmp_path / 'broken.model')
    with pytest.raises(ValueError, match='not finite'):
        Committee([tmp_path / 'broken.model'])
    (tmp_path / 'garbage.model').write_text('garbage')
    with pytest.raises(ValueError, match='cannot be opened'):
        Committee([tmp_path / 'garbage.model'])
    with pytest.raises(ValueError, match='do not know Si'):
        Committee(committee_files).check_elements([bulk('Si')])
