"""The page on stopping says what the settings say."""

from __future__ import annotations

import re
from pathlib import Path

from aiida_mlip_al.config.stop_table import stop_table
from aiida_mlip_al.selection.convergence import StopReason
from aiida_mlip_al.selection.history import IterationRow
from aiida_mlip_al.selection.settings import PropertyGate, StopParameters
from aiida_mlip_al.selection.stop_rules import targets

PAGE = Path(__file__).parents[2] / 'docs' / 'stopping.md'


def test_page_is_that_of_the_code() -> None:
    assert PAGE.read_text() == stop_table(), 'run `python -m aiida_mlip_al.config.stop_table > docs/stopping.md`'


def test_every_target_property_and_reason_is_explained() -> None:
    text = PAGE.read_text().partition('## `stop`')[0]
    described = set(re.findall(r'^\| `(\w+)` \|', text, flags=re.MULTILINE))
    everything = StopParameters(
        target_force_error=1, test_force_error=1, level_drift=1, false_negative_rate=0.1, properties={'drift': 1}
    )
    assert described == set(targets([IterationRow(1, 1, 1.0, 1)], everything))
    limits = {name for name, field in StopParameters.model_fields.items() if 'limit:' in str(field.description)}
    assert limits == {str(reason) for reason in StopReason if str(reason).startswith('max_')}
    for word in [*map(str, StopReason), *limits, *PropertyGate(drift=1).model_fields]:
        assert f'`{word}`' in PAGE.read_text(), word


def test_examples_of_other_systems_are_accepted() -> None:
    import yaml

    examples = re.findall(r'`(stop: \{.*?\})`', PAGE.read_text()) + re.findall(
        r'^    (stop: .*)$', PAGE.read_text(), re.MULTILINE
    )
    assert len(examples) == 5
    for example in examples:
        StopParameters.model_validate(yaml.safe_load(example)['stop'])
