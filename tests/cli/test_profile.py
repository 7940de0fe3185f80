"""The profile on SQLite: who reads it keeps nobody from writing."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from aiida_mlip_al.cli.profile import NETWORK_FILE_SYSTEMS, file_system, write_ahead


def written_beside_a_reader(database: Path) -> bool:
    """Return whether a row can be written while another connection is reading."""
    reader, writer = (sqlite3.connect(database, isolation_level=None, timeout=0) for _ in range(2))
    try:
        reader.execute('BEGIN')
        reader.execute('SELECT * FROM numbers').fetchall()
        writer.execute('INSERT INTO numbers VALUES (1)')
    except sqlite3.OperationalError:
        return False
    finally:
        reader.close()
        writer.close()
    return True


def test_readers_do_not_keep_others_from_writing(tmp_path: Path) -> None:
    database = tmp_path / 'database.sqlite'
    with sqlite3.connect(database) as connection:
        connection.execute('CREATE TABLE numbers (number INTEGER)')
    assert not written_beside_a_reader(database)
    write_ahead(tmp_path)
    assert written_beside_a_reader(database)


def test_file_system_is_that_of_the_nearest_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / 'home'
    mounts = [
        SimpleNamespace(mountpoint='/', fstype='ext4'),
        SimpleNamespace(mountpoint=str(home), fstype='NFS4'),
    ]
    monkeypatch.setattr(psutil, 'disk_partitions', lambda all: mounts)
    assert file_system(home / 'me' / '.aiida') == 'nfs4'
    assert file_system(home / 'me').startswith(NETWORK_FILE_SYSTEMS)
    assert file_system(tmp_path) == 'ext4'
    monkeypatch.setattr(psutil, 'disk_partitions', lambda all: [])
    assert file_system(tmp_path) == ''
