"""What the training runner makes of the frames before MACE sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from aiida_mlip_al.data.extxyz import labelled_atoms
from aiida_mlip_al.runners.train import check_stress


def crystal(axes: list[bool] | None, pbc: bool = True) -> Atoms:
    atoms = Atoms('Cu', cell=[3, 3, 12], pbc=pbc)
    stress = None if axes is None else np.full(6, 0.01)
    return labelled_atoms(atoms, -1.0, np.zeros((1, 3)), stress, axes)


@pytest.mark.parametrize('loss', ['huber', 'universal', None])
def test_huber_would_learn_that_a_masked_stress_is_zero(tmp_path: Path, loss: str | None) -> None:
    whole, masked, none, molecule = (
        crystal([True] * 3),
        crystal([True, True, False]),
        crystal(None),
        crystal(None, False),
    )
    write(tmp_path / 'train.xyz', [whole, masked, molecule], format='extxyz')
    write(tmp_path / 'valid.xyz', [none], format='extxyz')
    files = [str(tmp_path / name) for name in ('train.xyz', 'valid.xyz')]
    if loss != 'huber':
        check_stress(loss, files)
        return
    with pytest.raises(ValueError, match='the missing stress of 2 periodic frames for zero: use the loss `universal`'):
        check_stress(loss, files)
    write(tmp_path / 'valid.xyz', [whole], format='extxyz')
    check_stress(loss, files[1:])


def test_mace_does_not_see_a_masked_stress() -> None:
    from mace.data.utils import KeySpecification, config_from_atoms

    keys = KeySpecification(
        info_keys={'energy': 'REF_energy', 'stress': 'REF_stress'}, arrays_keys={'forces': 'REF_forces'}
    )
    seen = [config_from_atoms(crystal(axes), keys).property_weights for axes in ([True] * 3, [True, True, False])]
    assert [weights['stress'] for weights in seen] == [1.0, 0.0]
    assert [weights['forces'] for weights in seen] == [1.0, 1.0]
