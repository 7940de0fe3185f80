"""The job of several single points: its files, its order, and whose WAVECAR goes where."""

from __future__ import annotations

import pytest
from aiida import orm
from ase.build import bulk

from aiida_mlip_al.calculations.vasp_batch import computable, neighbours
from aiida_mlip_al.config.vasp import VaspSettings
from aiida_mlip_al.data import FrameData


@pytest.fixture(autouse=True)
def profile(aiida_profile_clean):
    """Begin with an empty profile."""


def frame(parent, index, symbol='Cu', squeezed=False):
    atoms = bulk(symbol, cubic=True)
    if squeezed:
        atoms.positions[1] = atoms.positions[0] + [0.2, 0, 0]
    return FrameData.from_ase(atoms, 'train', kind='md', parent_uuid=parent, walker=0, index=index)


def test_frames_of_a_trajectory_follow_each_other_and_wavefunctions_never_leave_it():
    structures = {
        'a': frame('one', 20),
        'b': frame('two', 10),
        'c': frame('one', 10),
        'd': orm.StructureData(ase=bulk('Cu', cubic=True)),
        'e': frame('two', 20, symbol='Ni'),
        'f': orm.StructureData(ase=bulk('Cu', cubic=True)),
        'g': frame('one', 30, squeezed=True),
    }
    chosen = computable(structures, VaspSettings())
    assert list(chosen) == ['d', 'f', 'c', 'a', 'b', 'e'], 'what is not worth computing is left out'
    assert neighbours(chosen) == {'a': 'c'}, 'not between trajectories, other elements, or frames from nowhere'
