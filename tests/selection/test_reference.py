"""Reference energies with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_mlip_al.selection.reference import fit_atomic_energies as fit

ENERGIES = {'C': -1030.0, 'H': -13.5, 'O': -2040.0}


def fit_atomic_energies(formulas: list[str], energies: list[float]) -> dict[str, float]:
    return fit([Atoms(formula) for formula in formulas], energies)


def total(symbols: str) -> float:
    return sum(ENERGIES[symbol] for symbol in symbols)


def test_compositions_that_determine_them() -> None:
    frames = ['CHHHH', 'HHO', 'CO', 'COO']
    assert fit_atomic_energies(frames, [total(frame) for frame in frames]) == pytest.approx(ENERGIES, rel=1e-10)


def test_labelled_isolated_atoms_are_taken_as_they_are() -> None:
    frames = ['H', 'O', 'HHO', 'HHO']
    energies = [-13.5, -2040.0, -2077.0, -2076.0]
    assert fit_atomic_energies(frames, energies) == {'H': -13.5, 'O': -2040.0}


def test_the_rest_is_fitted_to_what_they_leave() -> None:
    frames = ['H', 'HHO', 'HHO']
    found = fit_atomic_energies(frames, [-13.5, -2070.0, -2072.0])
    assert found['H'] == -13.5
    assert found['O'] == pytest.approx(-2071.0 + 27.0, rel=1e-12)


def test_an_atom_next_to_its_images_is_not_isolated() -> None:
    free, crystal = Atoms('Cu', cell=[12, 12, 12], pbc=True), bulk('Cu')
    assert fit([free, crystal, crystal], [-1.0, -4.5, -4.4]) == {'Cu': -1.0}
    assert fit([crystal, crystal], [-4.5, -4.4]) == pytest.approx({'Cu': -4.45})


def test_lowest_of_several_isolated_atoms() -> None:
    assert fit_atomic_energies(['H', 'H', 'H'], [-12.0, -13.5, -13.0]) == {'H': -13.5}


def test_one_composition_shares_the_energy_by_counts() -> None:
    """The solution of least norm of 2 H + O = E is (2, 1) E/5."""
    found = fit_atomic_energies(['HHO', 'HHO'], [-100.0, -100.0])
    assert found == pytest.approx({'H': -40.0, 'O': -20.0}, rel=1e-12)


def test_least_squares_of_noise() -> None:
    rng = np.random.default_rng(0)
    frames = ['H' * int(h) + 'O' * int(o) for h, o in rng.integers(1, 6, size=(400, 2))]
    energies = [total(frame) + rng.normal(scale=0.1) for frame in frames]
    found = fit_atomic_energies(frames, energies)
    assert found['H'] == pytest.approx(-13.5, abs=0.01)
    assert found['O'] == pytest.approx(-2040.0, abs=0.01)


def test_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match='at least one labelled frame'):
        fit_atomic_energies([], [])
