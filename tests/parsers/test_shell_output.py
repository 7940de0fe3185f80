"""What a labelling program left: recorded texts, whole, cut, empty and wrong."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from aiida_mlip_al.config.shell import ShellSettings
from aiida_mlip_al.data.labelling import Rejection
from aiida_mlip_al.parsers.shell_output import JobOutput, Numbers, read_labels

DONE = b'0 100.25 102.75\n'
Structures = dict[str, Atoms]
Results = dict[str, Numbers | Rejection]


@pytest.fixture
def structures() -> Structures:
    made = {}
    for index in range(3):
        made[f'frame_{index}'] = bulk('Cu', cubic=True)
        made[f'frame_{index}'].numbers[3] = 28
        made[f'frame_{index}'].rattle(0.05, seed=index)
    return made


@pytest.fixture
def one(structures: Structures) -> Structures:
    return {'frame_0': structures['frame_0']}


def labelled(atoms: Atoms, **info: Any) -> Atoms:
    """Return a frame with the numbers of EMT under the REF_ keys."""
    frame = atoms.copy()
    frame.calc = EMT()
    values = frame.get_potential_energy(), frame.get_forces(), frame.get_stress()
    frame.calc = None
    frame.info.update(REF_energy=values[0], REF_stress=values[2], **info)
    frame.arrays['REF_forces'] = values[1]
    return frame


def text(*frames: Atoms) -> bytes:
    buffer = io.StringIO()
    for frame in frames:
        write(buffer, frame, format='extxyz')
    return buffer.getvalue().encode()


def batch(structures: Structures, output: bytes | None, status: bytes | None = DONE, **settings: Any) -> Results:
    return read_labels(JobOutput(output, status=status), structures, ShellSettings(**settings), single=False)


def single(structures: Structures, job: JobOutput, **settings: Any) -> Results:
    given = ShellSettings(output={'filename': 'out.txt'}, **settings)
    return read_labels(job, structures, given, single=True)


def reasons(results: Results) -> dict[str, str | None]:
    return {name: result.reason if isinstance(result, Rejection) else None for name, result in results.items()}


def message(result: Numbers | Rejection) -> str:
    assert isinstance(result, Rejection), result
    return result.message


def has_numbers_of(result: Numbers | Rejection, atoms: Atoms) -> None:
    """The result has EMT's numbers of this structure."""
    assert isinstance(result, Numbers), result
    expected = labelled(atoms)
    assert result.energy == pytest.approx(expected.info['REF_energy'], abs=1e-8)
    np.testing.assert_allclose(result.forces, expected.arrays['REF_forces'], rtol=0, atol=1e-8)
    np.testing.assert_allclose(result.stress, expected.info['REF_stress'], rtol=0, atol=1e-8)


class TestWhichStructure:
    """A label is given to the structure that has its atoms, whatever the order, or to none."""

    def test_any_order(self, structures: Structures) -> None:
        results = batch(structures, text(*(labelled(atoms) for atoms in reversed(structures.values()))))
        for name, atoms in structures.items():
            has_numbers_of(results[name], atoms)

    def test_equal_structures_get_a_label_each(self, structures: Structures) -> None:
        twins = {'a': structures['frame_0'], 'b': structures['frame_0'].copy()}
        assert reasons(batch(twins, text(*(labelled(atoms) for atoms in twins.values())))) == {'a': None, 'b': None}

    def test_shift_and_lattice_translations_are_the_same_structure(self, structures: Structures) -> None:
        frame = labelled(structures['frame_1'])
        frame.positions += [0.4, -0.1, 7.0]
        frame.positions[2] += frame.cell[0] - frame.cell[2]
        frame.wrap()
        has_numbers_of(batch(structures, text(frame))['frame_1'], structures['frame_1'])

    @pytest.mark.parametrize(
        ('change', 'sentence'),
        [
            (lambda frame: frame.positions.__setitem__((2, 0), frame.positions[2, 0] + 0.01), '0.01 Å elsewhere'),
            (lambda frame: frame.set_cell(frame.cell * 1.01), 'cell differs by up to 0.0361 Å'),
            (lambda frame: frame.numbers.__setitem__(0, 47), 'AgCu2Ni instead of Cu3Ni'),
            (lambda frame: frame.numbers.__setitem__(slice(None), frame.numbers[::-1].copy()), 'another order'),
        ],
    )
    def test_other_structure_is_refused(self, one: Structures, change: Callable[[Atoms], Any], sentence: str) -> None:
        frame = labelled(one['frame_0'])
        change(frame)
        results = batch(one, text(frame))
        assert reasons(results) == {'frame_0': 'not_reached'}
        assert '1 frames there are of none of the structures' in message(results['frame_0'])
        assert sentence in message(results['frame_0'])
        results = single(one, JobOutput(text(frame), status=DONE))
        assert reasons(results) == {'frame_0': 'error'}
        assert sentence in message(results['frame_0'])


class TestNumbers:
    """Which numbers are read, and which are refused."""

    def test_keys(self, one: Structures) -> None:
        frame = labelled(one['frame_0'])
        frame.info['dft_energy'] = frame.info.pop('REF_energy')
        frame.arrays['dft_forces'] = frame.arrays.pop('REF_forces')
        keyed = batch(one, text(frame), keys={'energy': 'dft_energy', 'forces': 'dft_forces'})
        has_numbers_of(keyed['frame_0'], one['frame_0'])
        assert 'no energy: name its key' in message(batch(one, text(frame))['frame_0'])

    def test_free_energy_is_the_one_that_belongs_to_the_forces(self, one: Structures) -> None:
        frame = one['frame_0'].copy()
        frame.calc = SinglePointCalculator(frame, energy=-1.0, free_energy=-2.0, forces=np.ones((4, 3)))
        result = batch(one, text(frame))['frame_0']
        assert isinstance(result, Numbers)
        assert (result.energy, result.stress) == (-2.0, None)
        result = batch(one, text(frame), keys={'energy': 'energy'})['frame_0']
        assert isinstance(result, Numbers)
        assert result.energy == -1.0

    @pytest.mark.parametrize('quantity', ['energy', 'forces', 'stress'])
    @pytest.mark.parametrize('value', [np.nan, np.inf])
    def test_not_finite(self, one: Structures, quantity: str, value: float) -> None:
        frame = labelled(one['frame_0'])
        if quantity == 'energy':
            frame.info['REF_energy'] = value
        else:
            (frame.arrays['REF_forces'][1] if quantity == 'forces' else frame.info['REF_stress'])[2] = value
        assert reasons(batch(one, text(frame))) == {'frame_0': 'non_finite'}

    def test_force_cap_is_on_the_length_of_the_vector(self, one: Structures) -> None:
        frame = labelled(one['frame_0'])
        frame.arrays['REF_forces'][1] = [3.0, 0.0, 4.0]
        assert reasons(batch(one, text(frame), max_force=5.01)) == {'frame_0': None}
        assert reasons(batch(one, text(frame), max_force=4.99)) == {'frame_0': 'force_cap'}

    def test_something_else_than_numbers(self, one: Structures) -> None:
        frame = labelled(one['frame_0'], spare='far')
        results = batch(one, text(frame), keys={'energy': 'spare'})
        assert 'something else than a number' in message(results['frame_0'])


class TestEnds:
    """How a job ended decides what becomes of the structures without a label."""

    def test_record(self) -> None:
        assert (JobOutput(status=DONE).exit_status, JobOutput(status=DONE).wall_s) == (0, 2.5)
        assert JobOutput(status=b'139 100.N 102.N\n').wall_s == 2.0
        for cut in (None, b'', b'\n', b'0 100.25'):
            assert (JobOutput(status=cut).exit_status, JobOutput(status=cut).wall_s) == (None, 0.0)

    def test_cut_file_of_a_stopped_job(self, structures: Structures) -> None:
        content = text(*(labelled(atoms) for atoms in structures.values()))
        assert reasons(batch(structures, content[:-30], status=None)) == {'frame_0': None, 'frame_1': None}

    def test_crash(self, structures: Structures) -> None:
        """The first structure without a label is to blame, the others can be sent again."""
        job = JobOutput(text(labelled(structures['frame_0'])), b'out\n', b'one\nSegmentation fault\n\n', b'139 1 2')
        results = read_labels(job, structures, ShellSettings(), single=False)
        assert reasons(results) == {'frame_0': None, 'frame_1': 'error'}
        assert message(results['frame_1']) == 'the program ended with status 139: Segmentation fault'

    def test_all_labelled_before_a_crash(self, structures: Structures) -> None:
        content = text(*(labelled(atoms) for atoms in structures.values()))
        assert reasons(batch(structures, content, status=b'1 1 2')) == dict.fromkeys(structures)

    @pytest.mark.parametrize('status', [None, b'126 1 2', b'127 1 2'])
    def test_stopped_or_never_started(self, one: Structures, status: bytes | None) -> None:
        assert batch(one, None, status) == {}
        assert single(one, JobOutput(stderr=b'not found', status=status)) == {}

    def test_no_file_or_an_empty_one(self, structures: Structures, one: Structures) -> None:
        for output in (None, b''):
            assert set(reasons(batch(structures, output)).values()) == {'not_reached'}
            results = single(one, JobOutput(output, stdout=b'hello\n', status=DONE))
            assert message(results['frame_0']) == 'there is no out.txt; the program ended with status 0: hello'

    def test_file_that_is_something_else(self, structures: Structures) -> None:
        content = text(labelled(structures['frame_0'])).replace(b'REF_forces:R:3', b'REF_forces:R:4')
        results = batch(structures, content)
        assert set(reasons(results).values()) == {'error'}
        assert 'labels.extxyz cannot be read as extended XYZ' in message(results['frame_0'])
        assert batch(structures, content, status=None) == {}


class TestOneStructure:
    """An output of one structure, through a reader of ASE."""

    def test_last_frame_counts(self, structures: Structures, one: Structures) -> None:
        content = text(labelled(structures['frame_1']), labelled(one['frame_0']))
        has_numbers_of(single(one, JobOutput(content, status=DONE))['frame_0'], one['frame_0'])

    def test_bad_exit_status_is_no_label_whatever_was_written(self, one: Structures) -> None:
        job = JobOutput(text(labelled(one['frame_0'])), status=b'3 1 2')
        assert reasons(single(one, job)) == {'frame_0': 'error'}

    def test_reader_that_fails(self, one: Structures) -> None:
        results = single(one, JobOutput(b'nonsense', status=DONE))
        assert reasons(results) == {'frame_0': 'error'}
        assert 'out.txt cannot be read as extxyz' in message(results['frame_0'])


class TestConvergence:
    """What is not converged is no label, whatever the exit status says."""

    @pytest.mark.parametrize(
        ('name', 'line'),
        [
            ('cp2k', ' *** WARNING in qs_scf.F:542 :: SCF run NOT converged ***'),
            ('quantum_espresso', '     convergence NOT achieved after   2 iterations: stopping'),
            (r'^dE = \d+\.', 'x\ndE = 12.0'),
        ],
    )
    def test_patterns(self, one: Structures, name: str, line: str) -> None:
        label = text(labelled(one['frame_0']))
        bad = JobOutput(label, f'begin\n{line}\nend\n'.encode(), status=DONE)
        results = single(one, bad, unconverged=name)
        assert reasons(results) == {'frame_0': 'unconverged'}
        assert message(results['frame_0']).startswith('stdout says "')
        failed = JobOutput(label, bad.stdout, status=b'3 1 2')
        assert reasons(single(one, failed, unconverged=name)) == {'frame_0': 'unconverged'}
        good = JobOutput(label, b'SCF run converged; convergence has been achieved in 9 iterations\n', status=DONE)
        assert reasons(single(one, good, unconverged=name)) == {'frame_0': None}

    def test_in_the_output(self, one: Structures) -> None:
        frame = labelled(one['frame_0'], comment='SCF run NOT converged')
        results = batch(one, text(frame), unconverged='cp2k')
        assert message(results['frame_0']) == 'labels.extxyz says "SCF run NOT converged".'

    def test_batch(self, structures: Structures) -> None:
        """Of which structure it was said is not known; those that a stopped job did not reach are sent again."""
        settings = ShellSettings(unconverged=['cp2k'])
        output, stdout = text(labelled(structures['frame_0'])), b'SCF run NOT converged\n'
        results = read_labels(JobOutput(output, stdout, status=DONE), structures, settings, single=False)
        assert reasons(results) == dict.fromkeys(structures, 'unconverged')
        assert 'set `batch_size` to 1' in message(results['frame_2'])
        stopped = read_labels(JobOutput(output, stdout), structures, settings, single=False)
        assert reasons(stopped) == {'frame_0': 'unconverged'}

    def test_frame_that_says_so(self, structures: Structures) -> None:
        frames = [labelled(structures['frame_0'], converged=False), labelled(structures['frame_1'], converged=True)]
        expected = {'frame_0': 'unconverged', 'frame_1': None, 'frame_2': 'not_reached'}
        assert reasons(batch(structures, text(*frames))) == expected
