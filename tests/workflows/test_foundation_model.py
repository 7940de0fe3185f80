"""The foundation model that an input file names."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from aiida_mlip_al.config import ConfigError
from aiida_mlip_al.data import ModelData
from aiida_mlip_al.workflows.builder import load_model

pytestmark = pytest.mark.usefixtures('aiida_profile_clean')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that might be a model."""
    path = tmp_path / 'foundation.model'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('foundation/data.pkl', b'mace.modules.models ScaleShiftMACE')
    return path


def test_a_file_without_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'weights.pt'
    for content in (b'structures: [water.xyz]', b''):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r'weights\.pt is no MACE model'):
            load_model(path.name, tmp_path)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('weights/data.pkl', b'another network')
    with pytest.raises(ConfigError, match='is no MACE model'):
        load_model(path.name, tmp_path)


def test_a_file_becomes_a_node(file: Path) -> None:
    model = load_model(file.name, file.parent)
    assert not model.is_stored
    assert model.base.attributes.get('is_foundation')


def test_a_file_that_was_imported_is_that_node(file: Path) -> None:
    imported = ModelData.from_path(file, is_foundation=True, elements=['H', 'O']).store()
    ModelData.from_bytes(b'another model', is_foundation=True).store()
    assert load_model(file.name, file.parent).uuid == imported.uuid


def test_a_member_of_a_committee_is_no_foundation(file: Path) -> None:
    """Its training would start with the parameters of a warm start."""
    ModelData.from_path(file, elements=['H', 'O']).store()
    assert not load_model(file.name, file.parent).is_stored


def test_a_number_is_a_node(file: Path) -> None:
    model = ModelData.from_path(file).store()
    assert load_model(str(model.pk), file.parent).uuid == model.uuid
