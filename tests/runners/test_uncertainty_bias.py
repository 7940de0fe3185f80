"""A bias towards structures on whose energy the committee disagrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from aiida_mlip_al.lammps.settings import LammpsExploreSettings
from aiida_mlip_al.runners.frames import read_lines
from aiida_mlip_al.sampling.base import wrong_parameters
from aiida_mlip_al.sampling.walkers import AseExploreSettings, UncertaintyBias, check_of

BIAS = {'ratio': 0.25, 'memory': 100, 'max_force': 2.0}


def virtual(file: Path, folder: Path) -> Any:
    """One model with six drawn last layers."""
    from last_layer_model import LastLayerModel
    from virtual_committee import VirtualCommittee

    n = LastLayerModel(file, 'float64').n_features
    rng = np.random.default_rng(0)
    path = folder / 'uncertainty.npz'
    np.savez(path, displacements=0.3 * rng.normal(size=(6, n)), means=np.zeros((3, n)), whitenings=np.zeros((3, n, n)))
    return VirtualCommittee(file, path, 'float64')


@pytest.mark.parametrize('kind', ['committee', 'virtual committee'])
def test_forces_are_the_gradient_of_the_biased_energy(
    kind: str, committee_files: list[Path], ethanol: Atoms, tmp_path: Path
) -> None:
    from committee import Committee
    from crew import Opinion
    from uncertainty_bias import UncertaintyBias

    members = Committee(committee_files, 'float64') if kind == 'committee' else virtual(committee_files[0], tmp_path)

    def ask(atoms: Atoms) -> Opinion:
        prediction = members.predict([atoms])
        return Opinion(prediction.energies[:, 0], prediction.forces_of(0), None)

    ethanol.rattle(0.1, seed=1)
    forces = ask(ethanol).forces[0]
    bias = UncertaintyBias(ask, **BIAS)
    energy, biased, virial = bias.drive(0, ethanol, 0.0, forces, np.eye(3))
    tau = -energy / (np.sqrt(ask(ethanol).energies.var() + 1e-6) - 1e-3)
    assert tau > 0.1
    assert np.array_equal(virial, np.eye(3))
    pull = np.linalg.norm(biased - forces, axis=1)
    assert pull.mean() == pytest.approx(0.25 * np.linalg.norm(forces, axis=1).mean())

    def total(atom: int, axis: int, shift: float) -> float:
        moved = ethanol.copy()
        moved.positions[atom, axis] += shift
        energies = ask(moved).energies
        return float(energies[0] - tau * (np.sqrt(energies.var() + 1e-6) - 1e-3))

    h = 1e-4
    for atom, axis in ((0, 0), (1, 2), (2, 1), (5, 0), (8, 1)):
        slope = (total(atom, axis, h) - total(atom, axis, -h)) / (2 * h)
        assert biased[atom, axis] == pytest.approx(-slope, abs=1e-6), (atom, axis)


def test_deviation_of_two_members_by_hand() -> None:
    from uncertainty_bias import energy_deviation

    forces = np.array([[[1.0, 0.0, 2.0]], [[3.0, 0.0, -2.0]]])
    sigma, gradient = energy_deviation(np.array([-5.0, -3.0]), forces)  # (E_2 - E_1) / 2 and its gradient
    assert sigma == pytest.approx(1 - 1e-3, abs=1e-6)
    assert gradient == pytest.approx(np.array([[-1.0, 0.0, 2.0]]), abs=1e-5)
    sigma, gradient = energy_deviation(np.array([-5.0, -5.0]), forces)
    assert (sigma, gradient.any()) == (0.0, False)
    assert np.abs(energy_deviation(np.array([0.0, 1e-9]), forces)[1]).max() < 1e-5, 'no jump where the members agree'


def test_strength_follows_the_running_means_and_is_capped() -> None:
    from crew import Opinion
    from uncertainty_bias import UncertaintyBias

    slopes = iter([2.0, 1.0, 1.0, 0.0, 100.0])

    def ask(atoms: Atoms) -> Opinion:
        force = np.zeros((2, 1, 3))
        force[:, 0, 0] = np.array([1.0, -1.0]) * next(slopes)
        return Opinion(np.array([-1e3, 1e3]), force, None)  # sigma 1000 eV: the rounding at zero is nothing

    bias = UncertaintyBias(ask, ratio=0.5, memory=2, max_force=5.0)
    pulls = []
    for step, force in enumerate([4.0, 8.0, 8.0, 8.0, 8.0]):
        atoms = Atoms('H', [[step, 0, 0]])
        model = np.array([[0.0, force, 0.0]])
        energy, forces, _ = bias.drive(step, atoms, 0.0, model, np.zeros((3, 3)))
        pulls.append(forces[0, 0])
        assert forces[0, 1] == force
    means = [(4, 2), (6, 1.5), (7, 1.25)]
    expected = [0.5 * force / slope * now for (force, slope), now in zip(means, (2, 1, 1), strict=True)]
    assert pulls == pytest.approx([*expected, 0.0, 5.0], rel=1e-6)
    assert energy == pytest.approx(-0.05 * 1e3, rel=1e-5), 'at the cap tau is 5 / 100'


def explore(job: Any, files: list[Path], ethanol: Atoms, bias: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    config = {
        'models': [str(file) for file in files],
        'dtype': 'float64',
        'walkers': [{'structure': 0, 'temperature_K': 300.0, 'seed': seed} for seed in changes.pop('seeds', [1])],
        'dynamics': {'steps': 20, 'timestep_fs': 0.5, 'min_distance_fraction': 0.3, **changes.pop('dynamics', {})},
        'check_interval': 5,
        'descriptors': None,
        **({} if bias is None else {'uncertainty_bias': bias}),
        **changes,
    }
    return job.run_here('explore', config, [ethanol])


def visited(job: Any, number: int = 0) -> list[dict[str, Any]]:
    *lines, end = read_lines(job.folder / f'walker_{number:02d}.jsonl')
    assert end['end'] == 'finished', end
    return lines


def test_without_strength_nothing_changes_and_each_member_is_asked_once(
    make_job: Any, committee_files: list[Path], ethanol: Atoms, monkeypatch: pytest.MonkeyPatch
) -> None:
    from committee import Committee

    free, idle = make_job('free'), make_job('idle')
    assert explore(free, committee_files, ethanol, None)['finished']
    passes: list[int] = []
    predict = Committee.predict

    def counted(self: Committee, structures: Any, members: Any = None, *rest: Any) -> Any:
        passes.extend(members)
        return predict(self, structures, members, *rest)

    monkeypatch.setattr(Committee, 'predict', counted)
    assert explore(idle, committee_files, ethanol, {**BIAS, 'ratio': 0.0})['finished']
    assert [passes.count(member) for member in range(3)] == [21, 21, 21]
    lines = visited(idle)
    assert [line.pop('bias_energy') for line in lines] == [0.0] * 4
    assert lines == visited(free)
    paths = [read(job.folder / 'walker_00.xyz', ':') for job in (free, idle)]
    assert all(np.array_equal(one.positions, other.positions) for one, other in zip(*paths, strict=True))


def test_walkers_go_where_the_members_disagree_and_are_recorded_without_the_bias(
    make_job: Any, committee_files: list[Path], ethanol: Atoms
) -> None:
    from committee import Committee

    found = {}
    for name, bias in (('free', None), ('biased', {**BIAS, 'ratio': 0.5})):
        job = make_job(name)
        status = explore(job, committee_files, ethanol, bias, seeds=[1, 2], dynamics={'steps': 60})
        assert status['finished'], status['error']
        found[name] = [visited(job, number) for number in range(2)]
    for free, biased in zip(found['free'], found['biased'], strict=True):
        means = [np.mean([line['energy_deviation_per_atom'] for line in lines]) for lines in (free, biased)]
        assert means[1] > 1.05 * means[0]
    lines = found['biased'][0]
    frames = read(job.folder / 'walker_00.xyz', ':')
    prediction = Committee(committee_files, 'float64').predict(frames)
    for index, (frame, line) in enumerate(zip(frames, lines, strict=True)):
        forces = prediction.forces_of(index)
        assert frame.get_forces() == pytest.approx(forces.mean(axis=0), abs=1e-6)
        assert line['energy'] == pytest.approx(prediction.energies[:, index].mean(), abs=1e-6)
        assert line['max_force'] == pytest.approx(np.linalg.norm(forces[0], axis=1).max(), abs=1e-6)
        assert line['bias_energy'] < -1e-3


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        ({'ratio': 0.0}, "uncertainty_bias: 'ratio' should be greater than 0, got 0.0"),
        ({'ratio': 1.5}, "uncertainty_bias: 'ratio' should be less than or equal to 1, got 1.5"),
        ({'tau': 1.0}, "uncertainty_bias: unknown key 'tau', allowed are "),
    ],
)
def test_refused_strengths(values: dict[str, Any], sentence: str) -> None:
    message = wrong_parameters('uncertainty_bias', UncertaintyBias, values)
    assert message is not None
    assert message.startswith(sentence)


def test_refused_combinations(job: Any, committee_files: list[Path], ethanol: Atoms) -> None:
    def settings(**values: Any) -> str | None:
        return wrong_parameters('explore', AseExploreSettings, {'uncertainty_bias': {}, **values})

    assert settings() is None
    no_stress = "explore: 'uncertainty_bias' has no stress: choose the ensemble nvt or nve"
    assert settings(ensemble='npt', pressure=0.0) == no_stress
    assert settings(bias={'plumed': 'p.dat'}) == "explore: give 'bias' or 'uncertainty_bias', not both"
    lammps = wrong_parameters('explore', LammpsExploreSettings, {'uncertainty_bias': {}})
    assert str(lammps).startswith("explore: unknown key 'uncertainty_bias', allowed are ")
    assert explore(job, committee_files[:1], ethanol, BIAS)['error'] == (
        'uncertainty_bias needs two models or more, or one with its uncertainty.'
    )
    assert explore(job, committee_files, ethanol, BIAS, dynamics={'ensemble': 'npt'})['error'] == (
        'uncertainty_bias has no stress: choose the ensemble nvt or nve.'
    )
    assert not (job.folder / 'walker_00.xyz').exists()


def test_iterations_before_the_first_are_not_biased() -> None:
    plain = {'check_interval': 10, 'upper': None, 'dtype': 'float32'}
    settings = AseExploreSettings(uncertainty_bias={'ratio': 0.1, 'start_iteration': 3})
    assert [check_of(settings, iteration) for iteration in (1, 2)] == [plain, plain]
    assert check_of(settings, 3) == {**plain, 'uncertainty_bias': {**BIAS, 'ratio': 0.1}}
    assert check_of(AseExploreSettings(), 3) == plain
