"""What is taken from the cache: as the launch of a run says, and nothing of another run."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import WorkChain, run_get_node
from aiida.manage.caching import enable_caching, get_use_cache
from aiida.manage.configuration import get_config
from click.testing import CliRunner

from aiida_mlip_al.calculations.caching import USE_CACHE, caching_of
from aiida_mlip_al.calculations.functions import member_seeds
from aiida_mlip_al.cli import launch, main
from aiida_mlip_al.workflows.submit_once import SubmitOnce

LABEL, VASP = 'aiida.calculations:mlip_al.label', 'aiida.calculations:vasp.vasp'


class Inner(SubmitOnce, WorkChain):
    """Calls a calcfunction."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input('seed', valid_type=orm.Int)
        spec.outline(cls.draw)

    def draw(self):
        member_seeds(self.inputs.seed, orm.Int(2))


class Outer(SubmitOnce, WorkChain):
    """A run, which may say whether the cache is used."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input('seed', valid_type=orm.Int)
        spec.input(USE_CACHE, valid_type=bool, is_metadata=True, required=False)
        spec.outline(cls.send, cls.end)

    def send(self):
        self.to_context(inner=self.submit(Inner, seed=self.inputs.seed, metadata={'call_link_label': 'inner'}))

    def end(self):
        """Come after the inner one."""


def from_cache(**wish):
    """Run, and return whether the calculation was taken from an earlier run."""
    _, node = run_get_node(Outer, seed=orm.Int(1), **wish)
    (calculation,) = [child for child in node.called_descendants if isinstance(child, orm.CalcFunctionNode)]
    return calculation.base.caching.is_created_from_cache


@pytest.mark.usefixtures('aiida_profile_clean')
def test_a_run_is_taken_from_the_cache_if_its_launch_says_so():
    assert [from_cache(**wish) for wish in ({}, {USE_CACHE: True}, {USE_CACHE: False}, {})] == [
        False,
        True,
        False,
        False,
    ]


@pytest.mark.usefixtures('aiida_profile_clean')
def test_a_run_without_a_word_follows_the_profile(monkeypatch):
    from_cache()
    monkeypatch.setattr(
        'aiida.manage.caching.get_config_option', lambda name: ['*'] if name == 'caching.enabled_for' else []
    )
    assert [from_cache(**wish) for wish in ({}, {USE_CACHE: False})] == [True, False]


def a_child_of(wish):
    """Return a process two levels below a run that says something of the cache."""
    node = orm.WorkChainNode()
    node.set_metadata_inputs({USE_CACHE: wish})
    for _ in range(2):
        caller, node = node.store(), orm.WorkChainNode()
        node.base.links.add_incoming(caller, LinkType.CALL_WORK, 'child')
    return node.store()


@pytest.mark.usefixtures('aiida_profile')
def test_the_wish_ends_with_its_process():
    for wish in (True, False):
        child = a_child_of(wish)
        with caching_of(child):
            assert get_use_cache(identifier=LABEL) is wish
            assert get_use_cache(identifier=VASP) is wish
        with pytest.raises(RuntimeError), caching_of(child):
            raise RuntimeError
        assert not get_use_cache(identifier=LABEL)
    with enable_caching(), caching_of(a_child_of(False)):
        assert not get_use_cache(identifier=LABEL)


@pytest.mark.usefixtures('aiida_profile')
@pytest.mark.parametrize('option', [['--cache'], ['--no-cache'], []])
def test_launch_says_it_to_the_run_and_not_to_the_profile(option, tmp_path, monkeypatch):
    submitted = []
    monkeypatch.setattr(launch, 'run_inputs', lambda path, earlier: {})
    monkeypatch.setattr(launch, 'submit', lambda process, inputs: submitted.append((process, inputs)) or orm.Int(1))
    (tmp_path / 'run.yaml').touch()
    before = get_config().dictionary
    result = CliRunner().invoke(main, ['launch', str(tmp_path / 'run.yaml'), *option])
    assert result.exit_code == 0, result.output
    ((process, inputs),) = submitted
    assert inputs == ({USE_CACHE: option == ['--cache']} if option else {})
    assert process.spec().inputs[USE_CACHE].is_metadata
    assert get_config().dictionary == before
