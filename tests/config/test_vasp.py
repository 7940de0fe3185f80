"""The section `vasp` of an input file, and the levels of theory behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiida_mlip_al.config import ConfigError, make_config
from aiida_mlip_al.config.protocols import vasp_protocol_names, vasp_values
from aiida_mlip_al.config.vasp_table import vasp_table

DOCS = Path(__file__).parents[2] / 'docs' / 'vasp_levels.md'


def config(run_protocol: str = 'balanced', **vasp: Any) -> Any:
    values = {'structures': ['a.xyz'], 'protocol': run_protocol, 'labels': {'vasp': {'code': 'vasp@cluster', **vasp}}}
    return make_config(values).labels.vasp


def test_level_of_the_protocol_with_what_differs() -> None:
    vasp = config(incar={'ENCUT': 600, 'ivdw': 12, 'lasph': None}, potential_mapping={'Na': 'Na_pv'})
    assert vasp.incar['encut'] == 600
    assert vasp.incar['ivdw'] == 12
    assert 'lasph' not in vasp.incar
    assert vasp.incar['ediff'] == vasp_values('balanced')['incar']['ediff']
    assert vasp.potential_family == 'PBE.54'
    assert vasp.batch_size == 1


def test_moments_bring_spin() -> None:
    assert config().incar['ispin'] == 1
    assert config(magnetic_moments={'Fe': 2.5}).incar['ispin'] == 2


def test_each_run_protocol_has_a_level() -> None:
    assert vasp_protocol_names() == ['fast', 'balanced', 'stringent']
    assert config('quickstart').incar == vasp_values('fast')['incar']
    assert config('stringent').kpoint_spacing == vasp_values('stringent')['kpoint_spacing']
    assert config('balanced', protocol='fast').incar == vasp_values('fast')['incar']


@pytest.mark.parametrize(
    ('vasp', 'sentence'),
    [
        ({'incar': {'pstress': 10}}, 'it would add to the energy'),
        ({'incar': {'KSPACING': 0.2}}, 'give `kpoint_spacing`'),
        ({'incar': {'magmom': '4*1'}}, 'give `magnetic_moments`'),
        ({'retries': [{'encut': 700}]}, '`encut` belongs to the theory'),
        ({'magnetic_moments': {'Xx': 1.0}}, '`Xx` is not an element'),
        ({'reuse_wavefunctions': True}, 'give a `batch_size` above 1'),
        ({'protocol': 'accurate'}, 'no level of theory `accurate`'),
        ({'encut': 500}, '`labels.vasp.encut` is not a known key'),
    ],
)
def test_mistakes(vasp: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config(**vasp)


def test_one_engine() -> None:
    values = {'structures': ['a.xyz'], 'labels': {'vasp': {'code': 'v@c'}, 'ase': {'calculator': 'a:B'}}}
    with pytest.raises(ConfigError, match='give one engine'):
        make_config(values)


def test_table_in_the_docs() -> None:
    assert DOCS.read_text() == vasp_table(), 'run `python -m aiida_mlip_al.config.vasp_table > docs/vasp_levels.md`'


def chains(steps: list[Any], labels: dict[str, Any], **calculators: Any) -> Any:
    return make_config({'structures': ['a.xyz'], 'seed': steps, 'labels': labels, 'calculators': calculators})


VASP_LABELS = {'vasp': {'code': 'vasp_std@cluster'}}


def test_md_by_vasp_at_a_level_of_its_own_or_at_that_of_the_labels() -> None:
    cheap = {'vasp': {'code': 'vasp_gam@cluster', 'protocol': 'fast', 'kpoint_spacing': None}}
    found = chains([{'md': {'calculator': 'cheap'}}, {'md': {'steps': 500}}], VASP_LABELS, cheap=cheap)
    assert found.seed['seed'] == [{'md': {'vasp': 'cheap'}}, {'md': {'steps': 500, 'vasp': 'label'}}]
    assert set(found.vasp_levels) == {'cheap', 'label'}
    assert found.vasp_levels['cheap'].incar == vasp_values('fast')['incar']
    assert found.vasp_levels['cheap'].kpoint_spacing is None


@pytest.mark.parametrize(
    ('steps', 'sentence'),
    [
        ([{'relax': {'calculator': 'cheap'}}], 'The step `relax` cannot be done by VASP'),
        ([{'relax': {}}], 'name its `calculator`'),
        ([{'md': {'calculator': 'chaep'}}], 'There is no calculator `chaep`'),
    ],
)
def test_what_vasp_does_not_do(steps: list[Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        chains(steps, VASP_LABELS, cheap={'vasp': {'code': 'v@c'}})


def test_name_of_the_labels_own_level_is_taken() -> None:
    with pytest.raises(ConfigError, match='the calculator `label` needs another name'):
        chains([{'md': {}}], VASP_LABELS, label={'vasp': {'code': 'v@c'}})
