"""Verdicts and their codes."""

import numpy as np
import pytest

from aiida_mlip_al.selection import Verdict, count_verdicts, decode, encode


def test_codes_never_change() -> None:
    assert {str(verdict): verdict.code for verdict in Verdict} == {
        'accurate': 0,
        'candidate': 1,
        'failed': 2,
        'unphysical': 3,
        'duplicate': 4,
        'over_budget': 5,
        'audit': 6,
        'selected': 7,
    }


def test_codes_there_and_back() -> None:
    codes = encode(Verdict)
    assert codes.dtype == np.int8
    assert decode(codes) == list(Verdict)


@pytest.mark.parametrize('code', [-1, 8])
def test_unknown_code_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match=f'{code} is not the code of a verdict'):
        Verdict.from_code(code)


def test_counts_name_every_verdict() -> None:
    counts = count_verdicts(encode([Verdict.AUDIT, Verdict.FAILED, Verdict.AUDIT]))
    assert list(counts) == [verdict.value for verdict in Verdict]
    assert {key: value for key, value in counts.items() if value} == {'audit': 2, 'failed': 1}
    assert sum(count_verdicts([]).values()) == 0
