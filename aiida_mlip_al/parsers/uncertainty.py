"""Parser of UncertaintyCalculation."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode

from aiida_mlip_al.data.uncertainty import UncertaintyData

from .base import RunnerParser

FACTS = ('n_features', 'n_samples', 'n_train', 'n_validation', 'regularisation', 'alpha', 'log_likelihood')


class UncertaintyParser(RunnerParser):
    """The uncertainty with what is known of it."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved file."""
        status = self.read_status()
        facts = {name: status[name] for name in FACTS if name in status}
        self.out('report', orm.Dict({**facts, 'wall_s': status.get('wall_s', 0.0), 'core_s': status.get('cpu_s', 0.0)}))
        failed = self.failure(status)
        if failed is not None:
            return failed
        try:
            content = self.retrieved.base.repository.get_object_content(UncertaintyData.FILENAME, mode='rb')
            with np.load(io.BytesIO(content)) as arrays:
                finite = all(np.isfinite(array).all() for array in arrays.values())
        except (OSError, EOFError, ValueError, zipfile.BadZipFile):
            return self.exit_codes.ERROR_NO_RESULTS.format(message=f'{UncertaintyData.FILENAME} is missing or cut.')
        if not finite:
            return self.exit_codes.ERROR_NO_RESULTS.format(message='the uncertainty is not finite.')
        sha256 = self.node.inputs.model.base.attributes.get('sha256')
        self.out('uncertainty', UncertaintyData.from_bytes(content, model_sha256=sha256, **facts))
        return None
