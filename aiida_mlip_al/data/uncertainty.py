"""UncertaintyData: what makes of one model a committee."""

from __future__ import annotations

import io
from typing import Any

from aiida.orm import SinglefileData


class UncertaintyData(SinglefileData):
    """The uncertainty of one model's last layer, by last-layer prediction rigidity.

    Attributes: ``model_sha256`` (of the model it is about), ``n_features``, ``n_samples`` (virtual members beside the model),
    ``n_train`` and ``n_validation`` (frames), ``regularisation`` (in units of the covariance's mean eigenvalue), ``alpha``
    (scale, eV/Å), ``log_likelihood`` (mean, of the validation frames' force errors).
    """

    FILENAME = 'uncertainty.npz'

    @classmethod
    def from_bytes(cls, content: bytes, *, model_sha256: str, **attributes: Any) -> UncertaintyData:  # type: ignore[override]
        """Build an unstored node.

        :param content: the bytes of the file.
        :param model_sha256: of the model it is about.
        :param attributes: further attributes (see the class).
        """
        node = cls(io.BytesIO(content), filename=cls.FILENAME)
        node.base.attributes.set_many({'model_sha256': model_sha256, **attributes})
        return node

    @property
    def model_sha256(self) -> str:
        """Hash of the file of the model that this is about."""
        return self.base.attributes.get('model_sha256')
