"""ModelData: one interatomic potential in one file."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData


class ModelData(SinglefileData):
    """A potential.

    Attributes: ``architecture``, ``elements``, ``r_max`` (Å), ``n_parameters``, ``dtype``, ``seed``, ``trained_on`` (frames),
    ``errors`` (on validation: ``energy_mae`` eV/atom, ``force_mae`` eV/Å, ``stress_mae`` eV/Å³), ``sha256``,
    ``is_foundation``. The file is a pickle: it is read inside jobs only, never by the daemon, and one from a stranger can
    run code.
    """

    FILENAME = 'mace.model'

    @classmethod
    def from_bytes(  # type: ignore[override]
        cls,
        content: bytes,
        *,
        elements: Sequence[str] = (),
        architecture: str = 'MACE',
        is_foundation: bool = False,
        **attributes: Any,
    ) -> ModelData:
        """Build an unstored model.

        :param content: the bytes of the file.
        :param elements: chemical symbols that the model knows; empty if unknown.
        :param attributes: further attributes (see the class), for example ``r_max`` or ``errors``.
        """
        node = cls(io.BytesIO(content), filename=cls.FILENAME)
        node.base.attributes.set_many(
            {
                'architecture': architecture,
                'elements': sorted(elements),
                'is_foundation': is_foundation,
                'sha256': hashlib.sha256(content).hexdigest(),
                **attributes,
            }
        )
        return node

    @classmethod
    def from_path(cls, path: str | Path, **attributes: Any) -> ModelData:
        """Build an unstored model from a file; see :meth:`from_bytes` for the attributes."""
        return cls.from_bytes(Path(path).read_bytes(), **attributes)

    def _validate(self) -> bool:
        super()._validate()
        content = self.get_content(mode='rb')
        if not content:
            raise ValidationError('The model file is empty.')
        if hashlib.sha256(content).hexdigest() != self.base.attributes.get('sha256', None):
            raise ValidationError('The model file does not match its `sha256`: use one of the `from_` constructors.')
        return True

    @property
    def elements(self) -> list[str]:
        """Chemical symbols that the model knows, sorted; empty if unknown."""
        return list(self.base.attributes.get('elements', []))

    @property
    def errors(self) -> dict[str, float]:
        """Errors on the validation frames at the end of training; empty if unknown."""
        return dict(self.base.attributes.get('errors', {}))


def holds_mace_model(path: str | Path) -> bool:
    """Return whether a file is an archive of torch whose pickle speaks of MACE; the pickle is not opened."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(
                b'mace' in archive.read(name) for name in archive.namelist() if name.rpartition('/')[2] == 'data.pkl'
            )
    except zipfile.BadZipFile:
        return False
