"""The page about choosing frames says what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml

from aiida_mlip_al.config import make_config
from aiida_mlip_al.config.select_table import CHOICES, PEERS, RULES, Peer, Rule, select_table
from aiida_mlip_al.selection.levels import AdaptiveLower, LevelRules, MovingAverage, Quantile
from aiida_mlip_al.selection.measure import MEASURES, MeasureName
from aiida_mlip_al.selection.select import Diversity
from aiida_mlip_al.selection.settings import SelectParameters

RUN = {'structures': ['a.xyz'], 'seed': [{'rattle': {}}], 'labels': {'ase': {'calculator': 'tblite.ase:TBLite'}}}


def test_page_is_that_of_the_code() -> None:
    page = Path(__file__).parents[2] / 'docs' / 'selecting.md'
    assert page.read_text() == select_table(), 'run `python -m aiida_mlip_al.config.select_table > docs/selecting.md`'


@pytest.mark.parametrize('peer', PEERS, ids=lambda peer: peer.name)
def test_rules_of_other_programs_are_accepted_and_complete(peer: Peer) -> None:
    """What is left out comes from the protocol, so an upper level that they do not have must be switched off."""
    wanted = yaml.safe_load(peer.yaml)
    found = make_config({**RUN, 'select': wanted}).select
    assert found.upper == wanted['upper']
    assert found.model_dump(include=set(wanted) - {'levels'}) == {k: v for k, v in wanted.items() if k != 'levels'}
    assert found.level_rule.method == next(iter(wanted.get('levels', {'fixed': None})))


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.key)
def test_rules_are_written_with_their_defaults(rule: Rule) -> None:
    found = SelectParameters.model_validate(yaml.safe_load(f'{{{rule.key}}}')).level_rule
    defaults = {type(default): default for default in (MovingAverage(), AdaptiveLower(), Quantile())}
    assert found == defaults.get(type(found), found)


def test_nothing_is_missing() -> None:
    assert list(CHOICES) == list(get_args(Diversity))
    assert list(MEASURES) == list(get_args(MeasureName))
    told = {SelectParameters.model_validate(yaml.safe_load(f'{{{rule.key}}}')).level_rule.method for rule in RULES}
    assert told == {'conformal', 'fixed', *LevelRules.model_fields}
