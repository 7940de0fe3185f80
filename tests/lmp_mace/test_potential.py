"""What an evaluation costs besides the arithmetic."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_mace import write_committee
from lmp_mace.lmp_files import ELEMENTS, alloy

from aiida_mlip_al.lmp_mace.arguments import ModelOptions


@pytest.mark.skipif(sys.platform != 'linux', reason='a matter of glibc')
def test_memory_is_not_faulted_in_at_every_step(tmp_path: Path) -> None:
    import torch

    from aiida_mlip_al.lmp_mace.potential import Potential

    dtype = torch.get_default_dtype()
    try:
        model = write_committee(tmp_path, ELEMENTS, 1, channels=32)
        potential = Potential(model, ModelOptions('float32', 'cpu'))
    finally:
        torch.set_default_dtype(dtype)
    atoms = alloy((4, 4, 3), triclinic=False)
    faults = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        potential.evaluate(np.arange(len(atoms)), atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults[2:]) < 1000
