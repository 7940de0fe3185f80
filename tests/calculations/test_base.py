"""What all jobs share: runners in the folder, the command line, the cache version, models in order."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiida_mlip_al.calculations import base
from aiida_mlip_al.calculations.label import LabelCalculation

Make = Callable[..., Any]


def test_every_runner_is_in_the_job_folder(generate_calc_job: Make, label_inputs: dict[str, Any]) -> None:
    folder = generate_calc_job('mlip_al.label', label_inputs).folder
    copied = {path.name: path.read_text() for path in (folder / 'runners').iterdir()}
    assert copied == {path.name: path.read_text() for path in base.RUNNERS.glob('*.py')}
    assert {'label.py', 'status.py', 'frames.py'} <= set(copied)


def test_command_line_and_options(generate_calc_job: Make, label_inputs: dict[str, Any]) -> None:
    process, _, calcinfo = generate_calc_job('mlip_al.label', label_inputs)
    (codeinfo,) = calcinfo.codes_info
    assert codeinfo.code_uuid == label_inputs['code'].uuid
    assert codeinfo.cmdline_params == ['runners/label.py', 'label.json']
    assert codeinfo.stdout_name == 'label.out'
    assert codeinfo.join_files
    assert process.node.get_option('parser_name') == 'mlip_al.label'
    assert process.node.get_option('withmpi') is False
    assert process.node.get_option('resources') == {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
    assert process.node.get_option('environment_variables') == {'OMP_NUM_THREADS': '1'}


def test_another_runner_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'label.py').write_text('print(1)\n')
    monkeypatch.setattr(base, 'RUNNERS', tmp_path)
    versions = [base.source_version()]
    (tmp_path / 'label.py').write_text('print(2)\n')
    versions.append(base.source_version())
    (tmp_path / 'label.py').rename(tmp_path / 'md.py')
    versions.append(base.source_version())
    assert len(set(versions)) == 3
    (tmp_path / 'md.py').rename(tmp_path / 'label.py')
    assert base.source_version() == versions[1]


def test_the_version_is_part_of_the_jobs_hash(
    generate_calc_job: Make, label_inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_of_job() -> str:
        return str(generate_calc_job('mlip_al.label', label_inputs).process.node.base.caching.compute_hash())

    first, again = hash_of_job(), hash_of_job()
    assert first == again
    monkeypatch.setattr(LabelCalculation, 'CACHE_VERSION', zlib.crc32(b'changed'))
    assert hash_of_job() != first


def test_device_is_the_codes_extra(python_code: Any) -> None:
    assert base.device_of(python_code) == 'cpu'
    python_code.base.extras.set('device', 'cuda')
    assert base.device_of(python_code) == 'cuda'
    python_code.base.extras.delete('device')


def test_models_are_numbered_by_name(committee: dict[str, Any]) -> None:
    first, second = committee['member_00'], committee['member_01']
    assert base.copy_models(committee) == [
        (first.uuid, 'mace.model', 'model_00.model'),
        (second.uuid, 'mace.model', 'model_01.model'),
    ]
    assert base.model_files(committee) == ['model_00.model', 'model_01.model']


def test_committee_must_agree_on_elements(make_model: Make) -> None:
    assert base.validate_committee({'a': make_model(), 'b': make_model(b'other')}) is None
    message = base.validate_committee({'a': make_model(), 'b': make_model(elements=('H', 'C'))})
    assert message == (
        "The models of a committee must know the same elements, but these know [['C', 'H'], ['H', 'O']]."
    )
