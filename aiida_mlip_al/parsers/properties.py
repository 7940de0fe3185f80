"""Parser of PropertiesCalculation."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode

from .base import RunnerParser


class PropertiesParser(RunnerParser):
    """The properties by structure; a killed job gives those of the structures that it had finished."""

    def parse(self, **_: Any) -> ExitCode | None:
        """Parse the retrieved records."""
        names = sorted(self.node.inputs.structures)
        status, records = self.read_status(), self.read_records('properties.jsonl')
        if records:
            self.out('properties', orm.Dict({names[record['index']]: record['values'] for record in records}))
            problems = {names[record['index']]: record['problems'] for record in records if record['problems']}
            wall_s = status.get('wall_s', sum(record['wall_s'] for record in records))
            self.out('report', orm.Dict({'problems': problems, 'wall_s': wall_s, 'core_s': status.get('cpu_s', 0.0)}))
        failed = self.failure(status)
        if failed is None and len(records) < len(names):
            return self.exit_codes.ERROR_NO_RESULTS.format(message=self.last_words())
        return failed
