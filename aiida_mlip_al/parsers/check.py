"""Parser of CheckCalculation."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode

from .base import RunnerParser


class CheckParser(RunnerParser):
    """The answer is there, or it is not."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Check that the job came to its end."""
        status = self.read_status()
        if not status and not self.node.exit_status:
            return self.exit_codes.ERROR_NO_RESULTS.format(message=self.last_words())
        return self.failure(status)
