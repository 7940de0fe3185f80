"""ModelData: one file, its fingerprint and what is known of it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import QueryBuilder, load_node

from aiida_mlip_al.data import ModelData

Make = Callable[..., Any]


def test_comes_back_from_the_database(make_model: Make) -> None:
    content = bytes(range(256))
    node = load_node(make_model(content, ('O', 'H'), r_max=4.5, errors={'force_mae': 0.1}).store().pk)
    assert node.get_content(mode='rb') == content
    assert node.filename == 'mace.model'
    assert node.elements == ['H', 'O']
    assert node.errors == {'force_mae': 0.1}
    assert node.base.attributes.get('r_max') == 4.5
    assert node.base.attributes.get('architecture') == 'MACE'
    assert node.base.attributes.get('is_foundation') is False
    assert node.base.attributes.get('sha256') == hashlib.sha256(content).hexdigest()


def test_from_a_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / 'mace-mp-0.model').write_bytes(b'weights')
    node = ModelData.from_path(tmp_path / 'mace-mp-0.model', is_foundation=True)
    assert node.get_content(mode='rb') == b'weights'
    assert node.filename == 'mace.model'
    assert node.base.attributes.get('is_foundation') is True
    assert node.elements == []
    assert node.errors == {}


def test_changed_content_is_not_stored(make_model: Make) -> None:
    node = make_model()
    node.base.repository.put_object_from_filelike(io.BytesIO(b'other weights'), node.FILENAME)
    with pytest.raises(ValidationError, match='does not match its `sha256`'):
        node.store()


def test_made_without_a_constructor_is_not_stored() -> None:
    with pytest.raises(ValidationError, match='does not match its `sha256`'):
        ModelData(io.BytesIO(b'weights'), filename='mace.model').store()


def test_empty_file_is_not_stored(make_model: Make) -> None:
    with pytest.raises(ValidationError, match=r'^The model file is empty\.'):
        make_model(b'').store()


def test_equal_content_has_equal_hashes(make_model: Make) -> None:
    def hash_of(**changes: Any) -> str:
        return str(make_model(**changes).store().base.caching.get_hash())

    assert hash_of() == hash_of()
    assert len({hash_of(), hash_of(content=b'other'), hash_of(elements=('H',)), hash_of(seed=3)}) == 4


def test_queried_by_attributes(make_model: Make) -> None:
    node = make_model(seed=4242, errors={'force_mae': 0.02}).store()
    make_model(seed=4242, errors={'force_mae': 0.2}).store()
    query = QueryBuilder().append(
        ModelData, filters={'attributes.seed': 4242, 'attributes.errors.force_mae': {'<': 0.1}}, project='uuid'
    )
    assert query.all(flat=True) == [node.uuid]
