"""RunnerParser: what all parsers of runner jobs share."""

from __future__ import annotations

import io
import json
import zipfile
from functools import cached_property
from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import FolderData
from aiida.parsers import Parser

from aiida_mlip_al.selection.errors import Prediction


class RunnerParser(Parser):
    """Read a job's files whatever state they were left in."""

    @cached_property
    def retrieved(self) -> FolderData:
        """The retrieved files; AiiDA's own property asks the database each time."""
        return super().retrieved

    def read_text(self, name: str) -> str:
        """Return a retrieved text file, or an empty string if it is not there."""
        if name not in self.retrieved.base.repository.list_object_names():
            return ''
        return self.retrieved.base.repository.get_object_content(name, mode='rb').decode(errors='replace')

    def read_records(self, name: str) -> list[dict[str, Any]]:
        """Return the complete lines of a JSON-lines file: a killed job leaves its last line cut."""
        records = []
        for line in self.read_text(name).split('\n')[:-1]:
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def read_status(self) -> dict[str, Any]:
        """Return what the runner wrote at its end, or an empty mapping if it was killed."""
        text = self.read_text(f'{self.node.process_class.RUNNER}.status.json')
        try:
            status = json.loads(text)
        except ValueError:
            return {}
        return status if isinstance(status, dict) else {}

    def read_prediction(self, name: str) -> Prediction | None:
        """Return what a committee said on a set of frames, or None if the file is missing or cut."""
        try:
            content = self.retrieved.base.repository.get_object_content(f'evaluation_{name}.npz', mode='rb')
            with np.load(io.BytesIO(content)) as arrays:
                return Prediction.from_arrays(dict(arrays))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def read_array(self, name: str, array: str) -> np.ndarray | None:
        """Return an array that was written beside a prediction that can be read, or None if there is no such array."""
        content = self.retrieved.base.repository.get_object_content(f'evaluation_{name}.npz', mode='rb')
        with np.load(io.BytesIO(content)) as arrays:
            return arrays[array] if array in arrays else None

    def failure(self, status: dict[str, Any]) -> ExitCode | None:
        """Return why the job did not come to its end, or None if it did.

        The scheduler's own verdict (out of memory, time limit, node failure) stands where there is one.
        """
        if status.get('finished'):
            return None
        if self.node.exit_status:
            return ExitCode(self.node.exit_status, self.node.exit_message, invalidates_cache=True)
        message = status.get('error')
        if message and message != 'terminated':
            return self.exit_codes.ERROR_RUNNER_FAILED.format(message=message)
        return self.exit_codes.ERROR_INTERRUPTED

    def last_words(self) -> str:
        """Return the last line that the job printed, for a message."""
        lines = self.read_text(
            self.node.get_option('output_filename') or f'{self.node.process_class.RUNNER}.out'
        ).split('\n')
        return next((line.strip() for line in reversed(lines) if line.strip()), 'it printed nothing.')[:300]
