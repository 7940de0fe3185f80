"""``keep`` passes structures on as they are."""

from ase.build import bulk, molecule

from aiida_mlip_al.sampling import Seeder
from aiida_mlip_al.sampling.keep import KeepParameters, keep


def test_structures_are_passed_on() -> None:
    structures = [bulk('Cu'), molecule('H2O')]
    result = Seeder('keep', KeepParameters, keep)(structures, seed=3)
    assert result.frames == structures
    assert [(record['seeder'], record['source']) for record in result.records] == [('keep', 0), ('keep', 1)]
