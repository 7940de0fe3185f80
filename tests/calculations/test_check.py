"""CheckCalculation: a question about the code's Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Make = Callable[..., Any]


def test_job(generate_calc_job: Make, python_code: Any) -> None:
    process, folder, calcinfo = generate_calc_job('mlip_al.check', {'code': python_code})
    assert json.loads((folder / 'check.json').read_text()) == {
        'packages': {'ase': 'ase', 'torch': 'torch', 'mace': 'mace-torch'}
    }
    assert calcinfo.codes_info[0].cmdline_params == ['runners/check.py', 'check.json']
    assert calcinfo.retrieve_list == ['check.out', 'check.status.json', 'check.json']
    assert process.inputs.metadata.disable_cache is True
