"""``keep`` passes structures on as they are."""

from ase.build import bulk, molecule

from aiida_mlip_al.sampling import Seeder, run_steps
from aiida_mlip_al.sampling.keep import KeepParameters, keep


def test_structures_are_passed_on() -> None:
    structures = [bulk('Cu'), molecule('H2O')]
    result = Seeder('keep', KeepParameters, keep)(structures, seed=3)
    assert result.frames == structures
    assert [(record['seeder'], record['source']) for record in result.records] == [('keep', 0), ('keep', 1)]


def test_what_is_kept_at_the_end_is_not_given_twice() -> None:
    """A closing keep adds nothing to frames that are the result anyway."""
    result = run_steps([bulk('Cu', cubic=True)], [{'rattle': {'copies': 2}}, {'keep': {}}], seed=1)
    assert len(result.frames) == 2
    assert result.kept == []
    longer = [{'rattle': {'copies': 2}}, {'keep': {}}, {'isolated_atoms': {}}]
    result = run_steps([bulk('Cu', cubic=True)], longer, seed=1)
    assert len(result.frames) == 3
    assert result.kept == [], 'isolated atoms are added to those that were kept'
