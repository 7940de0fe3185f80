"""The table of faults at the end of a test run: what was done to a run, what became of it, and what it lost."""

from __future__ import annotations

from typing import Any

import pytest

PROPERTY = 'fault'
COLUMNS = ('fault', 'what happened', 'end', 'results', 'lost', 'repeated')


def row(fault: str, happened: str, end: str, results: str, lost: int, repeated: int) -> tuple[str, list[Any]]:
    """Return a line of the table, for a test's ``record_property``.

    :param fault: what was done.
    :param happened: what SLURM and AiiDA said of it.
    :param end: `recovered`, or with what it stopped.
    :param results: how many there are, such as `9 of 9 labels`.
    :param lost: results that had been there, or that nobody tried to get.
    :param repeated: results that were computed a second time although they were there.
    """
    return PROPERTY, [fault, happened, end, results, lost, repeated]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the lines of all tests, those of a failed one too."""
    reports = [
        report for group in terminalreporter.stats.values() for report in group if isinstance(report, pytest.TestReport)
    ]
    failed = {report.nodeid for report in reports if report.failed}
    lines = [COLUMNS]
    for report in reports:
        if report.when == 'teardown':
            verdict = ' (the test failed)' if report.nodeid in failed else ''
            for name, value in report.user_properties:
                if name == PROPERTY:
                    fault, happened, end, *numbers = map(str, value)
                    lines.append((fault, happened, end + verdict, *numbers))
    if len(lines) == 1:
        return
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    lines.insert(1, tuple('-' * width for width in widths))
    terminalreporter.section('faults')
    for line in lines:
        padded = ' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.write_line(f'| {padded} |')
