"""The table of the steps is made from the code, and the docs have it."""

from pathlib import Path

import pytest

from aiida_mlip_al.sampling import JOB_STEPS, SEEDERS
from aiida_mlip_al.sampling.base import StepParameters
from aiida_mlip_al.sampling.table import steps_table

DOCS = Path(__file__).parents[2] / 'docs' / 'seeders.md'
STEPS: dict[str, type[StepParameters]] = {name: seeder.parameters for name, seeder in SEEDERS.items()} | JOB_STEPS


@pytest.fixture(scope='module')
def table() -> str:
    return steps_table()


def test_docs_are_what_the_code_says(table: str) -> None:
    assert DOCS.read_text() == table, 'run `python -m aiida_mlip_al.sampling.table > docs/seeders.md`'


@pytest.mark.parametrize('name', STEPS)
def test_every_parameter_has_a_row(table: str, name: str) -> None:
    (section,) = [part for part in table.split('\n## ') if part.startswith(f'`{name}`\n')]
    rows = [line.split(' | ') for line in section.splitlines() if line.startswith('| `')]
    assert [row[0] for row in rows] == [f'| `{parameter}`' for parameter in STEPS[name].model_fields]
    assert all(len(row) == 4 for row in rows)
    assert all(row[1] and row[3].strip(' |') for row in rows), 'a type and a description'
    assert 'anything' not in section
    assert '``' not in section


@pytest.mark.parametrize('name', [name for name, seeder in SEEDERS.items() if seeder.appends])
def test_docstring_says_what_is_added(name: str) -> None:
    assert 'added to the structures' in ' '.join((SEEDERS[name].sample.__doc__ or '').split())


@pytest.mark.parametrize(
    'row',
    [
        '| `copies` | integer ≥ 1 | `10` | structures made from each incoming structure |',
        '| `shear_fraction` | number ≥ 0 and < 0.5 |  | off-diagonal strain lies within plus or minus this; '
        'half of cell_fraction |',
        "| `quantity` | `volume` or `length` | required | 'volume' (three periodic directions) or 'length' (each "
        'periodic direction by the same factor) |',
        '| `factors` | list of number > 0 | `[0.94, 0.97, 1.0, 1.03, 1.06]` | one structure for each factor |',
        '| `temperature` | number > 0 or list of number > 0 | `300.0` | K; each of a list is run |',
        '* `RejectionLimitError`: atoms too close or cells too skewed in every attempt.',
    ],
)
def test_known_rows(table: str, row: str) -> None:
    assert row in table.splitlines()
